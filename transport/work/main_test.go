package work

import (
	"net"
	"os"
	"testing"

	"github.com/maniple-hpc/maniple/transport/transporttest"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func TestMain(m *testing.M) { transporttest.Main(m) }

// pair gives both ends of a unix socket.
func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fa, fb, err := uds.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ends := [2]*net.UnixConn{}
	for i, f := range []*os.File{fa, fb} {
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// inbox is the owner of a Conn: it keeps copies of what came in.
type inbox struct {
	frames chan []byte
	files  chan *os.File
	room   chan struct{}
	end    chan error
	most   int // bytes of the largest batch
	poll   *Poll
}

func newInbox() *inbox {
	return &inbox{frames: make(chan []byte, 1<<13), files: make(chan *os.File, 64), room: make(chan struct{}, 16), end: make(chan error, 1)}
}

func (in *inbox) by(p *Poll) *inbox {
	in.poll = p
	return in
}

// both runs a test with a goroutine for each connection, and with a Poll for all.
func both(t *testing.T, test func(t *testing.T, poll *Poll)) {
	t.Run("goroutines", func(t *testing.T) { test(t, nil) })
	t.Run("poll", func(t *testing.T) { test(t, newPoll(t)) })
}

func newPoll(t testing.TB) *Poll {
	t.Helper()
	p, err := NewPoll(func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func (in *inbox) config() Config {
	return Config{
		Poll: in.poll,
		OnBatch: func(b Batch) {
			in.most = max(in.most, len(b.Bytes))
			for f := range Frames(b.Bytes) {
				in.frames <- append([]byte{}, f...)
			}
			for _, f := range b.Files {
				in.files <- f
			}
			b.Release()
		},
		OnEnd:  func(err error) { in.end <- err },
		OnRoom: func() { in.room <- struct{}{} },
	}
}

// submit is a frame with task n and a payload of that many bytes, each of them n.
func submit(n uint64, payload int) Frame {
	_, f := Extend(nil, fb.FrameTypeSubmit, payload)
	Submit(f).SetTask(id.Task{Agent: 1, Process: 2, Counter: n})
	p := f.Payload()
	for i := range p {
		p[i] = byte(n)
	}
	return f
}

// message is a frame of any type.
func message(t testing.TB, m wire.Message, payload []byte) Frame {
	t.Helper()
	f, err := AppendMessage(nil, m, 0, payload)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// some is frames of several types and sizes.
func some(t testing.TB) []Frame {
	return []Frame{
		submit(1, 0), submit(2, 7), message(t, &fb.BlockedT{Task: &fb.TaskIDT{Counter: 3}}, nil),
		message(t, &fb.ShapeT{Number: 4, Name: "f"}, nil), message(t, &fb.FunctionT{Name: "f", Hash: make([]byte, 32)}, []byte("code")), submit(5, 100),
	}
}

func join(frames []Frame) []byte {
	var b []byte
	for _, f := range frames {
		b = append(b, f...)
	}
	return b
}
