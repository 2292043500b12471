package native_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/native"
)

// This binary is the program, too: what it is asked for is what it does.
func TestMain(m *testing.M) {
	if os.Getenv("MANIPLE_TEST_NATIVE") == "agent" { // which says whom it asks, and waits for what does not come
		os.Setenv("MANIPLE_TEST_NATIVE", "yes")
		self, _ := os.Executable()
		c := &native.Client{Path: self}
		pid, err := c.Ask(context.Background(), "pid", "")
		fmt.Println(string(pid), err)
		_, _ = c.Ask(context.Background(), "hang", "")
		os.Exit(1)
	}
	if os.Getenv("MANIPLE_TEST_NATIVE") != "" {
		os.Exit(native.Serve(os.Args[1:], func(q native.Question, reply func([]byte, error)) {
			switch q.What {
			case "refuse":
				reply(nil, errors.New("not "+q.ID))
				return
			case "pid":
				reply(fmt.Append(nil, os.Getpid()), nil)
				return
			case "end":
				fmt.Fprintln(os.Stderr, "chatter")
				panic("so it ends")
			case "hang":
				select {}
			}
			reply([]byte(`"`+q.What+" "+q.ID+`"`), nil)
		}))
	}
	os.Exit(m.Run())
}

func client(t *testing.T) (*native.Client, *bytes.Buffer) {
	t.Helper()
	t.Setenv("MANIPLE_TEST_NATIVE", "yes")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	c := &native.Client{Path: self, Log: slog.New(slog.NewTextHandler(&log, nil))}
	t.Cleanup(c.Close)
	return c, &log
}

func ask(t *testing.T, c *native.Client, what, id string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	text, err := c.Ask(ctx, what, id)
	return string(text), err
}

func TestAnswers(t *testing.T) {
	c, log := client(t)
	if got, err := ask(t, c, "devices", "x"); got != `"devices x"` || err != nil {
		t.Error(got, err)
	}
	if _, err := ask(t, c, "refuse", "that"); err == nil || err.Error() != "not that" {
		t.Error(err)
	}
	first, _ := ask(t, c, "pid", "")
	if second, _ := ask(t, c, "pid", ""); first != second {
		t.Errorf("%s and %s answered: one process is enough", first, second)
	}
	c.Close()
	if _, err := ask(t, c, "pid", ""); !errors.Is(err, native.ErrClosed) {
		t.Error(err)
	}
	if log.Len() > 0 {
		t.Error(log)
	}
}

// NATIVE-1, NATIVE-3: its end fails what was asked, is one line, and no other is started at once.
func TestEndOfTheProcess(t *testing.T) {
	c, log := client(t)
	_, err := ask(t, c, "end", "")
	if err == nil || !strings.Contains(err.Error(), "panic: so it ends") {
		t.Fatal(err)
	}
	if _, again := ask(t, c, "pid", ""); again == nil || again.Error() != err.Error() {
		t.Error(again)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "so it ends") {
		t.Errorf("%d lines: %s", n, log)
	}
}

// NATIVE-1, NATIVE-2: what hangs is killed with the question that it hangs over.
func TestHang(t *testing.T) {
	c, _ := client(t)
	pid, _ := ask(t, c, "pid", "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Ask(ctx, "hang", ""); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	gone(t, pid)
}

// NATIVE-2: when its agent is killed it ends, though it hangs.
func TestEndsWithItsAgent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self)
	agent.Env = append(os.Environ(), "MANIPLE_TEST_NATIVE=agent")
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid, fault string
	if _, err := fmt.Fscan(out, &pid, &fault); err != nil || fault != "<nil>" {
		t.Errorf("%s: %s, %v", pid, fault, err)
	}
	_ = agent.Process.Kill()
	_ = agent.Wait()
	gone(t, pid)
}

// A process that hangs ends with the client, too.
func TestClose(t *testing.T) {
	c, _ := client(t)
	pid, _ := ask(t, c, "pid", "")
	go func() { _, _ = c.Ask(t.Context(), "hang", "") }() // ends with the client
	c.Close()
	gone(t, pid)
}

func TestEndsWhenNothingIsAsked(t *testing.T) {
	c, log := client(t)
	c.Idle = 10 * time.Millisecond
	pid, _ := ask(t, c, "pid", "")
	gone(t, pid)
	if second, err := ask(t, c, "pid", ""); second == pid || err != nil {
		t.Error(second, err)
	}
	if log.Len() > 0 {
		t.Error(log)
	}
}

func TestNoProgram(t *testing.T) {
	if _, err := ask(t, &native.Client{}, "pid", ""); !errors.Is(err, native.ErrNone) {
		t.Error(err)
	}
}

// One that speaks another wire, or is started by hand, says so.
func TestOtherVersion(t *testing.T) {
	if code := native.Serve([]string{"0"}, nil); code != 64 {
		t.Error(code)
	}
}

// gone waits until a process was reaped.
func gone(t *testing.T, pid string) {
	t.Helper()
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") { // whoever takes orphans in may be slow to reap
			return
		}
	}
}
