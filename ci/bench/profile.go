package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What a call is followed by: the clocks of the kernel, then perf, then a sampler of Python's frames. The last
// two are used where this machine has them; each has a run of the same work for itself.
const (
	byClocks = "clocks"
	byPerf   = "perf"
	byFrames = "py-spy"
)

// scene is one sort of work and what was seen of it.
type scene struct {
	name    string
	p50     float64 // seconds; of many at once, the time divided by their number
	p90     float64
	count   float64
	cpu     map[string]float64        // seconds by role
	system  map[string]float64        // of which the kernel's
	samples map[string]map[kind]int   // perf's, by role
	symbols map[string]map[string]int // perf's, by role: where
	frames  map[string]map[string]int // the sampler's innermost frames, by role
}

// kind is what code belongs to.
type kind string

const (
	inKernel kind = "kernel"
	inOurGo  kind = "Go, ours"
	inGo     kind = "Go's runtime"
	inOurC   kind = "C, ours"
	inPython kind = "Python"
)

// profiler starts and stops the tools when the program asks.
type profiler struct {
	l       *lab
	tools   []string
	program string // of the sampler
	scenes  map[string]*scene
	before  map[int]stat
	roles   map[int]string
	running []*exec.Cmd
	files   map[string]string // of the sampler, by role and number
}

// profile follows a task and a call of an actor from the call to the result, and writes the page about it.
func profile(l *lab) error {
	side, err := l.ours()
	if err != nil {
		return err
	}
	// A binary with its symbols.
	dir := filepath.Join(l.dir, "symbols")
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "maniple"), "./launcher/cmd/maniple")
	build.Dir, build.Env = l.top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	side.env = append(side.env, "PATH="+dir+":"+os.Getenv("PATH"))
	p := &profiler{l: l, tools: []string{byClocks}, program: filepath.Join(filepath.Dir(side.python), "py-spy"), scenes: map[string]*scene{}, files: map[string]string{}}
	if exec.Command("perf", "record", "-o", filepath.Join(l.dir, "perf.try"), "true").Run() == nil {
		p.tools = append(p.tools, byPerf)
	}
	if exec.Command(p.program, "--version").Run() == nil {
		p.tools = append(p.tools, byFrames)
	}
	calls := "4000"
	if quick {
		calls = "200"
	}
	said, err := l.play(side, "profiled.py", 4*time.Minute, p.look, append([]string{calls}, p.tools...)...)
	for _, cmd := range p.running {
		cmd.Process.Kill()
	}
	if err != nil {
		return err
	}
	for name, part := range said {
		s := p.scenes[name]
		if s == nil {
			return fmt.Errorf("nothing was seen of %q", name)
		}
		s.p50, s.p90, s.count = part.Figures["p50"], part.Figures["p90"], part.Figures["count"]
	}
	page := l.profilePage(p)
	if quick {
		fmt.Fprintln(os.Stderr, page)
	} else if err := os.WriteFile(filepath.Join(l.top, "docs", "perf", l.report.When.Format("2006-01-02")+"-runtime-profile.md"), []byte(page), 0o644); err != nil {
		return err
	}
	l.add(failures("profile of a task and an actor call, written", 0).noted("docs/perf, the page named runtime-profile; with " + strings.Join(p.tools, ", ")))
	return nil
}

func (p *profiler) look(what string) (map[string]float64, error) {
	words := strings.SplitN(what, " ", 3)
	if len(words) < 3 {
		return nil, fmt.Errorf("it asked for %q", what)
	}
	s := p.scenes[words[2]]
	if s == nil {
		s = &scene{name: words[2], cpu: map[string]float64{}, system: map[string]float64{}, samples: map[string]map[kind]int{}, symbols: map[string]map[string]int{}, frames: map[string]map[string]int{}}
		p.scenes[words[2]] = s
	}
	if words[0] == "start" {
		return nil, p.start(words[1])
	}
	return nil, p.stop(words[1], s)
}

func (p *profiler) start(tool string) error {
	p.before, p.roles = map[int]stat{}, map[int]string{}
	var pids []string
	for _, s := range family() {
		name := role(s)
		if name == "" && s.parent == os.Getpid() && slices.Contains(commandLine(s.pid), "maniple") {
			name = "driver"
		}
		if name == "" {
			continue
		}
		p.before[s.pid], p.roles[s.pid] = s, name
		pids = append(pids, strconv.Itoa(s.pid))
	}
	switch tool {
	case byPerf:
		return p.begin("perf", "record", "-q", "-F", "1999", "-o", filepath.Join(p.l.dir, "perf.data"), "-p", strings.Join(pids, ","))
	case byFrames:
		clear(p.files)
		for pid, name := range p.roles {
			if name != "driver" && name != "worker" {
				continue
			}
			path := filepath.Join(p.l.dir, fmt.Sprint("frames-", pid))
			p.files[path] = name
			if err := p.begin(p.program, "record", "-p", strconv.Itoa(pid), "--gil", "-r", "500", "-d", "600", "-f", "raw", "--full-filenames", "-o", path); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin starts a tool and gives it the time to attach.
func (p *profiler) begin(argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		return err
	}
	p.running = append(p.running, cmd)
	time.Sleep(700 * time.Millisecond)
	return nil
}

func (p *profiler) stop(tool string, s *scene) error {
	if tool == byClocks {
		for pid, name := range p.roles {
			if now, ok := readStat(pid); ok {
				s.cpu[name] += (now.own - p.before[pid].own).Seconds()
				s.system[name] += (now.system - p.before[pid].system).Seconds()
			}
		}
		return nil
	}
	for _, cmd := range p.running {
		cmd.Process.Signal(syscall.SIGINT)
		late := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait() // either tool ends with an error when it is told to
		late.Stop()
	}
	p.running = nil
	if tool == byPerf {
		return p.readPerf(s)
	}
	for path, name := range p.files {
		if err := readFrames(path, s, name); err != nil {
			return err
		}
	}
	return nil
}

// readPerf counts the samples by who was running what.
func (p *profiler) readPerf(s *scene) error {
	out, err := exec.Command("perf", "script", "-i", filepath.Join(p.l.dir, "perf.data"), "-F", "pid,ip,sym,dso").Output()
	if err != nil {
		return fmt.Errorf("perf script: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		// PID ADDRESS SYMBOL (FILE); a symbol may have spaces.
		line = strings.TrimSpace(line)
		open := strings.LastIndexByte(line, '(')
		fields := strings.Fields(line[:max(open, 0)])
		if open < 0 || len(fields) < 2 {
			continue
		}
		pid, _ := strconv.Atoi(fields[0])
		name := p.roles[pid]
		if name == "" {
			continue
		}
		symbol, file := strings.Join(fields[2:], " "), strings.TrimRight(line[open+1:], ")")
		k := kindOf(symbol, file)
		count(s.samples, name, k)
		count(s.symbols, name, fmt.Sprintf("%s: %s", k, symbol))
	}
	return nil
}

func count[K comparable](in map[string]map[K]int, name string, key K) {
	if in[name] == nil {
		in[name] = map[K]int{}
	}
	in[name][key]++
}

func kindOf(symbol, file string) kind {
	switch {
	case strings.HasPrefix(file, "[kernel") || strings.HasPrefix(file, "[guest") || file == "[vdso]":
		return inKernel
	case filepath.Base(file) == "maniple" && (strings.HasPrefix(symbol, "runtime.") || strings.HasPrefix(symbol, "internal/runtime") || strings.HasPrefix(symbol, "gcWriteBarrier")):
		return inGo
	case filepath.Base(file) == "maniple":
		return inOurGo
	case strings.Contains(file, "maniple/_core/"):
		return inOurC
	}
	return inPython
}

// readFrames counts the innermost frames of the thread that had the interpreter's lock. Lines are FRAME;...;FRAME COUNT, and a frame
// is NAME (FILE:LINE).
func readFrames(path string, s *scene, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("the sampler wrote nothing: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		at := strings.LastIndexByte(lines.Text(), ' ')
		if at < 0 {
			continue
		}
		n, err := strconv.Atoi(lines.Text()[at+1:])
		if err != nil {
			continue
		}
		stack := lines.Text()[:at]
		frame := stack[strings.LastIndexByte(stack, ';')+1:]
		if s.frames[name] == nil {
			s.frames[name] = map[string]int{}
		}
		s.frames[name][frame] += n
	}
	return lines.Err()
}

// ourFrame tells whether a frame is code of the package.
func ourFrame(frame string) bool { return strings.Contains(frame, "/maniple/") }
