package agent

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/native"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// What the head asks this node for, because somebody asked the head.

// nativeWait is how long a driver may take to tell of its devices.
const nativeWait = 6 * time.Second

// headAsks answers the head; on the loop.
func (l *loop) headAsks(ctx context.Context, q *fb.StateQueryT, corr uint64) {
	switch {
	case q.What == "devices":
		l.askDevices(ctx, corr)
	case q.What == "way":
		l.askWay(ctx, q, corr)
	case q.What == "idle":
		l.askIdle(ctx, corr)
	case q.What == "drivers":
		l.askDrivers(ctx, corr)
	case l.desk == nil || l.desk.process == 0:
		l.answerHead(ctx, corr, jsonStore{}, 0)
	default:
		l.desk.headAsks(ctx, corr)
	}
}

// replyHead sends what another goroutine found out.
func (l *loop) replyHead(ctx context.Context, corr uint64, payload []byte, err error) {
	reply := &fb.StateReplyT{}
	if err != nil {
		reply.Error, payload = err.Error(), nil
	}
	l.post(ctx, item{do: func(ctx context.Context) { l.apply(ctx, ToHead{M: reply, Corr: corr, Payload: payload}) }})
}

// askIdle tells the head what this agent has for tasks that none of them uses, by node.
func (l *loop) askIdle(ctx context.Context, corr uint64) {
	give := func(idle map[string]map[string]float64) {
		text, err := json.Marshal(map[string]any{"version": 1, "idle": idle})
		l.replyHead(ctx, corr, text, err)
	}
	if l.desk == nil || l.desk.process == 0 {
		give(nil)
		return
	}
	l.desk.post(mail{do: func() { give(l.desk.idle()) }}) // behind what tasks have said before
}

// jsonDrivers is who is attached to this agent as a driver, for the state query "drivers" (docs/spec/state.md).
type jsonDrivers struct {
	Attached []jsonDriver `json:"attached,omitempty"`
	Workers  []string     `json:"workers,omitempty"` // the groups that drivers' workers are in, also when the driver is gone
}

type jsonDriver struct {
	Name string `json:"name"`
	PID  uint32 `json:"pid"`
	Job  uint32 `json:"job"`
}

// askDrivers tells the head who uses this node for tasks.
func (l *loop) askDrivers(ctx context.Context, corr uint64) {
	give := func(j jsonDrivers) {
		text, err := json.Marshal(map[string]any{"version": 1, "drivers": j})
		l.replyHead(ctx, corr, text, err)
	}
	if l.desk == nil || l.desk.process == 0 {
		give(jsonDrivers{})
		return
	}
	l.desk.post(mail{do: func() { give(l.desk.drivers()) }})
}

// drivers lists those that have not said goodbye.
func (d *desk) drivers() (j jsonDrivers) {
	for _, c := range d.sorted() {
		if c.kind == fb.AttachKindDriver && !c.through {
			j.Attached = append(j.Attached, jsonDriver{c.name, c.pid, c.job})
		}
	}
	for _, t := range d.templates {
		j.Workers = append(j.Workers, t.group.String())
	}
	return j
}

// idle sums up what is not used by node: nothing before the head has said who this agent is.
func (d *desk) idle() map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	if d.core == nil {
		return all
	}
	for _, i := range d.core.Idle() {
		for _, r := range i.Resources {
			if all[i.Node] == nil {
				all[i.Node] = map[string]float64{}
			}
			all[i.Node][r.Name] += placement.Amount(r.Amount).Float()
		}
	}
	return all
}

// askDevices has maniple-native ask the driver of this node's devices.
func (l *loop) askDevices(ctx context.Context, corr uint64) {
	l.goes(func() {
		text, err := devices(ctx, l.native, l.core.cfg.Devices)
		l.replyHead(ctx, corr, text, err)
	})
}

// devices asks of those of a node that NVIDIA's driver knows. For a node that has none nothing is started.
func devices(ctx context.Context, c *native.Client, of []*fb.DeviceT) ([]byte, error) {
	var names []string
	for _, d := range of {
		if d.Kind == "nvidia" || d.Kind == "mig" {
			names = append(names, d.Id)
			if d.Pci != "" {
				names = append(names, d.Pci)
			}
		}
	}
	if c == nil || len(names) == 0 {
		return []byte(`{"version":1,"devices":{}}`), nil
	}
	ctx, stop := context.WithTimeout(ctx, nativeWait)
	defer stop()
	text, err := c.Ask(ctx, "devices", strings.Join(names, ","))
	if errors.Is(err, native.ErrNone) {
		err = errors.New("there is no " + native.Name + " beside its maniple, which would ask the driver: no more is known than what the node has")
	}
	return text, err
}
