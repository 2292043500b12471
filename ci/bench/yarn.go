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

// yarnbed is a YARN of ci/e2e/testbed for one experiment.
type yarnbed struct {
	conf   string
	client *yarn.Client
	script func(name string, args ...string) error // runs a script of the testbed on it
}

func (l *lab) yarn() (*yarnbed, error) {
	dir := filepath.Join("/var/tmp/maniple-e2e/hadoop", fmt.Sprintf("bench-%d", os.Getpid()))
	b := &yarnbed{conf: filepath.Join(dir, "conf", "rm")}
	b.script = func(name string, args ...string) error {
		cmd := exec.Command("bash", append([]string{filepath.Join(l.top, "ci/e2e/testbed/hadoop", name)}, args...)...)
		cmd.Env = append(os.Environ(), "DIR="+dir, "OWNER="+strconv.Itoa(os.Getpid()))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("testbed: %s: %w: %s", name, err, lastLines(string(out), 4))
		}
		return nil
	}
	if err := b.script("up.sh"); err != nil {
		_ = b.script("down.sh")
		return nil, err
	}
	read, err := conf.Load(b.conf)
	if err == nil {
		var cfg yarn.Config
		if cfg, err = yarn.FromConf(read); err == nil {
			b.client, err = yarn.New(cfg)
		}
	}
	if err != nil {
		_ = b.script("down.sh")
		return nil, err
	}
	return b, nil
}

func (b *yarnbed) close() {
	_ = b.client.Close()
	_ = b.script("down.sh")
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

// shell is how long Hadoop's own distributed shell needs to the first of two containers that run its command, in seconds.
func (b *yarnbed) shell(dir string) (float64, error) {
	start := time.Now()
	if err := b.script("shell.sh", "2", "date +%s%N | tee "+filepath.Join(dir, "shell.$CONTAINER_ID")); err != nil {
		return 0, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "shell.*"))
	if err == nil && len(files) == 0 {
		err = errors.New("no container of the distributed shell left a time")
	}
	if err != nil {
		return 0, err
	}
	at, err := moment(files...)
	return at.Sub(start).Seconds(), err
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

// yarnSubmit: from `maniple submit --on yarn` to the first rank running, beside Hadoop's own distributed shell with as many containers, and beside
// what YARN needs for one container.
func yarnSubmit(l *lab) error {
	b, err := l.yarn()
	if err != nil {
		return err
	}
	defer b.close()
	shell := func() (float64, error) { return b.shell(l.dir) }
	floor := func() (float64, error) { return b.container(filepath.Join(l.dir, "floor")) }
	managed := func() (float64, error) { return l.yarnRank(b, "--wait") }
	client := func() (float64, error) { return l.yarnRank(b, "--client") }
	if err := b.script("shell.sh"); err != nil { // what it fetches does not count
		return err
	}
	for _, row := range []struct {
		name   string
		ours   func() (float64, error)
		peer   string
		beside func() (float64, error)
		most   float64 // the bar, if any
	}{
		{"YARN: submit to first rank, beside the distributed shell", managed, "the distributed shell", shell, 1.2},
		{"YARN: submit to first rank", managed, "a container of YARN's", floor, 0},
		{"YARN: submit --client to first rank", client, "a container of YARN's", floor, 0},
	} {
		for _, warm := range []func() (float64, error){row.ours, row.beside} { // fills the caches, HDFS's too
			if _, err := warm(); err != nil {
				return err
			}
		}
		x, y, err := alternate(row.ours, row.beside)
		if err != nil {
			return err
		}
		r := paired(row.name, "s", row.peer, x, y)
		if row.most > 0 {
			r = r.atMost(row.most)
		}
		l.add(r)
	}
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

// yarnHurt: with NodeManagers in network namespaces, everything that an application stands on is killed, or cut off for 20 s, five times each of ten kinds and a hundred
// times by chance; and applications with tokens of 60 s, five at a time, go on without a KDC.
func yarnHurt(l *lab) error {
	rounds, mixed := "50", "100"
	if quick {
		rounds, mixed = "10", "10"
	}
	for _, row := range []struct{ name, test, rounds string }{
		{"YARN: kills and cuts of 20 s under two nodes", "TestHurt", rounds},
		{"YARN: kills and cuts by chance", "TestHundredMixed", mixed},
		{"YARN: tokens of 60 s without a KDC", "TestTokensAreRenewedWithoutKDC", ""},
		{"YARN: tokens that nobody renews after 60 s", "TestTokensPassAway", ""},
	} {
		if err := l.tests(row.name, []string{row.test}, []string{"MANIPLE_SOAK_ROUNDS=" + row.rounds}, "./ci/e2e/yarn"); err != nil {
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

// yarnDemo: the training of `make demo` with data and checkpoints on HDFS, as an application with and without Kerberos, and with its master outside.
func yarnDemo(l *lab) error {
	return l.tests("YARN: the demo training, data and checkpoints on HDFS", []string{"TestDemoOnYARN", "TestDemoOnYARNWithKerberos"}, nil, "./ci/e2e/yarn")
}

// yarnViews: 16 workers look at 1 GiB in a container, whose memory and address space are checked.
func yarnViews(l *lab) error {
	return l.tests("YARN: 16 workers look at 1 GiB", []string{"TestManyLookAtOneValue", "TestSixteenLookAtAGibibyte"}, nil, "./ci/e2e/yarn")
}

// yarnPrivacy: whoever reads all packets of a whole run on a cluster whose calls and data are private finds neither secrets nor what the program works with.
func yarnPrivacy(l *lab) error {
	return l.tests("YARN: a capture of all packets", []string{"TestPrivacy"}, nil, "./ci/e2e/yarn")
}
