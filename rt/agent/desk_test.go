package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

func res(name string, whole int64) *fb.ResourceT {
	return &fb.ResourceT{Name: name, Amount: whole * 10_000}
}

// alone is a desk without its goroutine, of agent 1.
func alone(now *int64) *desk {
	l := &loop{core: &Core{}, inbox: make(chan item, 100), now: func() int64 { return *now }, log: slog.New(slog.DiscardHandler)}
	l.desk = newDesk(l)
	d := l.desk
	d.agent, d.node, d.process, d.core = 1, "n1", 2, work.New(work.Config{Agent: 1, Node: "n1"})
	return d
}

// asked gives what the desk has asked of the loop's core since the last call.
func (d *desk) asked() (out []Message) {
	for len(d.l.inbox) > 0 {
		if ev, ok := (<-d.l.inbox).ev.(FromClient); ok {
			out = append(out, ev.M)
		}
	}
	return out
}

// What the head may never have heard it is told again.
func TestTheHeadIsToldAgain(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	reply := `{"nodes":[{"name":"n1","agent":1,"total":{"CPU":1},"free":{"CPU":1}}]}`
	d.stake.all = true
	d.toldFree(t.Context(), &fb.StateReplyT{}, []byte(reply))
	if m := d.asked(); len(m) != 1 || m[0].(*fb.GroupCreateT).Bundles[0].Resources[0].Amount != 10_000 {
		t.Fatalf("of a free CPU: %v", m)
	}
	again := func() []Message {
		t.Helper()
		now += int64(29 * time.Second)
		if next := d.settleStake(t.Context()); len(d.asked()) > 0 || next > now+int64(time.Second) {
			t.Errorf("asked again at once, or not in time: in %v", time.Duration(next-now))
		}
		now += int64(time.Second)
		d.settleStake(t.Context())
		return d.asked()
	}
	if m := again(); len(m) != 1 || m[0].(*fb.GroupCreateT).Bundles == nil {
		t.Errorf("a part that does not come: %v", m)
	}
	p := d.stake.parts[0]
	d.toldStake(&fb.GroupUpdateT{Group: taskT(p.group), Phase: fb.GroupPhaseCreated}, []*fb.BundlePlaceT{{Resources: []*fb.ResourceT{res("CPU", 1)}}})
	d.stake.wanted = true
	d.settleStake(t.Context())
	if m := d.asked(); len(m) != 1 || m[0].(*fb.GroupCancelT).Mode != fb.CancelModeStop {
		t.Fatalf("a part that goes back: %v", m)
	}
	if m := again(); len(m) != 1 || m[0].(*fb.GroupCancelT).Mode != fb.CancelModeStop {
		t.Errorf("a part that is not taken back: %v", m)
	}
	d.toldStake(&fb.GroupUpdateT{Group: taskT(p.group), Phase: fb.GroupPhaseEnded}, nil)
	if next := d.settleStake(t.Context()); next != never || len(d.stake.parts) > 0 {
		t.Errorf("afterwards: %d parts, next %d", len(d.stake.parts), next)
	}
}

func TestDivide(t *testing.T) {
	parts := divide([]*fb.ResourceT{res("CPU", 20), res("GPU", 2), res("disk", 3), res("memory", 1<<40)})
	cpus, gpus := int64(0), 0
	for i, p := range parts {
		for _, r := range p {
			switch r.Name {
			case "CPU":
				cpus += r.Amount
			case "GPU":
				gpus++
			}
		}
		if len(p) != 1 { // with what is used of one it would keep the other
			t.Errorf("part %d has %d resources", i, len(p))
		}
	}
	if cpus != 200_000 || gpus != 2 || len(parts) != cpuParts+4 {
		t.Errorf("%d parts with %d CPU and %d GPU", len(parts), cpus, gpus)
	}
	if parts := divide([]*fb.ResourceT{res("CPU", 0), {Name: "CPU", Amount: 9_999}, res("memory", 0)}); len(parts) != 0 {
		t.Errorf("of next to nothing: %d parts", len(parts))
	}
	if got := tenThousandths(1<<42 + 1); got != (1<<42+1)*10_000 {
		t.Errorf("%d", got)
	}
	if got := tenThousandths(0.3); got != 3000 {
		t.Errorf("%d", got)
	}
}

// AGENT-9: what is in use stays, whichever part it is counted in.
func TestSpareParts(t *testing.T) {
	of := func(devices []string, r ...*fb.ResourceT) *part {
		return &part{bundle: &fb.BundlePlaceT{Resources: r, Devices: devices}}
	}
	s := &stake{parts: []*part{
		of(nil, res("CPU", 2), res("memory", 100)), of(nil, res("CPU", 2)), of([]string{"a"}, res("GPU", 1)), of([]string{"b"}, res("GPU", 1)),
		{}, // not placed yet
	}}
	used := func(cpus, memory int64, devices ...string) *work.Wants {
		w := &work.Wants{Used: []work.Amount{{Name: "CPU", Amount: cpus * 10_000}, {Name: "memory", Amount: memory * 10_000}}}
		for _, name := range devices {
			w.Devices = append(w.Devices, work.Share{Device: name, Amount: whole})
		}
		return w
	}
	for _, c := range []struct {
		w       *work.Wants
		lacking [][]work.Amount
		want    []int
	}{
		{used(0, 0), nil, []int{3, 2, 1, 0}},
		{used(1, 0), nil, []int{3, 2, 1}},
		{used(2, 0), nil, []int{3, 2, 1}},
		{used(3, 0, "b"), nil, []int{2}},
		{used(2, 1, "a"), nil, []int{3, 1}},
		{used(9, 0, "a", "b"), nil, nil},                                            // of parents that wait
		{used(1, 0), [][]work.Amount{{{Name: "CPU", Amount: 30_000}}}, []int{3, 2}}, // what gathers CPUs keeps no GPU
		{used(0, 0), [][]work.Amount{{{Name: "GPU", Amount: 10_000}}}, []int{3, 1, 0}},
	} {
		var got []int
		for _, p := range s.spare(c.w, c.lacking, 0) {
			got = append(got, slices.Index(s.parts, p))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("with %+v in use: parts %v go back, want %v", c.w, got, c.want)
		}
	}
}

// Of a template that does not come its driver hears why; a worker that does not attach is ended.
func TestTemplatesAndWorkersThatDoNotCome(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	here, there := net.Pipe()
	heard := make(chan *fb.NoticeT, 1)
	other := carrier.New(there, carrier.Config{OnBatch: func(b carrier.Batch) {
		for f := range carrier.Frames(b.Bytes) {
			m, _ := f.Message()
			heard <- m.(*fb.NoticeT)
		}
		b.Release()
	}})
	c := &workConn{process: 3, kind: fb.AttachKindDriver, job: 3, conn: carrier.New(here, carrier.Config{OnBatch: func(carrier.Batch) {}})}
	defer func() { c.conn.Cut(); other.Cut() }()
	d.conns[3] = c
	j := &job{number: 3, drivers: 1, language: python}
	d.jobs = append(d.jobs, j)
	d.hire(t.Context(), &work.Need{Key: 1, Job: 3, Language: "python"})
	tm := j.template
	d.toldTemplate(t.Context(), &fb.GroupUpdateT{Group: taskT(tm.group), Explain: "n1 is paused"})
	now += templateLate - 1
	if next := d.settleWorkers(); next != now+1 {
		t.Errorf("looked at again after %v", time.Duration(next-now))
	}
	now++
	d.settleWorkers()
	c.conn.Flush()
	if m := <-heard; m.Code != "WORKERS_LATE" || !strings.Contains(m.Text, "n1 is paused") {
		t.Errorf("the driver heard %+v", m)
	}
	if next := d.settleWorkers(); next != never {
		t.Error("it is told twice")
	}
	tm.conn, tm.up = c, true // as if it were its connection
	d.hire(t.Context(), &work.Need{Key: 2, Job: 3, Language: "python"})
	now += attachWait
	if d.settleWorkers(); d.hired[2].killed == "" || d.hired[1].killed != "" {
		t.Errorf("a minute after the fork: %+v; before it: %+v", d.hired[2], d.hired[1])
	}
}

// A driver that ended with much unread is not waited for.
func TestOutputForADriverThatEnded(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	here, there := net.Pipe() // which nobody reads
	defer there.Close()
	c := &workConn{process: 3, conn: carrier.New(here, carrier.Config{OnBatch: func(carrier.Batch) {}})}
	defer c.conn.Cut()
	d.conns[3] = c
	d.send(c, &fb.RankOutputT{}, 0, make([]byte, 2*outputAhead))
	c.acks, d.acking = []outputAck{{m: &fb.RankOutputAckT{Rank: 5}}}, []*workConn{c}
	if next := d.settleOutput(t.Context()); next != now+int64(outputLook) || len(d.asked()) > 0 {
		t.Error("what it has not read was acknowledged")
	}
	delete(d.conns, 3)
	if next := d.settleOutput(t.Context()); next != never || len(d.asked()) != 1 {
		t.Error("it is waited for after its end")
	}
}

// An agent gives back what the one before it had, and nothing of another node's whose name begins alike.
func TestWhatTheAgentBeforeHad(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.node, d.l.core.cfg.Previous = "a", 1
	d.toldGroups(t.Context(), []byte(`{"groups":[
		{"id":"1.2.3","name":"tasks-a-1-4","phase":"created"}, {"id":"1.2.4","name":"tasks-a-1-5","phase":"ended"},
		{"id":"3.2.3","name":"tasks-a-1-3-4","phase":"created"}, {"id":"1.2.5","name":"mine","phase":"created"}]}`))
	if m := d.asked(); len(m) != 1 || taskOf(m[0].(*fb.GroupCancelT).Group).String() != "1.2.3" {
		t.Errorf("asked for %v", m)
	}
}

func TestThreadsOfAWorker(t *testing.T) {
	for _, c := range []struct {
		driver      map[string]string
		environment string
		want        string
	}{
		{nil, "", "OMP_NUM_THREADS=2"},
		{nil, `{"env_vars":{"A":"1"}}`, `A=1 MANIPLE_RUNTIME_ENV={"env_vars":{"A":"1"}} OMP_NUM_THREADS=2`},
		{nil, `{"env_vars":{"OMP_NUM_THREADS":"10"}}`, `MANIPLE_RUNTIME_ENV={"env_vars":{"OMP_NUM_THREADS":"10"}} OMP_NUM_THREADS=10`},
		{map[string]string{"OMP_NUM_THREADS": "5"}, "", ""},
		{map[string]string{"OMP_NUM_THREADS": "5"}, `{"env_vars":{"OMP_NUM_THREADS":"10"}}`, `MANIPLE_RUNTIME_ENV={"env_vars":{"OMP_NUM_THREADS":"10"}} OMP_NUM_THREADS=10`},
	} {
		j := &job{config: jobConfig{Env: c.driver}}
		env, _, why := j.fork(&work.Need{Threads: 2, Environment: c.environment}, nil)
		if got := strings.Join(env[2:], " "); why != "" || got != c.want {
			t.Errorf("%v, %s: %q %s, want %q", c.driver, c.environment, got, why, c.want)
		}
	}
}

// Who came before this agent was a member hears why there will be none.
func TestTheEarlyHearOfTheEnd(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.core = nil
	here, there := net.Pipe()
	heard := make(chan string, 1)
	other := carrier.New(there, carrier.Config{OnBatch: func(b carrier.Batch) {
		for f := range carrier.Frames(b.Bytes) {
			m, _ := f.Message()
			heard <- m.(*fb.GoodbyeT).Reason
		}
		b.Release()
	}})
	defer other.Cut()
	d.early = []*arrival{{conn: mutePipe{here}, process: 3, attach: &fb.AttachT{Kind: fb.AttachKindDriver}}}
	d.leave(t.Context(), "it is over")
	d.settle(t.Context())
	select {
	case why := <-heard:
		if !strings.Contains(why, "it is over") {
			t.Error(why)
		}
	case <-time.After(10 * time.Second):
		t.Error("it was told nothing")
	}
}

// A program elsewhere has no work connection here.
func TestWorkConnectionsAreOfThisNode(t *testing.T) {
	l := idleLoop(nil)
	l.gate = &transport.Gate{Cluster: "c"}
	h := &fb.HelloT{WireVersion: wire.Version, Cluster: "c", Role: fb.RoleClient, Purpose: fb.PurposeWork}
	if _, w, r := l.admitWork(t.Context(), &fb.KeeperConnT{}, h, transport.Peer{Role: fb.RoleClient, Cluster: "c", UID: -1}); r == nil || w != nil {
		t.Error("one over TCP was let in")
	}
}

// AGENT-9: what the head took back is used no longer; what it leaves until a drain's deadline is.
func TestPartsThatAreTaken(t *testing.T) {
	now := int64(time.Second)
	for cause, want := range map[string]bool{"cancelled": true, "drained": false} {
		d := alone(&now)
		p := &part{group: d.mint(), bundle: &fb.BundlePlaceT{Resources: []*fb.ResourceT{res("CPU", 1)}}}
		d.stake.parts = []*part{p}
		d.toldStake(&fb.GroupUpdateT{Group: taskT(p.group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: cause}}, nil)
		if g := d.stake.grant(); g.Taken != want {
			t.Errorf("%s: the core hears %+v", cause, g)
		}
	}
}

// A process that a driver forked belongs to its job for as long as the driver is there, whoever else is.
func TestAForkJoinsADriverThatIsThere(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	j := &job{number: 3, drivers: 2}
	d.jobs = append(d.jobs, j)
	fork := &fb.AttachT{Kind: fb.AttachKindDriver, JobConfig: `{"job":3}`}
	if got, why := d.jobFor(t.Context(), &workConn{process: 4}, fork); got != j || j.drivers != 3 {
		t.Errorf("a fork of a driver that is there: %s", why)
	}
	j.over = true
	if got, why := d.jobFor(t.Context(), &workConn{process: 5}, fork); got != nil || !strings.Contains(why, "over") {
		t.Errorf("a fork of one that ended: %+v, %q", got, why)
	}
}

// From the beginning there is a grant, be it of nothing: what needs nothing starts.
func TestTheGrantOfNothing(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.core = nil
	d.toldName(t.Context(), []byte(`{"nodes":[{"name":"n1~2","agent":1}]}`))
	if !d.stake.changed || len(d.stake.grant().Resources) == 0 || d.node != "n1~2" {
		t.Errorf("node %s; the core hears %+v", d.node, d.stake.grant())
	}
}

// A batch that comes while somebody turns is taken all the same, by whoever is next; its reader does not wait for that.
func TestABatchThatFindsTheDeskAtWork(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	here, there := net.Pipe()
	c := &workConn{process: 3, through: true} // what it says is read and forgotten
	heard := make(chan struct{}, 9)
	c.conn = carrier.New(here, carrier.Config{OnBatch: func(b carrier.Batch) {
		d.hear(c, b)
		d.heard(t.Context())
		heard <- struct{}{}
	}})
	frame, err := carrier.AppendMessage(nil, &fb.GoodbyeT{Reason: "r"}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { d.run(ctx); close(over) }()
	working, on := make(chan struct{}), make(chan struct{})
	d.post(mail{do: func() { close(working); <-on }})
	<-working
	for range 2 { // a connection has two buffers
		if _, err := there.Write(frame); err != nil {
			t.Fatal(err)
		}
		<-heard
	}
	close(on)
	_ = there.SetDeadline(time.Now().Add(10 * time.Second))
	for range 2 {
		if _, err := there.Write(frame); err != nil {
			t.Fatalf("a batch was not taken: %v", err)
		}
	}
	c.conn.Cut()
	<-c.conn.Done()
	cancel()
	<-over
}

// A store has what was asked for, but leaves a fifth of the memory to all else.
func TestStoreBudget(t *testing.T) {
	cfg := &Config{Resources: []*fb.ResourceT{res("memory", 1000)}}
	for asked, want := range map[int64]int64{0: 300, 1: 1, 700: 700, 5000: 800} {
		if cfg.Store = asked; storeBudget(cfg) != want {
			t.Errorf("of 1000 bytes, with %d asked for: %d", asked, storeBudget(cfg))
		}
	}
}

// A worker that was attached before it was there, and hangs on its way, is ended after its time; one that has said something is not.
func TestWorkersThatHangAreEnded(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	var ended []int
	d.slay = func(pid int) { ended = append(ended, pid) }
	for pid := range 2 {
		h := &hired{key: uint64(pid), pid: 70 + pid, forked: now, job: &job{number: 1}}
		h.conn = &workConn{process: 10, kind: fb.AttachKindWorker, hired: h}
		d.hired[h.key] = h
	}
	d.take(t.Context(), &mail{conn: d.hired[1].conn})
	if next := d.settleLate(now); next != now+attachWait {
		t.Errorf("it is looked at in %v", time.Duration(next-now))
	}
	now += attachWait
	d.settleLate(now)
	if !slices.Equal(ended, []int{70}) || !strings.Contains(d.hired[0].killed, "first line within 1m0s") {
		t.Errorf("ended: %v; %q", ended, d.hired[0].killed)
	}
}

// What the node has the core hears as soon as the head says so, also when groups have all of it: what it can't ever have is asked for elsewhere.
func TestTheCoreHearsWhatTheNodeHas(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	for cpus := int64(2); cpus < 4; cpus++ {
		d.toldFree(t.Context(), &fb.StateReplyT{}, fmt.Appendf(nil, `{"nodes":[{"name":"n1","agent":1,"total":{"CPU":%d},"free":{"CPU":0}}]}`, cpus))
		if !d.stake.changed {
			t.Fatalf("of %d CPUs it hears nothing", cpus)
		}
		if g := d.stake.grant(); !slices.Equal(g.Node, []work.Amount{{Name: "CPU", Amount: cpus * whole}}) {
			t.Errorf("of %d CPUs it hears %+v", cpus, g)
		}
	}
}

// The head hears what tasks have put aside and do not use, by node; of who has none nothing.
func TestTheHeadHearsWhatIsIdle(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	if got := d.idle(); len(got) > 0 {
		t.Errorf("of nothing it hears %v", got)
	}
	d.core.Step(now, work.Grant{Resources: []work.Amount{{Name: "CPU", Amount: 3 * whole / 2}}}, nil)
	for _, node := range []string{"n1", "n2"} {
		d.core.Step(now, work.Place{Group: d.mint(), Agent: 2, Node: node, Resources: []work.Amount{{Name: "CPU", Amount: whole}}, Open: true}, nil)
	}
	if got := fmt.Sprint(d.idle()); got != "map[n1:map[CPU:2.5] n2:map[CPU:1]]" {
		t.Errorf("it hears %s", got)
	}
}
