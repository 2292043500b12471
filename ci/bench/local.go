package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func (l *lab) maniple(args ...string) (time.Duration, string, error) {
	return timed(l.env, append([]string{l.binary}, args...)...)
}

// startHead: from nothing to a ready head, beside `ray start --head`.
func startHead(l *lab) error {
	python, err := exec.Command("bash", filepath.Join(l.top, "ci/python/env.sh"), "ray").Output()
	if err != nil {
		return fmt.Errorf("the environment with Ray can't be made: %w", err)
	}
	ray := filepath.Join(filepath.Dir(strings.TrimSpace(string(python))), "ray")
	var cpu []float64
	ours := func() (float64, error) {
		took, _, err := l.maniple("up", "--cluster", "start")
		if err != nil {
			return 0, err
		}
		cpu = append(cpu, float64(cpuTime(descendants()).Microseconds())/1000)
		_, _, err = l.maniple("down", "--cluster", "start")
		return took.Seconds(), err
	}
	theirs := func() (float64, error) {
		took, _, err := timed([]string{"RAY_USAGE_STATS_ENABLED=0", "RAY_AUTH_MODE=disabled", "RAY_TMPDIR=" + l.dir, "HOME=" + l.dir},
			ray, "start", "--head", "--num-cpus=2", "--port="+freePort(), "--dashboard-port="+freePort(), "--ray-client-server-port="+freePort())
		endAll()
		return took.Seconds(), err
	}
	if _, err := ours(); err != nil { // warm the page cache
		return err
	}
	cpu = cpu[:0]
	a, b, err := alternate(ours, theirs)
	if err != nil {
		return err
	}
	l.add(paired("start: ready head", "s", "ray start --head", 0.05, a, b))
	r := single("start: CPU", "ms", 100, cpu)
	r.Note = "user+sys of keeper, head and agent"
	l.add(r)
	return nil
}

func freePort() string {
	c, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0"
	}
	defer c.Close()
	_, port, _ := net.SplitHostPort(c.Addr().String())
	return port
}

// idle: proportional set size of keeper, head and agent of a cluster of one node.
func idle(l *lab) error {
	var runs []float64
	for range 3 {
		if _, _, err := l.maniple("up", "--cluster", "idle"); err != nil {
			return err
		}
		time.Sleep(3 * time.Second)
		runs = append(runs, proportional(descendants()))
		if _, _, err := l.maniple("down", "--cluster", "idle"); err != nil {
			return err
		}
	}
	r := single("idle: proportional set size", "MiB", 40, runs)
	r.Note = "HyperQueue 29, Ray 628 where they were measured"
	l.add(r)
	return nil
}

// secondNode: what a cluster of two nodes takes longer than a cluster of one.
func secondNode(l *lab) error {
	var runs []float64
	for range pairs {
		one, _, err := l.maniple("up", "--cluster", "join1", "--fake-nodes", "1")
		if err != nil {
			return err
		}
		two, _, err := l.maniple("up", "--cluster", "join2", "--fake-nodes", "2")
		if err != nil {
			return err
		}
		runs = append(runs, max(two.Seconds()-one.Seconds(), 0.0001))
		for _, name := range []string{"join1", "join2"} {
			if _, _, err := l.maniple("down", "--cluster", name); err != nil {
				return err
			}
		}
	}
	r := single("second node joined", "s", 0.3, runs)
	r.Note = "time to a cluster of two nodes less that to one of one node"
	l.add(r)
	return nil
}

// gang64: 64 ranks on 8 nodes of this machine pass a barrier and end; beside it, 64 processes forked by a shell.
func gang64(l *lab) error {
	if _, _, err := l.maniple("up", "--cluster", "g64", "--fake-nodes", "8", "--cpus", "8"); err != nil {
		return err
	}
	defer l.maniple("down", "--cluster", "g64")
	// The barrier: every rank leaves a file and waits until there are 64.
	barrier := `d=$1; mkdir -p $d; : > $d/$2; while :; do set -- $d/*; [ $# -ge 64 ] && exit 0; sleep 0.01; done`
	n := 0
	ours := func() (float64, error) {
		n++
		dir := filepath.Join(l.dir, fmt.Sprint("b", n))
		took, _, err := l.maniple("run", "--cluster", "g64", "-N", "8", "--ntasks-per-node", "8", "--", "sh", "-c", `set -- `+dir+` $RANK; `+barrier)
		os.RemoveAll(dir)
		return took.Seconds(), err
	}
	theirs := func() (float64, error) {
		n++
		dir := filepath.Join(l.dir, fmt.Sprint("b", n))
		took, _, err := timed(nil, "sh", "-c", `for i in $(seq 64); do sh -c 'set -- `+dir+` '$i'; `+barrier+`' & done; wait`)
		os.RemoveAll(dir)
		return took.Seconds(), err
	}
	a, b, err := alternate(ours, theirs)
	if err != nil {
		return err
	}
	l.add(paired("gang of 64 ranks on 8 nodes", "s", "64 forked processes", 0, a, b))
	return nil
}
