package yarn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
)

// headNode is the name of the master's own node, which hosts the head and runs nothing.
const headNode = "master"

// joinTime is how long a node has from the launch of its container to its first word. One that is out of reach ends after 20 s (YJOB-5), and has awayTime to do so.
const (
	joinTime = 5 * time.Minute
	awayTime = 45 * time.Second
)

// session is the application's containers. What its loop touches, it touches alone: others post to it.
type session struct {
	m      *Master
	doc    *bootdoc.Doc // with the head's address
	head   backend.Session
	names  []string
	kept   []string // of the master before this one
	events chan backend.Event
	posts  chan func()
	done   chan struct{}      // closed when the loop has ended
	own    chan backend.Event // the "ready" of the head's keeper
	over   chan struct{}      // closed when all of the session's goroutines have
	work   sync.WaitGroup     // launches, and the reader of the head's keeper

	gang     *gang
	links    map[string]*link
	launched map[string]time.Time // nodes that have not said a word yet
	away     map[string]time.Time // nodes that were here, and have no connection since then
	said     map[string]bool      // nodes whose end or error was told
	goes     map[string]going     // nodes that are announced as going
	stopping bool
	headOver bool
	untold   []backend.Event // the loop never waits for who reads
}

// post hands the loop something to do; after the session's end it is dropped.
func (s *session) post(do func()) {
	select {
	case s.posts <- do:
	case <-s.done:
	}
}

// run is the loop.
func (s *session) run() {
	s.apply(s.gang.begin())
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !(s.headOver && len(s.links) == 0) {
		var to chan backend.Event
		var first backend.Event
		if len(s.untold) > 0 {
			to, first = s.events, s.untold[0]
		}
		select {
		case to <- first:
			s.untold = s.untold[1:]
		case do := <-s.posts:
			do()
		case now := <-tick.C:
			s.apply(s.gang.tick(now))
			s.overdue(now)
			s.stays("YARN does not take its container any more", func(g *going) *cause {
				if now.Sub(g.preempted.said) <= preemptionOver {
					return nil
				}
				return &g.preempted
			})
		}
	}
	close(s.done)
	s.work.Wait()
	for _, ev := range s.untold {
		s.events <- ev
	}
	close(s.events)
	close(s.over)
}

// waiting takes in whether the program waits to be placed. Nodes hear of it, as there may be one of which YARN knows nothing.
func (s *session) waiting(on bool) {
	s.gang.waiting(on)
	for _, l := range s.links {
		l.idle.Store(on)
	}
}

// overdue ends containers whose node says nothing, at first or any more.
func (s *session) overdue(now time.Time) {
	for _, name := range s.names {
		if at, ok := s.launched[name]; ok && now.Sub(at) > joinTime {
			delete(s.launched, name)
			if c := s.gang.members[s.place(name)].container; c != nil {
				s.apply(s.gang.unstarted(now, c.ID, fmt.Sprintf("its node says nothing for %v; the log of %s may say why", joinTime, c.ID)))
			}
		}
		if at, ok := s.away[name]; ok && now.Sub(at) > awayTime {
			delete(s.away, name)
			s.apply(s.gang.away(s.place(name), awayTime))
		}
	}
}

// apply does what the core wants.
func (s *session) apply(list []effect) {
	for _, e := range list {
		switch e := e.(type) {
		case ask:
			if err := s.m.want(e.count); err != nil {
				s.fatal(err.Error())
			}
		case release:
			s.m.master.Release(e.ids...)
		case launch:
			s.launch(e)
		case absent:
			s.tell(backend.Event{Kind: backend.KindLost, Node: s.names[e.place], Text: "it starts without: YARN gave no container in time"})
		case leave:
			name := s.names[e.place]
			delete(s.launched, name)
			if l := s.links[name]; l != nil {
				l.end(backend.AbandonLine("its container is given back"))
			}
		case tell:
			s.tell(backend.Event{Kind: backend.KindWarning, Text: e.text})
		case loss:
			s.lose(e)
		}
	}
}

// lose tells that a node is gone.
func (s *session) lose(e loss) {
	name := s.names[e.place]
	delete(s.launched, name)
	delete(s.away, name)
	if l := s.links[name]; l != nil {
		l.close()
	}
	kind := backend.KindWarning // another container takes its place
	if e.fatal {
		kind = backend.KindLost
	}
	s.tell(backend.Event{Kind: kind, Node: name, Text: e.text})
	if e.fatal {
		s.fatal("node " + name + " on " + e.text)
	}
}

// fatal ends the application for a reason that is its end's.
func (s *session) fatal(why string) {
	s.m.Blame(why)
	s.tell(backend.Event{Kind: backend.KindStopping, Reason: why, Text: why})
	s.drain(backend.DrainLine(why, time.Now().Add(10*time.Second), false))
}

// launch starts a node's container.
func (s *session) launch(e launch) {
	name := s.names[e.place]
	s.launched[name] = time.Now()
	delete(s.said, name)
	delete(s.away, name)
	doc := *s.doc
	doc.Node = s.node(name, e.container)
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), joinTime)
		defer cancel()
		if err := s.m.startContainer(ctx, e.container, boot{jobVersion, &doc, s.m.relays, s.m.Attempt.Number, s.m.Outside}); err != nil {
			s.post(func() { s.apply(s.gang.unstarted(time.Now(), e.container.ID, err.Error())) })
		}
	})
}

// node is what a container's keeper says of itself. It has the cores that were asked for also where YARN does not count them: there each grant says one.
func (s *session) node(name string, c yarn.Container) bootdoc.Node {
	n := bootdoc.Node{
		Name: name, Grant: "YARN", CPUs: int(max(c.Resource.VCores, s.m.Job.Size.VCores)), GPUs: int(c.Resource.Of(yarn.GPU)), Memory: s.m.Job.Memory,
		Labels: map[string]string{"host": c.Node.Host, "container": c.ID.String()},
	}
	for _, o := range s.m.Job.Size.Others {
		if o.Name != yarn.GPU {
			if n.Resources == nil {
				n.Resources = map[string]float64{}
			}
			n.Resources[o.Name] = float64(o.Value)
		}
	}
	return n
}

// joined serves a node's connection: it is called by the relay, and returns when the node is gone.
func (s *session) joined(name, container string, l *link) {
	admitted := make(chan bool, 1)
	s.post(func() { admitted <- s.admit(name, container, l) })
	select {
	case ok := <-admitted:
		if !ok {
			return // nor is its word for what is in its place now
		}
	case <-s.done:
		return
	}
	if s.m.journal != nil {
		s.m.copies.add(l)
	}
	for l.in.Scan() {
		if s.m.copies.takes(l, l.in.Bytes()) {
			continue
		}
		var t taken
		if json.Unmarshal(l.in.Bytes(), &t) == nil && t.By > s.m.Attempt.Number {
			s.m.leave(fmt.Errorf("yarn: node %s has a later master, attempt %d: this one was cut off from YARN", name, t.By))
			break
		}
		ev := backend.ParseEvent(name, l.in.Bytes())
		s.post(func() { s.heard(name, ev) })
	}
	s.m.copies.remove(l)
	l.close()
	s.post(func() {
		if s.links[name] == l {
			delete(s.links, name)
			if !s.stopping {
				s.away[name] = time.Now()
			}
		}
	})
}

// admit takes a connection for a node's. One in a container that is the node's no more has to end: it was taken for lost, and another one has its place.
func (s *session) admit(name, container string, l *link) bool {
	if p := s.place(name); p < 0 || s.headOver || s.gang.members[p].container == nil || s.gang.members[p].container.ID.String() != container {
		l.end(backend.AbandonLine("this container is no node of the application any more"))
		return false
	}
	if old := s.links[name]; old != nil {
		old.close() // of the container before
	}
	s.links[name] = l
	l.idle.Store(s.gang.idle)
	delete(s.away, name)
	s.tellGoing(name)
	return true
}

// heard takes in a line of a node's keeper.
func (s *session) heard(name string, ev backend.Event) {
	delete(s.launched, name)
	switch ev.Kind {
	case backend.KindReady:
		s.gang.joined(s.place(name))
	case backend.KindEnd, backend.KindError:
		if s.said[name] {
			return
		}
		s.said[name] = true
		if !s.stopping && ev.Kind == backend.KindEnd {
			return // its container's end tells more, and it may be replaced
		}
	}
	s.tell(ev)
}

// resume takes over the nodes of the master before this one. It is called before the loop runs.
func (s *session) resume() {
	for _, v := range s.m.kept {
		s.kept = append(s.kept, v.Node)
		s.gang.resume(s.m.place(v.Node), v.container)
		s.serve(v)
	}
}

// serve has a node's keeper come to this master's head, and reads what it says.
func (s *session) serve(v survivor) {
	_ = v.link.send(backend.HeadLine(s.doc.Head)) // one that is gone is found by who reads it
	s.work.Go(func() { s.joined(v.Node, v.container.ID.String(), v.link) })
}

// found takes in a container of a master before this one, of which YARN was late to tell. What runs there must not run beside what begins anew: without a
// node that goes on here it is given back at once.
func (s *session) found(c yarn.Container) {
	if !s.m.Resumed() {
		s.m.giveBack(c, errors.New("the program has begun anew"))
		return
	}
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), meetTime)
		defer cancel()
		v, err := s.m.call(ctx, c)
		if err != nil {
			s.m.giveBack(c, err)
			return
		}
		s.post(func() { s.late(v) })
	})
}

// late takes over a node that goes on, if its place has no other one yet. One that had a later master than the nodes that are here goes on with something else.
func (s *session) late(v survivor) {
	place := s.place(v.Node)
	if s.headOver || place < 0 || v.Life != s.m.Life || v.Attempt > s.m.kept[0].Attempt || !s.gang.waits(place) {
		v.link.close()
		s.m.giveBack(v.container, fmt.Errorf("node %s does not belong to what goes on, or has been replaced", v.Node))
		return
	}
	delete(s.launched, v.Node)
	s.apply(s.gang.resume(place, v.container))
	s.serve(v)
}

func (s *session) place(name string) int { return s.m.place(name) }

// fromYARN takes in what a heartbeat brought. It is called by the master's heartbeat.
func (s *session) fromYARN(e am.Event) {
	s.post(func() {
		switch e := e.(type) {
		case am.Granted:
			s.apply(s.gang.granted(time.Now(), e.Container))
		case am.Found:
			s.found(e.Container)
		case am.Ended:
			s.apply(s.gang.ended(time.Now(), e.Status))
		case am.PreemptionWarning:
			for _, id := range slices.Concat(e.Strict, e.Negotiable) { // the CapacityScheduler calls all of them negotiable
				s.announced(func(c *yarn.Container) bool { return c.ID == id }, "YARN will take its container for others (preemption)", preemptionTime, true)
			}
		case am.NodeChanged:
			on := func(c *yarn.Container) bool { return c.Node == e.Node.ID }
			switch {
			case e.Node.State == yarn.NodeDecommissioning && e.Node.Leaves > 0:
				in := time.Duration(e.Node.Leaves) * time.Second
				s.announced(on, fmt.Sprintf("%s is taken out of the cluster in %v", e.Node.ID.Host, in), in, false)
			case e.Node.State == yarn.NodeDecommissioning:
				s.announced(on, e.Node.ID.Host+" is taken out of the cluster", 0, false)
			case e.Node.State == yarn.NodeRunning:
				s.stays(e.Node.ID.Host+" is not taken out of the cluster any more", func(g *going) *cause {
					if !on(g.container) {
						return nil
					}
					return &g.leaves
				})
			default:
				for i, mem := range s.gang.members {
					if mem.container != nil && on(mem.container) {
						s.tell(backend.Event{Kind: backend.KindWarning, Node: s.names[i], Text: e.Node.ID.Host + " is " + e.Node.State.String() + " " + e.Node.Health})
					}
				}
			}
		case am.Refused:
			s.fatal(e.Err.Error())
		case am.Over:
			if errors.Is(e.Err, yarn.ErrOver) || errors.Is(e.Err, yarn.ErrCredentials) { // the token of an attempt ends with it
				s.gone(e.Err)
				return
			}
			s.fatal("YARN can't be reached any more: " + e.Err.Error())
		}
	})
}

// followHead hands on what the master's own keeper says.
func (s *session) followHead(first backend.Event) {
	s.post(func() { s.tell(first) })
	for ev := range s.head.Events() {
		switch ev.Kind {
		case backend.KindReady:
			s.own <- ev // there is room
			continue
		case backend.KindEnd:
			continue // it takes no work, and nobody waits for it
		case backend.KindError:
			s.post(func() {
				if s.unwished() && removed(filepath.Dir(s.m.Folder)) { // what it starts has no place here: the next master's has one
					s.gone(fmt.Errorf("yarn: the NodeManager was started anew, and has removed this container's folder: %s", ev.Text))
				}
			})
		case backend.KindLost:
			s.post(func() {
				if s.unwished() { // the next master has a head again
					s.gone(fmt.Errorf("yarn: the keeper of the head was killed: %s", ev.Reason))
				}
			})
		}
		s.post(func() { s.tell(ev) })
	}
	s.post(func() {
		s.headOver = true
		s.apply(s.gang.close())
		for _, l := range s.links {
			l.end(backend.DrainLine("the head of the application is over", time.Now(), true))
		}
	})
}

// unwished tells whether an end now is by nobody's wish.
func (s *session) unwished() bool { return !s.stopping && s.m.Blame("") == "" }

// tell has an event handed on. Only the loop calls it. Whoever has the session reads until Events is closed.
func (s *session) tell(ev backend.Event) { s.untold = append(s.untold, ev) }

// drain sends a line to all nodes, and to the master's own last.
func (s *session) drain(line []byte) {
	for _, name := range s.names {
		if l := s.links[name]; l != nil {
			_ = l.send(line) // one that is gone needs none
		}
	}
	_ = s.head.Send(line)
}

// Nodes are n1 to nN: they have names before they have containers. Who takes over from another master has those that were there.
func (s *session) Nodes() []string {
	if len(s.kept) > 0 {
		return s.kept
	}
	return s.names
}

// Events gives the news.
func (s *session) Events() <-chan backend.Event { return s.events }

// Attached is the head's node, which is this process's own.
func (s *session) Attached() backend.Event {
	select {
	case ev := <-s.own:
		return ev
	case <-s.done:
		return backend.Event{}
	}
}

// Send writes a line to all keepers. Those whose container comes later have the head's address in their document.
func (s *session) Send(line []byte) error {
	s.post(func() { s.drain(line) })
	return nil
}

// Release is for clusters that outlive who started them: an application does not outlive its master.
func (s *session) Release() error {
	return fmt.Errorf("yarn: an application ends with its master")
}

// Wait waits for the end.
func (s *session) Wait() error {
	<-s.over
	return nil
}

// Stop drains the nodes.
func (s *session) Stop(ctx context.Context) error {
	go func() { // nobody else may be reading; ends when Events is closed
		for range s.events {
		}
	}()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	s.post(func() {
		s.stopping = true
		s.apply(s.gang.close())
		s.drain(backend.DrainLine("stopped by the command that started it", deadline, true))
	})
	err := s.head.Stop(ctx)
	<-s.over
	return err
}

// waits is what the application waits for, for a client.
func (s *session) waits() string {
	answer := make(chan string, 1)
	s.post(func() { answer <- s.gang.state(time.Now()) })
	select {
	case text := <-answer:
		return text
	case <-s.done:
		return ""
	}
}
