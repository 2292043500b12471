package placement_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/placement/placetest"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata print into them")

// TestScripts runs testdata/*.txt: commands, a line of dashes, what they print. The commands:
//
//	node NAME[-NAME] RESOURCES [label=value] [topology=a/b] [state=paused] [why=text] [numa=2]
//	solve STRATEGY[/label] [N*]RESOURCES[@label=expr] ...  print the plan, or the verdict; /label: within one value of it
//	commit NAME STRATEGY BUNDLES...                   solve and commit
//	explain STRATEGY BUNDLES...                       print why not, then place the nearest shape
//	help STRATEGY BUNDLES...                          do what explain says holds it up, then solve
//	release NAME | remove NODE | state NODE open|paused|draining [why] | free
func TestScripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{v: new(placement.View), holders: map[string]placement.Holder{}}
			var out strings.Builder
			for block := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n\n") {
				input, _, _ := strings.Cut(block, "\n----")
				got := ""
				for line := range strings.Lines(input) {
					if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
						got += s.run(line)
						if err := s.v.Check(); err != nil {
							t.Fatalf("%s: %v", line, err)
						}
					}
				}
				fmt.Fprintf(&out, "%s\n----\n%s\n", strings.TrimSpace(input), got)
			}
			got := strings.TrimSpace(out.String()) + "\n"
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			} else if got != string(data) {
				t.Errorf("%s prints something else (-rewrite shows it in git diff):\n%s", file, got)
			}
		})
	}
}

type script struct {
	v       *placement.View
	holders map[string]placement.Holder
}

func (s *script) run(line string) string {
	f := strings.Fields(line)
	switch f[0] {
	case "node":
		return s.node(f[1:])
	case "solve":
		r, err := request(f[1:])
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		p, u := placement.Solve(s.v, r)
		return s.show(r, p, u)
	case "commit":
		r, err := request(f[2:])
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		p, u := placement.Solve(s.v, r)
		if p != nil {
			h := placement.Holder{ID: id.Task{Agent: 3, Process: 1, Counter: uint64(7 + len(s.holders))}, Name: f[1]}
			if err := s.v.Commit(h, p); err != nil {
				return "error: " + err.Error() + "\n"
			}
			s.holders[f[1]] = h
		}
		return s.show(r, p, u)
	case "explain":
		r, err := request(f[1:])
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		e := placement.Explain(s.v, r)
		if e == nil {
			return "it fits\n"
		}
		return e.Verdict.String() + ": " + e.Text() + "\n"
	case "help":
		r, err := request(f[1:])
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		return s.help(r)
	case "release":
		return fmt.Sprintln(s.v.Release(s.holders[f[1]].ID, 0))
	case "remove":
		s.v.Remove(s.byName(f[1]))
	case "state":
		s.v.SetState(s.byName(f[1]), states[f[2]], strings.Join(f[3:], " "))
	case "free":
		out := ""
		for _, n := range s.v.Nodes() {
			out += fmt.Sprintf("%s: %v\n", n.Name, n.Free)
		}
		return out
	default:
		return "what is " + f[0] + "?\n"
	}
	return ""
}

var states = map[string]placement.State{"open": placement.Open, "paused": placement.Paused, "draining": placement.Draining}

func (s *script) byName(name string) int {
	for _, n := range s.v.Nodes() {
		if n.Name == name {
			return n.Index
		}
	}
	return -1
}

func (s *script) node(f []string) string {
	names := []string{f[0]}
	if a, b, ok := strings.Cut(f[0], "-"); ok {
		lo, _ := strconv.Atoi(strings.TrimLeft(a, "n"))
		hi, _ := strconv.Atoi(strings.TrimLeft(b, "n"))
		names = nil
		for i := lo; i <= hi; i++ {
			names = append(names, fmt.Sprint("n", i))
		}
	}
	for _, name := range names {
		n := placement.Node{Name: name, Index: len(s.v.Nodes())}
		if at := s.byName(name); at >= 0 {
			n.Index = at
		}
		var err error
		if n.Total, err = placement.ParseResources(f[1]); err != nil {
			return "error: " + err.Error() + "\n"
		}
		numa := 1
		for _, o := range f[2:] {
			k, v, _ := strings.Cut(o, "=")
			switch k {
			case "topology":
				n.Topology = strings.Split(v, "/")
			case "state":
				n.State = states[v]
			case "why":
				n.Why = v
			case "numa":
				numa, _ = strconv.Atoi(v)
			default:
				n.Labels = append(n.Labels, placement.Label{Key: k, Value: v})
			}
		}
		cpus, gpus := int(n.Total.Get(placement.CPU)/placement.One), int(n.Total.Get(placement.GPU)/placement.One)
		for c := range cpus {
			n.CPUs = append(n.CPUs, placement.LogicalCPU{ID: uint32(c), NUMA: int32(c * numa / cpus)})
		}
		for g := range gpus {
			n.Devices = append(n.Devices, placement.Device{ID: fmt.Sprint("GPU-", g), NUMA: int32(g * numa / gpus), PCI: fmt.Sprintf("0000:%02x:00.0", g*8+g%2)})
		}
		if err := s.v.Put(n); err != nil {
			return "error: " + err.Error() + "\n"
		}
	}
	return ""
}

func request(f []string) (*placement.Request, error) {
	strategy, within, _ := strings.Cut(f[0], "/")
	r := &placement.Request{Within: within}
	for r.Strategy.String() != strategy {
		if r.Strategy++; r.Strategy > placement.StrictSpread {
			return nil, fmt.Errorf("no strategy %s", f[0])
		}
	}
	for _, b := range f[1:] {
		n := 1
		if count, rest, ok := strings.Cut(b, "*"); ok {
			n, _ = strconv.Atoi(count)
			b = rest
		}
		var bundle placement.Bundle
		res, need, ok := strings.Cut(b, "@")
		if ok {
			k, v, _ := strings.Cut(need, "=")
			bundle.Needs = []placement.Need{{Key: k, Expr: v}}
		}
		var err error
		if bundle.Resources, err = placement.ParseResources(res); err != nil {
			return nil, err
		}
		for range n {
			r.Bundles = append(r.Bundles, bundle)
		}
	}
	return r, r.Validate()
}

func (s *script) show(r *placement.Request, p *placement.Plan, u *placement.Unplaced) string {
	if p == nil {
		return fmt.Sprintf("%v (bundle %d)\n", u.Verdict, u.Bundle)
	}
	out, lo := "", 0
	for i, at := range p.Places {
		if i+1 < len(p.Places) && p.Places[i+1].Node == at.Node && len(p.Places) > 8 {
			continue
		}
		if lo < i {
			out += fmt.Sprintf("%d-", lo)
		}
		out += fmt.Sprintf("%d: %s", i, s.v.Node(at.Node).Name)
		if len(p.Places) <= 8 {
			if len(at.Devices) > 0 {
				out += " " + strings.Join(at.Devices, " ")
			}
			if len(at.CPUs) > 0 {
				out += " cpus " + placement.FoldNames(strings.Fields(strings.Trim(fmt.Sprint(at.CPUs), "[]")))
			}
		}
		out += "\n"
		lo = i + 1
	}
	return out
}

// help changes the view as the explanation says: it ends who holds what is short and opens what is closed.
func (s *script) help(r *placement.Request) string {
	e := placement.Explain(s.v, r)
	if e == nil {
		return "it fits\n"
	}
	out := ""
	c := s.v.Clone()
	for _, why := range e.Reasons {
		for _, h := range why.Holders {
			if c.Release(h.ID, h.Incarnation) {
				out += "end " + h.Name + "\n"
			}
		}
		for _, n := range why.Indexes {
			if why.Code == "closed" && c.Node(n).State != placement.Open {
				c.SetState(n, placement.Open, "")
				out += "open " + c.Node(n).Name + "\n"
			}
		}
	}
	p, u := placement.Solve(c, r)
	if p != nil {
		if err := placetest.Check(c, r, p); err != nil {
			return "error: " + err.Error() + "\n"
		}
		return out + "placed\n"
	}
	return out + u.Verdict.String() + "\n"
}
