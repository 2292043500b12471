package work

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(d)
}

// named gives a file whose contents are text.
func named(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, []byte(text))
	return f
}

// BATCH-6: each descriptor comes with its frame, whatever surrounds it.
func TestDescriptors(t *testing.T) { both(t, testDescriptors) }

func testDescriptors(t *testing.T, poll *Poll) {
	before := descriptors(t)
	a, b := pair(t)
	peer := newInbox().by(poll)
	type got struct {
		frame Frame
		file  *os.File
	}
	out := make(chan got, 100)
	cfg := peer.config()
	cfg.OnBatch = func(b Batch) {
		files := b.Files
		for f := range Frames(b.Bytes) {
			g := got{frame: append(Frame{}, f...)}
			if f.HasDescriptor() {
				g.file, files = files[0], files[1:]
			}
			out <- g
		}
		if len(files) > 0 {
			t.Errorf("%d descriptors for no frame", len(files))
		}
		b.Release()
	}
	c, p := New(a, newInbox().by(poll).config()), New(b, cfg)
	const n = 60
	text := func(i int) string { return "file " + strings.Repeat("x", i) }
	payload := func(i int) []byte { return make([]byte, i%7*20_000) } // some are larger than a buffer
	for i := range n {
		var err error
		if i%3 == 0 {
			f := named(t, text(i))
			err = c.AppendFile(f, message(t, &fb.SlabT{Slab: uint64(i)}, payload(i)))
			f.Close()
		} else {
			err = c.Append(message(t, &fb.SlabReturnT{Slab: uint64(i)}, payload(i)))
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%10 == 9 {
			c.Flush()
		}
	}
	for i := range n {
		g := <-out
		if (g.file != nil) != (i%3 == 0) {
			t.Fatalf("frame %d: descriptor %v", i, g.file)
		}
		if len(g.frame.Payload()) != len(payload(i)) {
			t.Fatalf("frame %d has %d bytes of payload", i, len(g.frame.Payload()))
		}
		if g.file == nil {
			continue
		}
		b := make([]byte, 100)
		k, err := g.file.ReadAt(b, 0)
		if err != io.EOF || string(b[:k]) != text(i) {
			t.Errorf("frame %d came with %q, %v", i, b[:k], err)
		}
		if flags, err := unix.FcntlInt(g.file.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor flags %x, %v", flags, err)
		}
		g.file.Close()
	}
	// What was appended and is never sent is closed, too.
	f := named(t, "unsent")
	if err := c.AppendFile(f, submit(1, 0)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	c.Cut()
	p.Close()
	<-c.Done()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d at first", after, before)
	}
}

// Descriptors that no frame takes are closed, and end the connection.
func TestStrayDescriptors(t *testing.T) { both(t, testStrayDescriptors) }

func testStrayDescriptors(t *testing.T, poll *Poll) {
	flagged := submit(1, 0)
	flagged[11] = wire.FlagDescriptor
	for name, send := range map[string]func(fd, file int) error{
		"with a frame that has none": func(fd, file int) error {
			return unix.Sendmsg(fd, submit(1, 0), unix.UnixRights(file), nil, 0)
		},
		"two with a frame that has one": func(fd, file int) error {
			return unix.Sendmsg(fd, flagged, unix.UnixRights(file, file), nil, 0)
		},
		"too many": func(fd, file int) error {
			return unix.Sendmsg(fd, flagged, unix.UnixRights(file, file, file, file, file, file, file, file), nil, 0)
		},
		"with each byte": func(fd, file int) error {
			for i := range 10 {
				if err := unix.Sendmsg(fd, flagged[i:i+1], unix.UnixRights(file), nil, 0); err != nil {
					return nil // cut off already
				}
			}
			return nil
		},
		"with what can't be read": func(fd, file int) error {
			return unix.Sendmsg(fd, []byte(strings.Repeat("garbage ", 10)), unix.UnixRights(file), nil, 0)
		},
	} {
		a, b := pair(t)
		in := newInbox().by(poll)
		New(b, in.config())
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := rawControl(a, func(fd int) error { return send(fd, int(w.Fd())) }); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := <-in.end; !errors.Is(err, transport.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := io.ReadAll(r); err != nil || len(b) > 0 { // it ends once nobody has the other end
			t.Errorf("%s: %q, %v", name, b, err)
		}
		r.Close()
	}
}

func rawControl(c *net.UnixConn, use func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var useErr error
	if err := raw.Control(func(fd uintptr) { useErr = use(int(fd)) }); err != nil {
		return err
	}
	return useErr
}

// A carrier that passes no descriptors says so before anything is sent.
func TestNoDescriptors(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	c := New(b, newInbox().config())
	if err := c.AppendFile(os.Stdin, submit(1, 0)); err == nil || c.Unsent() > 0 {
		t.Errorf("%v, %d bytes unsent", err, c.Unsent())
	}
	c.Close()
}
