package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/launcher/backend/backendtest"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

func TestMain(m *testing.M) {
	backendtest.Main()
	os.Exit(m.Run())
}

func request(t *testing.T, owner string, scripts ...string) backend.Request {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	id, secret := make([]byte, 16), make([]byte, 32)
	rand.Read(id)
	rand.Read(secret)
	req := backend.Request{Head: true, Doc: &bootdoc.Doc{Version: bootdoc.Version, Cluster: hex.EncodeToString(id), Secret: secret, Name: "t", Owner: owner}}
	for i, s := range scripts {
		req.Nodes = append(req.Nodes, bootdoc.Node{Name: fmt.Sprintf("n%d", i+1), Labels: map[string]string{"script": s}})
	}
	return req
}

// next is the next event that is not text.
func next(t *testing.T, s backend.Session) backend.Event {
	t.Helper()
	select {
	case ev := <-s.Events():
		return ev
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
		return backend.Event{}
	}
}

func TestSession(t *testing.T) {
	s, err := (&Backend{}).Start(t.Context(), request(t, "stdin", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Nodes(), " "); got != "n1 n2" {
		t.Errorf("nodes %s", got)
	}
	head := next(t, s)
	if head.Kind != backend.KindHead || head.Node != "n1" || len(head.Addresses) != 1 {
		t.Fatalf("%+v", head)
	}
	if err := s.Send(backend.HeadLine(head.Addresses)); err != nil {
		t.Fatal(err)
	}
	ready := map[string]bool{}
	for len(ready) < 2 {
		ev := next(t, s)
		if ev.Kind != backend.KindReady || ev.Socket == "" || ev.Dir == "" {
			t.Fatalf("%+v", ev)
		}
		ready[ev.Node] = true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	if _, open := <-s.Events(); open {
		t.Error("events go on after the end")
	}
}

// BACK-1: the secret is in no argument and no environment.
func TestSecretIsOnStandardInputOnly(t *testing.T) {
	req := request(t, "stdin", "")
	b, err := (&Backend{}).Start(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	next(t, b)
	pid := b.(*session).keepers[0].cmd.Process.Pid
	for _, file := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{string(req.Doc.Secret), base64.StdEncoding.EncodeToString(req.Doc.Secret), hex.EncodeToString(req.Doc.Secret)} {
			if bytes.Contains(data, []byte(form)) {
				t.Errorf("the secret is in %s", file)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b.Stop(ctx)
}

// A keeper that dies without a word is told as lost, with what it had printed.
func TestLost(t *testing.T) {
	s, err := (&Backend{}).Start(t.Context(), request(t, "stdin", "crash"))
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, s); ev.Kind != backend.KindLost || ev.Node != "n1" || !strings.Contains(ev.Text, "out of ideas") {
		t.Errorf("%+v", ev)
	}
	if err := s.Wait(); err == nil || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("Wait: %v", err)
	}
}

// Keepers that do not drain are killed when the time is over.
func TestStopKills(t *testing.T) {
	s, err := (&Backend{}).Start(t.Context(), request(t, "stdin", "stubborn"))
	if err != nil {
		t.Fatal(err)
	}
	next(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err == nil {
		t.Error("it ended by itself")
	}
	if err := s.Wait(); err == nil {
		t.Error("Wait knows nothing of it")
	}
}

// A released session goes on without us.
func TestRelease(t *testing.T) {
	s, err := (&Backend{}).Start(t.Context(), request(t, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	next(t, s)
	k := s.(*session).keepers[0]
	pid := k.cmd.Process.Pid
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if err := k.send([]byte("x")); err == nil {
		t.Error("its standard input is open")
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(os.Kill); err != nil {
		t.Errorf("it did not live on: %v", err)
	}
	p.Wait()
}

// LOCAL-1: a node whose keeper can't be started leaves no other one running.
func TestStartFails(t *testing.T) {
	req := request(t, "stdin", "", "")
	req.Binary = "/nonexistent/maniple"
	if _, err := (&Backend{}).Start(t.Context(), req); err == nil || !strings.Contains(err.Error(), "start the keeper of n1") {
		t.Errorf("%v", err)
	}
}
