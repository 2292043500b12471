package agent

import (
	"context"
	"errors"
	"strings"
	"time"

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
