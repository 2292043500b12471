package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The devices of named networks are taken, else all of a provider, each once, and first those near the processors of this process.
func TestChooseDevices(t *testing.T) {
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
	entries := []entry{{"verbs", "mlx5_0"}, {"verbs", "mlx5_1"}, {"verbs", "mlx5_1-xrc"}, {"verbs", "mlx5_2-xrc"}, {"verbs;ofi_rxd", "mlx5_3"}}
	s := system(root)
	for _, c := range []struct {
		cpus     string
		patterns []string
		want     []int
	}{
		{"0-7", nil, []int{0, 1, 3}},
		{"5", nil, []int{1, 3, 0}},
		{"101", nil, []int{1, 3, 0}},
		{"50", nil, []int{0, 1, 3}},
		{"0-3", []string{"ib1"}, []int{1}},
		{"0-3", []string{"mlx5_1", "ib2"}, []int{1, 3}},
		{"0-3", []string{"ib[12]"}, []int{1, 3}},
		{"0-3", []string{"mlx5_2"}, []int{3}},
		{"0-3", []string{"mlx5_3"}, []int{4}},
		{"0-3", []string{"eth0"}, nil},
	} {
		write("proc/self/status", "Name:\tx\nCpus_allowed_list:\t"+c.cpus+"\nMems_allowed:\t1\n")
		if got := choose(entries, c.patterns, s.networks, s.near); !slices.Equal(got, c.want) {
			t.Errorf("processors %s, networks %q: devices %d, want %d", c.cpus, c.patterns, got, c.want)
		}
	}
	if got := choose(nil, nil, s.networks, s.near); len(got) > 0 {
		t.Errorf("of none it is %d", got)
	}
}

// Devices of the same name are joined, each once, and what is left in order.
func TestJoin(t *testing.T) {
	for _, c := range []struct {
		here, there string
		want        []int
	}{
		{"a b", "b a", []int{1, 0}},
		{"lo lo", "lo lo", []int{0, 1}},
		{"a b c", "c", []int{-1, -1, 0}},
		{"x a", "a y", []int{1, 0}},
		{"a", "b c", []int{0}},
		{"a", "", []int{-1}},
	} {
		if got := join(strings.Fields(c.here), strings.Fields(c.there)); !slices.Equal(got, c.want) {
			t.Errorf("%s with %s: %d, want %d", c.here, c.there, got, c.want)
		}
	}
}

func TestGaps(t *testing.T) {
	got := gaps(100, [][2]int64{{50, 60}, {0, 10}, {55, 70}, {20, 30}})
	if want := [][2]int64{{10, 20}, {30, 50}, {70, 100}}; !slices.Equal(got, want) {
		t.Errorf("%d, want %d", got, want)
	}
	if got := gaps(8, [][2]int64{{0, 8}}); len(got) > 0 {
		t.Errorf("%d", got)
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
