package device_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

var rewrite = flag.Bool("rewrite", false, "write what is detected into testdata")

// TestMachines detects what the machines of testdata/*.txtar may use. An archive is a machine: its files, and in
// front of them lines
//
//	env NAME=VALUE         in the environment
//	link NAME ADDRESS...   a network interface that is up
//	deny FILE              a device file that does not open
//	readonly FILE          a device file that opens for reading only
//	node KEY=VALUE         declared: name, cpus, mincpus, gpus, memory, fake, label.X, resource.X
//	interfaces GLOB...     and loopback
//
// The file "want" is what is detected and what doctor says.
func TestMachines(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) < 10 {
		t.Fatal("machines are missing")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			const mark = "-- want --\n" // the last file
			given, want, found := strings.Cut(string(data), mark)
			if !found {
				t.Fatal("the archive has no file want")
			}
			got := detect(t, unpack(t, given))
			if *rewrite {
				if err := os.WriteFile(file, []byte(given+mark+got), 0o666); err != nil {
					t.Fatal(err)
				}
			} else if want != got {
				t.Errorf("%s: got (-rewrite writes it):\n%s\nwant:\n%s", file, got, want)
			}
		})
	}
}

// DEVICE-1: the smallest bound wins, wherever it stands: on the machine, the group, one above it, or in
// Slurm's grant. In GiB; 0 means none.
func TestTheSmallestMemoryBoundWins(t *testing.T) {
	for _, c := range []struct{ machine, group, above, top, slurm, want uint64 }{
		{64, 8, 16, 32, 0, 8},
		{64, 32, 16, 8, 0, 8},
		{64, 16, 8, 32, 0, 8},
		{64, 8, 8, 16, 0, 8},
		{64, 8, 0, 32, 0, 8},
		{64, 0, 8, 0, 32, 8},
		{64, 32, 16, 48, 8, 8},
		{64, 8, 16, 32, 48, 8},
		{64, 0, 0, 0, 8, 8},
		{8, 16, 64, 32, 48, 8},
		{64, 0, 0, 0, 0, 64},
	} {
		var b strings.Builder
		fmt.Fprintf(&b, "env SLURM_JOB_ID=7\nenv SLURM_CPUS_ON_NODE=4\nenv SLURM_MEM_PER_NODE=%d\nlink eth0 10.0.0.1\n", c.slurm<<10)
		b.WriteString("-- sys/devices/system/cpu/online --\n0-3\n-- proc/self/status --\nCpus_allowed_list:	0-3\n")
		fmt.Fprintf(&b, "-- proc/meminfo --\nMemTotal: %d kB\n", c.machine<<20)
		b.WriteString("-- proc/self/mountinfo --\n36 25 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n-- proc/self/cgroup --\n0::/a/b/c\n")
		for _, g := range []struct {
			dir string
			max uint64
		}{{"a/b/c", c.group}, {"a/b", c.above}, {"a", c.top}} {
			text := "max"
			if g.max > 0 {
				text = fmt.Sprint(g.max << 30)
			}
			fmt.Fprintf(&b, "-- sys/fs/cgroup/%s/memory.max --\n%s\n", g.dir, text)
		}
		f, err := device.Detect(unpack(t, b.String()))
		if err != nil {
			t.Fatal(err)
		}
		won := false
		for _, x := range f.Bounds {
			won = won || x.What == "memory" && x.Won && x.Value == float64(c.want<<30)
		}
		if f.Memory != c.want<<30 || !won {
			t.Errorf("%+v: %d GiB, bounds %+v", c, f.Memory>>30, f.Bounds)
		}
	}
}

// DEVICE-3
func TestDetectionStartsOneProgramAndChangesNothing(t *testing.T) {
	limits := func() (all [16]unix.Rlimit) {
		for i := range all {
			_ = unix.Getrlimit(i, &all[i])
		}
		return all
	}
	before := limits()
	for _, name := range []string{"container-gpu", "mig", "mig-slurm"} {
		data, err := os.ReadFile("testdata/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		o := unpack(t, string(data))
		started := filepath.Join(t.TempDir(), "started")
		script := fmt.Sprintf("#!/bin/sh\necho >> %s\nexec %s \"$@\"\n", started, o.NvidiaSMI)
		o.NvidiaSMI = filepath.Join(t.TempDir(), "nvidia-smi")
		if err := os.WriteFile(o.NvidiaSMI, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := device.Detect(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n, _ := os.ReadFile(started); len(n) != 1 {
			t.Errorf("%s: nvidia-smi was started %d times", name, len(n))
		}
	}
	if after := limits(); after != before {
		t.Errorf("limits were %v, and are %v", before, after)
	}
}

// DEVICE-3: nvidia-smi of a broken driver hangs.
func TestDetectionDoesNotWaitForAHungProgram(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/mig.txtar")
	if err != nil {
		t.Fatal(err)
	}
	o := unpack(t, string(data))
	if err := os.WriteFile(o.NvidiaSMI, []byte("#!/bin/sh\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, _ = device.Detect(o)
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("waited for %v", d)
	}
}

// unpack writes an archive's files below a root and reads the lines in front of them.
func unpack(t *testing.T, archive string) device.Options {
	env := map[string]string{}
	links := []device.Link{{Name: "lo", Up: true, Loopback: true, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}}}
	o := device.Options{
		Root:      t.TempDir(),
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		Links:     func() ([]device.Link, error) { return links, nil },
	}
	comment, name, data := "", "", ""
	write := func() {
		if name == "" {
			comment = data
			return
		}
		path := filepath.Join(o.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o777); err != nil {
			t.Fatal(err)
		}
		if name == "bin/nvidia-smi" {
			o.NvidiaSMI = path
		}
	}
	for line := range strings.Lines(archive) {
		if next, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(next, " --\n") {
			write()
			name, data = strings.TrimSuffix(next, " --\n"), ""
			continue
		}
		data += line
	}
	write()
	for line := range strings.Lines(comment) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		switch f[0] {
		case "env":
			k, v, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "env ")), "=")
			env[k] = v
		case "link":
			l := device.Link{Name: f[1], Up: true}
			for _, s := range f[2:] {
				l.Addrs = append(l.Addrs, netip.MustParseAddr(s))
			}
			links = append(links, l)
		case "deny": // a link to itself opens for nobody, root neither
			path := filepath.Join(o.Root, f[1])
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Base(path), path); err != nil {
				t.Fatal(err)
			}
		case "readonly": // a folder opens for reading only, for root too
			if err := os.MkdirAll(filepath.Join(o.Root, f[1]), 0o777); err != nil {
				t.Fatal(err)
			}
		case "node":
			declare(t, &o, f[1:])
		case "interfaces":
			o.Interfaces = f[1:]
		case "loopback":
			o.Loopback = true
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return o
}

func declare(t *testing.T, o *device.Options, f []string) {
	o.Node.Labels, o.Node.Resources = map[string]string{}, map[string]float64{}
	for _, s := range f {
		k, v, _ := strings.Cut(s, "=")
		n, _ := strconv.Atoi(v)
		switch {
		case k == "name":
			o.Node.Name = v
		case k == "fake":
			o.Node.Fake = true
		case k == "grant":
			o.Node.Grant = v
		case k == "bare":
			o.Node.Bare = true
		case k == "cpus":
			o.Node.CPUs, o.Node.NoCPUs = n, n == 0
		case k == "mincpus":
			o.Node.MinCPUs = n
		case k == "gpus":
			o.Node.GPUs, o.Node.NoGPUs = n, n == 0
		case k == "memory":
			o.Node.Memory = int64(n)
		case strings.HasPrefix(k, "label."):
			o.Node.Labels[k[6:]] = v
		case strings.HasPrefix(k, "resource."):
			o.Node.Resources[k[9:]], _ = strconv.ParseFloat(v, 64)
		default:
			t.Fatalf("what is %q?", s)
		}
	}
}

func detect(t *testing.T, o device.Options) string {
	var b strings.Builder
	clean := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, o.Root+"/", ""), "too many levels of symbolic links", "operation not permitted")
	}
	f, err := device.Detect(o)
	if err != nil {
		fmt.Fprintf(&b, "error: %s\n", clean(err.Error()))
	} else {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Grant())
		for _, x := range f.Bounds {
			won := ""
			if x.Won {
				won = " <-"
			}
			fmt.Fprintf(&b, "%s %.4g by %s%s\n", x.What, x.Value, x.Source, won)
			if x.What == "CPU" && x.Value >= 1 && x.Value < f.CPU || x.What == "memory" && x.Value < float64(f.Memory) || x.What == "GPU" && int(x.Value) < len(f.GPUs) {
				t.Errorf("DEVICE-1: %v by %s is less than what is used", x.Value, x.Source)
			}
		}
		r := new(fb.RegisterT)
		f.Fill(r)
		b.WriteString("resources")
		for _, x := range r.Resources {
			fmt.Fprintf(&b, " %s=%v", x.Name, float64(x.Amount)/10_000)
		}
		fmt.Fprintf(&b, "\ncpus %v\n", r.Cpus)
		for _, g := range r.Devices {
			fmt.Fprintf(&b, "device %s: %s, minor %d, pci %s, numa %d, %d MiB, %s\n", g.Id, g.Kind, g.Minor, g.Pci, g.Numa, g.Memory>>20, g.Model)
		}
		b.WriteString("labels")
		for _, l := range r.Labels {
			if l.Key != "arch" { // of the machine that the test runs on
				fmt.Fprintf(&b, " %s=%s", l.Key, l.Value)
			}
		}
		fmt.Fprintf(&b, "\naddresses %v\n", f.Addresses())
		if len(f.Topology) > 0 {
			fmt.Fprintf(&b, "topology %v\n", f.Topology)
		}
		for _, w := range f.Warnings {
			fmt.Fprintf(&b, "warning: %s\n", clean(w))
		}
	}
	for _, x := range device.Doctor(o) {
		if x.Code != "GRANT" && x.Code != "DETECT" && x.Code != "NET" {
			fmt.Fprintf(&b, "doctor: %s %s: %s", x.Code, x.Level, clean(x.Text))
			if x.Do != "" {
				fmt.Fprintf(&b, " [%s]", x.Do)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// A machine that has what is declared needs no fake node, whose masks would name nothing.
func TestHasWhatIsDeclared(t *testing.T) {
	for _, c := range []struct {
		machine    string
		cpus, gpus int
		memory     int64
		want       bool
		fails      string
	}{
		{"amd", 0, 1, 0, true, ""},
		{"amd", 0, 2, 0, true, ""},
		{"amd", 0, 9, 0, false, ""},
		{"amd", 10_000, 1, 0, false, ""},
		{"amd", 1, 1, 1 << 60, false, ""},
		{"amd-slurm", 0, 9, 0, false, ""},
		{"a100-declared", 2, 2, 1 << 30, true, ""}, // whatever it declares itself
		{"a100-mask-empty", 0, 1, 0, false, ""},
		{"a100-mask-wrong", 0, 1, 0, false, "CUDA_VISIBLE_DEVICES"}, // a fake node would hide what is wrong
		{"a100-not-granted", 0, 1, 0, false, ""},
		{"laptop", 1, 0, 0, true, ""},
		{"laptop", 0, 1, 0, false, ""},
	} {
		data, err := os.ReadFile("testdata/" + c.machine + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		o := unpack(t, string(data))
		o.Node.Fake, o.Node.CPUs, o.Node.GPUs, o.Node.Memory = false, c.cpus, c.gpus, c.memory
		got, err := device.Has(o)
		if got != c.want || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s with %d CPUs, %d GPUs and %d bytes: %v, %v", c.machine, c.cpus, c.gpus, c.memory, got, err)
		}
	}
}
