package hdfs

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent"
)

// What a NameNode refuses, at once, and a block that no DataNode has, are told from silence.
func TestWhatIsNotGiven(t *testing.T) {
	n := &nameNode{t: t, files: map[string]*inode{"/spill/1": {id: 7, size: 100, block: 1 << 20}}}
	s := &SpillStore{base: "/spill", c: n.client()}
	r, err := s.Open("1")
	if err != nil {
		t.Fatal(err)
	}
	n.never = "getBlockLocations"
	if _, err := r.ReadAt(make([]byte, 10), 0); !errors.Is(err, agent.ErrSpillRefused) || !errors.Is(err, os.ErrPermission) {
		t.Errorf("without the right to read it: %v", err)
	}
	_, err = r.(spillReader).read(make([]byte, 10), 0)
	if err = ofSpill(err); !errors.Is(err, agent.ErrSpillRefused) || errors.Is(err, os.ErrPermission) {
		t.Errorf("of a block that nobody has: %v", err)
	}
	n.never = "getFileInfo"
	if _, err := s.Open("1"); !errors.Is(err, agent.ErrSpillRefused) || !errors.Is(err, os.ErrPermission) {
		t.Errorf("in a folder that is closed: %v", err)
	}
	for _, err := range []error{
		nil, io.EOF, io.ErrUnexpectedEOF, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, saidNo("org.apache.hadoop.hdfs.server.namenode.SafeModeException"),
	} {
		if got := ofSpill(err); errors.Is(got, agent.ErrSpillRefused) || !errors.Is(got, err) {
			t.Errorf("%v is taken for a refusal", got)
		}
	}
}

// A block that one DataNode does not give, while another one that has it takes no connection, is not refused, whichever is asked last.
func TestSilenceOfOneDataNodeIsNoRefusal(t *testing.T) {
	n := &nameNode{t: t, files: map[string]*inode{"/spill/1": {id: 7, size: 100, block: 1 << 20}}}
	s := &SpillStore{base: "/spill", c: n.client()}
	for range 3 {
		n.serves(&dataNode{})
	}
	reads := func() error {
		r, err := s.Open("1")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = r.(spillReader).read(make([]byte, 10), 0)
		return r.(spillReader).told(err, began)
	}
	if err := reads(); !errors.Is(err, agent.ErrSpillRefused) {
		t.Errorf("all that have it say no: %v", err)
	}
	n.nodes[1].l.Close()
	for range 10 { // in whatever order they are asked
		if err := reads(); err == nil || errors.Is(err, agent.ErrSpillRefused) {
			t.Errorf("one of them is silent: %v", err)
		}
	}
}
