//go:build e2e && soak

package local

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func seed(t testing.TB) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("MANIPLE_SEED"); s != "" {
		n, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("MANIPLE_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// 100 random kills of anything that belongs to a run: the exit code is right and nothing is left.
func TestHundredRandomKills(t *testing.T) {
	r := seed(t)
	for i := range 100 {
		victim := []string{"rank", "agent", "head", "keeper", "driver", "twice"}[r.IntN(6)]
		delay := time.Duration(r.IntN(400)) * time.Millisecond
		t.Run(fmt.Sprintf("%d-%s-%dms", i, victim, delay.Milliseconds()), func(t *testing.T) {
			w := newWorld(t)
			p := w.up("until")
			time.Sleep(delay)
			kill := func(role string) {
				var pids []int
				switch role {
				case "rank":
					pids = w.ranks("until")
				case "driver":
					pids = []int{p.cmd.Process.Pid}
				default:
					pids = w.find("maniple " + role)
				}
				if len(pids) == 0 {
					t.Fatalf("no %s runs\n%s", role, p.err.String())
				}
				syscall.Kill(pids[r.IntN(len(pids))], syscall.SIGKILL)
			}
			want := map[int]bool{0: true}
			switch victim {
			case "rank":
				kill("rank")
				want = map[int]bool{137: true}
			case "agent", "head":
				kill(victim)
				time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
				w.file("go", "")
			case "twice":
				kill("agent")
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
				kill("head")
				time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
				w.file("go", "")
			case "keeper": // the only node: the cluster is over
				kill("keeper")
				want = map[int]bool{137: true}
			case "driver":
				kill("driver")
				want = map[int]bool{137: true}
			}
			if code := p.code(40 * time.Second); !want[code] {
				t.Errorf("exit code %d\n%s\n%s", code, p.err.String(), w.logs())
			}
		})
	}
}

// 100 starts of two users' clusters on one node at the same moment, of one name and in one temporary
// directory: each user sees, runs in and ends only its own, and the ports that the gangs hold differ.
func TestHundredStartsOfTwoUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become two users")
	}
	for i := range 100 {
		w := newWorld(t)
		users := []*tenant{w.tenant(65534), w.tenant(60000 + i)}
		starts := make([]start, len(users))
		var wait sync.WaitGroup
		for n, u := range users {
			wait.Go(func() { starts[n] = u.start() })
		}
		wait.Wait()
		for n, s := range starts {
			uid := strconv.Itoa(users[n].uid)
			switch {
			case s.err != nil:
				t.Errorf("start %d, user %s: %v\n%s", i, uid, s.err, s.out)
			case strings.Count(s.out, " of user "+uid+" at") != 2 || strings.Count(s.out, " of user ") != 2:
				t.Errorf("start %d: the ranks of user %s are not its own two:\n%s", i, uid, s.out)
			case !strings.Contains(s.out, "clusters 1\n"):
				t.Errorf("start %d: user %s does not see just its own cluster:\n%s", i, uid, s.out)
			}
		}
		if a, b := starts[0].port(), starts[1].port(); a == "" || a == b {
			t.Errorf("start %d: both gangs were given port %q", i, a)
		}
		if t.Failed() {
			return // a hundred reports of one fault help nobody
		}
	}
}

// tenant is one of several ordinary users of this machine, in a world they share.
type tenant struct {
	w    *world
	uid  int
	home string
}

func (w *world) tenant(uid int) *tenant {
	w.t.Helper()
	os.Chmod(w.tmp, 0o777|os.ModeSticky)
	u := &tenant{w, uid, filepath.Join(w.tmp, fmt.Sprint("home-", uid))}
	if err := os.Mkdir(u.home, 0o700); err != nil {
		w.t.Fatal(err)
	}
	os.Chown(u.home, uid, uid)
	return u
}

// meet is a folder that all users may write.
func (w *world) meet() string {
	dir := filepath.Join(w.tmp, "meet")
	os.Mkdir(dir, 0o777) // the first of them
	os.Chmod(dir, 0o777)
	return dir
}

type start struct {
	out string
	err error
}

// meets is a rank that says what it has and waits until the four ranks of both users run, so that both gangs
// hold their ports at the same time.
const meets = `: > "$MEET/$(id -u).$RANK"; echo "rank $RANK of user $(id -u) at port $MASTER_PORT"
for i in $(seq 500); do [ "$(ls "$MEET" | wc -l)" = 4 ] && exit 0; sleep 0.05; done; exit 3`

// start brings a cluster up, runs a gang in it, looks what there is, and takes the cluster down.
func (u *tenant) start() start {
	cmd := exec.Command("sh", "-ec", `"$M" up >/dev/null
"$M" run -Q -n 2 -- sh -c "$RANKS"
echo "clusters $("$M" status | grep -c ^cluster)"
"$M" down >/dev/null`)
	cmd.Dir, cmd.WaitDelay = u.home, 5*time.Second
	cmd.Env = append(slices.Clone(u.w.env), "M="+binary, "RANKS="+meets, "MEET="+u.w.meet(), "HOME="+u.home, "XDG_STATE_HOME="+filepath.Join(u.home, "state"), "PWD="+u.home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.uid)}}
	late := time.AfterFunc(time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGABRT) })
	defer late.Stop()
	out, err := cmd.CombinedOutput()
	return start{string(out), err}
}

// port is the MASTER_PORT that the ranks were given.
func (s start) port() string {
	_, rest, _ := strings.Cut(s.out, "at port ")
	port, _, _ := strings.Cut(rest, "\n")
	return port
}

// The wheel installs and works on every Python that this machine has, from the oldest that it supports to
// the newest; an older one refuses it with the reason.
func TestWheelOnOtherPythons(t *testing.T) {
	w := newWorld(t)
	wheel := wheelFor(t)
	var tried []string
	for minor := 7; minor <= 20; minor++ {
		python := pythonOf(minor)
		if python == "" {
			continue
		}
		version := fmt.Sprintf("3.%d", minor)
		tried = append(tried, version)
		t.Run(version, func(t *testing.T) {
			venv := filepath.Join(w.dir, "v"+version)
			script := `"$PYTHON" -m venv "$V"; "$V/bin/pip" install -q --disable-pip-version-check --no-deps "$WHEEL"`
			if minor >= 9 {
				script += `; "$V/bin/maniple" version; "$V/bin/python" -m maniple version
"$V/bin/maniple" run -Q -n 2 -- "$V/bin/python" -c 'import os, sys; print("rank", os.environ["RANK"], "on %d.%d" % sys.version_info[:2])'
"$V/bin/pip" install -q --disable-pip-version-check numpy; "$V/bin/maniple" demo`
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-ec", script)
			cmd.Dir, cmd.WaitDelay = w.dir, 5*time.Second
			cmd.Env = append(slices.Clone(w.env), "PYTHON="+python, "V="+venv, "WHEEL="+wheel)
			out, err := cmd.CombinedOutput()
			said := string(out)
			if minor < 9 {
				if err == nil || !strings.Contains(said, "requires a different Python") && !strings.Contains(said, "requires-python") && !strings.Contains(said, "No matching distribution") {
					t.Errorf("%s: %v: not refused for its age:\n%s", python, err, said)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", python, err, said)
			}
			for _, want := range []string{"rank 0 on " + version, "rank 1 on " + version, "held-out accuracy 0.9"} {
				if !strings.Contains(said, want) {
					t.Errorf("no %q in:\n%s", want, said)
				}
			}
		})
	}
	t.Logf("tried %s", strings.Join(tried, ", "))
	if len(tried) < 2 {
		t.Skipf("this machine has no Python but %v: the wheel was not tried on another", tried)
	}
}

// wheelFor builds the wheel and gives its path.
func wheelFor(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("make", "wheel")
	cmd.Dir = top
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make wheel: %v\n%s", err, out)
	}
	wheels, _ := filepath.Glob(filepath.Join(top, "dist/maniple-*.whl"))
	if len(wheels) == 0 {
		t.Fatal("no wheel in dist")
	}
	return wheels[len(wheels)-1]
}

// pythonOf finds a Python 3.minor that can make environments: on PATH, or one that pyenv or uv keeps.
func pythonOf(minor int) string {
	name := fmt.Sprintf("python3.%d", minor)
	home, _ := os.UserHomeDir()
	found, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions", fmt.Sprintf("3.%d.*/bin/%s", minor, name)))
	kept, _ := filepath.Glob(filepath.Join(home, ".local/share/uv/python", fmt.Sprintf("cpython-3.%d.*/bin/%s", minor, name)))
	for _, p := range append(append(found, kept...), name) {
		path, err := exec.LookPath(p)
		if err == nil && exec.Command(path, "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info[1] != "+strconv.Itoa(minor)+")").Run() == nil {
			return path
		}
	}
	return ""
}

// Arrow's tables are read where they lie. pyarrow takes 170 MB, which is too much for each run of the tests.
func TestArrow(t *testing.T) {
	w := newWorld(t)
	script := `"$PYTHON" -m venv "$V"; "$V/bin/pip" install -q --disable-pip-version-check "$WHEEL" pyarrow; "$V/bin/python" "$PROGRAM"`
	program, err := filepath.Abs("../programs/arrow.py")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-ec", script)
	cmd.Dir, cmd.WaitDelay = w.dir, 5*time.Second
	cmd.Env = append(slices.Clone(w.env), "PYTHON=python3", "V="+filepath.Join(w.dir, "arrow"), "WHEEL="+wheelFor(t), "PROGRAM="+program)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "all is well\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
