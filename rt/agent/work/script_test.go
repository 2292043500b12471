package work

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

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var rewrite = flag.Bool("rewrite", false, "write what scripts print into testdata; read the diff")

// TestScripts runs testdata/*.txt. Each block is commands, a line "----" and all effects that they have.
// After each command check recounts what the core counts. libs/python/tests/core_scripts.py plays the same scripts with
// real clients, but for blocks, and worlds, with the word "frames": no client would send those as they are written.
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
	s := &script{t: t}
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n"), "\n\n") {
		commands, want, found := strings.Cut(block, "\n----")
		if !found {
			out.WriteString(block + "\n\n") // a comment
			continue
		}
		quiet := false
		for line := range strings.SplitSeq(commands, "\n") {
			switch line = strings.TrimSpace(line); {
			case line == "quiet":
				quiet = true
			case line != "" && line[0] != '#' && line != "frames":
				s.do(line)
			}
		}
		got := ""
		if s.w != nil {
			if !quiet && len(s.w.log) > 0 {
				got = strings.Join(s.w.log, "\n") + "\n"
			}
			s.w.log = nil
		}
		out.WriteString(commands + "\n----\n" + got + "\n")
		if want = strings.TrimPrefix(want, "\n"); !*rewrite && strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Fatalf("%s:\n%s\ngot:\n%s\nwant:\n%s", file, commands, got, want)
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type script struct {
	t *testing.T
	w *world
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

// amounts reads "CPU=1,GPU=0.5".
func amounts(t testing.TB, text string) (out []*fb.ResourceT) {
	for part := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(part, ":")
		if !found {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &fb.ResourceT{Name: name, Amount: int64(n * one)})
	}
	return out
}

// groupsOf reads "io:2:get,put cpu:1:sum".
func groupsOf(text string) (out []*fb.ConcurrencyGroupT) {
	for _, g := range strings.Fields(text) {
		p := strings.Split(g, ":")
		n, _ := strconv.Atoi(p[1])
		out = append(out, &fb.ConcurrencyGroupT{Name: p[0], Size: uint32(n), Methods: strings.Split(p[2], ",")})
	}
	return out
}

func (s *script) do(line string) {
	words, o := args(line)
	t, w := s.t, s.w
	t.Helper()
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
	objects := func(key string) (list []id.Object) {
		for _, name := range strings.Fields(o[key]) {
			list = append(list, w.object(name))
		}
		return list
	}
	deps, refs := []id.Object(nil), []id.Object(nil)
	if w != nil {
		deps, refs = objects("deps"), objects("refs")
	}
	load := append(objectBytes(append(slices.Clone(deps), refs...)...), o["value"]...)
	parent := func() *fb.TaskIDT {
		if o["parent"] == "" {
			return &fb.TaskIDT{}
		}
		return taskT(w.task(o["parent"]))
	}
	job := func(p string) uint32 { return uint32(num("job", int(w.jobs[p]))) }
	has := func(word string) bool { return slices.Contains(words, word) }

	switch words[0] {
	case "core": // core CPU:4,GPU:2 [devices={a b}] [processes=N] [records=N] [auto]
		s.w = newWorld(t, Config{Processes: num("processes", 0), Records: uint32(num("records", 0)), Bytes: uint64(num("bytes", 0)), InlineLimit: uint32(num("inline", 0))})
		s.w.auto = has("auto")
		if len(words) > 1 && words[1] != "auto" {
			s.grant(words[1], strings.Fields(o["devices"]), id.Task{}, 0, false, o["node"])
		}
	case "grant": // grant CPU:4|gone [taken] [group=NAME bundle=N] [devices={NAME|NAME=SHARE ...}] [node=GPU:1]
		group := id.Task{}
		if o["group"] != "" {
			group = s.group(o["group"])
		}
		res := ""
		if len(words) > 1 {
			res = words[1]
		}
		s.grant(res, strings.Fields(o["devices"]), group, int32(num("bundle", 0)), has("taken"), o["node"])
	case "driver": // driver NAME job=N
		w.attach(words[1], Driver, uint32(num("job", 1)), 0)
	case "up": // the next worker that was asked for
		w.up(s.need())
	case "slow": // slow key=N why={...}
		key := uint64(num("key", 0))
		w.step(WorkerSlow{Key: key, Why: o["why"]})
		w.say("wanted: %v", w.core.Wanted(key))
	case "failed": // the next worker that was asked for, or key=N
		key := uint64(num("key", 0))
		if key == 0 {
			key = s.need()
		}
		w.step(WorkerFailed{Key: key, Why: o["why"], Final: has("final")})
	case "gone":
		w.step(ProcessGone{Process: w.procs[words[1]], Why: o["why"]})
	case "function": // function PROCESS NAME
		w.send(words[1], &fb.FunctionT{Hash: hashOf(words[2]), Name: words[2], Language: "python", Class_: has("class")}, []byte("code"))
	case "methods":
		w.send(words[1], &fb.MethodsT{Function: numberOf(words[2]), Names: words[3:]}, nil)
	case "shape": // shape PROCESS NUMBER CPU:1 ...
		n, _ := strconv.Atoi(words[2])
		m := &fb.ShapeT{Number: uint32(n), Retries: int32(num("retries", 3)), RetryExceptions: has("exceptions"), MaxCalls: uint32(num("calls", 0)),
			Environment: o["env"], Bundle: int32(num("bundle", -1)), Node: o["node"], Name: o["name"]}
		if len(words) > 3 {
			m.Resources = amounts(t, words[3])
		}
		if o["group"] != "" {
			m.Group = taskT(s.group(o["group"]))
		}
		w.send(words[1], m, nil)
	case "submit": // submit PROCESS NAME FUNCTION [shape=N] [deps={}] [refs={}] [returns=N] [parent=]
		p := words[1]
		name := w.mint(p, words[2])
		if o["as"] != "" {
			name = w.task(o["as"])
		}
		returns := uint32(num("returns", 1))
		if has("stream") {
			returns = stream
		}
		w.send(p, &fb.SubmitT{Task: taskT(name), Parent: parent(), Function: numberOf(words[3]), Job: job(p), Shape: uint32(num("shape", 1)), Returns: returns,
			Deps: uint32(len(deps)), Refs: uint32(len(refs)), Deadline: s.deadline(o["within"])}, load)
	case "create": // create PROCESS NAME CLASS ...
		p := words[1]
		name := w.mint(p, words[2])
		w.send(p, &fb.CreateT{Actor: taskT(name), Parent: parent(), Function: numberOf(words[3]), Job: job(p), Shape: uint32(num("shape", 2)), MaxRestarts: int32(num("restarts", 0)),
			MaxTaskRetries: int32(num("retries", 0)), Name: o["name"], Namespace_: o["space"], Detached: has("detached"), Concurrency: uint32(num("concurrency", 0)),
			Asynchronous: has("async"), MaxPending: int32(num("pending", -1)), Groups: groupsOf(o["groups"]), OutOfOrder: has("unordered"), Deps: uint32(len(deps)), Refs: uint32(len(refs))}, load)
	case "call": // call PROCESS NAME ACTOR METHOD
		p := words[1]
		method, _ := strconv.Atoi(words[4])
		name := w.mint(p, words[2])
		w.send(p, &fb.CallT{Task: taskT(name), Parent: parent(), Actor: taskT(w.task(words[3])), Job: job(p), Shape: uint32(num("shape", 2)), Method: uint32(method),
			Incarnation: uint32(num("incarnation", 0)), Returns: uint32(num("returns", 1)), Deps: uint32(len(deps)), Refs: uint32(len(refs)), Deadline: s.deadline(o["within"])}, load)
	case "put":
		w.send(words[1], &fb.PutT{Object: objectT(id.Object{Task: w.mint(words[1], words[2])}), Refs: uint32(len(refs))}, load)
	case "result": // result WORKER TASK [value=] [index=] [error] [more] [cpu=]
		m := &fb.ResultT{Task: taskT(w.task(words[2])), Index: uint32(num("index", 0)), Attempt: uint32(num("attempt", 0)), Refs: uint32(len(refs))}
		if d, err := time.ParseDuration(o["cpu"]); err == nil {
			m.CpuTime = uint64(d)
		}
		if !has("more") {
			m.Flags = uint32(fb.ResultFlagLast)
		}
		if has("error") {
			m.Flags |= uint32(fb.ResultFlagError)
			if has("final") {
				m.Flags |= resultFinal
			}
			m.Format = fb.FormatError
			body, err := wire.Marshal(nil, &fb.FailureT{Code: "USER", Type: "ValueError", Message: o["value"]})
			if err != nil {
				t.Fatal(err)
			}
			load = body
		}
		if n := num("size", 0); n > 0 {
			load = append(load, make([]byte, n)...)
		}
		w.send(words[1], m, load)
	case "get":
		want := fb.WantValue
		if has("ready") {
			want = fb.WantReadiness
		}
		if has("alone") {
			want = fb.WantAlone
		}
		if has("taken") {
			want = fb.WantTaken
		}
		w.send(words[1], &fb.GetT{Object: objectT(w.object(words[2])), Want: want, Deadline: s.deadline(o["within"])}, nil)
	case "release":
		w.send(words[1], &fb.ReleaseT{Object: objectT(w.object(words[2])), Deliveries: uint32(num("seen", 0))}, nil)
	case "cancel":
		m := &fb.CancelT{Task: taskT(w.task(words[2])), Force: uint32(num("force", 0))}
		if has("recursive") {
			m.Recursive = 1
		}
		w.send(words[1], m, nil)
	case "blocked":
		w.send(words[1], &fb.BlockedT{Task: taskT(w.task(words[2]))}, nil)
	case "awaits": // awaits PROCESS NAME: its reader
		w.send(words[1], &fb.AwaitsT{Task: taskT(w.task(words[2])), Timed: forReader}, nil)
	case "unblocked":
		w.send(words[1], &fb.UnblockedT{Task: taskT(w.task(words[2]))}, nil)
	case "started":
		w.send(words[1], &fb.StartedT{Task: taskT(w.task(words[2]))}, nil)
	case "recalled":
		m := &fb.RecalledT{Task: taskT(w.task(words[2]))}
		if has("started") {
			m.Started = 1
		}
		w.send(words[1], m, nil)
	case "goodbye":
		w.send(words[1], &fb.GoodbyeT{Reason: "it ends"}, nil)
	case "query":
		w.send(words[1], &fb.StateQueryT{What: words[2], Id: o["id"]}, nil)
	case "raw": // bytes that are no frames
		w.step(&Frames{Process: w.procs[words[1]], Bytes: []byte(words[2])})
	case "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			t.Fatal(err)
		}
		for end := w.now + int64(d); w.now < end; {
			w.now = min(end, max(w.core.NextDeadline(), w.now+1))
			w.step(Tick{})
		}
	case "explain":
		w.core.now = w.now
		e, err := w.core.explain(w.task(words[1]).String())
		if err != nil {
			e.Text = err.Error()
		}
		w.say("%s", e.Text)
	case "counts":
		w.say("%d entries, %d tasks, %d objects, %d holds, %d workers, %d jobs, %d refused", len(w.core.entries), w.core.taskRec.used, w.core.objRec.used, w.core.holdRec.used,
			len(w.core.workers), len(w.core.jobs), w.core.refused)
	case "free":
		for _, g := range w.core.grants {
			text := ""
			for i, n := range w.core.names {
				text += fmt.Sprintf(" %s %g/%g", n, float64(get(g.free, i))/one, float64(get(g.total, i))/one)
			}
			for _, d := range g.devices {
				text += fmt.Sprintf(" %s=%g", d.id, float64(d.free)/one)
			}
			w.say("%s:%s", g.name(), text)
		}
	default:
		t.Fatalf("unknown command: %s", line)
	}
}

// need is the next worker that was asked for.
func (s *script) need() uint64 {
	if len(s.w.needs) == 0 {
		s.t.Fatalf("no worker is needed; so far:\n%s", strings.Join(s.w.log, "\n"))
	}
	key := s.w.needs[0]
	s.w.needs = s.w.needs[1:]
	return key
}

func (s *script) deadline(within string) uint64 {
	if within == "" {
		return 0
	}
	d, err := time.ParseDuration(within)
	if err != nil {
		s.t.Fatal(err)
	}
	return uint64(s.w.now + int64(d))
}

func (s *script) group(name string) id.Task {
	if g, ok := s.w.ids[name]; ok {
		return g
	}
	g := id.Task{Agent: 99, Process: 1, Counter: uint64(len(s.w.ids) + 1)}
	s.w.ids[name] = g
	return g
}

func (s *script) grant(res string, devices []string, group id.Task, bundle int32, taken bool, node string) {
	ev := Grant{Group: group, Bundle: bundle, Devices: devices, Gone: res == "gone", Taken: taken}
	for _, r := range amounts(s.t, node) {
		ev.Node = append(ev.Node, Amount{Name: r.Name, Amount: r.Amount})
	}
	for i, name := range devices { // NAME, or NAME=SHARE
		id, share, found := strings.Cut(name, "=")
		if found && ev.Shares == nil {
			ev.Devices, ev.Shares = slices.Clone(devices), make([]int64, len(devices))
		}
		if found {
			ev.Devices[i] = id
			ev.Shares[i], _ = strconv.ParseInt(share, 10, 64)
		}
	}
	for _, r := range amounts(s.t, res) {
		ev.Resources = append(ev.Resources, Amount{Name: r.Name, Amount: r.Amount})
	}
	s.w.step(ev)
}
