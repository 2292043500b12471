package bootdoc

import (
	"fmt"
	"os"
	"strings"
)

// NodeName is the name of this node: the document's; inside a Slurm job Slurm's own, which need not be
// the host's; else the host name up to the first dot.
func (d *Doc) NodeName() (string, error) {
	if d.Node.Name != "" {
		return d.Node.Name, nil
	}
	if name := os.Getenv("SLURMD_NODENAME"); d.Job != "" && fileName(name) {
		return name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("bootdoc: host name: %w", err)
	}
	host, _, _ = strings.Cut(host, ".")
	if !fileName(host) {
		return "", fmt.Errorf("bootdoc: the host name %q can't be used as the node's name; give it one", host)
	}
	return host, nil
}

func fileName(s string) bool {
	return s != "" && len(s) <= 255 && s[0] != '.' && !strings.ContainsAny(s, "/\x00\n")
}
