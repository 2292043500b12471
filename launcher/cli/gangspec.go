package cli

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
)

// cpusHere is how many cores this process may use.
func cpusHere() int { return runtime.NumCPU() }

// one is the fixed point of amounts on the wire.
const one = 10_000

var strategies = map[string]gang.Strategy{
	spec.Pack: gang.Pack, spec.Spread: gang.Spread,
	spec.StrictPack: gang.StrictPack, spec.StrictSpread: gang.StrictSpread,
}

// bundlesOf writes a shape in the words of the wire.
func bundlesOf(sh *spec.Shape) []*gang.Bundle {
	var list []*gang.Bundle
	for _, b := range sh.Bundles {
		w := &gang.Bundle{Ranks: uint32(b.Ranks)}
		add := func(name string, amount float64) {
			if amount > 0 {
				w.Resources = append(w.Resources, &gang.Resource{Name: name, Amount: fixed(amount)})
			}
		}
		add("CPU", float64(b.CPUs))
		add("GPU", float64(b.GPUs))
		add("memory", float64(b.Memory))
		for _, r := range b.Resources {
			add(r.Name, r.Amount)
		}
		for _, l := range b.Labels {
			w.Labels = append(w.Labels, &gang.Label{Key: l.Key, Value: l.Value})
		}
		list = append(list, w)
	}
	return list
}

func fixed(amount float64) int64 {
	if amount >= math.MaxInt64/one {
		return math.MaxInt64
	}
	return int64(math.Round(amount * one))
}

// gangOf makes the gang of a request.
func (c *call) gangOf(s *spec.Spec, sh *spec.Shape) (gang.Spec, error) {
	dir := s.Chdir
	if dir == "" && c.master == nil { // a container's own folder is another on each node
		var err error
		if dir, err = os.Getwd(); err != nil {
			return gang.Spec{}, &Fault{Name: "CANNOT_CREATE", What: c.page.name, Why: "the working directory is gone: " + err.Error(), Do: "change to one that exists, or give --chdir", Err: err}
		}
	}
	grace := s.Grace
	if grace == 0 {
		grace = 30 * time.Second
	}
	env := s.Environ(c.environ)
	if dir != "" && (!hasEnv(env, "PWD") || s.Chdir != "") {
		env = append(withoutEnv(env, "PWD"), "PWD="+dir)
	}
	g := gang.Spec{
		Name: s.Name, Strategy: strategies[sh.Strategy], Bundles: bundlesOf(sh), MaxRestarts: s.MaxRestarts, Wait: s.Wait,
		Program: &gang.Program{
			Argv: s.Command, Env: env, Cwd: dir, Stdin: gang.StdinRankZero, Driver: sh.Driver,
			MasterPort: !sh.Driver, BindCpus: s.Bind, Grace: int64(grace), SlurmEnv: s.SlurmEnv,
			GpusPerRank: uint32(sh.OwnGPUs),
		},
	}
	if g.Name == "" {
		g.Name = filepath.Base(s.Command[0])
	}
	return g, nil
}

func hasEnv(env []string, name string) bool { return len(withoutEnv(env, name)) < len(env) }

func withoutEnv(env []string, name string) []string {
	var kept []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, name+"=") {
			kept = append(kept, kv)
		}
	}
	return kept
}

// parseLabels reads KEY=VALUE,...; KEY alone is KEY=true.
func parseLabels(origin, v string) (map[string]string, error) {
	labels := map[string]string{}
	for _, item := range strings.Split(v, ",") {
		key, value, valued := strings.Cut(item, "=")
		if !valued {
			value = "true" // as -C KEY asks for it
		}
		if key == "" || value == "" {
			return nil, usage(origin, fmt.Sprintf("%q has no name or no value", item), "write KEY or KEY=VALUE, joined by commas")
		}
		labels[key] = value
	}
	return labels, nil
}
