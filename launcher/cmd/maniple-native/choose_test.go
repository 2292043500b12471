package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The device of a named network is taken, else one near the processors of this process, else the first.
func TestChooseADevice(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		write(fmt.Sprintf("sys/class/infiniband/mlx5_%d/device/numa_node", i), fmt.Sprintf("%d\n", min(i, 1)))
		write(fmt.Sprintf("sys/class/infiniband/mlx5_%d/device/net/ib%d/mtu", i, i), "2044\n")
		write(fmt.Sprintf("sys/devices/system/node/node%d/cpulist", i), fmt.Sprintf("%d-%d,%d\n", 4*i, 4*i+3, 100+i))
	}
	entries := []entry{{"verbs", "mlx5_0"}, {"verbs", "mlx5_1"}, {"verbs", "mlx5_2-xrc"}}
	s := system(root)
	for _, c := range []struct {
		cpus     string
		patterns []string
		want     int
	}{
		{"0-7", nil, 0},
		{"5", nil, 1},
		{"101", nil, 1},
		{"50", nil, 0},
		{"0-3", []string{"ib1"}, 1},
		{"0-3", []string{"mlx5_1", "ib2"}, 1},
		{"0-3", []string{"ib[12]"}, 1},
		{"0-3", []string{"ib2"}, 2},
		{"0-3", []string{"eth0"}, -1},
	} {
		write("proc/self/status", "Name:\tx\nCpus_allowed_list:\t"+c.cpus+"\nMems_allowed:\t1\n")
		if got := choose(entries, c.patterns, s.networks, s.near); got != c.want {
			t.Errorf("processors %s, networks %q: device %d, want %d", c.cpus, c.patterns, got, c.want)
		}
	}
	if got := choose(nil, nil, s.networks, s.near); got != -1 {
		t.Errorf("of none it is %d", got)
	}
}

// What a process that is gone left in shared memory goes; what others have stays.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for name, stays := range map[string]bool{
		fmt.Sprintf("%s%d", shmName, os.Getpid()): true, shmName + "4194399": false, shmName + "x": true, "other": true,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		sweep(dir)
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("%s stays: %v, want %v", name, err == nil, stays)
		}
	}
}
