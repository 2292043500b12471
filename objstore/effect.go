package objstore

import "github.com/maniple-hpc/maniple/transport/wire/id"

// Effect is what a Store wants done: one of the types below, done by the shell in order.
type Effect interface{ effect() }

// Grow makes an arena; answered by Grown or GrowFailed. It may take a while (10 GB/s), so not in the loop.
type Grow struct {
	Arena uint64
	Size  int64
}

// Drop gives an arena back to the system. Nothing in it is used; processes that map it are told to unmap it.
type Drop struct{ Arena uint64 }

// Lent opens [From, To) of a slab to a process. With New, the slab is to be mapped first: it is
// [Start, Start+Size) of the arena, and a descriptor for writing goes along. From and To count from the slab's start.
type Lent struct {
	Process     id.Process
	Slab, Arena uint64
	Start, Size int64
	From, To    int64
	New         bool
}

// Refused answers Lend in place of Lent, or a PutInline that had to wait (Object is set).
type Refused struct {
	Process id.Process
	Object  id.Object
	Err     *FullError
}

// Stored says that a PutInline that had to wait is done.
type Stored struct{ Object id.Object }

// Recall asks a process to return a slab as soon as it writes nothing in it; answered by Return. Nothing is opened
// in it any more.
type Recall struct {
	Process id.Process
	Slab    uint64
}

// Evicted says that the copy here is gone. There are others.
type Evicted struct{ Object id.Object }

func (Grow) effect()    {}
func (Drop) effect()    {}
func (Lent) effect()    {}
func (Refused) effect() {}
func (Stored) effect()  {}
func (Recall) effect()  {}
func (Evicted) effect() {}
