package session

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/work"
)

// A shape that was not used for long is over, and is said anew under another number; one that is in use, or was used again, is not over.
func TestShapesAreOverOnceNobodyUsesThem(t *testing.T) {
	near, far := net.Pipe()
	s := &Session{shapes: map[string]*Shape{}, conn: work.New(near, work.Config{OnBatch: func(work.Batch) {}})}
	heard := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(far) // ends with the connection
		heard <- b
	}()
	said := map[uint32]string{}
	use := func(name string) *Shape {
		t.Helper()
		k, err := s.Shape(name, func() *fb.ShapeT { return &fb.ShapeT{Name: name} })
		if err != nil {
			t.Fatal(err)
		}
		said[k.Number] = name
		return k
	}
	busy := use("busy")
	for i := range 3 * keptShapes {
		use(fmt.Sprint("n", i)).Done()
		use("often").Done()
	}
	use("n0").Done()
	busy.Done()
	if n := len(s.shapes); n > keptShapes+1 {
		t.Errorf("%d shapes are kept", n)
	}
	s.conn.Close()
	over := map[string]int{}
	for f := range work.Frames(<-heard) {
		m, err := wire.Unmarshal(f.Type(), f.Body())
		if err != nil {
			t.Fatal(err)
		}
		if m := m.(*fb.ShapeT); m.Over {
			over[said[m.Number]]++
		}
	}
	if over["busy"] > 0 || over["often"] > 0 || over["n0"] != 1 || len(over) < 2*keptShapes-2 {
		t.Errorf("%d are over: busy %d times, often %d, n0 %d", len(over), over["busy"], over["often"], over["n0"])
	}
}
