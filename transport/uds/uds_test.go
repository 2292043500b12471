package uds_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/transporttest"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func world(t testing.TB) transporttest.World {
	path := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := uds.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	return transporttest.World{
		Close: func() { ln.Close() },
		Accept: func() (transport.Conn, error) {
			nc, err := ln.AcceptUnix()
			if err != nil {
				return nil, err
			}
			return uds.Server(nc)
		},
		Dial: func(ctx context.Context) (transport.Conn, error) { return uds.Dial(ctx, path) },
		// The kernel proves this user to be itself, so a stranger of its own comes as far as the
		// handshake, and no further.
		Raw: func(ctx context.Context) (net.Conn, error) { return uds.Dial(ctx, path) },
	}
}

func TestConformance(t *testing.T) {
	transporttest.Run(t, transporttest.Carrier{New: world})
}

func TestLongPath(t *testing.T) {
	dir := t.TempDir()
	for len(dir) < 300 {
		dir = filepath.Join(dir, strings.Repeat("d", 50))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.sock")
	ln, err := uds.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	conn, err := uds.Dial(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if p := conn.Peer(); p.UID != os.Getuid() || p.Role != fb.RoleNone {
		t.Errorf("peer is %+v", p)
	}
	conn.Close()
	if _, err := uds.Listen(path); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a live socket was taken over: %v", err)
	}
	ln.Close()
	ln, err = uds.Listen(path)
	if err != nil {
		t.Fatalf("the socket of a dead process: %v", err)
	}
	ln.Close()
	if _, err := uds.Listen(filepath.Join(dir, strings.Repeat("x", 120))); err == nil {
		t.Error("a file name that can't fit was taken")
	}
}

func TestListenLeavesFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ln, err := uds.Listen(path); err == nil {
		ln.Close()
		t.Fatal("listens at a file")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

// TestStrangers needs another user's process: it becomes one, if it may.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to be another user: the check of the user is not tested")
	}
	path := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := uds.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_ = os.Chmod(path, 0o777)
	for dir := path; dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o777)
	}
	dialled := make(chan error, 1)
	go func() {
		dialled <- asUser(12345, func() error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		})
	}()
	nc, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := uds.Server(nc); err == nil {
		t.Errorf("UDS-1: admitted %+v", conn.Peer())
		conn.Close()
	} else if !strings.Contains(err.Error(), "user 12345") {
		t.Errorf("refused with %v", err)
	}
	if err := <-dialled; err != nil {
		t.Fatal(err)
	}
}

func pair(t *testing.T) (a, b *uds.FDConn) {
	parent, child, err := uds.Pair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = uds.NewFDConn(parent); err != nil {
		t.Fatal(err)
	}
	if b, err = uds.NewFDConn(child); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestFDConn(t *testing.T) {
	a, b := pair(t)
	big := strings.Repeat("e", 3000)
	launch := &fb.ProgramLaunchT{Rank: 7, Argv: []string{"true"}}
	for range 100 { // several fragments
		launch.Env = append(launch.Env, big)
	}
	errs := make(chan error, 1)
	go func() {
		r, w, err := os.Pipe()
		if err != nil {
			errs <- err
			return
		}
		err = a.Send(&fb.KeeperReadyT{Text: "none"}, 1, nil)
		if err == nil {
			err = a.Send(launch, 2, []byte("payload"), r, w)
		}
		r.Close()
		w.Close()
		if err == nil {
			err = a.Send(&fb.KeeperReadyT{Text: "again none"}, 3, make([]byte, 200<<10))
		}
		errs <- err
	}()
	m, files, err := b.Recv()
	if err != nil || len(files) != 0 || m.M.(*fb.KeeperReadyT).Text != "none" || m.Corr != 1 {
		t.Fatalf("%+v, %d descriptors, %v", m, len(files), err)
	}
	m, files, err = b.Recv()
	if err != nil || len(files) != 2 || len(m.M.(*fb.ProgramLaunchT).Env) != 100 || string(m.Payload) != "payload" {
		t.Fatalf("%T, %d descriptors, %v", m.M, len(files), err)
	}
	for _, f := range files {
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("UDS-2: descriptor flags %x, %v", flags, err)
		}
	}
	if _, err := files[1].Write([]byte("through")); err != nil {
		t.Fatal(err)
	}
	files[1].Close()
	if got, err := io.ReadAll(files[0]); err != nil || string(got) != "through" {
		t.Errorf("the pipe gave %q, %v", got, err)
	}
	files[0].Close()
	m, files, err = b.Recv()
	if err != nil || len(files) != 0 || len(m.Payload) != 200<<10 {
		t.Fatalf("%+v, %d descriptors, %v", m.M, len(files), err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	a.Close()
	if _, _, err := b.Recv(); err != io.EOF {
		t.Errorf("after the peer closed: %v", err)
	}
}

// TestFDConnHostile: descriptors of what can't be read are closed.
func TestFDConnHostile(t *testing.T) {
	parent, child, err := uds.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	b, err := uds.NewFDConn(child)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	garbage := []byte(strings.Repeat("garbage ", 10))
	if err := unix.Sendmsg(int(parent.Fd()), garbage, unix.UnixRights(int(w.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, files, err := b.Recv(); !errors.Is(err, transport.ErrProtocol) || files != nil {
		t.Errorf("garbage: %d descriptors, %v", len(files), err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) > 0 { // it ends only if the other end is closed everywhere
		t.Errorf("UDS-2: %q, %v", got, err)
	}
}
