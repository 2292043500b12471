package slurm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Partition is a queue and what its nodes have: of nodes that differ, the most of each.
type Partition struct {
	Name        string        `json:"name"`
	Default     bool          `json:"default,omitempty"`
	Up          bool          `json:"up"`
	Limit       time.Duration `json:"limit_ns"`   // Infinite: none
	DefaultTime time.Duration `json:"default_ns"` // time of a job that asks for none; 0: the limit
	Nodes       int           `json:"nodes"`      // all that it has, idle or not
	MaxNodes    int           `json:"max_nodes"`  // of one job; 0: no limit
	CPUs        int           `json:"cpus"`
	Memory      int64         `json:"memory"` // bytes
	GPUs        int           `json:"gpus"`
	GPUTypes    []string      `json:"gpu_types,omitempty"`
	Hosts       []string      `json:"hosts,omitempty"` // folded, one entry per kind of node
}

// PartitionFormat is the sinfo format that ParsePartitions reads.
const PartitionFormat = "%P|%a|%l|%L|%D|%c|%m|%G|%s|%N"

// ParsePartitions reads `sinfo -h -o PartitionFormat`, where a partition has a line per kind of node.
func ParsePartitions(out string) ([]Partition, error) {
	var list []Partition
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if line == "" {
			continue
		}
		f := strings.SplitN(line, "|", 10)
		if len(f) != 10 {
			return nil, fmt.Errorf("slurm: partitions: %d fields in %q, not 10", len(f), clip(line))
		}
		name, isDefault := strings.CutSuffix(strings.TrimSpace(f[0]), "*")
		at := slices.IndexFunc(list, func(p Partition) bool { return p.Name == name })
		if at < 0 {
			at = len(list)
			list = append(list, Partition{Name: name, Default: isDefault, Up: f[1] == "up"})
		}
		p := &list[at]
		var err error
		if p.Limit, err = ParseDuration(f[2]); err != nil {
			return nil, err
		}
		if d, err := ParseDuration(f[3]); err == nil { // n/a where the partition has none
			p.DefaultTime = d
		}
		p.Nodes += int(atoi(f[4]))
		p.CPUs = max(p.CPUs, int(atoi(strings.TrimSuffix(f[5], "+"))))
		if m, err := ParseMemory(strings.TrimSuffix(f[6], "+")); err == nil {
			p.Memory = max(p.Memory, m)
		}
		gres, err := ParseGRES(f[7])
		if err != nil {
			return nil, err
		}
		gpus := 0
		for _, g := range gres {
			if g.Name == "gpu" {
				gpus += int(g.Count)
				if g.Type != "" && !slices.Contains(p.GPUTypes, g.Type) {
					p.GPUTypes = append(p.GPUTypes, g.Type)
				}
			}
		}
		p.GPUs = max(p.GPUs, gpus)
		_, most, isRange := strings.Cut(f[8], "-")
		if !isRange {
			most = f[8]
		}
		if n, err := strconv.Atoi(most); err == nil {
			p.MaxNodes = n
		}
		if f[9] != "" {
			p.Hosts = append(p.Hosts, f[9])
		}
	}
	return list, nil
}
