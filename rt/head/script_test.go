package head

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var rewrite = flag.Bool("rewrite", false, "write what scripts print into testdata; read the diff")

// TestScripts runs testdata/*.txt. Each block is commands, a line "----" and all effects that they
// have; after each command everything under way is delivered.
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
	s := &script{t: t, groups: map[string]id.Task{}}
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n"), "\n\n") {
		commands, want, found := strings.Cut(block, "\n----")
		if !found && !strings.HasSuffix(block, "----") {
			out.WriteString(block + "\n\n") // a comment
			continue
		}
		commands = strings.TrimSuffix(commands, "----")
		for line := range strings.SplitSeq(strings.TrimSuffix(commands, "\n"), "\n") {
			if line != "" && line[0] != '#' {
				s.do(strings.TrimSpace(line))
				if s.w != nil {
					s.w.settle()
				}
			}
		}
		got := s.take()
		out.WriteString(strings.TrimSuffix(commands, "\n") + "\n----\n" + got + "\n")
		if want = strings.TrimPrefix(want, "\n"); !*rewrite && strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%s:\n%s\ngot:\n%s\nwant:\n%s", file, commands, got, want)
		}
		if t.Failed() && !*rewrite {
			t.FailNow()
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type script struct {
	t      *testing.T
	w      *world
	groups map[string]id.Task
	next   uint64
	quiet  bool
	extra  []string
}

func (s *script) take() string {
	if s.w == nil {
		return ""
	}
	lines := append(s.w.log, s.extra...)
	s.w.log, s.extra = nil, nil
	if s.quiet {
		lines = nil
	}
	s.quiet = false
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// args splits "a b k=v k={x y}" into words and options.
func args(line string) (words []string, opts map[string]string) {
	opts = map[string]string{}
	depth, start := 0, 0
	var parts []string
	for i, r := range line + " " {
		switch {
		case r == '{':
			depth++
		case r == '}':
			depth--
		case r == ' ' && depth == 0:
			if i > start {
				parts = append(parts, line[start:i])
			}
			start = i + 1
		}
	}
	for _, p := range parts {
		if k, v, found := strings.Cut(p, "="); found && !strings.HasPrefix(p, "{") {
			opts[k] = strings.Trim(v, "{}")
		} else {
			words = append(words, strings.Trim(p, "{}"))
		}
	}
	return words, opts
}

func (s *script) do(line string) {
	words, o := args(line)
	t, w := s.t, s.w
	num := func(key string, def int) int {
		if o[key] == "" {
			return def
		}
		n, err := strconv.Atoi(o[key])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return n
	}
	dur := func(v string) time.Duration {
		if v == "" {
			return 0
		}
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return d
	}
	switch words[0] {
	case "quiet": // the block's effects are not shown
		s.quiet = true
	case "head":
		cfg := Config{Name: "test", MinNodes: num("min", 0), Replaced: o["replaced"] != "", JoinTimeout: dur(o["join"]), Idle: dur(o["idle"]), Job: o["job"], Epoch: uint32(num("epoch", 0))}
		if o["expect"] != "" {
			cfg.Expect = strings.Split(o["expect"], ",")
		}
		s.w = newWorld(t, cfg)
	case "join":
		for _, name := range words[1:] {
			res := "CPU=4"
			if o["res"] != "" {
				res = o["res"]
			}
			a := w.join(name, res, num("gpu", 0))
			a.manual = o["manual"] != ""
			w.settle()
		}
	case "hello": // a connection that is not to be admitted, or to be looked at
		a := &fakeAgent{name: "stranger", key: strings.Repeat("f", 32)}
		if o["of"] != "" {
			a = w.agent(o["of"])
		}
		h := w.hello(a)
		h.Agent = uint32(num("agent", int(h.Agent)))
		h.Epoch, h.Term = uint32(num("epoch", int(h.Epoch))), uint64(num("term", 0))
		h.To = uint32(num("to", 0))
		h.WireVersion = uint16(num("version", int(h.WireVersion)))
		h.Role, h.Purpose = fb.Role(num("role", int(h.Role))), fb.Purpose(num("purpose", 0))
		if o["cluster"] != "" {
			h.Cluster = o["cluster"]
		}
		if o["job"] != "" {
			h.Job = o["job"]
		}
		w.step(Admit{0, h})
	case "create":
		s.create(words, o, num, dur)
	case "manual":
		for _, n := range words[1:] {
			w.agent(n).manual = true
		}
	case "auto":
		for _, n := range words[1:] {
			w.agent(n).manual = false
		}
	case "rank": // rank NODE GROUP RANK running|code=N|signal=N|error={...}
		a := w.agent(words[1])
		g := s.group(words[2])
		n, _ := strconv.Atoi(words[3])
		inc := uint32(num("inc", int(w.incarnation(g))))
		k := a.rank(g, inc, uint32(n))
		if k == nil {
			k = &fb.RankStateT{Group: wireTask(g), Incarnation: inc, Rank: uint32(n)}
		}
		if len(words) > 4 {
			w.run(a, k)
			break
		}
		k.Error = o["error"]
		w.endRank(a, k, int32(num("code", 0)), int32(num("signal", 0)), o["by-us"] != "", o["tail"])
	case "stopped": // all ranks told TERM end by it
		for _, n := range words[1:] {
			a := w.agent(n)
			for _, k := range slices.Clone(a.stopping) {
				if o["code"] != "" {
					w.endRank(a, k, int32(num("code", 0)), 0, true, "")
				} else {
					w.endRank(a, k, 0, 15, true, "")
				}
			}
		}
	case "down":
		for _, n := range words[1:] {
			w.step(LinkDown{id.Agent(w.agent(n).number), "EOF"})
		}
	case "up":
		w.dial(w.agent(words[1]), o["resumed"] != "")
	case "silent":
		w.step(Silent{id.Agent(w.agent(words[1]).number), "it was silent for 5 s"})
	case "leaving":
		a := w.agent(words[1])
		a.outbox = append(a.outbox, &fb.NodeLeavingT{Agent: a.number, Reason: "its keeper was killed"})
	case "kill": // keeper and agent are gone, nothing of them runs
		a := w.agent(words[1])
		a.bundles, a.ranks, a.stopping, a.inbox, a.outbox = nil, nil, nil, nil, nil
		w.step(LinkDown{id.Agent(a.number), "EOF"})
	case "restart-agent":
		w.restartAgent(w.agent(words[1]))
	case "shrink": // the node has less from now on
		res, err := placement.ParseResources(o["res"])
		if err != nil {
			t.Fatal(err)
		}
		w.agent(words[1]).resource = wireResources(res)
	case "restart-head":
		var back []*fakeAgent
		for _, n := range words[1:] {
			back = append(back, w.agent(n))
		}
		w.cfg.Instead = o["instead"] // of the one on that node, whose keeper is gone with it
		w.restartHead(back...)
	case "wait":
		w.advance(int64(dur(words[1])))
	case "cancel":
		mode := map[string]fb.CancelMode{"": fb.CancelModeDrain, "drain": fb.CancelModeDrain, "stop": fb.CancelModeStop, "signal": fb.CancelModeSignal}[o["mode"]]
		a := w.agent(o["by"])
		a.outbox = append(a.outbox, &fb.GroupCancelT{Group: wireTask(s.group(words[1])), Mode: mode, Signal: int32(num("signal", 0)),
			Grace: int64(dur(o["grace"])), Reason: o["reason"], ExitCode: int32(num("code", 0))})
	case "watch":
		a := w.agent(words[1])
		m := &fb.GroupWatchT{Group: wireTask(s.group(words[2])), Owner: o["owner"] != "", OwnerAgent: a.number, OwnerProcess: uint32(num("owner", 0))}
		a.outbox = append(a.outbox, m)
	case "drain":
		d := &fb.DrainT{Reason: o["reason"], ExitCode: int32(num("code", 0)), Now: o["now"] != ""}
		if o["in"] != "" {
			d.Deadline = w.now + int64(dur(o["in"]))
		}
		w.step(FromAgent{Msg: d})
	case "drain-node": // drain-node NODE by=AGENT [reason= in= goes=1 undo=1]
		reason := strings.NewReplacer(`\n`, "\n", `\e`, "\x1b").Replace(o["reason"])
		d := &fb.NodeDrainT{Node: strings.Join(words[1:], ""), Reason: reason, Goes: o["goes"] != "", Undo: o["undo"] != ""}
		if o["in"] != "" {
			d.Deadline = w.now + int64(dur(o["in"]))
		}
		w.step(FromAgent{Agent: id.Agent(w.agent(o["by"]).number), Msg: d, Corr: 7})
	case "claim": // claim NODE NAME ACTOR: for its actor of that number
		a := w.agent(words[1])
		space, name, _ := strings.Cut(words[2], "/")
		n, _ := strconv.Atoi(words[3])
		q := &fb.NameClaimT{Actor: wireTask(id.Task{Agent: id.Agent(a.number), Process: 1, Counter: uint64(n)}), Namespace_: space, Name: name}
		if q.MaxRestarts = int32(num("restarts", 0)); q.MaxRestarts != 0 {
			q.Spec = []byte("how to make it")
		}
		a.claim(q)
	case "free": // free NODE NAME
		a := w.agent(words[1])
		at := slices.IndexFunc(a.names, func(q *fb.NameClaimT) bool { return q.Namespace_+"/"+q.Name == words[2] })
		a.outbox = append(a.outbox, &fb.NameFreeT{Actor: a.names[at].Actor})
		a.names = slices.Delete(a.names, at, at+1)
	case "forget": // forget NODE NAME: it gives it back while the head hears nothing
		a := w.agent(words[1])
		a.names = slices.DeleteFunc(a.names, func(q *fb.NameClaimT) bool { return q.Namespace_+"/"+q.Name == words[2] })
	case "names":
		for _, n := range w.core.jsonNames(strings.Join(words[1:], "")) {
			s.extra = append(s.extra, fmt.Sprintf("%s/%s is %s of %s", n.Namespace, n.Name, n.Actor, n.Node))
		}
	case "short":
		w.step(Short{strings.Join(words[1:], " ")})
	case "full":
		w.broken = true
		w.step(Full{strings.Join(words[1:], " ")})
	case "peer":
		n, _ := strconv.Atoi(words[1])
		w.step(FromAgent{Agent: id.Agent(w.agent(o["by"]).number), Msg: &fb.PeerQueryT{Agent: uint32(n)}})
	case "explain":
		ref := ""
		if len(words) > 1 {
			ref = words[1]
			if g, found := s.groups[ref]; found {
				ref = g.String()
			}
		}
		w.core.now = w.now
		e, err := w.core.explain(ref)
		if err != nil {
			s.extra = append(s.extra, "error: "+err.Error())
			break
		}
		s.extra = append(s.extra, strings.Split(e.Text, "\n")...)
	case "holds":
		for _, n := range words[1:] {
			a := w.agent(n)
			text := n + ":"
			for _, b := range a.bundles {
				text += fmt.Sprintf(" bundle %v#%d", taskOf(b.Group), b.Incarnation)
			}
			for _, k := range a.ranks {
				text += fmt.Sprintf(" rank %v#%d/%d %s", taskOf(k.Group), k.Incarnation, k.Rank, k.Phase)
			}
			s.extra = append(s.extra, text)
		}
	default:
		t.Fatalf("unknown command: %s", line)
	}
}

func (w *world) incarnation(g id.Task) uint32 {
	if g := w.core.state.byID[g]; g != nil {
		return g.incarnation
	}
	return 0
}

func (s *script) group(name string) id.Task {
	g, found := s.groups[name]
	if !found {
		s.next++
		g = id.Task{Agent: 99, Process: 1, Counter: s.next}
		s.groups[name] = g
	}
	return g
}

// create NAME by=NODE bundles=2 each={CPU=1} ranks=1 strategy=pack ...
func (s *script) create(words []string, o map[string]string, num func(string, int) int, dur func(string) time.Duration) {
	a := s.w.agent(o["by"])
	res, err := placement.ParseResources(o["each"])
	if err != nil {
		s.t.Fatal(err)
	}
	q := &fb.GroupCreateT{Group: wireTask(s.group(words[1])), Name: o["name"], MaxRestarts: int32(num("restarts", 0)), Detached: o["detached"] != "",
		OwnerAgent: a.number, OwnerProcess: uint32(num("process", 1)), Wait: int64(dur(o["wait"])), Lease: o["lease"] != ""}
	switch o["strategy"] {
	case "", "pack":
	case "spread":
		q.Strategy = fb.StrategySpread
	case "strict-pack":
		q.Strategy = fb.StrategyStrictPack
	case "strict-spread":
		q.Strategy = fb.StrategyStrictSpread
	}
	ranks := num("ranks", 1)
	if o["bare"] == "" {
		q.Program = &fb.ProgramT{Argv: []string{"python", "train.py"}, MasterPort: o["port"] != "", Driver: o["driver"] != "", Grace: int64(dur(o["grace"]))}
	} else {
		ranks = 0
	}
	for range num("bundles", 1) {
		b := &fb.BundleT{Resources: wireResources(res), Ranks: uint32(ranks)}
		if o["on"] != "" { // a node
			b.Labels = []*fb.LabelT{{Key: placement.LabelNode, Value: o["on"]}}
		}
		q.Bundles = append(q.Bundles, b)
	}
	a.outbox = append(a.outbox, q)
}
