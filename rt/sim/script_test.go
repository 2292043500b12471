package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

var rewrite = flag.Bool("rewrite", false, "write what scripts print into testdata; read the diff")

// TestScripts runs testdata/*.txt. A block is comments, commands, a line "----" and what the cluster
// told meanwhile; each line begins with the virtual time in seconds. Commands:
//
//	cluster nodes=2 cpus=4 seed=1 loss=0.01 latency=1ms expect={n0 n1} min=2 timeout=10s
//	wait 3s
//	run A on=n1 bundles=2 ranks=1 cpus=1 strategy=spread restarts=1 detached=1 wait=5s argv={run=1s out=100}
//	cancel A mode=stop grace=1s        signal and wait as Ctrl-C does
//	kill agent|head|keeper|client X    kill -9; of an agent sinks=lost: with what it left about them
//	power-off n1, reboot n1, add       a node goes without a word, comes back, joins late
//	cut n1, stop n1 1s, part n1, heal n1, slow n1 bandwidth=10000 latency=50ms
//	drain n0 in=5s now=1 reason=walltime
//	hello n1 number=2 epoch=0          a connection that claims to be this agent
//	show A                             what its client knows
//	check                              what is wrong, and what is left of gangs
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, jobs: map[string]*Client{}}
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		commands, want, found := strings.Cut(block+"\n", "\n----\n")
		out.WriteString(strings.TrimSpace(commands) + "\n")
		if !found {
			out.WriteString("\n")
			continue // a comment
		}
		for line := range strings.SplitSeq(commands, "\n") {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				s.do(line)
			}
		}
		got := strings.Join(s.lines, "\n")
		s.lines = nil
		out.WriteString("----\n" + got + "\n\n")
		if !*rewrite && strings.TrimSpace(want) != strings.TrimSpace(got) {
			t.Fatalf("%s:\n%s\ngot:\n%s\nwant:\n%s", file, commands, got, want)
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.TrimSpace(out.String())+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range s.c.Check() {
		t.Error(f)
	}
}

type script struct {
	t     *testing.T
	c     *Cluster
	jobs  map[string]*Client
	lines []string
}

// options of a command.
type options map[string]string

func (o options) num(k string, def int) int {
	if n, err := strconv.Atoi(o[k]); err == nil {
		return n
	}
	return def
}

func (o options) dur(k string, def time.Duration) int64 {
	if d, err := time.ParseDuration(o[k]); err == nil {
		return int64(d)
	}
	return int64(def)
}

// split takes a line apart: words, and options, whose values may be in braces.
func split(line string) (words []string, opts options) {
	opts = options{}
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		end := strings.IndexByte(line, ' ')
		if brace := strings.IndexByte(line, '{'); brace >= 0 && (end < 0 || brace < end) {
			end = brace + strings.IndexByte(line[brace:], '}') + 1
		}
		if end < 0 {
			end = len(line)
		}
		if k, v, ok := strings.Cut(line[:end], "="); ok {
			opts[k] = strings.Trim(v, "{}")
		} else {
			words = append(words, line[:end])
		}
		line = line[end:]
	}
	return words, opts
}

func (s *script) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *script) node(name string) *Node {
	n := s.c.nodeOf([]string{name})
	if n == nil {
		s.t.Fatalf("no node %q", name)
	}
	return n
}

func (s *script) do(line string) {
	words, o := split(line)
	word := func(i int) string {
		if i >= len(words) {
			s.t.Fatalf("%q wants %d words more", line, i+1-len(words))
		}
		return words[i]
	}
	if words[0] != "cluster" && s.c == nil {
		s.t.Fatalf("%q comes before cluster", line)
	}
	switch words[0] {
	case "cluster":
		loss, _ := strconv.ParseFloat(o["loss"], 64)
		cfg := Config{Seed: uint64(o.num("seed", 1)), Nodes: o.num("nodes", 2), CPUs: o.num("cpus", 4),
			Shape: Shape{Latency: o.dur("latency", 100*time.Microsecond), Loss: loss}, Log: func(l string) { s.say("%s", l) }}
		cfg.Head.Expect = strings.Fields(o["expect"])
		cfg.Head.MinNodes = o.num("min", 0)
		cfg.Head.JoinTimeout = time.Duration(o.dur("timeout", 0))
		cfg.Head.Epoch = uint32(o.num("epoch", 0))
		s.c = New(cfg)
		s.c.Run(second)
	case "wait":
		d, err := time.ParseDuration(word(1))
		if err != nil {
			s.t.Fatal(err)
		}
		s.c.Run(int64(d))
	case "run":
		s.jobs[word(1)] = s.c.Submit(s.node(o["on"]), Job{Name: word(1), Bundles: o.num("bundles", 1), Ranks: o.num("ranks", 1), CPUs: o.num("cpus", 1),
			Strategy: map[string]fb.Strategy{"spread": fb.StrategySpread, "strict-spread": fb.StrategyStrictSpread, "strict-pack": fb.StrategyStrictPack}[o["strategy"]],
			Argv:     strings.Fields(o["argv"]), MaxRestarts: o.num("restarts", 0), Detached: o["detached"] != "", Wait: o.dur("wait", 0), Port: o["port"] != ""})
	case "cancel":
		mode := fb.CancelModeDrain
		if o["mode"] == "stop" {
			mode = fb.CancelModeStop
		}
		s.jobs[word(1)].Cancel(mode, o.dur("grace", 0), 130)
	case "kill":
		s.kill(word(1), words, o)
	case "power-off":
		s.c.PowerOff(s.node(word(1)))
	case "reboot":
		s.c.Reboot(s.node(word(1)))
	case "add":
		s.c.AddNode()
	case "cut":
		s.c.CutConnections(s.node(word(1)))
	case "stop":
		d, _ := time.ParseDuration(word(2))
		s.c.Stop(s.node(word(1)), int64(d))
	case "part", "heal":
		side := map[string]int{"part": 1}[words[0]]
		for _, name := range words[1:] {
			s.c.Partition(side, s.node(name))
		}
	case "slow":
		s.c.SetShape(s.node(word(1)), Shape{Latency: o.dur("latency", 0), Bandwidth: int64(o.num("bandwidth", 0))})
	case "drain":
		s.c.Drain(s.node(word(1)), o.dur("in", 0), o["reason"], o["now"] != "")
	case "hello":
		s.c.Impostor(s.node(word(1)), uint32(o.num("number", 0)), uint32(o.num("epoch", 0)), func(admitted bool, err error) {
			s.say("        the connection: admitted %v, %v", admitted, err)
		})
		s.c.Run(second)
	case "show":
		cl := s.jobs[word(1)]
		bytes := 0
		for _, r := range cl.streams {
			bytes += r.next
		}
		s.say("        %s: %s#%d, told of its end %d times, %d bytes of output, complete %v", word(1), cl.Phase, cl.inc, cl.Ends, bytes, cl.complete())
	case "check":
		for _, l := range append(s.c.Check(), s.c.Left()...) {
			s.say("        %s", l)
		}
	default:
		s.t.Fatalf("no command %q", words[0])
	}
}

func (s *script) kill(what string, words []string, o options) {
	switch what {
	case "head":
		s.c.CrashHead(o.dur("down", 200*time.Millisecond))
	case "agent":
		s.c.CrashAgent(s.node(words[2]))
		if o["sinks"] == "lost" {
			s.c.LoseSinks(s.node(words[2]))
		}
	case "keeper":
		s.c.CrashKeeper(s.node(words[2]))
	case "client":
		s.jobs[words[2]].Kill()
	default:
		s.t.Fatalf("nobody to kill: %s", what)
	}
}
