package hdfs

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

// A file of which not all was written takes no place, whoever asks for it again.
func TestHalfAFileTakesNoPlace(t *testing.T) {
	full := errors.New("over quota")
	d := draft{failed: full}
	if err := d.write([]byte("more")); err != full {
		t.Error(err)
	}
	if err := d.finish(); err != full {
		t.Error(err)
	}
}

// What is given up is not told a NameNode as a whole file, however many there are.
func TestGivenUpFileIsNotCompleted(t *testing.T) {
	n := &nameNode{t: t, files: map[string]*inode{}, missed: "complete"}
	c := n.client()
	c.addresses = append(c.addresses, c.addresses[0])
	d, err := c.create("/out/f", false)
	if err != nil {
		t.Fatal(err)
	}
	d.discard()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.missed == "" || len(n.files) != 0 {
		t.Error(n.missed, n.files)
	}
}

// Of two NameNodes the one that has answered is asked first for each file.
func TestDeadNameNodeIsTriedOnce(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tried atomic.Int32
	go func() {
		for {
			conn, err := dead.Accept()
			if err != nil {
				return
			}
			tried.Add(1)
			conn.Close()
		}
	}()
	defer dead.Close()
	n := &nameNode{t: t, files: map[string]*inode{}}
	c := n.client()
	c.addresses = append([]string{dead.Addr().String()}, c.addresses...)
	for _, name := range []string{"/f", "/g", "/h"} {
		d, err := c.create(name, false)
		if err == nil {
			err = d.commit()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := tried.Load(); got != 1 {
		t.Error(got)
	}
}

// A connection is left at once, whatever is being asked on it.
func TestForgettingWaitsForNobody(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := &Client{addresses: []string{silent.Addr().String()}, conf: conf.New(), getenv: func(string) string { return "alice" }}
	h, err := c.connected()
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() {
		_, err := h.StatFs()
		asked <- err
	}()
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan *hdfs.Client, 1)
	go func() {
		c.forget(h)
		other, _ := c.connected()
		left <- other
	}()
	select {
	case other := <-left:
		if other == nil || other == h {
			t.Error("no other connection is made")
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits")
	}
	conn.Close()
	if err := <-asked; !errors.Is(err, yarn.ErrUnreachable) {
		t.Error(err)
	}
	c.Close()
}

// HDFS-4: a file that is being written outlives its NameNode, and what goes wrong for others meanwhile; what was done and not answered is done once.
func TestDraftOutlivesItsNameNode(t *testing.T) {
	for _, tc := range []struct{ lost, missed string }{{}, {lost: "create"}, {missed: "create"}, {lost: "complete"}, {missed: "complete"}, {lost: "rename2"}, {missed: "rename2"}} {
		n := &nameNode{t: t, files: map[string]*inode{}, lost: tc.lost, missed: tc.missed}
		c := n.client()
		d, err := c.create("/out/f", false)
		if err != nil {
			t.Fatal(err)
		}
		n.stop()
		if err := c.again(0, refused, func(h *hdfs.Client) error { _, err := h.Stat("/other"); return err }); !errors.Is(err, yarn.ErrUnreachable) {
			t.Error("nobody was there, and another one is told: ", err)
		}
		done := make(chan error, 1)
		go func() { done <- d.commit() }()
		select {
		case err := <-done:
			t.Error("it does not wait for the NameNode")
			done <- err
		case <-time.After(100 * time.Millisecond):
		}
		n.start()
		if err := <-done; err != nil {
			t.Errorf("%+v: %v", tc, err)
		}
		n.mu.Lock()
		if len(n.files) != 1 || n.files["/out/f"] == nil || n.made != 1 || n.lost+n.missed != "" {
			t.Errorf("%+v: %v, %d made", tc, n.files, n.made)
		}
		n.mu.Unlock()
	}
}

// That no NameNode has answered is a lack of time, whatever its machine's kernel said.
func TestNobodyAnswersIsTold(t *testing.T) {
	for _, kind := range []error{yarn.ErrUnreachable, yarn.ErrTooSlow} {
		err := &yarn.Error{Op: yarn.OpNameNode, Kind: kind, Err: &net.OpError{Op: "dial", Err: unix.ECONNREFUSED}}
		if got, text := errnoOf(err); got != unix.ETIMEDOUT || refused(err) || answered(err) {
			t.Error(got, text, err)
		}
		if err := ofBlock(err); errors.As(err, new(*blockError)) {
			t.Error(err)
		}
	}
}

// That a DataNode is lost is no lack of time, and says what to do, whatever its machine's kernel said.
func TestLostDataNodeIsTold(t *testing.T) {
	for _, lost := range []error{&net.OpError{Op: "dial", Err: unix.ECONNREFUSED}, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, io.EOF, errors.New("write failed: ERROR ()")} {
		if got, text := errnoOf(asFull(ofBlock(lost))); got != unix.EIO || !strings.Contains(text, "written again") || !strings.Contains(text, lost.Error()) {
			t.Error(got, text)
		}
	}
	for _, said := range []error{nil, saidNo("java.io.IOException"), &os.PathError{Op: "create", Err: saidNo("x.LeaseExpiredException")}, os.ErrPermission, hdfs.ErrReplicating} {
		if err := ofBlock(said); err != said {
			t.Error(err)
		}
	}
}

// HDFS-3: where new files would be erasure-coded none is made: no program's, no value's and none of the store.
func TestNoNewFileIsErasureCoded(t *testing.T) {
	n := &nameNode{t: t, files: map[string]*inode{}, policy: "RS-6-3-1024k"}
	c := n.client()
	spills := &SpillStore{uri: "hdfs:///spill", base: "/spill", c: c}
	for what, does := range map[string]func() error{
		"a draft": func() error { _, err := c.create("/out/f", false); return err },
		"a value": func() error { _, err := spills.Create("c/1/7"); return err },
		"a file of the store": func() error {
			h, err := c.connected()
			if err != nil {
				return err
			}
			_, err = Create(t.Context(), h, "/out/g")
			return err
		},
	} {
		err := does()
		if err == nil {
			t.Fatal(what, "is made")
		}
		if number, text := errnoOf(err); number != unix.EOPNOTSUPP || !strings.Contains(text, "would be erasure-coded (RS-6-3-1024k)") || !strings.Contains(text, "-setPolicy -replicate") {
			t.Error(what, number, text)
		}
		if n.mu.Lock(); len(n.files) != 0 || n.made == 0 {
			t.Error(what, n.files)
		}
		n.made = 0
		n.mu.Unlock()
	}
}

// A last block whose copies never come is not waited for for ever.
func TestCopiesThatNeverCome(t *testing.T) {
	for limit, ends := range map[time.Duration]time.Duration{time.Hour: patience, 10 * time.Second: 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			n := &nameNode{t: t, files: map[string]*inode{}, few: true}
			o, err := Options(conf.New(), yarn.Config{User: "alice", Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() {
					n.serve(theirs)
					theirs.Close()
				}()
				return ours, nil
			}}, []string{"nn:1"})
			if err != nil {
				t.Fatal(err)
			}
			h, err := hdfs.NewClient(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			w, err := Create(ctx, h, "/f")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			err = w.Close()
			if past := time.Since(began); past < ends || past > ends+rarely || !errors.Is(err, hdfs.ErrReplicating) || (limit > patience) != strings.Contains(err.Error(), "are DataNodes up") {
				t.Error(past, err)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		})
	}
}
