package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/logs"
)

// Ctrl-C ends `maniple logs` of an application that is over also while what it reads hangs, or who it writes to.
func TestInterruptOfKeptLogs(t *testing.T) {
	dir := t.TempDir()
	id := yarn.ApplicationID{ClusterTimestamp: 1700000000000, Number: 1}
	read := conf.New()
	read.Set("yarn.nodemanager.remote-app-log-dir", "file:"+dir)
	read.Set("yarn.log-aggregation-enable", "true")
	folder := filepath.Join(dir, "alice", "logs", id.String())
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	hangs := filepath.Join(folder, "host_1234")
	if err := syscall.Mkfifo(hangs, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	c := &call{app: &app{stdout: &out, stderr: &said, getenv: os.Getenv}, ctx: t.Context(), page: &page{name: "logs"}}
	heard := make(chan os.Signal, 1) // so that one that comes too early does not end the tests
	signal.Notify(heard, syscall.SIGINT)
	defer signal.Stop(heard)
	ended := make(chan error, 1)
	go func() {
		ended <- c.keptLog(&site{conf: read}, yarn.Report{ID: id, User: "alice", State: yarn.StateFinished})
	}()
	defer func() {
		if f, err := os.OpenFile(hangs, os.O_RDWR, 0); err == nil { // now it is open
			f.Close()
		}
	}()
	tick, late := time.NewTicker(20*time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if code := faultOf("logs", err).exitCode(); code != 130 || out.Len()+said.Len() > 0 {
				t.Errorf("%v, code %d, %q %q", err, code, &out, &said)
			}
			return
		case <-tick.C:
			if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		case <-late:
			t.Fatal("it goes on")
		}
	}
}

// A disk that is full is not taken for a log that can't be read.
func TestKeptLogsToAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	k := &kept{to: &guarded{to: full}, messages: &guarded{to: full}}
	_, err = io.Copy(k.to, strings.NewReader("x"))
	if f := unread(k, yarn.ApplicationID{}, err); f == nil || f.Name != "CANNOT_CREATE" {
		t.Errorf("%+v", f)
	}
	if f := unread(&kept{to: &guarded{}, messages: &guarded{}}, yarn.ApplicationID{}, err); f.Name != "UNREACHABLE" {
		t.Errorf("%+v", f)
	}
}

// A file of which not all is there yet, as those in the format IFile are under their names, is come back to.
func TestKeptLogsThatAreNotWhole(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "host_1234"), []byte("the beginning of one"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &kept{folders: []string{filepath.Join(dir, "none"), "file:" + dir}}
	if err := k.show(1); !errors.Is(err, logs.ErrFormat) {
		t.Error(err)
	}
	id := yarn.ApplicationID{ClusterTimestamp: 1700000000000, Number: 1}
	read := conf.New()
	read.Set("yarn.nodemanager.remote-app-log-dir", "file:"+dir)
	c := &call{app: &app{stdout: io.Discard, stderr: io.Discard, getenv: os.Getenv}, ctx: t.Context(), page: &page{name: "logs"}}
	folder := filepath.Join(dir, "alice", "logs", id.String())
	if err := errors.Join(os.MkdirAll(folder, 0o755), os.Rename(filepath.Join(dir, "host_1234"), filepath.Join(folder, "host_1234"))); err != nil {
		t.Fatal(err)
	}
	if err := c.showKept(t.Context(), read, yarn.Report{ID: id, User: "alice"}); err == nil || !strings.Contains(err.Error(), "no whole aggregated file") { // it ended long ago
		t.Error(err)
	}
}

// What an application wrote that has just ended is waited for, and within 2 s that is said.
func TestKeptLogsAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := conf.New()
		read.Set("yarn.nodemanager.remote-app-log-dir", "file:"+t.TempDir())
		read.Set("yarn.log-aggregation-enable", "true")
		said := &heard{began: time.Now()}
		c := &call{app: &app{stdout: io.Discard, stderr: said, getenv: os.Getenv}, ctx: t.Context(), page: &page{name: "logs"}}
		r := yarn.Report{ID: yarn.ApplicationID{ClusterTimestamp: 17, Number: 1}, User: "alice", State: yarn.StateFinished, Finished: time.Now()}
		if err := c.showKept(t.Context(), read, r); err == nil || time.Since(said.began) < keptWait {
			t.Errorf("after %v: %v", time.Since(said.began), err)
		}
		said.mu.Lock()
		defer said.mu.Unlock()
		if len(said.lines) != 1 || !strings.HasPrefix(said.lines[0], "2s maniple: logs: waits for NodeManagers to bring together what application_17_0001 wrote") {
			t.Errorf("%q", said.lines)
		}
	})
}
