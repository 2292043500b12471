package work

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Names of actors are the cluster's, and the head has them. An actor with a name is made once the head has said that it has that; its
// agent gives the name back when the actor is dead. Whoever looks for a name is told at once if the actor is this agent's, because then
// nobody else's has it; else the head says whose it is, and that agent sends a handle, by a way between the two agents that belongs to no job.

const (
	headPatience = int64(20 * time.Second)       // a question to the head is given up after so long
	claimAgain   = int64(10 * time.Millisecond)  // a name that a dead actor has is asked for again after so long, then after twice that,
	claimTries   = 7                             // and so often: for 1.3 s in all
	findsAhead   = 64                            // questions to the head that may be without an answer
	homeAgain    = int64(200 * time.Millisecond) // who has the actor of a name is asked again after so long when the head knows of nobody yet
)

// asker is a process that waits for what becomes of a name. of: nil is the actor's own agent, which wants the name itself.
type asker struct {
	of    *process
	corr  uint64
	what  string // "actor": with a handle; "named": only whether it lives
	ref   string // NAMESPACE/NAME
	actor id.Task
	due   int64 // it is given up then; 0: the head was not asked yet
	tries int   // times that the head named an agent which knew of no such actor
}

// finding is a name that the head was asked for, or will be once it has answered others.
type finding struct {
	asker
	number uint64 // of the question; 0: not asked yet
	from   int64  // it is asked then
	nobody bool   // the head said last that no agent has the actor
}

// noSuch is why nobody has a name, for all that is known.
const noSuch = "it was not created, or is dead"

func (a *actor) ref() string { return a.table.Namespace_ + "/" + a.table.Name }

// named finds a living actor of this agent by its name, also one that only asks for it.
func (c *Core) named(space, name string) *actor {
	for _, a := range c.actors {
		if (a.named || a.naming) && a.table.Name == name && a.table.Namespace_ == space {
			return a
		}
	}
	return nil
}

// onNamed: the head says who has the name that an actor asks for.
func (c *Core) onNamed(ev Named) {
	e := c.entries[ev.Actor]
	if e == nil || e.actor == nil || !e.actor.naming {
		return // it is dead, or has it
	}
	a := e.actor
	switch {
	case ev.Why != "":
		c.endActor(a, "it can't have its name: "+ev.Why, false)
	case ev.Holder != ev.Actor && ev.Agent == 0: // it waits for a node where it is made again
		a.rival = ""
		c.claimLater(a)
	case ev.Holder != ev.Actor && ev.Agent != c.cfg.Agent: // which may be dead, and the head not know it yet
		a.rival = ev.Node
		c.askAgent(ev.Agent, ev.Node, asker{what: "named", ref: a.ref(), actor: ev.Actor})
	case ev.Holder != ev.Actor:
		a.rival = ev.Node
		c.claimLater(a)
	default:
		a.naming, a.named = false, true
		for _, k := range a.takeAskers() {
			c.findActor(k)
		}
		if t := a.create; t.missing == 1 {
			t.missing = 0
			c.enqueue(t)
		} else {
			t.missing--
		}
	}
}

// rivalSays: the agent whose actor has the name has said whether that one lives.
func (c *Core) rivalSays(name id.Task, lives bool) {
	e := c.entries[name]
	switch {
	case e == nil || e.actor == nil || !e.actor.naming:
	case lives:
		c.nameTaken(e.actor, e.actor.rivals())
	default:
		c.claimLater(e.actor)
	}
}

// claimLater asks for a name again that somebody is about to give back.
func (c *Core) claimLater(a *actor) {
	if a.claims >= claimTries {
		c.nameTaken(a, a.rivals())
		return
	}
	c.at(c.now+claimAgain<<a.claims, timerName, a.id(), 0, 0)
	a.claims++
}

// rivals says which actor has the name that another one wants.
func (a *actor) rivals() string {
	if a.rival == "" {
		return "a detached one whose node died, and which no node can make again now"
	}
	return "that of node " + a.rival
}

func (c *Core) nameTaken(a *actor, by string) {
	askers := a.takeAskers()
	c.endActorWith(a, codeNameTaken, fmt.Sprintf("an actor named %q lives in namespace %q: %s; take another name, or get that one", a.table.Name, a.table.Namespace_, by))
	for _, k := range askers {
		c.findActor(k)
	}
}

// freeName gives an actor's name back: it is dead.
func (c *Core) freeName(a *actor) {
	if !a.named && !a.naming {
		return
	}
	a.named, a.naming = false, false
	c.out = append(c.out, Effect{Do: Free, Group: a.id()})
	for _, k := range a.takeAskers() {
		c.noActor(k, a.reason)
	}
}

func (a *actor) takeAskers() []asker {
	askers := a.askers
	a.askers = nil
	return askers
}

// findActor answers who looks for a name, now or once it is known.
func (c *Core) findActor(k asker) {
	if k.of.gone {
		return
	}
	space, name, found := strings.Cut(k.ref, "/")
	if !found {
		space, name = "", k.ref
	}
	a := c.named(space, name)
	switch {
	case a != nil && a.naming:
		a.askers = append(a.askers, k)
	case a != nil && a.entry.first == nil:
		c.noActor(k, "nobody had a handle of it any more, and it ends")
	case a != nil:
		r := jsonReply{}
		if k.what == "actor" {
			c.hold(k.of, a.entry.first).deliveries++
			c.tellOne(a, k.of)
			j := c.showActor(a)
			r.Actor = &j
		}
		c.reply(k.of, k.corr, r, nil)
	case k.of.remote(): // whom the head has sent here
		c.noActor(k, noSuch)
	default:
		if k.due == 0 {
			k.due = c.now + headPatience
		}
		c.findLater(k, 0, false)
		c.askHead()
	}
}

// findLater has the head asked after a while. The questions stay in the order in which they are given up.
func (c *Core) findLater(k asker, wait int64, nobody bool) {
	at, _ := slices.BinarySearchFunc(c.finding, k.due+1, func(f finding, due int64) int { return cmp.Compare(f.due, due) })
	c.finding = slices.Insert(c.finding, at, finding{asker: k, from: c.now + wait, nobody: nobody})
}

// findAgain asks the head once more for who looks for a name, because the agent that it named has no such actor: what it said was old. Names that are
// given back, or come to another agent, get there within the time of some tries; why is for who is told nothing else in that time.
func (c *Core) findAgain(k asker, why string) {
	if k.of.gone {
		return
	}
	if k.tries >= claimTries || k.due == 0 || c.now >= k.due {
		c.noActor(k, why)
		return
	}
	wait := claimAgain << k.tries
	k.tries++
	c.findLater(k, wait, false)
}

// askHead asks for the names that nobody has asked for yet. All that wait for the same one by then are answered at once.
func (c *Core) askHead() {
	for i := 0; i < len(c.finding) && len(c.finds) < findsAhead; i++ {
		ref := c.finding[i].ref
		if c.finding[i].number != 0 || c.finding[i].from > c.now {
			continue
		}
		c.questions++
		c.finds[c.questions] = true
		for k := i; k < len(c.finding); k++ {
			if f := &c.finding[k]; f.number == 0 && f.from <= c.now && f.ref == ref {
				f.number = c.questions
			}
		}
		c.out = append(c.out, Effect{Do: Find, Key: c.questions, Text: ref})
	}
}

// noActor tells who looks for a name that nobody has it.
func (c *Core) noActor(k asker, why string) {
	if !k.of.gone {
		space, name, _ := strings.Cut(k.ref, "/")
		c.reply(k.of, k.corr, jsonReply{}, fmt.Errorf("work: no actor named %q lives in namespace %q: %s", name, space, why))
	}
}

// onFound: the head says whose a name is.
func (c *Core) onFound(ev Found) {
	if !c.finds[ev.Key] {
		return
	}
	delete(c.finds, ev.Key)
	var askers []asker
	c.finding = slices.DeleteFunc(c.finding, func(f finding) bool {
		if f.number == ev.Key {
			askers = append(askers, f.asker)
		}
		return f.number == ev.Key
	})
	c.askHead()
	for _, k := range askers {
		c.foundFor(k, ev)
	}
}

func (c *Core) foundFor(k asker, ev Found) {
	switch {
	case k.of.gone:
	case ev.Why != "":
		c.reply(k.of, k.corr, jsonReply{}, fmt.Errorf("work: who is called %q is not known: %s", k.ref, ev.Why))
	case !ev.Actor.IsZero() && ev.Agent == 0: // its agent is dead, and no other one can make it now
		c.findLater(k, homeAgain, true)
	case ev.Actor.IsZero():
		c.noActor(k, noSuch)
	case ev.Agent == c.cfg.Agent: // it was this one's a moment ago, or is about to be
		if space, name, _ := strings.Cut(k.ref, "/"); c.named(space, name) != nil {
			c.findActor(k)
		} else {
			c.findAgain(k, noSuch)
		}
	default:
		if e := c.entries[ev.Actor]; e != nil && e.actor != nil && !e.actor.proxy && e.actor.create != nil {
			if o := e.actor.create.owner; o.kind == Owner && !o.closing { // it lives here for the agent that has its name, which decides for how long
				c.askProcess(o, k)
				return
			}
		}
		c.askAgent(ev.Agent, ev.Node, k)
	}
}

// unasked forgets a question to the head when nobody waits for its answer any more.
func (c *Core) unasked(number uint64) {
	if !slices.ContainsFunc(c.finding, func(f finding) bool { return f.number == number }) {
		delete(c.finds, number)
	}
}

// giveUpFinding answers those whom the head has not answered.
func (c *Core) giveUpFinding() {
	for len(c.finding) > 0 && c.finding[0].due <= c.now {
		f := c.finding[0]
		c.finding = c.finding[1:]
		c.unasked(f.number)
		switch {
		case f.of.gone:
		case f.nobody:
			c.noActor(f.asker, fmt.Sprintf("its node died, and for %v no node was there that could make it again; ask again when one is", time.Duration(headPatience)))
		default:
			c.reply(f.of, f.corr, jsonReply{}, fmt.Errorf("work: the head, which knows who is called %q, has not answered for %v: it is being started again, or can't be reached; ask again",
				f.ref, time.Duration(headPatience)))
		}
	}
	c.askHead()
}

// askAgent asks another agent about an actor of its. Handles that come with the answer go with no job: the way to their agent is one for
// all jobs of this node, and is closed when nobody has use for it.
func (c *Core) askAgent(agent id.Agent, node string, k asker) {
	h := c.wayTo(agent, node)
	if h.process == nil || h.process.closing {
		h.asks = append(h.asks, k)
		return
	}
	c.askProcess(h.process, k)
}

func (c *Core) wayTo(agent id.Agent, node string) *host {
	for _, h := range c.hosts {
		if h.job == c.ways && h.agent == agent {
			return h
		}
	}
	h := &host{agent: agent, node: node, job: c.ways, known: map[*function]bool{}, methods: map[*function]bool{}, shapes: map[hostShape]uint32{}}
	c.hosts = append(c.hosts, h)
	c.out = append(c.out, Effect{Do: NeedHost, Key: uint64(agent), Need: &Need{}})
	return h
}

// unused tells whether nobody has use for the way to another agent.
func (c *Core) unused(h *host) bool {
	p := h.process
	return len(h.asks)+len(h.lists)+len(p.lends)+len(p.spares)+len(p.listings)+len(p.fetches.list)+p.tasks.n == 0 && p.held == nil && !c.inquired(h.agent) && !slices.ContainsFunc(c.asked, func(q question) bool { return q.to == p })
}

// question is one that another agent answers.
type question struct {
	asker
	number  uint64
	to      *process
	explain *jsonExplain // what is known here of what it asks for
}

func (c *Core) askProcess(to *process, k asker) {
	c.questions++
	c.asked = append(c.asked, question{asker: k, number: c.questions, to: to})
	c.table(to, &fb.StateQueryT{What: k.what, Id: k.ref}, c.questions, nil)
}

// onReply passes on what another agent says of an actor, and its handle with it.
func (c *Core) onReply(p *process, m *fb.StateReplyT, f frame) {
	i := slices.IndexFunc(c.asked, func(q question) bool { return q.number == f.corr && q.to == p })
	if i < 0 {
		c.strays++
		return
	}
	q := c.asked[i]
	c.asked = slices.Delete(c.asked, i, i+1)
	if q.explain != nil {
		c.explained(q, m.Error, f.payload)
		return
	}
	if q.what == "handle" {
		c.handleCame(p, q.actor, m.Error)
		return
	}
	if q.of == nil {
		c.rivalSays(q.actor, m.Error == "")
		return
	}
	if m.Error != "" && !q.of.gone && q.tries < claimTries && q.due > c.now {
		c.findAgain(q.asker, "")
		return
	}
	var r jsonReply
	if m.Error == "" && json.Unmarshal(f.payload, &r) == nil && r.Actor != nil {
		if name, err := id.ParseTask(r.Actor.ID); err == nil {
			o := id.Object{Task: name}
			c.rehome(p, c.lookup(o))
			c.receive(p, o)
			c.deliver(q.of, o)
		}
	}
	if !q.of.gone {
		c.table(q.of, m, q.corr, f.payload)
	}
}

// rehome has the handle of an actor that came by way of a job, and would be lost with that, come by this way from now on, if no call is
// on its way to the actor.
func (c *Core) rehome(p *process, o *object) {
	if o == nil || !o.foreign || p.job != c.ways || c.home(o).job == c.ways || c.home(o).fetching(o.id()) != nil {
		return
	}
	if a := o.entry.actor; a != nil {
		if !a.quiet() {
			return
		}
		c.endProxy(a)
	}
	asked := c.lent[o].asked != fb.WantNone
	c.unlend(o)
	c.lend(p, o)
	if asked {
		c.ask(o)
	}
}

// forgetQuestions answers those that an agent which is gone would have answered.
func (c *Core) forgetQuestions(p *process, why string) {
	var lost []question
	c.asked = slices.DeleteFunc(c.asked, func(q question) bool {
		if q.to == p {
			lost = append(lost, q)
		}
		return q.to == p // one that p asked stays: its answer brings a handle, which is counted
	})
	var unasked []uint64
	c.finding = slices.DeleteFunc(c.finding, func(f finding) bool {
		if f.of == p {
			unasked = append(unasked, f.number)
		}
		return f.of == p
	})
	for _, number := range unasked {
		c.unasked(number)
	}
	for _, q := range lost {
		switch {
		case q.explain != nil:
			c.explained(q, "it is gone: "+why, nil)
		case q.what == "handle":
			c.handleLost(p, q.actor, why)
		case q.of == nil:
			c.rivalSays(q.actor, false) // the head will say
		default:
			c.findAgain(q.asker, "node "+p.node+", which would know, is gone: "+why)
		}
	}
}

// explainName says what an actor waits for that has not got its name yet.
func (c *Core) explainName(t *task) string {
	text := fmt.Sprintf("the head to say whether the name %q is free", t.actor.ref())
	switch {
	case t.actor.rival != "":
		text = fmt.Sprintf("the name %q, which an actor of node %s has", t.actor.ref(), t.actor.rival)
	case t.actor.claims > 0:
		text = fmt.Sprintf("the name %q, which %s has", t.actor.ref(), t.actor.rivals())
	}
	if t.missing > 1 {
		text += ", and for " + c.explainArgs(t)
	}
	return text
}
