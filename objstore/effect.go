package objstore

import "github.com/maniple-hpc/maniple/transport/wire/id"

// Effect is what a Store wants done: one of the types below, done by the shell in order.
type Effect interface{ effect() }

// Grow makes an arena; answered by Grown or GrowFailed. It may take a while (10 GB/s), so not in the loop. A spare one nobody waits for:
// it is made when nothing else is to be done, and only if the node has memory in plenty, until Hurry says that somebody does.
type Grow struct {
	Arena uint64
	Size  int64
	Spare bool
}

// Hurry says that a spare arena, which is being made, is waited for.
type Hurry struct{ Arena uint64 }

// Drop gives an arena back to the system. Nothing in it is used; processes that map it are told to unmap it.
type Drop struct{ Arena uint64 }

// Punch gives a part of an arena back to the system, in which nothing is; it is never used again.
type Punch struct {
	Arena        uint64
	Offset, Size int64
}

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

// Evicted says that an object here is gone. There are copies of it, or it can be made again.
type Evicted struct{ Object id.Object }

// RecallView asks a process whether it looks at an object, and to say when it does not any more; answered by Undeliver, or
// by Keeps, and then Undeliver.
type RecallView struct {
	Process id.Process
	Object  id.Object
}

// Spill writes objects to a file, one behind the other; answered by Spilled or SpillFailed. Until then they stay where
// they are.
type Spill struct {
	File  uint64
	Parts []Part
}

// Part is an object that is written to a file: its bytes come at At.
type Part struct {
	Object       id.Object
	Arena        uint64
	Offset, Size int64
	At           int64
}

// Restore reads Size bytes at At of a file into an arena; answered by Restored or RestoreFailed.
type Restore struct {
	Object   id.Object
	File     uint64
	At, Size int64
	Arena    uint64
	Offset   int64
}

// Loaded answers Load: the object is in memory and stays there until Unawait, or can't be had. A *FullError
// says that there is no room for it now; any other that it is lost.
type Loaded struct {
	Object id.Object
	Err    error
}

// Unlink deletes a file, of which nothing is needed any more.
type Unlink struct{ File uint64 }

func (RecallView) effect() {}
func (Spill) effect()      {}
func (Restore) effect()    {}
func (Loaded) effect()     {}
func (Unlink) effect()     {}

func (Grow) effect()    {}
func (Hurry) effect()   {}
func (Drop) effect()    {}
func (Punch) effect()   {}
func (Lent) effect()    {}
func (Refused) effect() {}
func (Stored) effect()  {}
func (Recall) effect()  {}
func (Evicted) effect() {}
