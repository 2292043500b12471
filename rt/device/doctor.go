package device

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Level is how bad a finding is.
type Level string

// The levels of findings.
const (
	OK   Level = "ok"
	Info Level = "info"
	Warn Level = "warn"
	Bad  Level = "bad"
)

// Finding is one thing that doctor has to say. Its code is stable; docs/spec/resources.md lists them.
type Finding struct {
	Code  string `json:"code"` // DEV_SHM_SMALL
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do about it
}

// Doctor looks at what the machine has and what is wrong with it. Below another root than this machine's it
// leaves out what only the kernel can tell: limits, clock, sizes of file systems, programs.
func Doctor(o Options) []Finding {
	m := o.machine()
	d := &doctor{m: m, o: &o, live: m.root == "/"}
	d.grant()
	d.cards()
	d.network()
	d.cgroups()
	d.fabric()
	d.kernel()
	if d.live {
		d.shm()
		d.tmp()
		d.home()
		d.out = append(d.out, limitFindings(syscall.Getrlimit)...)
		d.clock()
		d.python()
	}
	d.slurm()
	return d.out
}

type doctor struct {
	m    *machine
	o    *Options
	live bool
	out  []Finding
}

func (d *doctor) say(code string, level Level, do, format string, args ...any) {
	d.out = append(d.out, Finding{Code: code, Level: level, Text: fmt.Sprintf(format, args...), Do: do})
}

func (d *doctor) grant() {
	f, err := Detect(*d.o)
	if err != nil {
		d.say("DETECT", Bad, "", "%v", err)
		return
	}
	var by []string
	for _, what := range []string{"CPU", "memory", "GPU"} {
		by = append(by, what+": "+cmp.Or(f.winner(what), "several together"))
	}
	d.say("GRANT", OK, "", "%s may use %s (%s)", f.Name, f.Grant(), strings.Join(by, "; "))
	for _, w := range f.Warnings {
		d.say("DETECT", Warn, "", "%s", w)
	}
}

// cards finds GPUs that nothing drives.
func (d *doctor) cards() {
	for _, pci := range d.m.list("sys/bus/pci/devices") {
		dir := path.Join("sys/bus/pci/devices", pci)
		vendor, class := d.m.read(path.Join(dir, "vendor")), d.m.read(path.Join(dir, "class"))
		display := strings.HasPrefix(class, "0x0302") || strings.HasPrefix(class, "0x0300") || strings.HasPrefix(class, "0x0380")
		switch {
		case vendor == "0x10de" && display && !d.m.exists("proc/driver/nvidia/gpus"):
			d.say("GPU_NO_DRIVER", Warn, "load the NVIDIA driver, or start the container with its runtime (--nv, --gpus)", "there is an NVIDIA GPU at %s and no driver for it", pci)
		case vendor == "0x1002" && display && !d.m.exists("sys/class/kfd"):
			d.say("GPU_NO_DRIVER", Warn, "load amdgpu with its compute part (kfd)", "there is an AMD GPU at %s and no compute driver for it", pci)
		}
	}
}

func (d *doctor) network() {
	f := Facts{}
	if err := d.m.detectInterfaces(&f, d.o); err == nil && !d.o.Loopback {
		var list []string
		for _, i := range f.Interfaces {
			list = append(list, i.Name+" "+strings.Join(i.Addresses, " "))
		}
		level, do := OK, ""
		if len(f.Warnings) > 0 {
			level, do = Warn, "only clusters on this machine work"
		}
		d.say("NET", level, do, "addresses for other nodes: %s", strings.Join(list, ", "))
	}
	if ports := strings.Fields(d.m.read("proc/sys/net/ipv4/ip_local_port_range")); len(ports) == 2 {
		if low, err := strconv.Atoi(ports[0]); err == nil && low < 20_000+1000 {
			d.say("PORT_RANGE", Warn, "raise the start of net.ipv4.ip_local_port_range to 32768, or give --port-range", "the kernel hands out ports from %d on: few are left to hold for MASTER_PORT without a clash", low)
		}
	}
	host := d.m.read("proc/sys/kernel/hostname")
	for line := range strings.Lines(d.m.read("etc/hosts")) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "127.") && contains(f[1:], host) && host != "localhost" {
			d.say("HOSTNAME_LOOPBACK", Info, "", "/etc/hosts has %s at %s: programs that ask for their own name get an address that others can't reach; MASTER_ADDR is set to one that they can", host, f[0])
		}
	}
}

func (d *doctor) cgroups() {
	if all := d.m.cgroups("memory"); len(all) > 0 {
		g := all[0]
		if err := unix.Access(d.m.path(g.dirs[0]), unix.W_OK); err == nil {
			d.say("CGROUP", OK, "", "cgroup v%d, writable; ranks share its limits, none is confined alone", g.version)
		} else {
			d.say("CGROUP", Info, "", "cgroup v%d, not delegated to us: ranks share its limits", g.version)
		}
	}
	for _, g := range d.m.cgroups("pids") {
		for _, dir := range g.dirs {
			if n := d.m.number(path.Join(dir, "pids.max")); n >= 0 && n < 1024 {
				d.say("PIDS_SMALL", Warn, "raise it (docker --pids-limit, systemd TasksMax)", "%s allows %d processes and threads", g.where(dir, "pids.max"), n)
			}
		}
	}
}

func (d *doctor) fabric() {
	for _, dev := range d.m.list("sys/class/infiniband") {
		for _, port := range d.m.list(path.Join("sys/class/infiniband", dev, "ports")) {
			dir := path.Join("sys/class/infiniband", dev, "ports", port)
			kind, rate := d.m.read(path.Join(dir, "link_layer")), d.m.read(path.Join(dir, "rate"))
			if state := d.m.read(path.Join(dir, "state")); strings.HasSuffix(state, "ACTIVE") {
				d.say("FABRIC", OK, "", "%s port %s: %s, %s", dev, port, kind, rate)
			} else {
				d.say("FABRIC_DOWN", Warn, "ask the site; a gang that counts on it will be slow", "%s port %s (%s) is not active: %s", dev, port, kind, cmp.Or(state, "no state"))
			}
		}
	}
	for _, dev := range d.m.list("sys/class/cxi") {
		d.say("FABRIC", OK, "", "%s: Slingshot", dev)
	}
	if len(d.m.list("sys/class/infiniband")) > 0 && len(d.m.list("dev/infiniband")) == 0 {
		d.say("FABRIC_NO_ACCESS", Warn, "give the container /dev/infiniband", "there are RDMA devices and no /dev/infiniband to open them by")
	}
}

func (d *doctor) kernel() {
	if v := d.m.read("proc/sys/kernel/osrelease"); v != "" {
		major, rest, _ := strings.Cut(v, ".")
		minor, _, _ := strings.Cut(rest, ".")
		a, _ := strconv.Atoi(major)
		b, _ := strconv.Atoi(minor)
		if a < 4 || a == 4 && b < 18 {
			d.say("KERNEL_OLD", Warn, "4.18 (RHEL 8) is the oldest that it is written for; it may work all the same", "Linux %s", v)
		}
	}
	if d.m.number("proc/sys/vm/overcommit_memory") == 2 {
		d.say("OVERCOMMIT", Warn, "set vm.overcommit_memory to 0", "the kernel refuses memory that is reserved and not used: large reservations, CUDA's among them, fail")
	}
}

func (d *doctor) shm() {
	size, free, _, err := space("/dev/shm")
	switch {
	case err != nil:
		d.say("DEV_SHM_NONE", Bad, "mount a tmpfs on /dev/shm: PyTorch's data loaders and NCCL need it", "/dev/shm: %v", err)
	case free < size/20:
		d.say("DEV_SHM_FULL", Bad, "remove what ended jobs left there", "/dev/shm is full: %s of %s free", humanBytes(free), humanBytes(size))
	case size < 1<<30:
		d.say("DEV_SHM_SMALL", Warn, "docker --shm-size=8g, or a larger tmpfs", "/dev/shm has %s: data loaders and NCCL die of SIGBUS when it is full", humanBytes(size))
	default:
		d.say("DEV_SHM", OK, "", "/dev/shm: %s of %s free", humanBytes(free), humanBytes(size))
	}
}

func (d *doctor) tmp() {
	base, err := bootdoc.Base(d.m.getenv)
	if err != nil {
		d.say("TMP", Bad, "", "%v", err)
		return
	}
	dir := filepath.Dir(base)
	size, free, inodes, err := space(dir)
	switch {
	case err != nil:
		d.say("TMP", Bad, "", "%s: %v", dir, err)
	case free < 1<<30 || inodes < 10_000:
		d.say("TMP_FULL", Warn, "clean it, or set TMPDIR to a local directory with room", "%s has %s and %d files left", dir, humanBytes(free), inodes)
	default:
		kind := ""
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC {
			kind = ", in memory (tmpfs)"
		}
		d.say("TMP", OK, "", "this node's files go to %s: %s of %s free%s", base, humanBytes(free), humanBytes(size), kind)
	}
}

func (d *doctor) home() {
	home := d.m.getenv("HOME")
	switch err := unix.Access(home, unix.W_OK); {
	case home == "":
		d.say("HOME", Info, "", "HOME is not set: programs get the working directory")
	case err != nil:
		d.say("HOME", Warn, "set XDG_STATE_HOME to a directory that you can write", "%s can't be written: %v", home, err)
	default:
		d.say("HOME", OK, "", "%s can be written", home)
	}
}

func (d *doctor) clock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case time.Now().Year() < 2024:
		d.say("CLOCK", Bad, "set the clock", "the clock says %s", time.Now().Format(time.DateOnly))
	case err != nil: // containers may not look
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		d.say("CLOCK", Info, "start chrony or ntpd; only the times in logs suffer", "the clock is not synchronised")
	default:
		d.say("CLOCK", OK, "", "the clock is synchronised")
	}
}

func (d *doctor) python() {
	program, err := exec.LookPath("python3")
	if err != nil {
		d.say("PYTHON", Warn, "load a module or activate an environment that has it; other programs need none", "no python3 in PATH")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-c", "import sys; print('.'.join(map(str, sys.version_info[:3])), sys.executable)")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	version, where, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	parts := strings.Split(version, ".")
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		d.say("PYTHON", Warn, "its home may be on a slow shared disk; stage it to the node", "%s takes more than 5 s to start", program)
	case err != nil || len(parts) != 3:
		d.say("PYTHON", Warn, "", "%s does not run: %v", program, err)
	default:
		minor, _ := strconv.Atoi(parts[1])
		if parts[0] == "3" && minor < 9 {
			d.say("PYTHON", Warn, "our Python side needs 3.9; programs that don't import it run all the same", "Python %s (%s)", version, where)
			return
		}
		d.say("PYTHON", OK, "", "Python %s (%s)", version, where)
	}
}

func (d *doctor) slurm() {
	var srun error
	if d.live {
		_, srun = exec.LookPath("srun")
	} else if !d.m.exists("usr/bin/srun") {
		srun = os.ErrNotExist
	}
	job, _ := d.m.env("SLURM_JOB_ID")
	switch {
	case job != "" && srun != nil:
		d.say("SLURM_NO_SRUN", Bad, "put Slurm's programs into PATH (in a container: bind them and munge's socket)", "this is Slurm job %s and there is no srun in PATH", job)
	case job != "":
		d.say("SLURM", OK, "", "in Slurm job %s", job)
	case srun == nil:
		d.say("SLURM", Info, "", "Slurm's programs are here; this is no job")
	}
}

// space is the size of a file system, what is free of it, and how many files it still takes.
func space(dir string) (size, free, inodes uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, 0, err
	}
	inodes = st.Ffree
	if st.Files == 0 { // it doesn't count them
		inodes = 1 << 40
	}
	return st.Blocks * uint64(st.Bsize), st.Bavail * uint64(st.Bsize), inodes, nil
}

func humanBytes(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return gib(n)
}
