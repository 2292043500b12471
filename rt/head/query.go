package head

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// stateVersion is the version of the replies; docs/spec/state.md describes them.
const stateVersion = 1

type jsonNode struct {
	Name      string             `json:"name"`
	Index     uint32             `json:"index"`
	State     string             `json:"state"` // up, paused, draining, dead
	Why       string             `json:"why,omitempty"`
	Agent     uint32             `json:"agent"`
	Since     string             `json:"since"`
	Addresses []string           `json:"addresses"`
	Grant     string             `json:"grant,omitempty"`
	Build     string             `json:"build,omitempty"`
	Labels    map[string]string  `json:"labels,omitempty"`
	Total     map[string]float64 `json:"total"`
	Free      map[string]float64 `json:"free"`
	Lent      map[string]float64 `json:"lent,omitempty"` // to agents, for tasks that belong to no group
	Devices   []jsonDevice       `json:"devices,omitempty"`
	Groups    []jsonHeld         `json:"groups,omitempty"`
	Drain     *jsonNodeDrain     `json:"drain,omitempty"`
}

// jsonNodeDrain is why a node takes nothing new, since when, and when what moves is to be gone.
type jsonNodeDrain struct {
	Since    string `json:"since"`
	Deadline string `json:"deadline,omitempty"`
	Reason   string `json:"reason"`
	Goes     bool   `json:"goes,omitempty"` // it goes by itself
}

type jsonDevice struct {
	ID    string  `json:"id"`
	Model string  `json:"model,omitempty"`
	Free  float64 `json:"free"`
}

type jsonHeld struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"`
	Share string `json:"share"`
}

type jsonGroup struct {
	ID          string     `json:"id"`
	Name        string     `json:"name,omitempty"`
	Phase       string     `json:"phase"`
	Created     string     `json:"created"`
	Since       string     `json:"since"`
	Owner       string     `json:"owner"`
	Detached    bool       `json:"detached"`
	Strategy    string     `json:"strategy"`
	Bundles     int        `json:"bundles"`
	World       uint32     `json:"world"`
	Running     int        `json:"running"`
	Argv        []string   `json:"argv,omitempty"`
	Incarnation uint32     `json:"incarnation"`
	Restarts    uint32     `json:"restarts"`
	MaxRestarts int32      `json:"max_restarts"`
	Master      string     `json:"master,omitempty"`
	Nodes       []string   `json:"nodes,omitempty"`
	Hosts       string     `json:"hosts,omitempty"` // nodes, folded
	Why         string     `json:"why,omitempty"`   // one line of explain, the one that says most
	Explain     string     `json:"explain,omitempty"`
	Ranks       []jsonRank `json:"ranks,omitempty"`
	End         *jsonEnd   `json:"end,omitempty"`

	Specs []jsonBundle `json:"bundle_specs,omitempty"` // of one group that is asked for
}

type jsonBundle struct {
	Resources map[string]float64 `json:"resources"`
	Node      string             `json:"node,omitempty"` // where it is
}

type jsonRank struct {
	Rank   uint32   `json:"rank"`
	Node   string   `json:"node"`
	Local  uint32   `json:"local_rank"`
	Bundle uint32   `json:"bundle"`
	GPUs   []string `json:"devices,omitempty"`
	State  string   `json:"state"` // waiting, running, ended, lost
	Code   int32    `json:"code"`
	Signal int32    `json:"signal"`
}

type jsonEnd struct {
	Code     int32  `json:"code"`
	Cause    string `json:"cause"`
	Reason   string `json:"reason,omitempty"`
	Rank     int32  `json:"rank"`
	Node     string `json:"node,omitempty"`
	Signal   int32  `json:"signal"`
	Tail     string `json:"tail,omitempty"`
	Wall     string `json:"wall"`
	Restarts uint32 `json:"restarts"`
}

type jsonCluster struct {
	Name     string             `json:"name"`
	ID       string             `json:"id"`
	Job      string             `json:"job,omitempty"`
	Epoch    uint32             `json:"epoch"`
	Build    string             `json:"build"`
	Term     uint64             `json:"term"`
	Began    string             `json:"began"`
	Now      string             `json:"now"`
	State    string             `json:"state"`         // joining, up, short, draining
	Why      string             `json:"why,omitempty"` // it is not up
	Expected int                `json:"expected"`
	Joined   int                `json:"joined"`
	Missing  []string           `json:"missing,omitempty"`
	Up       int                `json:"up"`
	Paused   int                `json:"paused"`
	Draining int                `json:"draining,omitempty"` // nodes
	Dead     int                `json:"dead"`
	Total    map[string]float64 `json:"total"`
	Free     map[string]float64 `json:"free"`
	Groups   map[string]int     `json:"groups"` // number by phase
	Refused  uint64             `json:"refused"`
	Drain    *jsonDrain         `json:"drain,omitempty"`
	Explain  string             `json:"explain"`
}

type jsonDrain struct {
	Deadline string `json:"deadline"`
	Reason   string `json:"reason"`
	Code     int32  `json:"code"`
}

type jsonNotice struct {
	Wall  string `json:"wall"`
	Level string `json:"level"`
	Code  string `json:"code"`
	Text  string `json:"text"`
	Group string `json:"group,omitempty"`
}

type jsonExplain struct {
	Kind string `json:"kind"` // group, node, cluster
	ID   string `json:"id"`
	Why  string `json:"why,omitempty"` // one line of text: what it waits for, or why it is not up; empty: it waits for nothing
	Text string `json:"text"`
}

// query answers a question about the state with JSON.
func (c *Core) query(m *member, q *fb.StateQueryT, corr uint64) {
	c.idleSince = c.now
	switch q.What {
	case "stores", "devices", "drivers", "free":
		c.gather(m, q.What, corr)
		return
	case "ways":
		c.gatherWays(m, q.Id, corr)
		return
	}
	reply := &fb.StateReplyT{}
	var payload []byte
	body, err := c.answer(q.What, q.Id)
	if err == nil {
		payload, err = json.Marshal(body)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	c.out = append(c.out, Send{Agent: m.number, Msg: reply, Corr: corr, Payload: payload})
}

func (c *Core) answer(what, ref string) (any, error) {
	switch what {
	case "nodes":
		list := make([]jsonNode, 0, len(c.state.nodes))
		for _, n := range c.state.nodes {
			list = append(list, c.jsonNode(n))
		}
		return struct {
			Version int        `json:"version"`
			Nodes   []jsonNode `json:"nodes"`
			Missing []string   `json:"missing,omitempty"`
			Why     string     `json:"why,omitempty"` // they are missing
		}{stateVersion, list, c.missing(), c.whyMissing()}, nil
	case "groups":
		list := make([]jsonGroup, 0, len(c.state.groups)+len(c.state.ended))
		for _, g := range c.state.groups {
			list = append(list, c.jsonGroup(g, false))
		}
		for i := len(c.state.ended) - 1; i >= 0; i-- {
			list = append(list, c.jsonGroup(c.state.ended[i], false))
		}
		return struct {
			Version int         `json:"version"`
			Groups  []jsonGroup `json:"groups"`
		}{stateVersion, list}, nil
	case "group":
		g := c.findGroup(ref)
		if g == nil {
			return nil, fmt.Errorf("head: %q is neither a group nor the name of one", ref)
		}
		return struct {
			Version int       `json:"version"`
			Group   jsonGroup `json:"group"`
		}{stateVersion, c.jsonGroup(g, true)}, nil
	case "cluster":
		return struct {
			Version int         `json:"version"`
			Cluster jsonCluster `json:"cluster"`
		}{stateVersion, c.jsonCluster()}, nil
	case "room":
		return c.room(ref)
	case "names":
		return struct {
			Version int        `json:"version"`
			Names   []jsonName `json:"names"`
		}{stateVersion, c.jsonNames(ref)}, nil
	case "log":
		list := make([]jsonNotice, 0, len(c.notices))
		for i := range c.notices {
			n := c.notices[(c.noticesAt+i)%len(c.notices)]
			j := jsonNotice{Wall: stamp(n.Wall), Level: strings.ToLower(n.Level.String()), Code: n.Code, Text: n.Text}
			if n.Group != nil {
				j.Group = taskOf(n.Group).String()
			}
			list = append(list, j)
		}
		return struct {
			Version int          `json:"version"`
			Notices []jsonNotice `json:"notices"`
		}{stateVersion, list}, nil
	case "explain":
		e, err := c.explain(ref)
		return struct {
			Version int         `json:"version"`
			Explain jsonExplain `json:"explain"`
		}{stateVersion, e}, err
	}
	return nil, fmt.Errorf("head: %q can't be asked for; nodes, free, groups, group, explain, cluster, stores, devices, drivers, ways, room and log can", what)
}

func (c *Core) explain(ref string) (jsonExplain, error) {
	if ref == "" || ref == c.cfg.Name || c.cfg.Job != "" && ref == c.cfg.Job {
		_, why := c.standing()
		return jsonExplain{"cluster", c.cfg.Name, why, c.explainCluster()}, nil
	}
	if g := c.findGroup(ref); g != nil {
		text := c.explainGroup(g)
		return jsonExplain{"group", g.id.String(), c.whyGroup(g, text), text}, nil
	}
	for _, n := range c.state.nodes {
		if n.name == ref {
			return jsonExplain{"node", n.name, c.jsonNode(n).Why, c.explainNode(n)}, nil
		}
	}
	for _, name := range c.missing() {
		if name == ref {
			why := "is expected and has not joined"
			if !c.formed() {
				why += fmt.Sprintf("; it has %v left", c.joinLeft())
			}
			return jsonExplain{"node", name, "it " + why, fmt.Sprintf("node %s %s", name, why)}, nil
		}
	}
	return jsonExplain{}, fmt.Errorf("head: %q is neither a group, nor its name, nor a node of this cluster", ref)
}

func (c *Core) jsonNode(n *node) jsonNode {
	j := jsonNode{Name: n.name, Index: n.index, State: "up", Agent: uint32(n.agent), Since: stamp(n.since),
		Addresses: n.register.Addresses, Grant: n.register.Grant, Build: n.register.Build,
		Total: map[string]float64{}, Free: map[string]float64{}}
	for _, l := range n.register.Labels {
		if j.Labels == nil {
			j.Labels = map[string]string{}
		}
		j.Labels[l.Key] = l.Value
	}
	if n.dead {
		j.State, j.Why = "dead", n.why
		return j
	}
	v := c.state.view.Node(int(n.index))
	if v == nil {
		return j
	}
	if v.State != placement.Open {
		j.State, j.Why = "paused", v.Why
	}
	if d := n.drain; d != nil {
		j.State, j.Drain = "draining", &jsonNodeDrain{Since: stamp(d.Wall), Reason: d.Reason, Goes: n.goes != nil}
		if d.Deadline != 0 {
			j.Drain.Deadline = stamp(d.Deadline)
		}
	}
	for _, r := range v.Total {
		j.Total[r.Name], j.Free[r.Name] = r.Amount.Float(), v.Free.Get(r.Name).Float()
	}
	for _, d := range v.Devices {
		j.Devices = append(j.Devices, jsonDevice{d.ID, d.Model, d.Free.Float()})
	}
	for _, g := range c.state.groups {
		for _, p := range g.places {
			if p.node == n.index && !p.lost {
				j.Groups = append(j.Groups, jsonHeld{g.id.String(), g.create.Name, c.share(p)})
				j.lend(g, p)
			}
		}
	}
	return j
}

// lend adds what a lease has of a node.
func (j *jsonNode) lend(g *group, p *place) {
	for _, b := range p.bundles {
		for _, r := range b.Resources {
			if !g.leased() {
				return
			}
			if j.Lent == nil {
				j.Lent = map[string]float64{}
			}
			j.Lent[r.Name] += placement.Amount(r.Amount).Float()
		}
	}
}

func (c *Core) jsonGroup(g *group, whole bool) jsonGroup {
	j := jsonGroup{ID: g.id.String(), Name: g.create.Name, Phase: strings.ToLower(g.phase.String()),
		Created: stamp(g.created), Since: stamp(g.since), Owner: fmt.Sprintf("%d.%d", g.owner, g.process),
		Detached: g.create.Detached, Strategy: strings.ToLower(g.create.Strategy.String()), Bundles: len(g.create.Bundles), World: g.world(),
		Incarnation: g.incarnation, Restarts: g.restarts, MaxRestarts: g.create.MaxRestarts}
	if g.create.Program != nil {
		j.Argv = g.create.Program.Argv
	}
	if whole {
		j.Specs = c.jsonBundles(g)
	}
	if g.phase == fb.GroupPhaseEnded {
		e := g.end
		j.Why = c.whyGroup(g, "")
		j.End = &jsonEnd{Code: e.Code, Cause: e.Cause, Reason: e.Reason, Rank: e.Rank, Node: e.Node, Signal: e.Signal, Wall: stamp(e.Wall), Restarts: e.Restarts}
		if whole {
			j.End.Tail = e.Tail
			j.Explain = endText(g)
		}
		return j
	}
	if g.port != 0 {
		j.Master = fmt.Sprintf("%s:%d", g.master, g.port)
	}
	for _, p := range g.places {
		j.Nodes = append(j.Nodes, c.state.nodeName(p.node))
	}
	j.Hosts = placement.FoldNames(j.Nodes)
	for r := range g.ranks {
		if g.run.running[r] && !g.ranks[r].done {
			j.Running++
		}
	}
	if g.phase != fb.GroupPhaseRunning || whole {
		j.Explain = c.explainGroup(g)
		j.Why = c.whyGroup(g, j.Explain)
	}
	if !whole {
		return j
	}
	for _, p := range g.places {
		for _, rp := range g.ranksOf(nil, p) {
			r := jsonRank{Rank: rp.Rank, Node: c.state.nodeName(p.node), Local: rp.LocalRank, Bundle: rp.Bundle, State: "waiting"}
			for _, b := range p.bundles {
				if b.Index == rp.Bundle {
					r.GPUs = b.Devices
				}
			}
			e := g.ranks[rp.Rank]
			switch {
			case e.done:
				r.State, r.Code, r.Signal = "ended", e.code, e.signal
			case p.lost:
				r.State = "lost"
			case g.run.running[rp.Rank]:
				r.State = "running"
			}
			j.Ranks = append(j.Ranks, r)
		}
	}
	return j
}

func (c *Core) jsonBundles(g *group) []jsonBundle {
	list := make([]jsonBundle, len(g.create.Bundles))
	for i, b := range g.create.Bundles {
		list[i].Resources = map[string]float64{}
		for _, r := range b.Resources {
			list[i].Resources[r.Name] = placement.Amount(r.Amount).Float()
		}
	}
	for _, p := range g.places {
		for _, b := range p.bundles {
			if int(b.Index) < len(list) && !p.lost {
				list[b.Index].Node = c.state.nodeName(p.node)
			}
		}
	}
	return list
}

// whyGroup is the line of a group's explanation that says most: what it waits for, or why it ended.
func (c *Core) whyGroup(g *group, explain string) string {
	why := strings.TrimPrefix(explain, "group "+g.title()+": ")
	switch g.phase {
	case fb.GroupPhaseEnded:
		why = g.end.Reason
	case fb.GroupPhasePending:
		_, why, _ = strings.Cut(explain, "\n") // behind how long it has waited
	}
	why, _, _ = strings.Cut(why, "\n")
	return strings.TrimSpace(why)
}

// standing is the state of the whole, and why it is not up.
func (c *Core) standing() (state, why string) {
	switch d := c.state.drain; {
	case d != nil:
		return "draining", d.Reason
	case c.short != "":
		return "short", c.short
	case !c.formed():
		return "joining", c.whyMissing()
	}
	return "up", ""
}

// whyMissing says that nodes have not joined, and how long they have; empty when none is missing.
func (c *Core) whyMissing() string {
	switch {
	case len(c.cfg.Expect) == 0 && !c.formed():
		return fmt.Sprintf("%d of %d nodes joined; the others have %v left", len(c.state.nodes), c.cfg.minNodes(), c.joinLeft())
	case len(c.missing()) == 0:
		return ""
	case !c.joinOver:
		return fmt.Sprintf("%s; they have %v left", c.explainJoin(), c.joinLeft())
	}
	return c.explainJoin() + "; their time to join is over"
}

func (c *Core) jsonCluster() jsonCluster {
	j := jsonCluster{Name: c.cfg.Name, ID: c.cfg.Cluster, Job: c.cfg.Job, Epoch: c.cfg.Epoch, Build: c.cfg.Build, Term: c.state.term,
		Began: stamp(c.state.began), Now: stamp(c.now), Expected: len(c.cfg.Expect), Missing: c.missing(),
		Total: map[string]float64{}, Free: map[string]float64{}, Groups: map[string]int{}, Refused: c.refusals, Explain: c.explainCluster()}
	j.Joined = len(c.state.nodes)
	for _, n := range c.state.nodes {
		v := c.state.view.Node(int(n.index))
		switch {
		case n.dead || v == nil:
			j.Dead++
			continue
		case n.drain != nil:
			j.Draining++
		case v.State != placement.Open:
			j.Paused++
		default:
			j.Up++
		}
		for _, r := range v.Total {
			j.Total[r.Name] += r.Amount.Float()
			j.Free[r.Name] += v.Free.Get(r.Name).Float()
		}
	}
	for _, g := range c.state.groups {
		j.Groups[strings.ToLower(g.phase.String())]++
	}
	j.Groups["ended"] = len(c.state.ended)
	j.State, j.Why = c.standing()
	if d := c.state.drain; d != nil {
		j.Drain = &jsonDrain{stamp(d.Deadline), d.Reason, d.ExitCode}
	}
	return j
}

func stamp(wall int64) string { return time.Unix(0, wall).UTC().Format(time.RFC3339Nano) }
