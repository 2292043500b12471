//go:build e2e && soak

package yarn

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// hurt is what happens to an application of two nodes.
type hurt struct {
	kills string                     // its processes of a kind, or
	do    func(*testing.T, *gateway) // to what it stands on

	keeps  bool   // its ranks write checkpoints to HDFS throughout
	begins bool   // its programs do so anew
	takes  string // a NodeManager whose containers YARN gives up, though they go on: they begin anew if one was a node
	splits string // a NodeManager that is cut off: they begin anew if some of the containers are there and some are not
}

// For how long a node is cut off, and how long it takes until everybody knows.
const cutFor, afterwards = 20 * time.Second, 3 * time.Minute

var hurts = map[string]hurt{
	"master":   {kills: "yarn-master"},
	"head":     {kills: "head"},
	"agents":   {kills: "agent"},
	"keepers":  {kills: "yarn-node", begins: true},
	"rm":       {do: again("rm")},
	"nn":       {do: again("nn"), keeps: true},
	"nm1":      {do: again("nm1")},                         // which finds its containers again
	"nm1-anew": {do: again("nm1", "forget"), takes: "nm1"}, // which says at once that it has none
	"nm2":      {do: again("nm2"), takes: "nm2"},           // which comes back as another one: what it was is given up after 40 s
	"cut": {do: func(t *testing.T, g *gateway) {
		daemon(t, g, "cut nm2")
		time.Sleep(cutFor)
		daemon(t, g, "join nm2")
	}, splits: "nm2"},
}

func daemon(t *testing.T, g *gateway, what string) {
	t.Helper()
	if out, err := g.b.script("daemon.sh " + what); err != nil {
		t.Fatal(out, err)
	}
}

// again kills a daemon of Hadoop's, and starts it again, with more in between.
func again(name string, more ...string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		for _, what := range slices.Concat([]string{"kill"}, more, []string{"start"}) {
			daemon(t, g, what+" "+name)
		}
		daemon(t, g, "wait")
	}
}

// soak says how much of something is to be done by chance: the generator, how many rounds (MANIPLE_SOAK_ROUNDS) and of which kinds (MANIPLE_SOAK_VICTIMS).
func soak(t *testing.T, rounds int) (*rand.Rand, int, []string) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MANIPLE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("MANIPLE_SOAK_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	t.Logf("MANIPLE_SEED=%d", seed)
	names := slices.Sorted(maps.Keys(hurts))
	if s := os.Getenv("MANIPLE_SOAK_VICTIMS"); s != "" {
		names = strings.Split(s, ",")
	}
	return rand.New(rand.NewPCG(seed, 0)), rounds, names
}

// Of everything that an application stands on something is killed, or cut off for 20 s, all kinds in turn: it ends as its programs do, and what
// they said is there once. MANIPLE_SEED, MANIPLE_SOAK_ROUNDS and MANIPLE_SOAK_VICTIMS say what happens.
func TestHurt(t *testing.T) {
	g := gatewayOn(t, apart.up(t))
	r, rounds, names := soak(t, 10*len(hurts))
	for i := range rounds {
		if i%len(names) == 0 {
			r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		}
		name, after := names[i%len(names)], time.Duration(r.IntN(1000))*time.Millisecond
		t.Run(fmt.Sprintf("%d-%s-%dms", i, name, after.Milliseconds()), func(t *testing.T) {
			c := g.counts(t, hurts[name].keeps)
			time.Sleep(after)
			c.suffers(hurts[name])
			c.ends()
		})
	}
}

// mixedFor is how long a hundred may take.
const mixedFor = 50 * time.Minute

// A hundred such things happen by chance, ten to an application, about half of them before it has recovered from the one before.
func TestHundredMixed(t *testing.T) {
	g := gatewayOn(t, apart.up(t))
	r, rounds, names := soak(t, 100)
	late := time.Now().Add(mixedFor)
	for i := 0; i < rounds; i += 10 {
		t.Run(fmt.Sprintf("from-%d", i), func(t *testing.T) {
			c := g.counts(t, false)
			for j := i; j < min(i+10, rounds); j++ {
				name, pause, recovers := names[r.IntN(len(names))], time.Duration(r.IntN(1000))*time.Millisecond, r.IntN(2) == 0
				if time.Now().After(late) {
					t.Fatalf("%d of %d in %v", j, rounds, mixedFor)
				}
				if had := c.said(); recovers || name == "keepers" { // a node that is killed twice before it is one ends the application
					c.goOn("they go on before "+name, &had, false)
				}
				time.Sleep(pause)
				t.Logf("%d: %s after %v, recovers %v", j, name, pause, recovers)
				c.lives += 2
				if h := hurts[name]; h.do != nil {
					h.do(t, c.gateway)
				} else if killed(t, c.id, h.kills) == 0 {
					t.Log("there is none")
				}
			}
			had := c.said()
			c.goOn("they go on at last", &had, false)
			c.ends()
		})
	}
}

// counting is an application of two ranks that count until they are told to end. A life of a rank is one process of it.
type counting struct {
	*gateway
	id, enough string
	keeps      bool
	lives      int // of each rank, at most
	begun      int // at least
}

const countScript = `life=$MANIPLE_RESTARTS.$$
i=0
if [ $# -gt 1 ]; then "${@:2}" 2>&1 & fi
until [ -e $1 ]; do i=$((i+1)); echo line $RANK $life $i; sleep 0.25; done
if [ $# -gt 1 ]; then wait $! || exit 1; fi
echo last $RANK $life $i
`

// keepScript writes checkpoints one after the other, and reads each.
const keepScript = `
import os, sys
from maniple import fs

enough, at, rank, n = sys.argv[1], sys.argv[2], os.environ["RANK"], 0
while not os.path.exists(enough):
    n += 1
    text = f"{n:9}\n" * 30000
    with fs.open(f"{at}/{rank}", "w") as f:
        f.write(text)
    assert fs.open(f"{at}/{rank}").read() == text
    if n == 1:
        print("keeps", rank, flush=True)
print("kept", rank, n)
`

// counts starts one; keeps: it writes checkpoints to HDFS, too.
func (g *gateway) counts(t *testing.T, keeps bool) *counting {
	t.Helper()
	c := &counting{gateway: &gateway{t: t, b: g.b, binary: g.binary, home: t.TempDir(), dir: t.TempDir()}, lives: 1, begun: 1, keeps: keeps}
	c.enough = filepath.Join(c.dir, "enough")
	c.write("count.sh", countScript)
	options, script := slices.Clone(small), []string{"bash", "count.sh", c.enough}
	if keeps {
		python, top := devPython(t)
		c.write("keeps.py", keepScript)
		options = append(options, "--files", "keeps.py", "--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"))
		script = append(script, python, "keeps.py", c.enough, fmt.Sprintf("hdfs:///user/alice/hurt-%d", time.Now().UnixNano()))
	}
	c.id = c.submit(slices.Concat(options, []string{"-N", "2", "--ntasks-per-node", "1", "--max-restarts", "100", "--"}, script)...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		_ = c.command(ctx, "cancel", c.id).Run() // one that is over says no
	})
	t.Cleanup(func() {
		if t.Failed() {
			c.tells()
		}
	})
	c.goOn("both ranks count", nil, false)
	if keeps {
		e2e.Until(t, afterwards, "both ranks write checkpoints", func() bool { return len(countKeeps.FindAllString(c.logs(c.id), -1)) == 2 })
	}
	return c
}

var countKeeps, countKept = regexp.MustCompile(`(?m)\bkeeps [01]$`), regexp.MustCompile(`(?m)\bkept [01] ([2-9]|[1-9][0-9]+)$`)

var countLine, countEnd = regexp.MustCompile(`(?m)\bline ([01]) (\S+) ([0-9]+)$`), regexp.MustCompile(`(?m)\blast ([01]) (\S+) ([0-9]+)$`)

// tells what there is to see of one that went wrong: what is said of it, its processes, and what each of its containers has written, of the lines that ranks count the first
// and the last.
func (c *counting) tells() {
	t := c.t
	ctx, cancel := context.WithTimeout(context.Background(), limit) // the test's is over
	defer cancel()
	said, err := c.command(ctx, "explain", c.id).CombinedOutput()
	t.Logf("explain: %s%v", said, err)
	for pid, line := range processes(c.id) {
		t.Logf("process %s: %q", pid, line)
	}
	files, _ := filepath.Glob(filepath.Join(c.b.dir, "nm*", "logs", c.id+"*", "*", "std*")) // a NodeManager that has forgotten them gives them another name
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var shown, count []string
		for line := range strings.Lines(string(text)) {
			if countLine.MatchString(strings.TrimSpace(line)) {
				count = append(count, line)
				continue
			}
			shown = append(append(shown, ends(count)...), line)
			count = nil
		}
		t.Logf("%s:\n%s", file, strings.Join(append(shown, ends(count)...), ""))
	}
}

// ends are the first and the last few of some lines.
func ends(lines []string) []string {
	if len(lines) <= 6 {
		return lines
	}
	return slices.Concat(lines[:3], []string{fmt.Sprintf("... %d lines\n", len(lines)-6)}, lines[len(lines)-3:])
}

// said is what the ranks have said: by rank and life how often each number.
func (c *counting) said() [2]map[string]map[int]int {
	all := [2]map[string]map[int]int{{}, {}}
	for _, m := range countLine.FindAllStringSubmatch(c.logs(c.id), -1) {
		of, n := all[m[1][0]-'0'], 0
		if _, err := fmt.Sscan(m[3], &n); err != nil {
			c.t.Fatal(m)
		}
		if of[m[2]] == nil {
			of[m[2]] = map[int]int{}
		}
		of[m[2]][n]++
	}
	return all
}

// goOn waits until both ranks say more than they had said: in a life that there was not, or, unless they begin anew, in one that there was.
func (c *counting) goOn(what string, had *[2]map[string]map[int]int, anew bool) {
	c.t.Helper()
	if had == nil {
		had = &[2]map[string]map[int]int{}
	}
	e2e.Until(c.t, afterwards, what, func() bool {
		for rank, lives := range c.said() {
			more := false
			for life, lines := range lives {
				old, was := had[rank][life]
				more = more || !was && len(lines) >= 3 || was && !anew && len(lines) >= len(old)+10
			}
			if !more {
				return false
			}
		}
		return true
	})
}

// at are the processes with which the application's containers of a NodeManager began: of its nodes, and of its master.
func (c *counting) at(name string) (nodes, masters []string) {
	for pid, line := range processes(c.id) {
		env, _ := os.ReadFile(filepath.Join("/proc", pid, "environ"))
		switch {
		case !bytes.Contains(env, []byte("LOCAL_DIRS="+filepath.Join(c.b.dir, name)+"/")):
		case strings.HasSuffix(line, "\x00yarn-node\x00"):
			nodes = append(nodes, pid)
		case strings.HasSuffix(line, "\x00yarn-master\x00"):
			masters = append(masters, pid)
		}
	}
	return nodes, masters
}

// suffers has something happen, and waits until all know of it.
func (c *counting) suffers(h hurt) {
	c.t.Helper()
	anew, gone := h.begins, []string(nil)
	if h.takes != "" {
		nodes, masters := c.at(h.takes)
		anew, gone = len(nodes) > 0, slices.Concat(nodes, masters)
	}
	if h.splits != "" {
		nodes, masters := c.at(h.splits)
		anew = len(nodes)+len(masters) > 0 && len(nodes)+len(masters) < 3
	}
	had := c.said()
	if h.do != nil {
		h.do(c.t, c.gateway)
	} else {
		kill(c.t, c.id, h.kills)
	}
	e2e.Until(c.t, afterwards, "what YARN gave up has ended", func() bool {
		now := processes(c.id)
		return !slices.ContainsFunc(gone, func(pid string) bool { return now[pid] != "" })
	})
	what := "they go on"
	if anew {
		what = "they begin anew"
		c.begun++
		c.lives += 2 // it may be noticed in two steps
	} else {
		had = c.said()
	}
	c.goOn(what, &had, anew)
	if r := c.run("logs", c.id); r.Code != 0 || !countLine.MatchString(r.Stdout) {
		c.t.Errorf("%+v", r)
	}
}

// ends has it end, and looks at what is left of it.
func (c *counting) ends() {
	t := c.t
	t.Helper()
	if err := os.WriteFile(c.enough, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := c.over(c.id); r.Final != yarn.Succeeded || !strings.HasSuffix(r.Diagnostics, "exit code 0") {
		t.Errorf("%+v", r)
	}
	e2e.Until(t, afterwards, "nothing of it is left", func() bool { return len(processes(c.id)) == 0 })
	text := c.logs(c.id)
	said, ends := c.said(), [2]int{}
	for _, m := range countEnd.FindAllStringSubmatch(text, -1) {
		rank := m[1][0] - '0'
		ends[rank]++
		if n := len(said[rank][m[2]]); strconv.Itoa(n) != m[3] {
			t.Errorf("rank %d came to %s in life %s, of which %d lines are there", rank, m[3], m[2], n)
		}
	}
	for rank, lives := range said {
		if len(lives) < c.begun || len(lives) > c.lives || ends[rank] == 0 {
			t.Errorf("rank %d began %d times, and not %d, and ended %d times", rank, len(lives), c.begun, ends[rank])
		}
		for life, lines := range lives {
			for i := range len(lines) {
				if n := lines[i+1]; n != 1 {
					t.Errorf("line %d of rank %d, life %s, is there %d times", i+1, rank, life, n)
				}
			}
		}
	}
	if kept := countKept.FindAllString(text, -1); c.keeps && len(kept) != 2 {
		t.Errorf("of two ranks that write checkpoints to the end these did: %q", kept)
	}
	if t.Failed() {
		t.Log(text)
	}
}
