package objstore

import "time"

const (
	// Align is where objects may begin, and what their sizes are rounded up to in an arena.
	Align = 64
	// Grain is where slabs may begin: a multiple of every page size of the machines we run on.
	Grain = 64 << 10
	// MinSlab and MaxSlab bound slabs, but for one that a larger object needs for itself.
	MinSlab = 2 << 20
	MaxSlab = 256 << 20
	// MaxWaiting is how many questions of one process may wait for an answer.
	MaxWaiting = 16
	// InlineCost is what a value kept inline costs beside its bytes.
	InlineCost = 128
)

// Config is what a Store is made with. The zero value of each field but Budget works.
type Config struct {
	// Budget is what all accounts together may use, in bytes.
	Budget int64
	// Reserve is the part of the budget that arenas leave to the other accounts; zero: a sixteenth;
	// negative: nothing.
	Reserve int64
	// FirstArena is the size of the first arena; each one after it is as large as all before together, up to
	// MaxArena. Zero: 64 MiB and 4 GiB. A single larger request gets an arena of its size.
	FirstArena, MaxArena int64
	// Patience is how long a request waits for memory. Zero: 30 s; negative: not at all.
	Patience time.Duration
	// KeepWarm is how long a slab or an arena that holds nothing is kept for the next put. Zero: a minute;
	// it is at least a second, and what is due goes within twice that time.
	KeepWarm time.Duration
	// Ahead: memory for the next large request is made before that comes.
	Ahead bool
	// Spill is how many bytes may lie in files. Zero: nothing is written to any.
	Spill int64
	// Batch is what is gathered for one file, if there is as much. Zero: an eighth of the budget, but at least 1 MiB and
	// at most 64 MiB.
	Batch int64
	// Version is the number from which versions of objects count that are made here: no other node's store has those that follow.
	Version uint32
	// Writers is how many files are written at once. Zero: one.
	Writers int
}

func (c Config) withDefaults() Config {
	if c.Reserve == 0 {
		c.Reserve = c.Budget / 16
	}
	c.Reserve = max(c.Reserve, 0)
	if c.FirstArena <= 0 {
		c.FirstArena = 64 << 20
	}
	if c.MaxArena <= 0 {
		c.MaxArena = 4 << 30
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	c.Patience = max(c.Patience, 0)
	if c.KeepWarm == 0 {
		c.KeepWarm = time.Minute
	}
	c.KeepWarm = max(c.KeepWarm, time.Second)
	if c.Batch <= 0 {
		c.Batch = min(max(c.Budget/8, 1<<20), 64<<20)
	}
	c.Writers = max(c.Writers, 1)
	return c
}

func roundUp(n, to int64) int64   { return (n + to - 1) / to * to }
func roundDown(n, to int64) int64 { return n / to * to }
