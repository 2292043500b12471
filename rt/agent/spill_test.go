package agent_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// spiller is a node whose store of 64 MiB spills into a directory.
func spiller(t *testing.T, dirs ...string) *node {
	return clusterWith(t, func(doc *bootdoc.Doc) { doc.Store, doc.Spill = 64<<20, dirs }, "n1")[0]
}

// looks reads an object that has bytes b only.
func (m *memory) looks(o id.Object, b byte) {
	m.t.Helper()
	m.get(o)
	v, err := m.View(o)
	if err != nil {
		m.t.Fatal(err)
	}
	if n := bytes.Count(v.Bytes(), []byte{b}); n != size {
		m.t.Errorf("only %d bytes of %d are what they were", n, size)
	}
	if err := v.Release(); err != nil {
		m.t.Error(err)
	}
}

// segments are the files of spilled values that a process has.
func segments(pid int, dir string) (paths []string) {
	list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range list {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, dir+"/maniple-spill-") {
			paths = append(paths, fd)
		}
	}
	return paths
}

// AGENT-12: values that memory has no room for are right when they come back, what is looked at stays, and a bit that was flipped
// on disk is an error for who gets that value, and for nobody else.
func TestSpilledValues(t *testing.T) {
	dir := t.TempDir()
	n := spiller(t, dir)
	m := remembers(t, n)
	first := m.puts('z', size)
	m.get(first)
	view, err := m.View(first)
	if err != nil {
		t.Fatal(err)
	}
	var objects []id.Object
	for i := range 24 { // 192 MiB
		objects = append(objects, m.puts('a'+byte(i), size))
	}
	for i, o := range objects {
		m.looks(o, 'a'+byte(i))
	}
	if n := bytes.Count(view.Bytes(), []byte{'z'}); n != size {
		t.Errorf("of what is looked at only %d bytes of %d are what they were", n, size)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("files with names: %v", left)
	}
	files := segments(n.daemon("agent"), dir)
	if len(files) != 1 {
		t.Fatalf("the agent has the files %v", files)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	whole, _ := f.Stat()
	b := make([]byte, 1)
	for at := int64(12345); at < whole.Size(); at += size { // in each of them
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		if b[0] ^= 1; b[0] == 'c' { // all but one
			continue
		}
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	damaged := 0
	for _, o := range objects {
		if err := m.gets(o); err != "" {
			if !strings.Contains(err, "OBJECT_LOST") || !strings.Contains(err, "not those that were written") || !strings.Contains(err, dir) {
				t.Errorf("the error is %q", err)
			}
			damaged++
		}
	}
	if damaged < 12 || damaged >= len(objects) {
		t.Errorf("%d of %d are damaged", damaged, len(objects))
	}
	m.looks(objects[1], 'b')
}

// gets asks for an object, and gives the error in its place.
func (m *memory) gets(o id.Object) string {
	m.t.Helper()
	if err := m.asks(o); err != nil {
		m.t.Fatal(err)
	}
	select {
	case <-m.told:
		return ""
	case err := <-m.lost:
		return err
	case <-time.After(20 * time.Second):
		m.t.Fatal("no place came, and no error")
		return ""
	}
}

// A disk that is full is said; what is there stays right.
func TestDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	n := spiller(t, dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	m := remembers(t, n)
	var objects []id.Object
	for i := range 9 { // 72 MiB: of the store's 60 and the disk's 30
		objects = append(objects, m.puts('a'+byte(i), size))
	}
	if !strings.Contains(n.logs(), "is memory (tmpfs)") {
		t.Error("nobody was told that the directory is memory")
	}
	for i := range 9 {
		m.looks(objects[i], 'a'+byte(i))
	}
	for i := 9; ; i++ {
		if i > 14 {
			t.Fatal("more was put than there is room for")
		}
		o := m.mint()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := m.Put(ctx, o, client.Meta{}, bytes.Repeat([]byte{'a' + byte(i)}, size))
		cancel()
		if err != nil { // it would be refused after 30 s
			break
		}
		objects = append(objects, o)
	}
	if logs := n.logs(); !strings.Contains(logs, "values could not be written to disk") || !strings.Contains(logs, "no space left on device") {
		t.Error(logs)
	}
	kept := objects[:len(objects)-3] // without room to move nothing comes back, which is an error, too
	for _, o := range objects[len(kept):] {
		if err := m.Drop(o); err != nil {
			t.Fatal(err)
		}
	}
	for i, o := range kept {
		m.looks(o, 'a'+byte(i))
	}
}

// A bound for what lies on disk is kept: puts wait for room there, as for a full disk, and what was written before is right.
func TestSpillingLimit(t *testing.T) {
	dir := t.TempDir()
	n := clusterWith(t, func(doc *bootdoc.Doc) { doc.Store, doc.Spill, doc.SpillLimit = 64<<20, []string{dir}, 32<<20 }, "n1")[0]
	m := remembers(t, n)
	var objects []id.Object
	for i := 0; ; i++ {
		if i > 12 {
			t.Fatal("more was put than there is room for")
		}
		o := m.mint()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := m.Put(ctx, o, client.Meta{}, bytes.Repeat([]byte{'a' + byte(i)}, size))
		cancel()
		if err != nil { // it would be refused after 30 s
			break
		}
		objects = append(objects, o)
	}
	if len(objects) < 9 {
		t.Errorf("only %d of 8 MiB each found room", len(objects))
	}
	for _, name := range segments(n.daemon("agent"), dir) {
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil || st.Size > 32<<20 {
			t.Errorf("%d bytes lie on disk, %v", st.Size, err)
		}
	}
	kept := objects[:len(objects)-3]
	for _, o := range objects[len(kept):] {
		if err := m.Drop(o); err != nil {
			t.Fatal(err)
		}
	}
	for i, o := range kept {
		m.looks(o, 'a'+byte(i))
	}
}
