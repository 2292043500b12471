package work

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// add1 adds to what is used of the CPUs.
func add1(used map[int]int64, n int64) map[int]int64 {
	if used == nil {
		used = map[int]int64{}
	}
	used[resCPU] += n
	return used
}

// checkPlaces: what this agent has sent to a place, and what it keeps of other agents', adds up.
func checkPlaces(c *Core) error {
	n, used := map[*place]int{}, map[*place]map[int]int64{}
	count := func(p *place, d *demand) {
		n[p]++
		if used[p] == nil {
			used[p] = map[int]int64{}
		}
		for _, x := range d.parts {
			used[p][x.resource] += x.amount
		}
	}
	for _, h := range c.hosts {
		for _, w := range h.actors {
			count(w.place, w.need)
		}
		for _, t := range tasksOf(h) {
			if t.place == nil {
				return fmt.Errorf("task %v is at no place", t.id())
			}
			count(t.place, &t.class.need)
		}
	}
	for _, p := range c.places {
		if p.n != n[p] {
			return fmt.Errorf("%d tasks and actors are at %s, counts %d", n[p], p.node, p.n)
		}
		told := int64(0)
		for _, u := range p.uses {
			if told += u.cpu; !slices.Contains(c.hosts, u.host) {
				return fmt.Errorf("at %s something is used by a job that is over", p.node)
			}
		}
		for i := range p.total {
			if i == resCPU {
				used[p] = add1(used[p], -told)
			}
			if p.total[i] != p.free[i]+used[p][i] {
				return fmt.Errorf("at %s %d of %s are free, %d used, of %d", p.node, p.free[i], c.names[i], used[p][i], p.total[i])
			}
		}
	}
	listed := 0
	for _, p := range c.processes {
		for i, o := range p.lends {
			if l := c.lent[o]; !o.foreign || l == nil || l.home != p || l.at != i {
				return fmt.Errorf("object %v came from %d, which does not know it", o.id(), p.id)
			}
			listed++
		}
		if len(p.lent) > 0 && p.kind == Host && !p.early {
			return fmt.Errorf("%d objects are lent by %d and settled by nobody", len(p.lent), p.id)
		}
	}
	if listed != len(c.lent) {
		return fmt.Errorf("%d objects came from elsewhere, counts %d", listed, len(c.lent))
	}
	return nil
}

// checkGrants: what is held and what is free add up (WORK-2).
func checkGrants(c *Core) error {
	for _, g := range c.grants {
		used, sticky, ending := make([]int64, len(c.names)), make([]int64, len(c.names)), make([]int64, len(c.names))
		shares, going := map[string]int64{}, map[string]int64{}
		for _, w := range c.workers {
			if !w.held || w.grant != g {
				continue
			}
			if w.kin && w.class.group != g.group && !g.lease && !g.open {
				return fmt.Errorf("WORK-2: worker %d has what is not its to have of %s", w.key, g.name())
			}
			for _, p := range w.class.need.parts {
				if w.killed != "" {
					ending[p.resource] += p.amount
				}
				if p.resource != resCPU || !w.lent {
					used[p.resource] += p.amount
				}
				if w.actor != nil || w.lent {
					sticky[p.resource] += p.amount
				}
			}
			for _, d := range w.devices {
				shares[d] += w.share()
				if w.killed != "" {
					going[d] += w.share()
				}
			}
		}
		if g.kept < 0 || g.kept > 0 && (g.group != (id.Task{}) || g.open) {
			return fmt.Errorf("of %s %d are kept", g.name(), g.kept)
		}
		for i := range c.names {
			if get(g.total, i) != get(g.free, i)+used[i] {
				return fmt.Errorf("WORK-2: %s: of %d, %d are free and %d held", c.names[i], get(g.total, i), get(g.free, i), used[i])
			}
			if get(g.free, i)+ending[i] < 0 && i != resCPU {
				return fmt.Errorf("WORK-2: %s: %d free", c.names[i], g.free[i])
			}
			if get(g.sticky, i) != sticky[i] {
				return fmt.Errorf("%s: %d sticky, counts %d", c.names[i], sticky[i], get(g.sticky, i))
			}
		}
		for _, d := range g.devices {
			if d.free+shares[d.id] != d.total || d.free+going[d.id] < 0 {
				return fmt.Errorf("WORK-2: device %s: %d free, %d held", d.id, d.free, shares[d.id])
			}
		}
	}
	return nil
}

// checkUses: when nothing is under way, an agent counts of a lease what is there (WORK-11).
func (h *history) checkUses() {
	for _, k := range h.errands {
		owner, there := k.ends[0].core.byProcess[k.process[0]], k.ends[1].core.byProcess[k.process[1]]
		if owner == nil || there == nil || owner.closing || there.closing {
			continue
		}
		host := k.ends[0].core.hostOfProcess(owner)
		for _, p := range k.ends[0].core.places {
			for _, g := range k.ends[1].core.grants {
				if g.group != p.group || g.bundle != p.bundle || p.agent != k.ends[1].agent {
					continue
				}
				told := hostUse{}
				if i := slices.IndexFunc(p.uses, func(u hostUse) bool { return u.host == host }); i >= 0 {
					told = p.uses[i]
				}
				if u := useOf(k.ends[1].core.usesOf(there.job), g); u.cpu != told.cpu || u.tasks != told.tasks {
					h.t.Fatalf("seed %d: WORK-11: agent %d has %d CPU and %d tasks more on a lease than agent %d knows, which counts %d and %d", h.seed, k.ends[1].agent, u.cpu, u.tasks, k.ends[0].agent, told.cpu, told.tasks)
				}
			}
		}
	}
}
