//go:build e2e && soak

package local

import (
	"fmt"
	"math/rand/v2"
	"os"
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
				if len(pids) > 0 {
					syscall.Kill(pids[r.IntN(len(pids))], syscall.SIGKILL)
				}
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
				want = map[int]bool{137: true, 69: true, 75: true}
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

// 100 starts of two clusters at the same moment: neither sees the other.
func TestHundredStartsOfTwoClusters(t *testing.T) {
	for i := range 100 {
		w := newWorld(t)
		var wait sync.WaitGroup
		for _, name := range []string{"a", "b"} {
			wait.Go(func() {
				p := w.start("", "run", "--cluster", name+strconv.Itoa(i), "-n", "1", "--", "echo", "in", name)
				if code := p.code(30 * time.Second); code != 0 || !strings.Contains(p.out.String(), "in "+name) {
					t.Errorf("start %d of cluster %s: exit code %d\n%s", i, name, code, p.err.String())
				}
			})
		}
		wait.Wait()
	}
}
