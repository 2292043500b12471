package client_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/client"
)

const mib = 1 << 20

// value is what object n of that size holds, which nobody else's object does.
func value(n uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	r.Read(b)
	return b
}

func put(t testing.TB, p *peer, n uint64, v []byte) {
	t.Helper()
	if err := p.Put(t.Context(), object(n), client.Meta{Format: 1}, v); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, p *peer, n uint64) *client.View {
	t.Helper()
	v, err := p.View(object(n))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func end(t testing.TB, what interface{ Release() error }) {
	t.Helper()
	if err := what.Release(); err != nil {
		t.Error(err)
	}
}

// A value of any number of parts is read as it was put, by its writer without asking, by others once they know where.
func TestPutAndView(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 256 * mib})
	w, r := n.attach(1), n.attach(2)
	for i, size := range []int{1, 63, 64, 65, 4095, 100 << 10, 2 * mib, 8*mib - 1, 8 * mib, 9*mib + 13} {
		x := uint64(i + 1)
		want := value(x, size)
		cut := size / 3
		if err := w.Put(t.Context(), object(x), client.Meta{Format: 7}, want[:cut], nil, want[cut:]); err != nil {
			t.Fatal(err)
		}
		own := view(t, w, x)
		n.locate(r, object(x))
		other := view(t, r, x)
		if !bytes.Equal(own.Bytes(), want) || !bytes.Equal(other.Bytes(), want) {
			t.Errorf("%d bytes are not read as they were put", size)
		}
		if at := uintptr(unsafe.Pointer(&other.Bytes()[0])); at%64 != 0 { // MAP-1
			t.Errorf("an object begins at %#x", at)
		}
		end(t, own)
		end(t, other)
		end(t, other)
	}
	n.settle()
	if _, m := left(t); m < 3 || m > 3*4 {
		t.Errorf("%d mappings for four arenas at most", m) // MAP-2
	}
	w.Close()
	r.Close()
	n.settle()
}

// Verifies MAP-2 and MAP-5.
func TestSealedCannotBeWritten(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 64 * mib})
	w := n.attach(1)
	defer w.Close()
	b, err := w.Alloc(t.Context(), 3*mib)
	if err != nil {
		t.Fatal(err)
	}
	mine := b.Bytes()
	copy(mine, "sealed")
	if err := b.Seal(object(1), client.Meta{}); err != nil {
		t.Fatal(err)
	}
	v := view(t, w, 1)
	defer v.Release()
	if !faults(func() { mine[2*mib] = 'x' }) || !faults(func() { v.Bytes()[0] = 'x' }) {
		t.Error("a sealed object was written")
	}
	if string(v.Bytes()[:6]) != "sealed" {
		t.Errorf("it is %q", v.Bytes()[:6])
	}
	if err := b.Seal(object(2), client.Meta{}); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("sealed twice: %v", err)
	}
	// The same pages are written again once they are nobody's.
	v.Release()
	if err := w.Drop(object(1)); err != nil {
		t.Fatal(err)
	}
	n.settle()
	n.release(object(1))
	for x := range uint64(8) {
		b, err := w.Alloc(t.Context(), 3*mib)
		if err != nil {
			t.Fatal(err)
		}
		copy(b.Bytes(), value(x, 3*mib))
		if err := b.Seal(object(10+x), client.Meta{}); err != nil {
			t.Fatal(err)
		}
		w.Drop(object(10 + x))
		n.settle()
		n.release(object(10 + x))
	}
	if used := n.store.Used(objstore.Arenas); used > 64*mib {
		t.Errorf("%d bytes of arenas", used)
	}
}

// Verifies MAP-3.
func TestViewsKeepTheirObject(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 64 * mib})
	w, r := n.attach(1), n.attach(2)
	defer w.Close()
	defer r.Close()
	want := value(1, 4*mib)
	put(t, w, 1, want)
	n.settle()
	n.locate(r, object(1))
	n.locate(r, object(1)) // a second delivery is on its way while the first is dropped
	a, b := view(t, r, 1), view(t, r, 1)
	if err := r.Drop(object(1)); err != nil {
		t.Fatal(err)
	}
	if err := w.Drop(object(1)); err != nil {
		t.Fatal(err)
	}
	n.settle()
	n.release(object(1))
	end(t, a)
	for x := range uint64(20) { // nobody gets its place
		put(t, w, 100+x, value(100+x, 2*mib))
		w.Drop(object(100 + x))
		n.settle()
		n.release(object(100 + x))
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Error("the bytes under a view changed")
	}
	if info, ok := n.store.Lookup(object(1)); !ok || info.Views != 1 || !info.Released {
		t.Errorf("%+v, %v", info, ok)
	}
	end(t, b)
	n.settle()
	if _, ok := n.store.Lookup(object(1)); ok {
		t.Error("the object is still there")
	}
	if _, err := r.View(object(1)); !errors.Is(err, client.ErrUnknown) {
		t.Errorf("viewed after the end: %v", err)
	}
	if err := r.Drop(object(1)); !errors.Is(err, client.ErrUnknown) {
		t.Errorf("dropped twice: %v", err)
	}
}

// What is put and dropped again and again uses the same pages: the second is as large as the first, and the
// third is laid where the first was.
func TestWarmRangesFirst(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 256 * mib})
	w := n.attach(1)
	defer w.Close()
	places := map[uintptr]bool{}
	for x := range uint64(20) {
		put(t, w, x, value(x, 40*mib))
		v := view(t, w, x)
		places[uintptr(unsafe.Pointer(&v.Bytes()[0]))] = true
		end(t, v)
		w.Drop(object(x))
		n.settle()
		n.release(object(x))
	}
	if len(places) > 2 || n.store.Used(objstore.Arenas) > 128*mib {
		t.Errorf("laid in %d places: %v", len(places), n)
	}
}

// Verifies MAP-4: a slab that is recalled goes back when nothing is being written in it, and then to another.
func TestRecall(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 16 * mib, Reserve: -1, FirstArena: 16 * mib})
	a, b := n.attach(1), n.attach(2)
	defer a.Close()
	defer b.Close()
	writing, err := a.Alloc(t.Context(), 9*mib)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() { got <- b.Put(t.Context(), object(2), client.Meta{}, value(2, 8*mib)) }()
	for n.waits() == 0 {
		n.settle()
	}
	n.settle()
	copy(writing.Bytes(), value(1, 9*mib))
	if err := writing.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	n.settle()
	if n.recalled == 0 {
		t.Error("nothing was recalled")
	}
	if v := view(t, b, 2); !bytes.Equal(v.Bytes(), value(2, 8*mib)) {
		t.Error("another's bytes")
	} else {
		end(t, v)
	}
}

func (n *node) waits() (k int) {
	n.do(func() { k = n.store.Explain().Waiting })
	return k
}

// Verifies MAP-6: full is an error that says who holds what; who gives up leaves the memory to the next.
func TestFull(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 16 * mib, Reserve: -1, FirstArena: 16 * mib, Patience: time.Second})
	w, r := n.attach(1), n.attach(2)
	defer w.Close()
	defer r.Close()
	put(t, w, 1, value(1, 12*mib))
	if err := r.Put(t.Context(), object(2), client.Meta{}, make([]byte, 17*mib)); !errorHas(err, "more than this node's store may ever hold") {
		t.Errorf("%v", err)
	}
	got := make(chan error)
	go func() { got <- r.Put(t.Context(), object(2), client.Meta{}, make([]byte, 8*mib)) }()
	for n.waits() == 0 {
		n.settle()
	}
	n.do(func() { n.now = n.store.NextDeadline(); n.out = n.store.Tick(n.now, n.out) })
	if err := <-got; !errorHas(err, "process 2 wants 8 MiB", "1 s made no room", "process 1 holds 12 MiB in 1 objects") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { got <- r.Put(ctx, object(3), client.Meta{}, make([]byte, 8*mib)) }()
	for n.waits() == 0 {
		n.settle()
	}
	stop := errors.New("enough")
	cancel(stop)
	if err := <-got; !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	w.Drop(object(1))
	n.settle()
	n.release(object(1))
	w.Close() // its slab, too
	n.settle()
	if err := r.Put(t.Context(), object(4), client.Meta{}, value(4, 8*mib)); err != nil {
		t.Error(err)
	}
	n.settle()
	if n.lent != 2 {
		t.Errorf("lent %d times; what one asked for and did not wait for was for the next", n.lent)
	}
}

func errorHas(err error, parts ...string) bool {
	if err == nil {
		return false
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			return false
		}
	}
	return true
}

// Verifies MAP-7: who waits hears of the end; what is viewed or written stays until it is released.
func TestClose(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 32 * mib})
	w := n.attach(1)
	put(t, w, 1, value(1, mib))
	v := view(t, w, 1)
	b, err := w.Alloc(t.Context(), mib)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() { got <- w.Put(t.Context(), object(2), client.Meta{}, make([]byte, 29*mib)) }()
	for n.waits() == 0 {
		n.settle()
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, client.ErrClosed) {
		t.Errorf("who waited got %v", err)
	}
	if _, err := w.Alloc(t.Context(), 1); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	b.Bytes()[mib-1] = 'x'
	if !bytes.Equal(v.Bytes(), value(1, mib)) {
		t.Error("a view ended with Close")
	}
	if err := b.Seal(object(3), client.Meta{}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("sealed after the end: %v", err)
	}
	end(t, v)
}

// What an agent can't say is an error of the connection, and nothing is mapped for it.
func TestProtocol(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 64 * mib})
	w := n.attach(1)
	defer w.Close()
	put(t, w, 1, value(1, mib))
	n.settle()
	if err := w.Refused(errors.New("no")); !errors.Is(err, client.ErrProtocol) {
		t.Errorf("refused what was not asked for: %v", err)
	}
	if err := w.Lent(client.Lease{Slab: 1, Arena: 1, Size: 2 * mib, From: mib, To: 2 * mib}, nil); !errors.Is(err, client.ErrProtocol) {
		t.Errorf("lent what was not asked for: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- w.Put(ctx, object(50), client.Meta{}, make([]byte, 59*mib+1)) }()
	for n.waits() == 0 {
		n.settle()
	}
	for _, l := range []client.Lease{
		{Slab: 9, Arena: 9, Size: mib, From: 0, To: 0},
		{Slab: 9, Arena: 9, Size: mib, From: 1, To: mib},
		{Slab: 9, Arena: 9, Size: mib, From: -64, To: mib},
		{Slab: 9, Arena: 9, Size: mib, From: 0, To: mib + 1},
		{Slab: 9, Arena: 9, Size: mib, From: 0, To: mib}, // without a descriptor
		{Slab: 1, Arena: 1, Size: 2 * mib, From: 0, To: mib},
	} {
		if err := w.Lent(l, nil); !errors.Is(err, client.ErrProtocol) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	plain, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Arena(9, plain); !errors.Is(err, client.ErrProtocol) {
		t.Errorf("a file whose size may change: %v", err)
	}
	fd, err := unix.MemfdCreate("maniple-unsealed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	unsealed := os.NewFile(uintptr(fd), "unsealed")
	if err := unsealed.Truncate(mib); err != nil {
		t.Fatal(err)
	}
	if err := w.Arena(9, unsealed); !errors.Is(err, client.ErrProtocol) {
		t.Errorf("an arena whose size may change: %v", err)
	}
	for i, l := range []client.Location{{1, -1, 1}, {1, 0, 1 << 40}, {1, 1 << 40, 1}, {1, 1<<63 - 1, 1<<63 - 1}, {1, 0, -1}} {
		x := object(uint64(100 + i))
		if err := w.Located(x, l); err != nil {
			t.Error(err)
		}
		if _, err := w.View(x); !errors.Is(err, client.ErrProtocol) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if err := w.Located(object(1), client.Location{Arena: 1, Size: 3}); !errors.Is(err, client.ErrProtocol) {
		t.Errorf("an object that moved: %v", err)
	}
	if err := w.Located(object(99), client.Location{Arena: 77, Size: 3}); err != nil {
		t.Error(err)
	}
	if _, err := w.View(object(99)); !errors.Is(err, client.ErrUnknown) {
		t.Errorf("an arena that is not here: %v", err)
	}
	if err := w.Put(t.Context(), object(1), client.Meta{}, []byte("again")); !errors.Is(err, os.ErrExist) {
		t.Errorf("put twice: %v", err)
	}
	if err := w.Put(t.Context(), object(2), client.Meta{}); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("put nothing: %v", err)
	}
}

// faults tells whether f touches memory that it may not.
func faults(f func()) (yes bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { yes = recover() != nil }()
	f()
	return false
}
