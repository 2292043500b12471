package exec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
)

// partitionsLive is how long partitions are believed: sites change them about never, and what a stale
// entry lets through sbatch refuses all the same.
const partitionsLive = time.Hour

const cacheVersion = 1

// cacheFile is what is remembered between commands. A file that cannot be read or written costs a
// question, nothing else, so its errors are not reported.
type cacheFile struct {
	Version      int               `json:"version"`
	Cluster      string            `json:"cluster"` // whose: see clusterKey
	Program      string            `json:"program,omitempty"`
	Options      []slurm.Option    `json:"options,omitempty"`
	Partitions   []slurm.Partition `json:"partitions,omitempty"`
	PartitionsAt time.Time         `json:"partitions_at,omitzero"`
}

func (f *cacheFile) partitions(now time.Time) ([]slurm.Partition, bool) {
	age := now.Sub(f.PartitionsAt)
	return f.Partitions, len(f.Partitions) > 0 && age >= 0 && age < partitionsLive
}

func (c *Client) load() *cacheFile {
	f := &cacheFile{}
	if c.Cache != "" {
		if data, err := os.ReadFile(c.Cache); err == nil && json.Unmarshal(data, f) == nil && f.Version == cacheVersion && f.Cluster == c.clusterKey() {
			return f
		}
	}
	return &cacheFile{Version: cacheVersion, Cluster: c.clusterKey()}
}

func (c *Client) store(f *cacheFile) {
	if c.Cache == "" {
		return
	}
	data, err := json.Marshal(f)
	if err != nil || os.MkdirAll(filepath.Dir(c.Cache), 0o700) != nil {
		return
	}
	// Beside and renamed: two commands at the same time each leave a whole file.
	t, err := os.CreateTemp(filepath.Dir(c.Cache), ".slurm-*")
	if err != nil {
		return
	}
	_, werr := t.Write(data)
	if cerr := t.Close(); werr != nil || cerr != nil || os.Rename(t.Name(), c.Cache) != nil {
		os.Remove(t.Name())
	}
}

// clusterKey tells clusters apart that one home directory serves.
func (c *Client) clusterKey() string {
	var key string
	for _, kv := range c.environ() {
		for _, name := range []string{"SLURM_CONF=", "SLURM_CLUSTERS=", "SBATCH_CLUSTERS="} {
			if strings.HasPrefix(kv, name) {
				key += kv + "\n"
			}
		}
	}
	sum := sha256.Sum256([]byte(key + c.identity("sinfo")))
	return hex.EncodeToString(sum[:8])
}

// identity names a program and its version without starting it.
func (c *Client) identity(program string) string {
	path, err := lookPath(program, c.environ())
	if err != nil {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
}
