package spec

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
)

func setNodes(s *Spec, v string) *FlagError {
	lo, hi, isRange := strings.Cut(v, "-")
	if !isRange {
		hi = lo
	}
	a, err1 := strconv.Atoi(lo)
	b, err2 := strconv.Atoi(hi)
	switch {
	case err1 != nil || err2 != nil || a < 1 || b > 1<<20:
		return bad(quote(v)+" is neither a number nor MIN-MAX", "write 4 or 2-4")
	case b < a:
		return bad("the least, "+lo+", is more than the most, "+hi, "write "+hi+"-"+lo)
	}
	s.NodesMin, s.NodesMax = a, b
	return nil
}

func memory(at func(*Spec) *int64) func(*Spec, string) *FlagError {
	return func(s *Spec, v string) *FlagError {
		n, err := slurm.ParseMemory(v)
		if err != nil {
			return bad(quote(v)+" is no size", "write megabytes, or a number with K, M, G or T")
		}
		*at(s) = n
		return nil
	}
}

// ParseSeconds reads a number of seconds or a duration with its unit.
func ParseSeconds(v string) (time.Duration, bool) {
	if f, err := strconv.ParseFloat(v, 64); err == nil && f >= 0 && f < 1e9 {
		return time.Duration(f * float64(time.Second)), true
	}
	d, err := time.ParseDuration(v)
	return d, err == nil && d >= 0
}

func setTime(s *Spec, v string) *FlagError {
	d, err := slurm.ParseDuration(v)
	if err != nil {
		return bad(quote(v)+" is no time", "write minutes, HH:MM:SS or D-HH:MM:SS")
	}
	if d != slurm.Infinite {
		s.Time = d
	}
	return nil
}

func seconds(at func(*Spec) *time.Duration) func(*Spec, string) *FlagError {
	return func(s *Spec, v string) *FlagError {
		d, ok := ParseSeconds(v)
		if !ok {
			return bad(quote(v)+" is no time", "write seconds, or 500ms, 2m")
		}
		*at(s) = d
		return nil
	}
}

// setGres reads name[:type][:count]; gpu is the GPUs of each node, a type is a label.
func setGres(s *Spec, v string) *FlagError {
	list, err := slurm.ParseGRES(v)
	if err != nil {
		return bad(quote(v)+" is no list of resources", "write NAME:N or NAME:TYPE:N, joined by commas")
	}
	for _, g := range list {
		if g.Type != "" {
			s.Labels = append(s.Labels, Label{Key: g.Name, Value: g.Type})
		}
		if g.Name == "gpu" {
			s.GPUsPerNode = int(min(g.Count, 1<<20))
			continue
		}
		s.Resources = append(s.Resources, Resource{Name: g.Name, Amount: float64(g.Count)})
	}
	return nil
}

// ParseResources reads NAME=N,... .
func ParseResources(v string) ([]Resource, string) {
	var list []Resource
	for _, item := range strings.Split(v, ",") {
		name, num, ok := strings.Cut(item, "=")
		f, err := strconv.ParseFloat(num, 64)
		switch {
		case !ok || name == "" || err != nil || math.IsNaN(f) || f < 0 || f > 1e12:
			return nil, quote(item) + " is not NAME=N"
		case slices.Contains([]string{"cpu", "gpu", "memory", "mem"}, strings.ToLower(name)):
			return nil, name + " is not a custom resource; use the flag for it"
		}
		list = append(list, Resource{Name: name, Amount: f})
	}
	return list, ""
}

func setResources(s *Spec, v string) *FlagError {
	list, why := ParseResources(v)
	if why != "" {
		return bad(why, "write for instance bandwidth=2,license=1")
	}
	s.Resources = append(s.Resources, list...)
	return nil
}

// setConstraint reads features and labels that must all hold; sbatch's "or" has no meaning here yet.
func setConstraint(s *Spec, v string) *FlagError {
	if strings.ContainsAny(v, "|*[]()") {
		return bad(quote(v)+" has alternatives or counts", "name labels that all nodes must have, joined by &")
	}
	for _, item := range strings.FieldsFunc(v, func(r rune) bool { return r == '&' || r == ',' }) {
		key, value, valued := strings.Cut(item, "=")
		if !valued {
			value = "true" // a feature: --node-labels KEY says the same
		}
		if key == "" || value == "" {
			return bad(quote(v)+" has an empty label", "write KEY or KEY=VALUE, joined by &")
		}
		s.Labels = append(s.Labels, Label{Key: key, Value: value})
	}
	return nil
}

func setStrategy(s *Spec, v string) *FlagError {
	name := strings.ToLower(strings.ReplaceAll(v, "_", "-"))
	if !slices.Contains([]string{Pack, Spread, StrictPack, StrictSpread}, name) {
		return bad(quote(v)+" is no strategy", "write pack, spread, strict-pack or strict-spread")
	}
	s.Strategy = name
	return nil
}

func setVisibility(s *Spec, v string) *FlagError {
	if v != Own && v != Node {
		return bad(quote(v)+" is neither own nor node", "write own for each rank's own GPUs, node for all that the node's ranks have")
	}
	s.GPUVisibility = v
	return nil
}

func setRestarts(s *Spec, v string) *FlagError {
	n, err := strconv.Atoi(v)
	if err != nil || n < -1 || n > 1<<20 {
		return bad(quote(v)+" is not a number", "write how often, or -1 for without bound")
	}
	s.MaxRestarts = n
	return nil
}

func setExport(s *Spec, v string) *FlagError {
	for _, item := range strings.Split(v, ",") {
		if name, _, _ := strings.Cut(item, "="); name == "" {
			return bad(quote(v)+" has an empty name", "write ALL, NONE, NAME or NAME=VALUE, joined by commas")
		}
	}
	s.Export = v
	return nil
}

func setSignal(s *Spec, v string) *FlagError {
	if _, _, ok := ParseSignal(v); !ok {
		return bad(quote(v)+" is no signal", "write for instance USR1@300")
	}
	s.Signal = v
	return nil
}

func setSlurmEnv(s *Spec, v string) *FlagError {
	if !slices.Contains([]string{"rewrite", "keep", "hide"}, v) {
		return bad(quote(v)+" is no mode", "write rewrite, keep or hide")
	}
	s.SlurmEnv = v
	return nil
}

func setBind(s *Spec, v string) *FlagError {
	on, err := strconv.ParseBool(v)
	if err != nil {
		return bad(quote(v)+" is neither true nor false", "write one of them")
	}
	s.Bind = on
	return nil
}
