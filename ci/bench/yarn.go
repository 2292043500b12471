package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

// The bars of YARN and HDFS.

// noShell is why one of them is not measured.
const noShell = "the jar of Hadoop's distributed shell was not to be had where those of the testbed are from"

// yarnbed is a YARN of ci/e2e/testbed for one experiment.
type yarnbed struct {
	conf   string
	client *yarn.Client
	down   func()
}

func (l *lab) yarn() (*yarnbed, error) {
	dir := filepath.Join("/var/tmp/maniple-e2e/hadoop", fmt.Sprintf("bench-%d", os.Getpid()))
	script := func(name string) ([]byte, error) {
		cmd := exec.Command("bash", filepath.Join(l.top, "ci/e2e/testbed/hadoop", name))
		cmd.Env = append(os.Environ(), "DIR="+dir, "OWNER="+strconv.Itoa(os.Getpid()))
		return cmd.CombinedOutput()
	}
	b := &yarnbed{conf: filepath.Join(dir, "conf", "rm"), down: func() { script("down.sh") }}
	if out, err := script("up.sh"); err != nil {
		b.down()
		return nil, fmt.Errorf("testbed: %w: %s", err, lastLines(string(out), 4))
	}
	read, err := conf.Load(b.conf)
	if err == nil {
		var cfg yarn.Config
		if cfg, err = yarn.FromConf(read); err == nil {
			b.client, err = yarn.New(cfg)
		}
	}
	if err != nil {
		b.down()
		return nil, err
	}
	return b, nil
}

func (b *yarnbed) close() {
	_ = b.client.Close()
	b.down()
}

// moment is when the first of some files says that it was written.
func moment(files ...string) (first time.Time, err error) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return first, fmt.Errorf("a rank left no time: %w", err)
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			return first, fmt.Errorf("a rank left no time: %w", err)
		}
		if at := time.Unix(0, ns); first.IsZero() || at.Before(first) {
			first = at
		}
		os.Remove(file)
	}
	return first, nil
}

// container is how long YARN itself needs from the submission of an application to the start of its one container, in seconds.
func (b *yarnbed) container(file string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	r, err := b.client.Submit(ctx, yarn.Submission{
		Name: "container", Resource: yarn.Resource{MemoryMB: 128, VCores: 1}, MaxAttempts: 1, Launch: yarn.LaunchContext{Commands: []string{"date +%s%N > " + file}},
	})
	if err == nil { // it ends as one that failed, since nobody registered
		_, err = b.client.Watch(ctx, r.ID, 50*time.Millisecond, nil)
	}
	at, missing := moment(file)
	if err = errors.Join(err, missing); err != nil {
		return 0, err
	}
	return at.Sub(start).Seconds(), nil
}

// yarnRank is how long `maniple submit` needs to the first of two ranks in containers of their own, in seconds.
func (l *lab) yarnRank(b *yarnbed, more ...string) (float64, error) {
	env := append(append([]string(nil), l.env...), "HADOOP_CONF_DIR="+b.conf)
	at := filepath.Join(l.dir, "at.")
	args := append([]string{l.binary, "submit", "--on", "yarn", "-N", "2", "--ntasks-per-node", "1", "--mem", "128M", "--am-memory", "512M"}, more...)
	args = append(args, "--", "sh", "-c", "date +%s%N > "+at+"$RANK")
	start := time.Now()
	if _, _, err := timed(env, args...); err != nil {
		return 0, err
	}
	first, err := moment(at+"0", at+"1")
	return first.Sub(start).Seconds(), err
}

// yarnSubmit: from `maniple submit --on yarn` to the first rank running, beside what YARN needs for one container. A master in a container needs
// two of them, one after the other.
func yarnSubmit(l *lab) error {
	b, err := l.yarn()
	if err != nil {
		return err
	}
	defer b.close()
	floor := func() (float64, error) { return b.container(filepath.Join(l.dir, "floor")) }
	const peer = "a container of YARN's"
	for _, way := range []struct{ name, flag string }{
		{"YARN: submit to first rank", "--wait"},
		{"YARN: submit --client to first rank", "--client"},
	} {
		ours := func() (float64, error) { return l.yarnRank(b, way.flag) }
		for _, warm := range []func() (float64, error){ours, floor} { // fills the caches, HDFS's too
			if _, err := warm(); err != nil {
				return err
			}
		}
		x, y, err := alternate(ours, floor)
		if err != nil {
			return err
		}
		l.add(paired(way.name, "s", peer, x, y))
	}
	l.add(Result{Schema: schema, Name: "YARN: submit to first rank, beside the distributed shell", Skipped: noShell})
	return nil
}

// yarnKills: what is killed by -9 is followed by the right end, five times each.
func yarnKills(l *lab) error {
	runs := 5
	if quick {
		runs = 1
	}
	tests := []string{"TestMasterIsKilled", "TestMasterIsKilledAtTheEnd", "TestDriverOutlivesItsMaster", "TestContainerIsLost", "TestResourceManagerIsKilled", "TestSpillToHDFS"}
	for i := range runs {
		if err := l.tests(fmt.Sprintf("YARN: kills, run %d", i+1), tests, nil, "./ci/e2e/yarn"); err != nil {
			return err
		}
	}
	return nil
}

// yarnGangs: two gangs of more than half of a queue each both finish.
func yarnGangs(l *lab) error {
	return l.tests("YARN: two gangs of more than half a queue", []string{"TestGangsDoNotStarve"}, nil, "./ci/e2e/yarn")
}

// yarnKerberos: login, submission and HDFS by its token, on a cluster with Kerberos.
func yarnKerberos(l *lab) error {
	return l.tests("YARN: with Kerberos", []string{"TestSubmitWithKerberos", "TestSpillToHDFSWithKerberos"}, nil, "./ci/e2e/yarn")
}
