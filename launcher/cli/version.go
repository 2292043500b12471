package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/maniple-hpc/maniple/rt/gang"
	urfave "github.com/urfave/cli/v2"
)

// Version is this release's. The wheel reads it from this line.
const Version = "0.1.0.dev0"

// Build names this binary in messages of others: the version and the revision it was built from.
func Build() string {
	if rev, _ := revision(); rev != "" {
		return Version + "+" + rev
	}
	return Version
}

func revision() (rev string, modified bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", false
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			rev = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	return rev, modified
}

func (a *app) versionCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "version", summary: "say which build this is",
		examples: []string{"maniple version", "maniple version --json"},
		flags:    []urfave.Flag{toggle("json", "", "as JSON")},
		alone:    true,
		action:   (*call).version,
	})
}

func (c *call) version() error {
	if err := c.noArgs(); err != nil {
		return err
	}
	rev, modified := revision()
	if c.on("json") {
		return c.json(struct {
			Version  int    `json:"version"`
			Maniple  string `json:"maniple"`
			Revision string `json:"revision,omitempty"`
			Modified bool   `json:"modified,omitempty"`
			Wire     int    `json:"wire"`
			Go       string `json:"go"`
			Platform string `json:"platform"`
		}{1, Version, rev, modified, int(gang.WireVersion), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
	}
	fmt.Fprintf(c.stdout, "maniple %s, wire version %d, %s %s/%s\n", Build(), gang.WireVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
