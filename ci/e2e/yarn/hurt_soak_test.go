//go:build e2e && soak

package yarn

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// hurt is what happens to an application of two nodes, and whether its programs notice.
type hurt struct {
	do     func(t *testing.T, g *gateway, id string)
	begins bool // anew
}

// For how long a node is cut off, and how long it takes until everybody knows.
const cutFor, afterwards = 20 * time.Second, 3 * time.Minute

var hurts = map[string]hurt{
	"master":  {do: func(t *testing.T, _ *gateway, id string) { kill(t, id, "yarn-master") }},
	"head":    {do: func(t *testing.T, _ *gateway, id string) { kill(t, id, "head") }},
	"agents":  {do: func(t *testing.T, _ *gateway, id string) { kill(t, id, "agent") }},
	"keepers": {do: func(t *testing.T, _ *gateway, id string) { kill(t, id, "yarn-node") }, begins: true},
	"rm":      {do: again("rm")},
	"nn":      {do: again("nn")},
	"nm1":     {do: again("nm1")}, // whose containers outlive it, for the ten minutes until YARN gives them up
	"cut": {do: func(t *testing.T, g *gateway, _ string) {
		daemon(t, g, "cut nm2")
		time.Sleep(cutFor)
		daemon(t, g, "join nm2")
	}, begins: true},
}

func daemon(t *testing.T, g *gateway, what string) {
	t.Helper()
	if out, err := g.b.script("daemon.sh " + what); err != nil {
		t.Fatal(out, err)
	}
}

// again kills a daemon of Hadoop's, and starts it again.
func again(name string) func(*testing.T, *gateway, string) {
	return func(t *testing.T, g *gateway, _ string) {
		daemon(t, g, "kill "+name)
		daemon(t, g, "start "+name)
		daemon(t, g, "wait")
	}
}

// Of everything that an application stands on something is killed, or cut off for 20 s, all kinds in turn: it ends as its programs do, and what
// they said is there once. MANIPLE_SOAK_ROUNDS says how often, MANIPLE_SEED which, MANIPLE_SOAK_VICTIMS of what.
func TestHurt(t *testing.T) {
	g := gatewayOn(t, apart.up(t))
	seed, rounds := uint64(time.Now().UnixNano()), 100
	if s := os.Getenv("MANIPLE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("MANIPLE_SOAK_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	t.Logf("MANIPLE_SEED=%d", seed)
	var names []string
	for name := range hurts {
		names = append(names, name)
	}
	if s := os.Getenv("MANIPLE_SOAK_VICTIMS"); s != "" {
		names = strings.Split(s, ",")
	}
	slices.Sort(names)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range rounds {
		if i%len(names) == 0 {
			r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		}
		name, after := names[i%len(names)], time.Duration(r.IntN(1000))*time.Millisecond
		t.Run(fmt.Sprintf("%d-%s-%dms", i, name, after.Milliseconds()), func(t *testing.T) {
			g := &gateway{t: t, b: g.b, binary: g.binary, home: t.TempDir(), dir: t.TempDir()}
			g.counts(hurts[name], after)
		})
	}
}

// counts has two ranks count while it happens.
func (g *gateway) counts(h hurt, after time.Duration) {
	t := g.t
	enough := filepath.Join(g.dir, "enough")
	g.write("count.sh", "echo begin $RANK $MANIPLE_RESTARTS\ni=0\nuntil [ -e $1 ]; do i=$((i+1)); echo line $RANK $MANIPLE_RESTARTS $i; sleep 0.25; done\necho last $RANK $MANIPLE_RESTARTS $i\n")
	id := g.submit(append(small, "-N", "2", "--ntasks-per-node", "1", "--max-restarts", "5", "--", "bash", "count.sh", enough)...)
	counted := func(text string, restarts, least int) bool {
		for rank := range 2 {
			if !strings.Contains(text, fmt.Sprintf("line %d %d %d\n", rank, restarts, least)) {
				return false
			}
		}
		return true
	}
	e2e.Until(t, afterwards, "both ranks count", func() bool { return counted(g.logs(id), 0, 3) })
	time.Sleep(after)
	h.do(t, g, id)
	restarts := 0
	if h.begins {
		restarts = 1
		e2e.Until(t, afterwards, "both ranks count anew", func() bool { return counted(g.logs(id), 1, 3) || counted(g.logs(id), 2, 3) })
		if counted(g.logs(id), 2, 3) { // it may be noticed in two steps
			restarts = 2
		}
	} else {
		had := strings.Count(g.logs(id), "line ")
		e2e.Until(t, afterwards, "they go on", func() bool { return strings.Count(g.logs(id), "line ") > had+20 })
	}
	if err := os.WriteFile(enough, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := g.over(id); r.Final != yarn.Succeeded || !strings.HasSuffix(r.Diagnostics, "exit code 0") {
		t.Errorf("%+v", r)
	}
	e2e.Until(t, afterwards, "nothing of it is left", func() bool { return len(processes(id)) == 0 })
	text := g.logs(id)
	for rank := range 2 {
		if n := strings.Count(text, fmt.Sprintf("begin %d ", rank)); n != restarts+1 {
			t.Errorf("rank %d began %d times", rank, n)
		}
		_, end, _ := strings.Cut(text, fmt.Sprintf("last %d %d ", rank, restarts))
		last, err := strconv.Atoi(strings.SplitN(end, "\n", 2)[0])
		if err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
		for i := range last {
			if n := strings.Count(text, fmt.Sprintf("line %d %d %d\n", rank, restarts, i+1)); n != 1 {
				t.Errorf("line %d of rank %d is there %d times", i+1, rank, n)
			}
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
