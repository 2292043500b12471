package exec

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/slurmtest"
)

func TestMain(m *testing.M) {
	slurmtest.Main()
	os.Exit(m.Run())
}

// recordedVersions are the Slurms whose outputs were recorded.
func recordedVersions(t *testing.T) []string {
	dirs, err := filepath.Glob("../testdata/[0-9]*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("nothing recorded", err)
	}
	for i := range dirs {
		dirs[i] = filepath.Base(dirs[i])
	}
	return dirs
}

func TestSubmitReadsTheID(t *testing.T) {
	for out, want := range map[string]Submitted{
		"12\n": {JobID: 12}, "12;alpha\n": {JobID: 12, Cluster: "alpha"}, "welcome to the cluster\n1234567\n": {JobID: 1234567},
	} {
		f := slurmtest.New(t).On("sbatch", slurmtest.Answer{Stdout: out})
		c := &Client{Environ: f.Environ("SBATCH_ACCOUNT=a")}
		got, err := c.Submit(t.Context(), Submission{Args: []string{"-N2"}, Script: []byte("#!/bin/sh\ntrue\n")})
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", out, got, err)
		}
		call := f.Calls()[0]
		if !slices.Equal(call.Args, []string{"--parsable", "-N2"}) || call.Stdin != "#!/bin/sh\ntrue\n" || !slices.Contains(call.Env, "SBATCH_ACCOUNT=a") {
			t.Errorf("%+v", call)
		}
	}
}

func TestSubmitWithoutIDIsAnError(t *testing.T) {
	f := slurmtest.New(t).On("sbatch", slurmtest.Answer{Stdout: "hello\n"})
	_, err := (&Client{Environ: f.Environ()}).Submit(t.Context(), Submission{})
	if !errors.Is(err, slurm.ErrOutput) {
		t.Error(err)
	}
}

func TestRefusalsKeepSlurmsWords(t *testing.T) {
	for _, v := range recordedVersions(t) {
		f := slurmtest.New(t).On("sbatch", slurmtest.Answer{Stderr: slurmtest.Recorded(t, v, "error.partition"), Code: 1})
		_, err := (&Client{Environ: f.Environ()}).Submit(t.Context(), Submission{})
		if !errors.Is(err, slurm.ErrRefused) || !strings.Contains(err.Error(), "nvalid partition") || !strings.Contains(err.Error(), "sinfo -s") {
			t.Error(v, err)
		}
		f = slurmtest.New(t).On("scontrol", slurmtest.Answer{Stderr: slurmtest.Recorded(t, v, "error.unreachable"), Code: 1})
		if _, err := (&Client{Environ: f.Environ()}).Job(t.Context(), "1"); !errors.Is(err, slurm.ErrUnreachable) {
			t.Error(v, err)
		}
	}
}

// EXEC-1: a program that hangs is ended with its children.
func TestTimeLimitOfACall(t *testing.T) {
	f := slurmtest.New(t).On("scontrol", slurmtest.Answer{Hang: true})
	began := time.Now()
	_, err := (&Client{Environ: f.Environ(), Timeout: 300 * time.Millisecond}).Job(t.Context(), "1")
	if !errors.Is(err, slurm.ErrTooSlow) || time.Since(began) > 5*time.Second {
		t.Fatal(err, time.Since(began))
	}
	group := strconv.Itoa(f.Calls()[0].Pid)
	for deadline := time.Now().Add(5 * time.Second); len(members(t, group)) > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("its process group lives on:", members(t, group))
		}
	}
}

// members are the living processes of a process group.
func members(t *testing.T, group string) (pids []string) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // gone
		}
		// pid (name) state ppid pgrp ...
		f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if f[2] == group && f[0] != "Z" && f[0] != "X" {
			pids = append(pids, strings.Split(file, "/")[2])
		}
	}
	return pids
}

func TestCancelledContext(t *testing.T) {
	f := slurmtest.New(t).On("scontrol", slurmtest.Answer{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := (&Client{Environ: f.Environ()}).Job(ctx, "1"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNoSlurmHere(t *testing.T) {
	_, err := (&Client{Environ: []string{"PATH=" + t.TempDir()}}).Job(t.Context(), "1")
	if !errors.Is(err, slurm.ErrMissing) || !strings.Contains(err.Error(), "scontrol is not on the PATH") {
		t.Error(err)
	}
}

// EXEC-3.
func TestUsersFormatsDoNotReachThePrograms(t *testing.T) {
	f := slurmtest.New(t).On("sinfo", slurmtest.Answer{})
	c := &Client{Environ: f.Environ("SINFO_FORMAT=%P", "SINFO_PARTITION=x", "SLURM_TIME_FORMAT=relative", "LC_ALL=de_DE", "SLURM_CONF=/x")}
	if _, err := c.Partitions(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(f.Calls()[0].Args, "-e") {
		t.Error("nodes that differ are put together")
	}
	for _, kv := range f.Calls()[0].Env {
		if strings.HasPrefix(kv, "SINFO_") || strings.HasPrefix(kv, "SLURM_TIME_FORMAT") || kv == "LC_ALL=de_DE" {
			t.Error(kv)
		}
	}
	if !slices.Contains(f.Calls()[0].Env, "SLURM_CONF=/x") {
		t.Error("SLURM_CONF is gone")
	}
}

func TestEnded(t *testing.T) {
	for _, v := range recordedVersions(t) {
		f := slurmtest.New(t).On("sacct", slurmtest.Answer{Stdout: slurmtest.Recorded(t, v, "sacct")})
		jobs, err := (&Client{Environ: f.Environ()}).Ended(t.Context(), "1")
		if err != nil {
			t.Fatal(v, err)
		}
		want := map[string]struct {
			state slurm.State
			code  int
		}{"ok": {slurm.Completed, 0}, "fails": {slurm.Failed, 3}, "signal": {slurm.Failed, 137}, "cancelled": {slurm.Cancelled, 143}, "limit": {slurm.Timeout, 143}}
		for _, j := range jobs {
			if w, ok := want[j.Name]; ok {
				delete(want, j.Name)
				if j.State != w.state || j.Result() != w.code || !j.Over() {
					t.Errorf("%s: %s is %s with %d", v, j.Name, j.State, j.Result())
				}
			}
			if j.Name == "arr" && (j.ArrayID == 0 || j.ArrayTask == "") {
				t.Errorf("%s: %+v", v, j)
			}
		}
		if len(want) > 0 {
			t.Errorf("%s: missing %v", v, want)
		}
	}
}

func TestNoAccounts(t *testing.T) {
	f := slurmtest.New(t).On("sacct", slurmtest.Answer{Stderr: "Slurm accounting storage is disabled\n", Code: 1})
	_, err := (&Client{Environ: f.Environ()}).Ended(t.Context(), "1")
	if !errors.Is(err, slurm.ErrRefused) || !strings.Contains(err.Error(), "keeps no accounts") {
		t.Error(err)
	}
}

// Partitions and options are asked for once (EXEC-4), and again when they are old or the program changed.
func TestCache(t *testing.T) {
	for _, v := range recordedVersions(t) {
		f := slurmtest.New(t).
			On("sinfo", slurmtest.Answer{Stdout: slurmtest.Recorded(t, v, "sinfo.partitions")}).
			On("sbatch", slurmtest.Answer{Stdout: slurmtest.Recorded(t, v, "sbatch.help")})
		now := time.Now()
		c := &Client{Environ: f.Environ(), Cache: filepath.Join(t.TempDir(), "deep", "cache.json"), Now: func() time.Time { return now }}
		ask := func() {
			t.Helper()
			if list, err := c.Partitions(t.Context()); err != nil || len(list) != 3 || list[0].Limit != slurm.Infinite {
				t.Fatal(list, err)
			}
			if list, err := c.Options(t.Context()); err != nil || len(list) < 70 {
				t.Fatal(len(list), err)
			}
		}
		ask()
		ask()
		if n := len(f.Calls()); n != 2 {
			t.Errorf("%s: %d calls for a warm cache", v, n)
		}
		now = now.Add(2 * time.Hour)
		ask()
		if n := len(f.Calls()); n != 3 {
			t.Errorf("%s: %d calls after two hours", v, n)
		}
		c.Environ = append(c.Environ, "SLURM_CONF=/another/cluster")
		ask()
		if n := len(f.Calls()); n != 5 {
			t.Errorf("%s: %d calls for another cluster", v, n)
		}
	}
}

// Where the configuration lies on this machine the first question is none either; AskPartitions asks.
func TestPartitionsOfTheConfiguration(t *testing.T) {
	f := slurmtest.New(t).On("sinfo", slurmtest.Answer{Stdout: slurmtest.Recorded(t, "22.05", "sinfo.partitions")})
	conf := filepath.Join(t.TempDir(), "slurm.conf")
	if err := os.WriteFile(conf, []byte("NodeName=n[1-2] CPUs=4\nPartitionName=night Nodes=ALL MaxTime=5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &Client{Environ: f.Environ("SLURM_CONF=" + conf), Cache: filepath.Join(t.TempDir(), "cache.json")}
	for range 2 {
		if list, err := c.Partitions(t.Context()); err != nil || len(list) != 1 || list[0].Name != "night" || list[0].Nodes != 2 || len(f.Calls()) != 0 {
			t.Fatal(list, err, f.Calls())
		}
	}
	if list, err := c.AskPartitions(t.Context()); err != nil || len(list) != 3 || len(f.Calls()) != 1 {
		t.Fatal(list, err)
	}
	if list, err := c.Partitions(t.Context()); err != nil || len(list) != 3 || len(f.Calls()) != 1 {
		t.Error("the answer is not remembered:", list, err)
	}
}

func TestBrokenCacheCostsAQuestionOnly(t *testing.T) {
	f := slurmtest.New(t).On("sinfo", slurmtest.Answer{Stdout: slurmtest.Recorded(t, "22.05", "sinfo.partitions")})
	path := filepath.Join(t.TempDir(), "cache")
	for _, text := range []string{"", "{", `{"version":1,"partitions":7}`, `{"version":99}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := (&Client{Environ: f.Environ(), Cache: path}).Partitions(t.Context()); err != nil || len(list) != 3 {
			t.Errorf("%q: %v", text, err)
		}
	}
	if list, err := (&Client{Environ: f.Environ(), Cache: "/proc/nowhere/cache"}).Partitions(t.Context()); err != nil || len(list) != 3 {
		t.Error(err)
	}
}

// A program whose connection was closed dies of SIGPIPE: that is no answer, and says nothing of the job.
func TestHungUpIsUnreachable(t *testing.T) {
	f := slurmtest.New(t).On("scontrol", slurmtest.Answer{Script: "kill -PIPE $$"})
	_, err := (&Client{Environ: f.Environ()}).Job(t.Context(), "1")
	if !errors.Is(err, slurm.ErrUnreachable) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("%v", err)
	}
}
