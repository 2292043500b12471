package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/transport/uds"
)

const (
	socketName = "agent.sock"
	everywhere = "/tmp" // where keepers make their directories, after SLURM_TMPDIR and TMPDIR
	dialTime   = 10 * time.Second
)

// Find gives the socket of the agent to use, "" if a cluster has to be started. address: "" and "auto" mean
// MANIPLE_ADDRESS, else this user's cluster here; "auto" is an error if there is none. Other addresses are the path of
// a socket or the name of a cluster.
func Find(ctx context.Context, address string) (string, error) {
	given := address
	if given == "" || given == "auto" {
		given = os.Getenv("MANIPLE_ADDRESS")
	}
	if given != "" {
		path := strings.TrimPrefix(strings.TrimPrefix(given, "unix:"), "//")
		if filepath.IsAbs(path) {
			return path, nil
		}
		if strings.Contains(given, ":") {
			return "", fmt.Errorf("rt: %s is no address from here: drivers join on a node of the cluster; `maniple exec -- PROGRAM` starts one there", given)
		}
		if found := onThisNode(ctx, given); found != "" {
			return found, nil
		}
		return "", fmt.Errorf("rt: no cluster %s is up on this machine; `maniple status` shows which are, `maniple up --cluster %s` starts it", given, given)
	}
	job := os.Getenv("SLURM_JOB_ID")
	name := job
	if name == "" {
		name = "default"
	}
	if found := onThisNode(ctx, name); found != "" {
		return found, nil
	}
	if job != "" && os.Getenv("SLURMD_NODENAME") == "" && !inAllocation(ctx) {
		return "", fmt.Errorf("rt: this host is not a node of the Slurm job %s: `maniple up`, then `maniple exec -- PROGRAM` runs it on its first node", job)
	}
	if address == "auto" {
		return "", fmt.Errorf("rt: no cluster is up on this machine; `maniple up` starts one, and so does Init without an address")
	}
	return "", nil
}

// ByItself tells whether nobody named a cluster, and all programs of this Slurm job have the same one: whoever is first starts it.
func ByItself(address string) bool {
	return address == "" && os.Getenv("MANIPLE_ADDRESS") == "" && os.Getenv("SLURM_JOB_ID") != ""
}

func host() string {
	name, _ := os.Hostname() // "" finds nothing, which is what is known then
	name, _, _ = strings.Cut(name, ".")
	return name
}

// inAllocation tells whether this host is in the job's list of nodes, which may be folded.
func inAllocation(ctx context.Context) bool {
	list := os.Getenv("SLURM_JOB_NODELIST")
	names := strings.Split(list, ",")
	if strings.Contains(list, "[") {
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		out, err := exec.CommandContext(ctx, "scontrol", "show", "hostnames", list).Output()
		if err != nil {
			return false
		}
		names = strings.Fields(string(out))
	}
	return slices.ContainsFunc(names, func(n string) bool {
		n, _, _ = strings.Cut(n, ".")
		return n == host()
	})
}

// onThisNode gives the socket of a live agent of this user's cluster of that name.
func onThisNode(ctx context.Context, name string) string {
	for _, base := range []string{os.Getenv("SLURM_TMPDIR"), os.Getenv("TMPDIR"), everywhere} {
		if base == "" {
			continue
		}
		top := filepath.Join(base, fmt.Sprintf("maniple-%d", os.Getuid()), name)
		info, err := os.Lstat(top)
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Getuid() || !info.IsDir() {
			continue
		}
		nodes, _ := os.ReadDir(top) // none
		slices.SortFunc(nodes, func(a, b os.DirEntry) int {
			switch mine := host(); {
			case a.Name() == mine:
				return -1
			case b.Name() == mine:
				return 1
			}
			return strings.Compare(a.Name(), b.Name())
		})
		for _, n := range nodes {
			path := filepath.Join(top, n.Name(), socketName)
			if answers(ctx, path) { // else it is what a dead cluster left
				return path
			}
		}
	}
	return ""
}

func answers(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := uds.Dial(ctx, path)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
