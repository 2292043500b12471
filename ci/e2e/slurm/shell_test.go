//go:build e2e

package slurm

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// All of form (c) in one allocation: up, exec with the terminal of salloc's shell, a gang, down.
func TestExecInTheShellOfSalloc(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	where := programs(t, c)
	sh := c.Terminal(t, dir, append([]string{"salloc", "-Q", "-t", "10"}, twoByTwo...)...)
	line := func(want int, says, command string) string {
		t.Helper()
		out, code := sh.Line(t, short, command)
		if code != want || !strings.Contains(out, says) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s", command, code, want, says, out)
		}
		return out
	}
	line(69, "maniple up", c.Binary+" exec -- hostname") // there is no cluster yet, and exec starts none
	line(0, "", c.Binary+" up")
	line(7, "at n1 on /dev/pts/", c.Binary+` exec -- sh -c 'echo "at $(hostname) on $(tty)"; exit 7'`)
	line(127, "not/there", c.Binary+" exec -- /not/there")
	line(0, "plain driver on n1", c.Binary+" exec -- "+filepath.Join(where, "plain.sh")+" "+dir+" </dev/null | cat")

	// A shell that a person types into, on node 0; the shell of salloc goes on afterwards.
	sh.Type(t, c.Binary+" exec -- env PS1= sh; echo '<''left with '$?'>'\n")
	line(0, "n1", "hostname")
	line(1, "", "cd / && false")
	sh.Type(t, "exit 5\n")
	e2e.Until(t, short, "the shell on node 0 ends", func() bool { return strings.Contains(sh.Text(), "<left with 5>") })
	line(0, dir, "pwd")

	if out := line(0, "2 nodes x 2 ranks", c.Binary+" run -- "+filepath.Join(where, "plain.sh")+" "+dir); !strings.Contains(out, "[3] plain 3 on n2") {
		t.Errorf("no gang after exec:\n%s", out)
	}
	unchanged(t, c, where)
	line(0, "", c.Binary+" down")
	for _, p := range c.Processes() { // the shell stays, and nothing else does
		if strings.Contains(p, "maniple ") {
			t.Errorf("after down: %s", p)
		}
	}
	sh.Close(t)
	c.Clean(t)
}

// Ctrl-C in the shell of salloc. Once: the ranks may end as they like, and what they leave behind is
// ended. Twice: ranks that ignore every gentle signal are ended too. The shell and its job go on.
func TestInterruptInTheShellOfSalloc(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	where := programs(t, c)
	sh := c.Terminal(t, dir, append([]string{"salloc", "-Q", "-t", "10"}, twoByTwo...)...)
	stubborn := filepath.Join(where, "stubborn.sh") + " "
	for i, tt := range []struct {
		name, before, rank, after string
		twice                     bool
		code                      string
	}{
		{"once", "", `trap "echo saved; exit 0" TERM; while :; do sleep 0.1; done`, "", false, "130"}, // the shell around it dies of TERM
		{"twice", c.Binary + " up", `trap "" TERM INT; while :; do sleep 0.1; done`, c.Binary + " down", true, "130"},
	} {
		here := filepath.Join(dir, fmt.Sprint(i))
		if _, code := sh.Line(t, short, "mkdir "+here); code != 0 {
			t.Fatal(sh.Text())
		}
		if tt.before != "" {
			if out, code := sh.Line(t, short, tt.before); code != 0 {
				t.Fatalf("%s: exit %d\n%s", tt.before, code, out)
			}
		}
		ended := regexp.MustCompile(fmt.Sprintf(`<ended %d with (\d+)>`, i))
		sh.Type(t, fmt.Sprintf("%s run -- %s%s sh -c '%s'; echo '<''ended %d with '$?'>'\n", c.Binary, stubborn, here, tt.rank, i))
		e2e.Until(t, short, tt.name+": all ranks run", func() bool {
			files, _ := filepath.Glob(filepath.Join(here, "ready.*")) // the pattern is valid
			return len(files) == 4 || ended.MatchString(sh.Text())
		})
		before := len(sh.Text())
		sh.Type(t, "\x03")
		if tt.twice {
			e2e.Until(t, short, tt.name+": a word about the second Ctrl-C", func() bool { return strings.Contains(sh.Text()[before:], "Ctrl-C again stops it") })
			if alive := count(c, "sleep 0.1"); alive == 0 {
				t.Errorf("%s: the first Ctrl-C ended ranks that ignore it:\n%s", tt.name, sh.Text())
			}
			sh.Type(t, "\x03")
		}
		e2e.Until(t, short, tt.name+": the command ends", func() bool { return ended.MatchString(sh.Text()) })
		out := sh.Text()[before:]
		if code := ended.FindStringSubmatch(out)[1]; code != tt.code {
			t.Errorf("%s: exit %s, want %s\n%s", tt.name, code, tt.code, out)
		}
		if strings.Contains(tt.rank, "saved") && !strings.Contains(out, "saved") {
			t.Errorf("%s: the ranks could not save:\n%s", tt.name, out)
		}
		e2e.Until(t, short, tt.name+": no rank and no grandchild is left", func() bool {
			for _, p := range c.Processes() {
				if strings.Contains(p, here) {
					return false
				}
			}
			return true
		})
		if tt.after != "" {
			if out, code := sh.Line(t, short, tt.after); code != 0 {
				t.Errorf("%s: exit %d\n%s", tt.after, code, out)
			}
		}
	}
	if out, code := sh.Line(t, short, "srun -N2 -n2 hostname"); code != 0 || !strings.Contains(out, "n2") {
		t.Errorf("the job after it: exit %d\n%s", code, out)
	}
	sh.Close(t)
	c.Clean(t)
}
