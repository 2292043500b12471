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

// startHead: from nothing to a ready head, beside `ray start --head`.
func startHead(l *lab) error {
	python, err := exec.Command("bash", filepath.Join(l.top, "ci/python/env.sh"), "ray").Output()
	if err != nil {
		return fmt.Errorf("the environment with Ray can't be made: %w", err)
	}
	ray := filepath.Join(filepath.Dir(strings.TrimSpace(string(python))), "ray")
	var cpu, wall []float64
	ours := func() (float64, error) {
		u, _, err := measured(l.env, l.binary, "up", "--cluster", "start")
		if err != nil {
			return 0, err
		}
		cpu = append(cpu, ms(u.cpu+cpuTime(l.strangers())))
		wall = append(wall, ms(u.wall))
		_, err = l.maniple("down", "--cluster", "start")
		return u.wall.Seconds(), err
	}
	theirs := func() (float64, error) {
		took, _, err := timed([]string{"RAY_USAGE_STATS_ENABLED=0", "RAY_AUTH_MODE=disabled", "RAY_TMPDIR=" + l.dir, "HOME=" + l.dir},
			ray, "start", "--head", "--num-cpus=2", "--port="+freePort(), "--dashboard-port="+freePort(), "--ray-client-server-port="+freePort())
		l.rayIdle = proportional(l.strangers())
		l.sweep()
		return took.Seconds(), err
	}
	if _, err := ours(); err != nil { // warm the page cache
		return err
	}
	if _, err := theirs(); err != nil {
		return err
	}
	cpu, wall = cpu[:0], wall[:0]
	a, b, err := alternate(ours, theirs)
	if err != nil {
		return err
	}
	for range 20 - pairs { // so that nine in ten means something
		if _, err := ours(); err != nil {
			return err
		}
	}
	l.add(paired("ready head", "s", "ray start --head", a, b).most(0.05))
	l.add(single("ready head: wall", "ms", wall))
	l.add(single("ready head: CPU", "ms", cpu).most(100).noted("user and system time of the command, keeper, head and agent"))
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

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
	for range pairs {
		if _, err := l.maniple("up", "--cluster", "idle"); err != nil {
			return err
		}
		time.Sleep(2 * time.Second)
		mine := l.strangers()
		if len(mine) < 3 {
			return fmt.Errorf("%d processes make no cluster: keeper, head and agent were expected", len(mine))
		}
		runs = append(runs, proportional(mine))
		if _, err := l.maniple("down", "--cluster", "idle"); err != nil {
			return err
		}
	}
	note := "facts measured elsewhere: HyperQueue 29, Ray 628"
	if l.rayIdle > 0 {
		note = fmt.Sprintf("Ray in this run, just started: %.0f; %s", l.rayIdle, note)
	}
	l.add(single("idle: proportional set size", "MiB", runs).most(40).noted(note))
	return nil
}

// secondNode: what a cluster of two nodes takes longer than a cluster of one.
func secondNode(l *lab) error {
	up := func(nodes string) func() (float64, error) {
		return func() (float64, error) {
			took, err := l.maniple("up", "--cluster", "join"+nodes, "--fake-nodes", nodes)
			if err != nil {
				return 0, err
			}
			_, err = l.maniple("down", "--cluster", "join"+nodes)
			return took.Seconds(), err
		}
	}
	two, one, err := alternate(up("2"), up("1"))
	if err != nil {
		return err
	}
	r := more("second node joined", "s", "a cluster of one node", two, one).most(0.3)
	r.Pass = r.Pass && r.P90 <= r.Limit
	l.add(r)
	return nil
}

// The barrier of gang64: every rank leaves a file and waits until there are 64.
const barrier = `d=$1; : > $d/$2; while :; do set -- $d/*; [ $# -ge 64 ] && exit 0; sleep 0.01; done`

// gang64: 64 ranks on 8 nodes of this machine pass a barrier and end; beside it, 64 processes forked by a shell.
func gang64(l *lab) error {
	if _, err := l.maniple("up", "--cluster", "g64", "--fake-nodes", "8", "--cpus", "8"); err != nil {
		return err
	}
	defer l.maniple("down", "--cluster", "g64")
	n := 0
	side := func(command func(dir string) []string) func() (float64, error) {
		return func() (float64, error) {
			n++
			dir := filepath.Join(l.dir, fmt.Sprint("b", n))
			if err := os.Mkdir(dir, 0o755); err != nil {
				return 0, err
			}
			defer os.RemoveAll(dir)
			took, _, err := timed(l.env, command(dir)...)
			if left, _ := os.ReadDir(dir); err == nil && len(left) != 64 {
				err = fmt.Errorf("%d processes came to the barrier, not 64", len(left))
			}
			return took.Seconds(), err
		}
	}
	ours := side(func(dir string) []string {
		return []string{l.binary, "run", "--cluster", "g64", "-N", "8", "--ntasks-per-node", "8", "--", "sh", "-c", "set -- " + dir + " $RANK; " + barrier}
	})
	theirs := side(func(dir string) []string {
		return []string{"sh", "-c", `for i in $(seq 64); do sh -c 'set -- ` + dir + ` '$i'; ` + barrier + `' & done; wait`}
	})
	a, b, err := alternate(ours, theirs)
	if err != nil {
		return err
	}
	l.add(paired("gang of 64 ranks on 8 nodes", "s", "64 forked processes", a, b))
	return nil
}
