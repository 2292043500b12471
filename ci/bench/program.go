package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// side is one of the two systems that a program runs on.
type side struct {
	name   string // of its Python module
	python string
	env    []string
}

// part is what a program said of one part of its work, or why it can't.
type part struct {
	Ask     string             `json:"ask"` // not a part: a question, which a line answers
	Part    string             `json:"part"`
	Figures map[string]float64 `json:"figures"` // the bench adds cpu, in seconds, to those of a timed part
	Note    string             `json:"note"`
	Error   string             `json:"error"`
}

// looks gives figures of something else than the clocks, for the part that the program says next.
type looks func(what string) (map[string]float64, error)

// stage is a program under way: what it said, and who looks when it asks.
type stage struct {
	parts map[string]part
	looks looks              // nil: nobody
	spare []int              // processes that are none of the program's
	began time.Duration      // CPU of all processes at the last "begin"
	found map[string]float64 // for the next part: the CPU until the "end", and what looks gave
}

// ours and theirs are the sides, made on first use. The same Python runs both: that of the environment with Ray.
func (l *lab) ours() (side, error) {
	python, err := l.python("ray")
	if err != nil {
		return side{}, err
	}
	return l.oursWith(python)
}

func (l *lab) theirs() (side, error) {
	python, err := l.python("ray")
	// RAY_TMPDIR is this folder itself: the paths of Ray's sockets are near the most that the kernel takes.
	return side{"ray", python, []string{"RAY_USAGE_STATS_ENABLED=0", "RAY_AUTH_MODE=disabled", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0", "RAY_TMPDIR=" + l.dir, "HOME=" + l.dir}}, err
}

// oursWith is ours under another Python, with the wheel that a user would install.
func (l *lab) oursWith(python string) (side, error) {
	site, err := l.wheel()
	env := append([]string{"PYTHONPATH=" + site, "PATH=" + l.dir + ":" + os.Getenv("PATH"), "HOME=" + l.dir}, l.env...)
	return side{"maniple", python, env}, err
}

// python is that of a cached environment outside the tree.
func (l *lab) python(name string) (string, error) {
	cmd := exec.Command("bash", filepath.Join(l.top, "ci/python/env.sh"), name)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("the Python environment %q can't be made: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// wheel builds the wheel once and unpacks it into a folder for PYTHONPATH.
func (l *lab) wheel() (string, error) {
	site := filepath.Join(l.dir, "site")
	if _, err := os.Stat(filepath.Join(site, "maniple")); err == nil {
		return site, nil
	}
	python, err := l.python("dev")
	if err != nil {
		return "", err
	}
	const script = `cd "$1" && "$0" -m pip wheel --quiet --no-deps --no-build-isolation -w "$2/dist" ./libs/python
"$0" -m pip install --quiet --disable-pip-version-check --no-deps --target "$2/site" "$2"/dist/maniple-*.whl`
	_, _, err = timed(nil, "bash", "-ec", script, python, l.top, l.dir)
	return site, err
}

// play runs a program of ci/bench/programs on one side to its end, and ends what it leaves. A program that fails
// or takes longer than limit is an error, beside what it had said until then.
func (l *lab) play(s side, program string, limit time.Duration, looks looks, args ...string) (map[string]part, error) {
	st := &stage{parts: map[string]part{}, looks: looks, spare: l.spared(), found: map[string]float64{}}
	said, err := os.CreateTemp(l.dir, "said-*") // a pipe would be held open by the daemons that stay
	if err != nil {
		return nil, err
	}
	defer os.Remove(said.Name())
	defer said.Close()
	cmd := exec.Command(s.python, append([]string{filepath.Join(l.top, "ci/bench/programs", program), s.name}, args...)...)
	cmd.Dir, cmd.Stderr = l.dir, said
	cmd.Env = append(os.Environ(), s.env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if l.ending.Load() {
		return nil, errors.New("the bench was interrupted")
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(limit, func() {
		cmd.Process.Kill()
		out.Close() // what it started may hold the other end
	})
	err = st.follow(out, in)
	if err != nil {
		cmd.Process.Kill()
	}
	waited := cmd.Wait()
	inTime := late.Stop()
	l.sweep()
	os.RemoveAll(filepath.Join(l.dir, "ray"))
	switch {
	case !inTime:
		err = fmt.Errorf("it did not end within %v", limit)
	case err == nil:
		err = waited
	}
	if err != nil {
		text, _ := os.ReadFile(said.Name())
		err = fmt.Errorf("%s %s: %w: %s", program, s.name, err, lastLines(string(text), 6))
	}
	return st.parts, err
}

// follow reads what a program says until it closes its output.
func (st *stage) follow(out io.Reader, in io.Writer) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var p part
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("it said %q", lines.Text())
		}
		if p.Ask == "" {
			st.say(p)
			continue
		}
		if err := st.answer(p.Ask); err != nil {
			return err
		}
		if _, err := io.WriteString(in, "\n"); err != nil {
			return nil // it is gone; its exit code says why
		}
	}
	return lines.Err()
}

func (st *stage) answer(what string) error {
	switch {
	case what == "begin":
		st.began = spent(st.spare)
	case what == "end":
		st.found["cpu"] = (spent(st.spare) - st.began).Seconds()
	case st.looks == nil:
		return fmt.Errorf("nobody looks at %q", what)
	default:
		found, err := st.looks(what)
		maps.Copy(st.found, found)
		return err
	}
	return nil
}

// say keeps what was said of a part: the first error, else the last figures.
func (st *stage) say(p part) {
	if old, known := st.parts[p.Part]; known && old.Error != "" {
		return
	}
	if p.Figures == nil {
		p.Figures = map[string]float64{}
	}
	maps.Copy(p.Figures, st.found)
	clear(st.found)
	st.parts[p.Part] = p
}

// figure is one of a part that there is.
func (p part) figure(name string) (float64, error) {
	if p.Error != "" {
		return 0, errors.New(p.Error)
	}
	value, known := p.Figures[name]
	if !known {
		return 0, fmt.Errorf("the program gave no %s of %s", strconv.Quote(name), strconv.Quote(p.Part))
	}
	return value, nil
}
