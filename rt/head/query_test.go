package head

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// query asks as an agent does, and reads the reply.
func (w *world) query(what, ref string, into any) string {
	w.t.Helper()
	out := w.core.Step(w.now, FromAgent{Agent: w.core.state.members[0].number, Msg: &fb.StateQueryT{What: what, Id: ref}, Corr: 9}, nil)
	if len(out) != 1 {
		w.t.Fatalf("%s %s: %d effects", what, ref, len(out))
	}
	s, ok := out[0].(Send)
	if !ok || s.Corr != 9 {
		w.t.Fatalf("%s %s: %+v", what, ref, out[0])
	}
	if e := s.Msg.(*fb.StateReplyT).Error; e != "" {
		return e
	}
	var v struct{ Version int }
	if err := json.Unmarshal(s.Payload, &v); err != nil || v.Version != stateVersion {
		w.t.Errorf("%s: version %d, %v", what, v.Version, err)
	}
	if into != nil {
		if err := json.Unmarshal(s.Payload, into); err != nil {
			w.t.Fatalf("%s: %v\n%s", what, err, s.Payload)
		}
	}
	return ""
}

func TestQueries(t *testing.T) {
	w := newWorld(t, Config{Name: "demo", Job: "4711", Expect: []string{"n1", "n2", "n3"}, MinNodes: 2})
	a := w.join("n1", "CPU=4,memory=8G", 2)
	b := w.join("n2", "CPU=4,lic=3", 0)
	w.settle()
	g := w.ask(a, 1, 2, "CPU=3", func(q *fb.GroupCreateT) { q.Name, q.Strategy = "train", fb.StrategyStrictSpread })
	w.ask(a, 2, 2, "CPU=3", func(q *fb.GroupCreateT) { q.Name = "next" })
	over := w.ask(a, 3, 1, "CPU=1,GPU=1", func(q *fb.GroupCreateT) { q.Name = "over" })
	w.endRank(a, a.rank(over.id, 1, 0), 3, 0, false, "no such layer")
	w.settle()
	w.step(LinkDown{id.Agent(b.number), "EOF"})

	var nodes struct {
		Nodes   []jsonNode
		Missing []string
		Why     string
	}
	w.query("nodes", "", &nodes)
	if len(nodes.Nodes) != 2 || len(nodes.Missing) != 1 || nodes.Missing[0] != "n3" || nodes.Why != "2 of 3 nodes joined, missing n3 (2 are enough); they have 5m0s left" {
		t.Fatalf("nodes: %+v", nodes)
	}
	n1, n2 := nodes.Nodes[0], nodes.Nodes[1]
	if n1.State != "up" || n1.Free["CPU"] != 1 || n1.Total["memory"] != 8<<30 || len(n1.Devices) != 2 || n1.Devices[0].Free != 1 ||
		len(n1.Groups) != 1 || n1.Groups[0].Name != "train" || !strings.Contains(n1.Groups[0].Share, "3 CPU, rank 0") {
		t.Errorf("n1: %+v", n1)
	}
	if n2.State != "paused" || n2.Why != "its connection to the head broke" || n2.Total["lic"] != 3 {
		t.Errorf("n2: %+v", n2)
	}

	var groups struct{ Groups []jsonGroup }
	w.query("groups", "", &groups)
	var names []string
	for _, g := range groups.Groups {
		names = append(names, g.Name+" "+g.Phase)
	}
	if got := strings.Join(names, ", "); got != "train running, next pending, over ended" {
		t.Errorf("groups: %s", got)
	}
	if e := groups.Groups[1].Explain; !strings.Contains(e, "held by gang train (99.1.1)") {
		t.Errorf("next waits: %s", e)
	}
	if w := groups.Groups[1].Why; w != "needs 6 CPU, 1 of 4 are free, held by gang train (99.1.1)" {
		t.Errorf("next waits: %s", w)
	}
	if e := groups.Groups[2].End; e == nil || e.Code != 3 || e.Tail != "" {
		t.Errorf("over: %+v", e)
	}

	for _, ref := range []string{g.id.String(), "train"} {
		var group struct{ Group jsonGroup }
		w.query("group", ref, &group)
		if x := group.Group; x.ID != g.id.String() || x.Hosts != "n[1-2]" || x.Running != 2 || x.Master == "" || len(x.Ranks) != 2 ||
			x.Ranks[1].Node != "n2" || x.Ranks[1].State != "running" || x.Argv[0] != "x" {
			t.Errorf("group %s: %+v", ref, x)
		}
	}
	var ended struct{ Group jsonGroup }
	w.query("group", "over", &ended)
	if ended.Group.End.Tail != "no such layer" {
		t.Errorf("over: %+v", ended.Group.End)
	}

	var cluster struct{ Cluster jsonCluster }
	w.query("cluster", "", &cluster)
	if c := cluster.Cluster; c.State != "up" || c.Joined != 2 || c.Expected != 3 || c.Up != 1 || c.Paused != 1 || c.Total["CPU"] != 8 || c.Free["CPU"] != 2 ||
		c.Groups["running"] != 1 || c.Groups["pending"] != 1 || c.Groups["ended"] != 1 || c.Term != 1 {
		t.Errorf("cluster: %+v", c)
	}

	for _, c := range []struct{ ref, kind, says, why string }{
		{"", "cluster", "missing n3", ""}, {"demo", "cluster", "group next", ""}, {"4711", "cluster", "", ""},
		{"n1", "node", "held by group train", ""}, {"n2", "node", "takes nothing now", "its connection to the head broke"},
		{"n3", "node", "is expected and has not joined", "it is expected and has not joined"},
		{"next", "group", "waiting since 0s\n  needs 6 CPU, 1 of 4 are free, held by gang train (99.1.1)\n  n1: ", "needs 6 CPU, 1 of 4 are free, held by gang train (99.1.1)"},
		{"train", "group", "running since", "running since 0s on n[1-2], 2 ranks"},
		{"99.1.3", "group", "ended with code 3", "rank 0 on n1 exited with code 3"},
	} {
		var e struct{ Explain jsonExplain }
		w.query("explain", c.ref, &e)
		if e.Explain.Kind != c.kind || !strings.Contains(e.Explain.Text, c.says) || e.Explain.Why != c.why {
			t.Errorf("explain %q: %+v", c.ref, e.Explain)
		}
	}
	for _, c := range []struct{ what, ref, says string }{
		{"explain", "nobody", "neither a group"}, {"group", "", "neither a group"}, {"group", "9.9.9", "neither a group"}, {"weather", "", "can't be asked for"},
	} {
		if e := w.query(c.what, c.ref, nil); !strings.Contains(e, c.says) {
			t.Errorf("%s %s: %q", c.what, c.ref, e)
		}
	}

	w.step(Silent{id.Agent(a.number), "x"}) // not b, whose link is down
	for i := range 2 * maxNotices {
		w.core.notice(fb.LevelInfo, "TEST", strings.Repeat("i", i), g)
	}
	var log struct{ Notices []jsonNotice }
	w.query("log", "", &log)
	if n := len(log.Notices); n != maxNotices || len(log.Notices[0].Text) != maxNotices || len(log.Notices[n-1].Text) != 2*maxNotices-1 {
		t.Errorf("log: %d notices, the first has %d letters", n, len(log.Notices[0].Text))
	}
}

// What is not up says why, in one line, in every reply that tells of it.
func TestWhyOfTheWhole(t *testing.T) {
	w := newWorld(t, Config{Name: "demo", Expect: []string{"n1", "n2"}, JoinTimeout: time.Minute})
	a := w.join("n1", "CPU=4", 0)
	g := w.ask(a, 1, 1, "CPU=3", nil)
	check := func(state, why string) {
		t.Helper()
		var cluster struct{ Cluster jsonCluster }
		w.query("cluster", "", &cluster)
		var e struct{ Explain jsonExplain }
		w.query("explain", "", &e)
		if c := cluster.Cluster; c.State != state || c.Why != why || e.Explain.Why != why {
			t.Errorf("%s because %q, explained by %q; want %s, %q", c.State, c.Why, e.Explain.Why, state, why)
		}
	}
	check("joining", "1 of 2 nodes joined, missing n2; they have 1m0s left")
	var group struct{ Group jsonGroup }
	if w.query("group", g.id.String(), &group); group.Group.Why != "1 of 2 nodes joined, missing n2" {
		t.Errorf("the gang waits: %q", group.Group.Why)
	}
	w.join("n2", "CPU=4", 0)
	w.settle()
	check("up", "")
	w.step(Short{"no space left on device"})
	check("short", "no space left on device")
	w.step(FromAgent{Agent: id.Agent(a.number), Msg: &fb.DrainT{Reason: "walltime", Deadline: w.now + 60*second}})
	check("draining", "walltime")
}

// docs/spec/state.md names every field of the replies and every code of a notice.
func TestStateIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "spec", "state.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	for _, v := range []any{jsonNode{}, jsonDevice{}, jsonHeld{}, jsonGroup{}, jsonRank{}, jsonEnd{}, jsonCluster{}, jsonDrain{}, jsonNotice{}, jsonExplain{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if !strings.Contains(doc, "`"+name+"`") && !strings.Contains(doc, `"`+name+`"`) {
				t.Errorf("%s of %s is not described", name, typ.Name())
			}
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 3 {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "notice" && sel.Sel.Name != "announce" {
				return true
			}
			if lit, ok := call.Args[1].(*ast.BasicLit); ok {
				codes++
				if code := strings.Trim(lit.Value, `"`); !strings.Contains(doc, "`"+code+"`") {
					t.Errorf("the notice %s is not described", code)
				}
			}
			return true
		})
	}
	if codes == 0 {
		t.Error("no notices found; does this test still look at the right calls?")
	}
}
