package cli

import (
	"testing"

	urfave "github.com/urfave/cli/v2"
)

// A cluster that a file names gives way to a rank's own and to the Slurm job's; a flag and a variable do not.
func TestClusterOfAFile(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"HOME", "/", "lab"},
		{"SLURM_JOB_ID", "12", ""},
		{"MANIPLE_ADDRESS", "unix:/x", ""},
		{"MANIPLE_CLUSTER", "mine", "mine"},
	} {
		a, _, _ := newApp(map[string]string{c.name: c.value})
		a.settings = []*settings{{path: "maniple.toml", values: map[string]string{"cluster": "lab"}}}
		got := ""
		cmd := a.newCommand(&page{name: "nodes", summary: "x", flags: []urfave.Flag{clusterFlag()}, alone: true, action: func(c *call) error {
			var err error
			got, err = c.clusterName()
			return err
		}})
		if err := a.urfave([]*urfave.Command{cmd}).Run([]string{"maniple", "nodes"}); err != nil || got != c.want {
			t.Errorf("%s=%s: %q, %v; want %q", c.name, c.value, got, err, c.want)
		}
	}
}
