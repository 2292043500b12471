package work

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// An owner is another agent whose tasks run here: a process like a driver, that submits, creates and calls, and
// is told what comes of it. It is trusted further than a process of a user: what it names by references it has.
//
// Whoever was sent a reference is listed by the sender, as a holder; it keeps an object of that name, whose value it asks for when somebody here
// does, and releases it when nobody here needs it any more, saying how many deliveries it saw (REF-2). If the sender does not own the object, the
// owner is asked to list this agent itself, and the way by which the reference came is given up (borrow.go).

// remote tells whether the other end is another agent.
func (p *process) remote() bool { return p.kind == Owner || p.kind == Host }

// drives tells whether a process is one by which its job lives.
func (p *process) drives() bool { return p.kind == Driver || p.kind == Owner }

// ownerFrame takes in what the agent says whose tasks run here.
func (c *Core) ownerFrame(p *process, f frame) {
	switch f.kind {
	case fb.FrameTypeSubmit:
		c.onSubmit(p, f)
	case fb.FrameTypeCall:
		c.onCall(p, f)
	case fb.FrameTypeResult:
		c.onResult(p, f)
		return // of an argument, which the next frame names
	case fb.FrameTypeRelease:
		c.onRelease(p, f)
	case fb.FrameTypeGet:
		c.onGet(p, f)
	case fb.FrameTypeReady:
		c.onReady(p, f)
	case fb.FrameTypeCancel:
		c.onCancel(p, f)
	case fb.FrameTypeFunction, fb.FrameTypeShape, fb.FrameTypeMethods:
		c.onTable(p, f)
		return
	case fb.FrameTypeCreate:
		c.onTable(p, f)
	case fb.FrameTypeActorState:
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil {
			c.ownerActor(p, m.(*fb.ActorStateT))
		}
	case fb.FrameTypeWaitQuery:
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil {
			c.onWaitQuery(p, m.(*fb.WaitQueryT), f)
		}
	case fb.FrameTypeStateQuery:
		c.agentAsks(p, f)
	case fb.FrameTypeStateReply:
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil {
			c.onReply(p, m.(*fb.StateReplyT), f)
		}
	case fb.FrameTypeRankOutputAck:
		c.out = append(c.out, Effect{Do: Pass, Process: p.id, Bytes: f.whole})
	default:
		c.strays++
	}
	c.settleLent(p)
}

// agentAsks answers another agent that looks for an actor of this one's, or has what runs here explained.
func (c *Core) agentAsks(p *process, f frame) {
	if m, err := wire.Unmarshal(f.kind, f.body); err == nil {
		switch q := m.(*fb.StateQueryT); q.What {
		case "actor", "named":
			c.onQuery(p, q, f)
		case "handle":
			c.handOver(p, q.Id, f.corr)
		case "explain":
			e, err := c.explain(q.Id)
			c.reply(p, f.corr, jsonReply{Explain: &e}, err)
		}
	}
}

// ownerActor notes which life of an actor the Create that comes next begins.
func (c *Core) ownerActor(p *process, m *fb.ActorStateT) {
	c.proxyState(p, m)
	if m.Phase != fb.ActorPhaseDead {
		p.nextActor, p.nextLife = taskOf(m.Actor), m.Incarnation
	}
}

// lends is what is kept of an object that another agent sent a reference to.
type lends struct {
	home  *process
	owed  uint32  // deliveries that it counts
	asked fb.Want // of that one
	there bool    // it has a value, for all that was said of it
	again bool    // asked once more, since it could not be fetched
	stays bool    // its value is not let go of: it was, when a task that needs all its arguments at once was about to go
	at    int     // in home.lends

	listing bool     // its owner was asked to list this agent, and has not answered no
	spare   *process // its owner, which does, and has delivered it once
	spareAt int      // in spare.spares
}

// home is the agent that sent a reference to an object; nil: it is this one's.
func (c *Core) home(o *object) *process {
	if !o.foreign {
		return nil
	}
	return c.lent[o].home
}

// foreign makes the object of a reference, or value, that another agent sent.
func (c *Core) foreign(p *process, name id.Object) *object {
	if name.Index >= maxReturns {
		return nil
	}
	e := c.entries[name.Task]
	if e == nil {
		e = c.newEntry(name.Task)
	}
	o := c.newObject(e, name.Index)
	c.lend(p, o)
	return o
}

// lend notes that an object is here because another agent sent it.
func (c *Core) lend(p *process, o *object) {
	o.foreign, c.lent[o] = true, &lends{home: p, at: len(p.lends)}
	p.lends = append(p.lends, o)
	p.lent = append(p.lent, o.id())
	c.borrow(o)
}

// regain has an object that was lost with the way to its agent be there again, now that this agent sent it anew. One that another
// agent sends stays lost: that one may have it from here.
func (c *Core) regain(p *process, o *object) {
	if o != nil && o.state == objectGone && o.entry.id.Agent != c.cfg.Agent { // only lineage named it
		o.state = objectPending
		o.set(markLost, false)
		c.unlend(o)
		c.lend(p, o)
		return
	}
	if o == nil || !o.has(markLost) || o.entry.id.Agent != p.agent && p.job != c.ways { // by its name it comes from who has it now
		return
	}
	o.set(markLost, false)
	if o.state == objectFailed {
		c.empty(o)
	}
	a := o.entry.actor
	if o.index > 0 { // it stands for no actor
		a = nil
	}
	if a != nil && a.proxy {
		c.endProxy(a)
	} else if a != nil && a.phase == fb.ActorPhaseDead {
		o.entry.actor = nil
	}
	c.unlend(o) // another agent may have sent it meanwhile
	c.lend(p, o)
	if o.waiting != nil {
		c.ask(o)
	}
	if a != nil && a.cut {
		c.inReach(a)
	}
}

// hosts tells whether an object stands for an actor that lives here for another agent, which alone decides how long.
func (o *object) hosts(p *process) bool {
	a := o.entry.actor
	return a != nil && !a.proxy && o.index == 0 && a.create != nil && a.create.owner == p
}

// hosted tells whether an object stands for an actor that lives here for another agent.
func (o *object) hosted() bool {
	a := o.entry.actor
	return a != nil && !a.proxy && o.index == 0 && a.create != nil && a.create.owner.kind == Owner
}

// receive counts a reference that another agent sent. One to what is here by another way is given back at once.
func (c *Core) receive(p *process, name id.Object) {
	o := c.lookup(name)
	c.regain(p, o)
	switch {
	case o == nil && name.Task.Agent == c.cfg.Agent && name.Index < maxReturns: // it was lost with the way to who had it, and is over here
		e := c.entryOf(name.Task)
		if e == nil {
			e = c.newEntry(name.Task)
		}
		o = c.newObject(e, name.Index)
		c.lose(o, codeLost, "it was this node's, and is over")
		o.set(markLost, true)
		p.lent = append(p.lent, name)
	case o == nil:
		o = c.foreign(p, name)
	}
	if o != nil && !o.foreign && (o.hosted() || o.placed && name.Task.Agent != c.cfg.Agent && o.heldBy(p.agent)) {
		c.lend(p, o) // who gets a handle of it, by whatever way, or a reference to what was made here for another agent, keeps it alive
	}
	if o != nil && c.home(o) == p {
		c.lent[o].owed++
		return
	}
	c.releaseTo(p, name, 1)
}

func (c *Core) releaseTo(p *process, name id.Object, deliveries uint32) {
	if !p.gone {
		wire.PutRelease(c.start(p, fb.FrameTypeRelease, wire.ReleaseSize, 0),
			&fb.ReleaseT{Object: &fb.ObjectIDT{Task: taskT(name.Task), Index: name.Index}, Deliveries: deliveries})
	}
}

// settleLent drops what came for a frame that has been taken in and kept nothing of it.
func (c *Core) settleLent(p *process) {
	for len(p.lent) > 0 {
		last := len(p.lent) - 1
		o := c.lookup(p.lent[last])
		p.lent = p.lent[:last]
		if o != nil {
			c.drop(o)
			c.move(o)
		}
	}
}

// unlend forgets whence an object came, and gives the reference back.
func (c *Core) unlend(o *object) {
	if !o.foreign {
		return
	}
	c.secure(o)
	l := c.lent[o]
	if p := c.unspare(o); p != nil {
		c.releaseTo(p, o.id(), 1)
	}
	p, last := l.home, len(l.home.lends)-1
	p.lends[l.at] = p.lends[last]
	c.lent[p.lends[l.at]].at = l.at
	p.lends = p.lends[:last]
	if l.owed > 0 {
		c.releaseTo(p, o.id(), l.owed)
	}
	o.foreign = false
	delete(p.states, o.entry.id)
	delete(c.lent, o)
}

// onValue takes in the value of an argument, or of an object that was asked for.
func (c *Core) onValue(p *process, f frame) {
	m := c.read.result
	if wire.ReadResult(f.body, m) != nil || m.Flags&bothFlags == bothFlags {
		c.refuse(p, "sent a Result that can't be read")
		return
	}
	if !c.holdsAll(p, f.payload, 0, m.Refs) {
		return
	}
	located := m.Flags&uint32(fb.ResultFlagLocated) != 0
	name := id.Object{Task: taskOf(m.Task), Index: m.Index}
	o := c.lookup(name)
	if p.kind == Owner || name.Task.Agent != c.cfg.Agent {
		c.regain(p, o)
	}
	switch {
	case o == nil && (p.kind == Owner || name.Task.Agent != c.cfg.Agent): // of a host that may be the late result of a task of ours
		if o = c.foreign(p, name); o == nil {
			c.refuse(p, "sent a value of an index that none has")
			return
		}
		p.early = p.kind == Host
	case o == nil || c.home(o) != p || o.state != objectPending:
		c.strays++ // it came before, or nobody needs it any more
		if located && o != nil {
			c.receive(p, name)
		} else if located {
			c.releaseTo(p, name, 1)
		}
		return
	}
	if located {
		c.lent[o].owed++
		c.foundThere(o)
		c.fetch(p, f, m)
		return
	}
	if full(m, f.payload) {
		c.lent[o].asked = fb.WantNone
		c.deny(o, slices.Clone(f.payload))
		return
	}
	m.Flags = m.Flags&uint32(fb.ResultFlagError) | uint32(fb.ResultFlagNotTask|fb.ResultFlagLast)
	m.Attempt = 0
	value := slices.Clone(f.whole)
	wire.PutResult(value[wire.HeaderSize:], m)
	c.settle(o, value)
}

// askFor has the value of an object sent that another agent has, or only asks whether there is one, if that is all that is waited for.
func (c *Core) askFor(o *object) {
	want := fb.WantValue
	if o.waiting != nil && !o.valued() {
		want = fb.WantReadiness
	}
	c.askHome(o, want)
}

func (c *Core) askHome(o *object, want fb.Want) {
	l := c.lent[o]
	if l.asked == fb.WantValue || l.asked == want || l.home.fetching(o.id()) != nil {
		return
	}
	l.asked = want
	name := o.id()
	wire.PutGet(c.start(l.home, fb.FrameTypeGet, wire.GetSize, 0), &fb.GetT{Object: &fb.ObjectIDT{Task: taskT(name.Task), Index: name.Index}, Want: want})
}

// valued tells whether anybody waits for more than that an object exists.
func (o *object) valued() bool {
	for w := o.waiting.next; ; w = w.next {
		if w.task != nil || w.want != fb.WantReadiness {
			return true
		}
		if w == o.waiting {
			return false
		}
	}
}

// exists tells whether an object has a value that is elsewhere.
func (c *Core) exists(o *object) bool {
	return o.state == objectAway || o.state == objectPending && o.foreign && c.lent[o].there
}

// onReady takes in that an object exists of which another agent sent a reference.
func (c *Core) onReady(p *process, f frame) {
	m := c.read.ready
	if len(f.body) != wire.ReadySize || wire.ReadReady(f.body, m) != nil {
		c.refuse(p, "sent a Ready that can't be read")
		return
	}
	if m.State == fb.ObjectStateListed || m.State == fb.ObjectStateUnlisted {
		c.onListed(p, m)
		return
	}
	switch o := c.lookup(objectOf(m.Object)); {
	case o == nil || c.home(o) != p || o.state != objectPending:
		c.strays++ // its value came, or nobody needs it any more
	case m.State == fb.ObjectStateError:
		c.askHome(o, fb.WantValue)
	case m.State == fb.ObjectStateThere:
		c.foundThere(o)
	default:
		c.strays++
	}
}

// foundThere tells those who wait for an object that it exists elsewhere.
func (c *Core) foundThere(o *object) {
	if c.lent[o].there {
		return // they know
	}
	c.lent[o].there = true
	c.unwait(o, func(w *waiter) bool { return w.process != nil && c.answerAway(o, w) })
}

// answerAway tells who asked for it that an object is elsewhere. true: that was all there was to tell.
func (c *Core) answerAway(o *object, w *waiter) bool {
	if w.want == fb.WantValue || w.told {
		return false
	}
	c.ready(w.process, o, fb.ObjectStateThere, w.corr)
	w.told = true
	return w.want == fb.WantReadiness
}

// lenderGone: what another agent has and did not send is lost with it.
func (c *Core) lenderGone(p *process, why string) {
	for len(p.lends) > 0 {
		o := p.lends[len(p.lends)-1]
		if o.state == objectAway {
			c.mislay(o, "node "+p.node+", which had its value: "+why)
			continue
		}
		if c.lent[o].spare != nil {
			c.relend(o, c.unspare(o))
			continue
		}
		way, asked := c.borrowed(o), c.lent[o].listing
		c.unlend(o)
		if o.hosted() && !o.hosts(p) { // it lives here
			continue
		}
		o.set(markLost, true)
		switch {
		case o.state != objectPending:
		case way && o.entry.actor == nil: // its owner may know of others who hold it
			if !asked {
				c.askListing(o.id())
			}
		case o.owner() == p.agent:
			c.lose(o, codeOwner, "its owner, node "+p.node+", which put it or submitted its task, is gone: "+why+outlives)
		default:
			c.lose(o, codeLost, "node "+p.node+", by way of which it came, is gone: "+why)
		}
	}
}

// outlives says what to do about a value that was lost with its owner.
const outlives = "; make it again, and have what is to outlive a node put, or its task submitted, at another one, as by the driver"

// lose gives an object the error that it is lost.
func (c *Core) lose(o *object, code, why string) {
	c.keep(o, fb.ResultFlagError|fb.ResultFlagNotTask|fb.ResultFlagLast, fb.FormatError, 0,
		slices.Clone(c.failure(code, "object "+objectName(o.id())+" is lost: "+why, o.entry.id)))
}

func objectName(o id.Object) string { return fmt.Sprintf("%v[%d]", o.Task, o.Index) }

// sendHome sends an owner a result of its task, of which nothing has to be kept here unless it lies in memory.
func (c *Core) sendHome(p *process, whole []byte) {
	m, payload := c.readResult(whole)
	if m.Flags&uint32(fb.ResultFlagLocated) != 0 {
		c.tellOf(p, whole)
		return
	}
	for i := range int(m.Refs) {
		c.deliver(p, objectAt(payload, i))
	}
	c.forward(p, slices.Clone(whole))
}

// sentHome lets go of a result that its owner has.
func (c *Core) sentHome(p *process, o *object) {
	if o == nil || !p.remote() {
		return
	}
	if h := c.holderOf(p, o); h != nil {
		h.made = false
		if h.deliveries == 0 {
			c.unhold(h)
		} else {
			c.drop(o) // a reference to it that came from there may be of no use any more
		}
	}
}
