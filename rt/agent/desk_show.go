package agent

import (
	"context"
	"encoding/json"

	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// jsonStore is what a node's store has, for the state query "memory" (docs/spec/state.md).
type jsonStore struct {
	Limit       int64    `json:"limit"`
	Used        int64    `json:"used"`
	Objects     int      `json:"objects"`
	Bytes       int64    `json:"bytes"`
	Open        int64    `json:"open,omitempty"`
	Free        int64    `json:"free,omitempty"`
	Waiting     int      `json:"waiting,omitempty"`
	OnDisk      int      `json:"on_disk,omitempty"`
	DiskBytes   int64    `json:"disk_bytes,omitempty"`
	Spilled     int64    `json:"spilled,omitempty"`
	SpillSpeed  int64    `json:"spill_speed,omitempty"`
	Restored    int64    `json:"restored,omitempty"`
	ReadSpeed   int64    `json:"restore_speed,omitempty"`
	Failed      int      `json:"failed,omitempty"`
	Directories []string `json:"directories,omitempty"`
	Off         string   `json:"off,omitempty"`
	Error       string   `json:"error,omitempty"`
	Text        string   `json:"text,omitempty"`

	Busy      float64     `json:"busy,omitempty"`
	DiskLimit int64       `json:"disk_limit,omitempty"`
	Disks     []jsonDisk  `json:"disks,omitempty"`
	Memory    *jsonMemory `json:"memory,omitempty"`
}

// jsonDisk is what lies in a directory.
type jsonDisk struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// jsonMemory is what the node has used of the memory that is nearest to its end, values among it.
type jsonMemory struct {
	Used   uint64 `json:"used"`
	Limit  uint64 `json:"limit"`
	Source string `json:"source"`
}

func showMemory(r device.Reading) *jsonMemory { return &jsonMemory{r.Used, r.Limit, r.Source} }

// emptyStore is what a node has in its store that has had no use for it yet.
func emptyStore(g *device.Gauge) []byte {
	var j jsonStore
	if g != nil {
		j.Memory = showMemory(g.Read(0))
	}
	text, _ := json.Marshal(map[string]any{"version": 1, "store": j}) // it has nothing that can't be written
	return text
}

// headAsks answers the head, which asks for all nodes' stores.
func (d *desk) headAsks(ctx context.Context, corr uint64) {
	d.post(mail{do: func() {
		var text []byte
		if d.store == nil {
			text = emptyStore(d.l.gauge)
		} else {
			text = d.store.show(true)
		}
		d.l.post(ctx, item{do: func(ctx context.Context) { d.l.apply(ctx, ToHead{M: &fb.StateReplyT{}, Corr: corr, Payload: text}) }})
	}})
}

// show answers a state query. brief: without what is only for people.
func (s *deskStore) show(brief bool) []byte {
	x := s.store.Explain()
	j := jsonStore{
		Limit: x.Limit, Used: x.Total, Objects: s.store.Objects(), Bytes: x.Primary.Bytes + x.Secondary.Bytes, Open: x.Open, Free: x.Free, Waiting: x.Waiting,
		OnDisk: x.Spilled.Objects, DiskBytes: x.Files, Spilled: x.Moved.Spilled.Bytes, SpillSpeed: s.spill.wrote.speed(),
		Restored: x.Moved.Restored.Bytes, ReadSpeed: s.spill.read.speed(), Failed: x.Moved.Failed, Off: s.spill.off, Text: s.named(x.Text()),
	}
	j.Busy = s.spill.busy.seconds()
	if s.spill.files != nil {
		j.Directories = s.spill.files.Directories()
		j.DiskLimit = s.spill.limit
		for _, u := range s.spill.files.Uses() {
			j.Disks = append(j.Disks, jsonDisk{u.Path, u.Bytes})
		}
	}
	if m := s.d.memory; m != nil {
		j.Memory = showMemory(m.read())
	}
	if brief {
		j.Text = ""
	}
	if x.Disk != nil {
		j.Error = x.Disk.Error()
	}
	text, _ := json.Marshal(map[string]any{"version": 1, "store": j}) // it has nothing that can't be written
	return text
}
