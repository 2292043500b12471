package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func dial(t *testing.T, port uint16, hello string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, hello); err != nil {
		t.Fatal(err)
	}
	return c
}

// echo answers on a descriptor that was handed over, to prove which connection it is.
func echo(t *testing.T, got told, word string) {
	t.Helper()
	if len(got.files) != 1 {
		t.Fatalf("%d descriptors with %+v", len(got.files), got.m)
	}
	c, err := net.FileConn(got.files[0])
	got.files[0].Close()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c io.Reader, word string) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != word {
		t.Errorf("got %q, %v, not %q", got, err, word)
	}
}

func TestConnectionsAreHandedOn(t *testing.T) {
	n := boot(t, setup{})
	a, h := n.agent(), n.link(fb.RoleHead)
	port := a.config.ListenPort
	for _, test := range []struct {
		p  transport.Preamble
		to *link
	}{
		{transport.Preamble{Role: fb.RoleAgent, Purpose: fb.PurposeControl}, a},
		{transport.Preamble{Role: fb.RoleAgent, Purpose: fb.PurposeBulk}, a},
		{transport.Preamble{Role: fb.RoleHead, Purpose: fb.PurposeLiveness}, h},
	} {
		c := dial(t, port, "")
		if err := transport.WritePreamble(c, test.p); err != nil {
			t.Fatal(err)
		}
		got := test.to.recv("KeeperConn")
		if m := got.m.(*fb.KeeperConnT); m.Role != test.p.Role || m.Purpose != test.p.Purpose || m.Unix {
			t.Errorf("%+v became %+v", test.p, m)
		}
		echo(t, got, "hello")
		expect(t, c, "hello")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := uds.Dial(ctx, filepath.Join(n.dir(), "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := a.recv("KeeperConn")
	if m := got.m.(*fb.KeeperConnT); !m.Unix {
		t.Errorf("got %+v", m)
	}
	echo(t, got, "hello")
	expect(t, c, "hello")
	h.conn.Close()
	n.hosts = false
	a.stop()
}

func TestStrangersAreDropped(t *testing.T) {
	t.Parallel()
	n := boot(t, setup{args: []string{"--head=no"}, doc: func(d *bootdoc.Doc) { d.Head = []string{"127.0.0.1:1"} }})
	a := n.agent()
	port := a.config.ListenPort
	for _, hello := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01", "MNPL\x02\x02\x00\x00", "MNPL\x01\x03\x00\x00", "MNPL\x01\x01\x00\x00" /* no head here */} {
		c := dial(t, port, hello)
		if got, err := io.ReadAll(c); len(got) > 0 || (err != nil && !strings.Contains(err.Error(), "reset")) {
			t.Errorf("%q: got %q, %v", hello, got, err)
		}
	}
	// Many that say nothing do not shut out one that does, and none stays for ever.
	var mute []net.Conn
	for range 200 {
		mute = append(mute, dial(t, port, ""))
	}
	c := dial(t, port, "MNPL\x01\x02\x00\x00")
	echo(t, a.recv("KeeperConn"), "hello")
	expect(t, c, "hello")
	start := time.Now()
	for _, c := range mute {
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("got %q", got)
		}
	}
	if took := time.Since(start); took > 18*time.Second {
		t.Errorf("mute connections stayed %v", took)
	}
	log, err := os.ReadFile(filepath.Join(n.dir(), "keeper.log"))
	if given := strings.Count(string(log), "given up for newer ones"); err != nil || given < 200-64 {
		t.Errorf("%d of 200 mute connections were given up for newer ones", given)
	}
	a.stop()
}

// Connections that come while the agent is restarted wait for the next one.
func TestConnectionsWaitForRestart(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	a.kill()
	a = n.agent()
	a.kill() // from the second time on there is a pause
	until(t, "the agent's death is noticed", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", a.pid))
		return errors.Is(err, os.ErrNotExist)
	})
	c := dial(t, a.config.ListenPort, "MNPL\x01\x02\x01\x00")
	b := n.agent()
	got := b.recv("KeeperConn")
	if m := got.m.(*fb.KeeperConnT); m.Purpose != fb.PurposeLiveness {
		t.Errorf("got %+v", m)
	}
	echo(t, got, "late")
	expect(t, c, "late")
	b.stop()
}

// One that nobody comes for is closed, not kept.
func TestConnectionsDoNotWaitForEver(t *testing.T) {
	t.Parallel()
	n := boot(t, setup{args: []string{"--head=no"}})
	var keeper struct{ Port uint16 }
	until(t, "keeper.json", func() bool { return readJSON(filepath.Join(n.dir(), "keeper.json"), &keeper) == nil })
	start := time.Now()
	c := dial(t, keeper.Port, "MNPL\x01\x02\x00\x00")
	expect(t, c, "")
	if took := time.Since(start); took < 4*time.Second || took > 18*time.Second {
		t.Errorf("closed after %v", took)
	}
}
