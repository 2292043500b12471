package native

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A read by a rail may hang since its card does, or since the other node's does. Nobody can tell here, so the rail is not left out for ever: after a while
// its card reads this node's own memory, in a process of its own which may hang, and if that goes well the endpoint has the rail again. If it hangs again
// the next while is twice as long.

const (
	restLeast = 5 * time.Minute
	restMost  = time.Hour
	trialSize = 1 << 20 // bytes that a rail reads before it is used again
)

// rest is a rail that hung.
type rest struct {
	device string
	out    bool          // it is left out
	long   time.Duration // how long it rests, or rested
	until  time.Time     // when it is tried, or, if it is used again, when its last time is forgotten
}

// rests are the rails that hung, in the order in which they did.
type rests []rest

// hung takes in that a rail did.
func (r *rests) hung(now time.Time, device string) {
	x := rest{device: device, out: true, long: restLeast}
	if i := r.of(device); i >= 0 {
		if old := (*r)[i]; old.out || now.Before(old.until) {
			x.long = min(2*old.long, restMost)
		}
		*r = slices.Delete(*r, i, i+1)
	}
	x.until = now.Add(x.long)
	*r = append(*r, x)
}

// works takes in that one does again.
func (r rests) works(now time.Time, device string) {
	if i := r.of(device); i >= 0 {
		r[i].out, r[i].until = false, now.Add(restMost)
	}
}

func (r rests) of(device string) int {
	return slices.IndexFunc(r, func(x rest) bool { return x.device == device })
}

// devices are those that are left out.
func (r rests) devices() (names []string) {
	for _, x := range r {
		if x.out {
			names = append(names, x.device)
		}
	}
	return names
}

// next is the one that is tried next, and when; "": none is left out.
func (r rests) next() (device string, at time.Time) {
	for _, x := range r {
		if x.out && (device == "" || x.until.Before(at)) {
			device, at = x.device, x.until
		}
	}
	return device, at
}

// Resting is the device of those that are left out which is tried next, since it hung, and when; "": none is.
func (f *Fabric) Resting() (device string, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rests.next()
}

// Revive tries a device that is left out, and has the endpoint use it again if it works. The error says why it is left out for another while, unless the
// endpoint or ctx is over: then nothing was learned of the device.
func (f *Fabric) Revive(ctx context.Context, l *FabricLine, device string) error {
	wish := f.Wish
	wish.Only = device
	trying, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // ends with the trial
		defer stop()
		select {
		case <-l.Gone():
		case <-trying.Done():
		}
	}()
	err := trial(trying, f.Client.Path, wish)
	if l.Over() || ctx.Err() != nil {
		return cmp.Or(err, errors.New("native: the endpoint ended while a device was tried"))
	}
	if err == nil {
		err = l.add(ctx, wish)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.rests.hung(time.Now(), device)
		return err
	}
	f.rests.works(time.Now(), device)
	return nil
}

// add has the endpoint go by a device more.
func (l *FabricLine) add(ctx context.Context, wish FabricWish) error {
	var text json.RawMessage
	if err := l.ask(ctx, FabricAdd, wish, &text); err != nil {
		return err
	}
	return l.opened(text)
}

// trial has a process of its own read memory by what is wished for.
func trial(ctx context.Context, path string, wish FabricWish) error {
	fd, err := unix.MemfdCreate("maniple-trial", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("native: memory to try a fabric with: %w", err)
	}
	memory := os.NewFile(uintptr(fd), "maniple-trial")
	defer memory.Close()
	want := make([]byte, trialSize)
	_, _ = rand.Read(want) // it never fails
	if _, err := memory.WriteAt(want, 0); err != nil {
		return fmt.Errorf("native: memory to try a fabric with: %w", err)
	}
	if err := memory.Truncate(2 * trialSize); err != nil {
		return fmt.Errorf("native: memory to try a fabric with: %w", err)
	}
	f := &Fabric{Client: Client{Path: path, Idle: -1}, Wish: wish, Arena: func(uint64) (*os.File, int64, error) {
		again, err := unix.FcntlInt(memory.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		return os.NewFile(uintptr(again), "maniple-trial"), 2 * trialSize, err
	}}
	defer f.Close()
	l, err := f.Open(ctx)
	if err != nil {
		return err
	}
	_, place, err := l.Expose(ctx, FabricRange{Size: trialSize})
	if err != nil {
		return err
	}
	if _, err := l.Read(ctx, FabricRange{Offset: trialSize, Size: trialSize}, place); err != nil {
		return err
	}
	got := make([]byte, trialSize)
	if _, err := memory.ReadAt(got, trialSize); err != nil {
		return fmt.Errorf("native: memory to try a fabric with: %w", err)
	}
	if !bytes.Equal(got, want) {
		return errors.New("native: other bytes came than were sent")
	}
	return nil
}
