package spec

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

type durationField time.Duration

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

// ParseMemory reads sbatch's sizes: a number of megabytes, or one with K, M, G or T.
func ParseMemory(v string) (int64, bool) {
	num, unit := strings.TrimSuffix(strings.ToUpper(v), "B"), int64(1<<20)
	if num == "" {
		return 0, false
	}
	if at := strings.IndexByte("KMGT", num[len(num)-1]); at >= 0 {
		num, unit = num[:len(num)-1], int64(1)<<(10*(at+1))
	} else if num != strings.ToUpper(v) {
		return 0, false // "100B"
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f*float64(unit) > 1<<60 {
		return 0, false
	}
	return int64(f * float64(unit)), true
}

func memory(at func(*Spec) *int64) func(*Spec, string) *FlagError {
	return func(s *Spec, v string) *FlagError {
		n, ok := ParseMemory(v)
		if !ok {
			return bad(quote(v)+" is no size", "write megabytes, or a number with K, M, G or T")
		}
		*at(s) = n
		return nil
	}
}

// ParseTime reads sbatch's times: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS; UNLIMITED is 0.
func ParseTime(v string) (time.Duration, bool) {
	if u := strings.ToUpper(v); u == "UNLIMITED" || u == "INFINITE" {
		return 0, true
	}
	days, rest, hasDays := strings.Cut(v, "-")
	if !hasDays {
		rest, days = v, "0"
	}
	var part []int64
	for _, p := range append([]string{days}, strings.Split(rest, ":")...) {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return 0, false
		}
		part = append(part, int64(n))
	}
	if len(part) > 4 {
		return 0, false
	}
	units := map[bool]map[int][]int64{ // of what follows the days, by how many there are
		true:  {1: {3600}, 2: {3600, 60}, 3: {3600, 60, 1}},
		false: {1: {60}, 2: {60, 1}, 3: {3600, 60, 1}},
	}[hasDays][len(part)-1]
	total := part[0] * 86400
	for i, u := range units {
		total += part[i+1] * u
	}
	if total > int64(100*365*86400) {
		return 0, false
	}
	return time.Duration(total) * time.Second, true
}

// ParseSeconds reads a number of seconds or a duration with its unit.
func ParseSeconds(v string) (time.Duration, bool) {
	if f, err := strconv.ParseFloat(v, 64); err == nil && f >= 0 && f < 1e9 {
		return time.Duration(f * float64(time.Second)), true
	}
	d, err := time.ParseDuration(v)
	return d, err == nil && d >= 0
}

func duration(at func(*Spec) *durationField) func(*Spec, string) *FlagError {
	return func(s *Spec, v string) *FlagError {
		field := at(s)
		parse, do := ParseTime, "write minutes, HH:MM:SS or D-HH:MM:SS"
		if field == (*durationField)(&s.Grace) {
			parse, do = ParseSeconds, "write seconds, or 500ms, 2m"
		}
		d, ok := parse(v)
		if !ok {
			return bad(quote(v)+" is no time", do)
		}
		*field = durationField(d)
		return nil
	}
}

func setImmediate(s *Spec, v string) *FlagError {
	d, ok := ParseSeconds(v)
	if !ok || d <= 0 {
		return bad(quote(v)+" is no time", "write seconds, or 500ms, 2m")
	}
	s.Wait = d
	return nil
}

// setGres reads name[:type][:count]; gpu is the GPUs of each node.
func setGres(s *Spec, v string) *FlagError {
	for _, item := range strings.Split(v, ",") {
		item = strings.TrimPrefix(item, "gres/")
		name, rest, _ := strings.Cut(item, ":")
		amount := 1
		if name == "" {
			return bad(quote(v)+" has an empty name", "write NAME:N")
		}
		if rest != "" {
			kind, num, typed := strings.Cut(rest, ":")
			if !typed {
				num = kind
				if _, err := strconv.Atoi(kind); err != nil { // name:type
					num, typed = "1", true
				}
			}
			n, err := strconv.Atoi(num)
			if err != nil || n < 0 {
				return bad(quote(num)+" is not a number", "write NAME:N or NAME:TYPE:N")
			}
			amount = n
			if typed {
				s.Labels = append(s.Labels, Label{Key: name, Value: kind})
			}
		}
		if name == "gpu" {
			s.GPUsPerNode = amount
			continue
		}
		s.Resources = append(s.Resources, Resource{Name: name, Amount: float64(amount)})
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
		key, value, _ := strings.Cut(item, "=")
		if key == "" {
			return bad(quote(v)+" has an empty label", "")
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
		return bad(quote(v)+" is neither true nor false", "")
	}
	s.Bind = on
	return nil
}
