package keeper_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func descriptors(t *testing.T, pid int) (list []string) {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, name.Name()))
		list = append(list, name.Name()+" "+to)
	}
	return list
}

func TestNothingLeaks(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	round := func(base uint32) {
		var ranks []*rank
		for i := range uint32(8) {
			m := sh("exit 0")
			m.Rank, m.Stdin, m.Pty = base+i, i%2 == 0, i%3 == 0
			m.Group, m.Env, m.Cwd = group, os.Environ(), "/"
			if i == 7 {
				m.Argv = []string{"nothing-of-that-name"}
			}
			a.send(m)
			ranks = append(ranks, &rank{l: a, m: m})
		}
		for ended := 0; ended < 8; {
			s := <-a.states
			for _, f := range s.files {
				f.Close()
			}
			if s.m.(*fb.ProgramStateT).Phase == fb.RankPhaseEnded {
				ended++
			}
		}
		for i, r := range ranks {
			r.forget()
			a.hold(base+uint32(i), i%2 == 0)
			a.send(&fb.PortReleaseT{Group: group, Incarnation: base + uint32(i)})
		}
		for range 4 {
			c := dial(t, a.config.ListenPort, "MNPL\x01\x02\x00\x00")
			for _, f := range a.recv("KeeperConn").files {
				f.Close()
			}
			c.Close()
		}
	}
	round(0)
	before := descriptors(t, n.cmd.Process.Pid)
	for i := range uint32(10) {
		round(100 * (i + 1))
	}
	a.hold(9999, true) // so that what was sent before is with the keeper
	a.kill()
	a = n.agent()
	round(5000)
	if len(a.config.Programs) != 0 {
		t.Errorf("%d programs are remembered", len(a.config.Programs))
	}
	var after []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	})
	until(t, "as many descriptors as before", func() bool {
		after = descriptors(t, n.cmd.Process.Pid)
		return len(after) <= len(before)
	})
	a.stop()
}

// Out of descriptors the keeper says so, and goes on.
func TestNoDescriptorsLeft(t *testing.T) {
	n := boot(t, setup{wrap: func(cmd *exec.Cmd) {
		args := append([]string{"sh", "-c", `ulimit -n 48; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path, cmd.Args = "/bin/sh", args
	}})
	a := n.agent()
	var ranks []*rank
	for i := range uint32(40) {
		m := sh("sleep 600")
		m.Rank = i
		r := a.launch(m)
		if r.state.Phase == fb.RankPhaseEnded {
			if r.state.Code != 126 || !strings.Contains(r.state.Error, "ulimit -n") {
				t.Errorf("refused with %+v", r.state)
			}
			break
		}
		ranks = append(ranks, r)
	}
	if len(ranks) == 40 || len(ranks) < 5 {
		t.Fatalf("%d programs were started", len(ranks))
	}
	if h := a.hold(7, false); h.Error == "" {
		a.hold(8, false)
	}
	for _, number := range []uint32{7, 8} {
		a.send(&fb.PortReleaseT{Group: group, Incarnation: number})
	}
	for _, r := range ranks[:4] {
		r.signal(9, true, 0)
		r.end()
		r.forget()
	}
	a.hold(9, true) // the loop has passed all that
	m := sh("exit 3")
	m.Rank = 100
	if end := a.launch(m).end(); end.Code != 3 {
		t.Errorf("after one was forgotten: %+v", end)
	}
	a.stop()
}
