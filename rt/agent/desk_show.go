package agent

import (
	"context"
	"encoding/json"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// jsonStore is what a node's store has, for the state query "memory" (docs/spec/state.md).
type jsonStore struct {
	Limit       int64    `json:"limit"`
	Used        int64    `json:"used"`
	Objects     int      `json:"objects"`
	Bytes       int64    `json:"bytes"`
	Cached      int      `json:"cached,omitempty"`
	CachedBytes int64    `json:"cached_bytes,omitempty"`
	Copies      int      `json:"copies,omitempty"`
	CopyBytes   int64    `json:"copy_bytes,omitempty"`
	Dropped     int64    `json:"dropped,omitempty"`
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
	Sent        int64    `json:"sent,omitempty"`
	Received    int64    `json:"received,omitempty"`
	Beside      int64    `json:"beside,omitempty"`
	Clear       []string `json:"clear,omitempty"`
	ClearCame   int64    `json:"clear_received,omitempty"`
	Fabric      string   `json:"fabric,omitempty"`
	NoFabric    string   `json:"no_fabric,omitempty"`
	FabricSent  int64    `json:"fabric_sent,omitempty"`
	FabricCame  int64    `json:"fabric_received,omitempty"`
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

// withMemory gives what a store has, with what the node has used of its memory, which is read beside whoever asks.
func (l *loop) withMemory(j jsonStore, arenas int64, give func(text []byte)) {
	write := func() {
		text, _ := json.Marshal(map[string]any{"version": 1, "store": j}) // it has nothing that can't be written
		give(text)
	}
	if l.gauge == nil {
		write()
		return
	}
	l.goes(func() {
		j.Memory = showMemory(l.gauge.Read(uint64(arenas)))
		write()
	})
}

// answerHead tells the head of this node's store.
func (l *loop) answerHead(ctx context.Context, corr uint64, j jsonStore, arenas int64) {
	l.withMemory(j, arenas, func(text []byte) {
		l.post(ctx, item{do: func(ctx context.Context) { l.apply(ctx, ToHead{M: &fb.StateReplyT{}, Corr: corr, Payload: text}) }})
	})
}

// headAsks answers the head, which asks for all nodes' stores.
func (d *desk) headAsks(ctx context.Context, corr uint64) {
	d.post(mail{do: func() {
		if d.store == nil {
			d.l.answerHead(ctx, corr, jsonStore{}, 0)
		} else {
			d.l.answerHead(ctx, corr, d.store.show(true), d.store.store.Used(objstore.Arenas))
		}
	}})
}

// show answers a state query. brief: without what is only for people.
func (s *deskStore) show(brief bool) jsonStore {
	x := s.store.Explain()
	j := jsonStore{
		Limit: x.Limit, Used: x.Total, Objects: s.store.Objects(), Bytes: x.Primary.Bytes + x.Secondary.Bytes, Open: x.Open, Free: x.Free, Waiting: x.Waiting,
		OnDisk: x.Spilled.Objects, DiskBytes: x.Files, Spilled: x.Moved.Spilled.Bytes, SpillSpeed: s.spill.wrote.speed(),
		Restored: x.Moved.Restored.Bytes, ReadSpeed: s.spill.read.speed(), Failed: x.Moved.Failed, Off: s.spill.off, Text: s.named(x.Text()),
	}
	j.Cached, j.CachedBytes = x.Secondary.Objects-x.Copies.Objects, x.Secondary.Bytes-x.Copies.Bytes
	j.Copies, j.CopyBytes, j.Dropped = x.Copies.Objects, x.Copies.Bytes, x.Moved.Dropped.Bytes
	j.Sent, j.Received, j.Beside = s.bulk.traffic.sent.Load(), s.bulk.traffic.received.Load(), s.bulk.traffic.beside.Load()
	j.ClearCame = s.bulk.traffic.clear.Load()
	for _, n := range s.d.l.core.cfg.Clear {
		j.Clear = append(j.Clear, n.String())
	}
	s.d.fabric.show(&j)
	j.Busy = s.spill.busy.seconds()
	if s.spill.files != nil {
		j.Directories = s.spill.files.Directories()
		j.DiskLimit = s.spill.limit
		for _, u := range s.spill.files.Uses() {
			j.Disks = append(j.Disks, jsonDisk{u.Path, u.Bytes})
		}
	}
	if brief {
		j.Text = ""
	}
	if x.Disk != nil {
		j.Error = x.Disk.Error()
	}
	return j
}
