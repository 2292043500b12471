//go:build e2e && soak

package yarn

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// stays is a driver that tells on which machines its two actors and its tasks are, whenever that changes, until a file is there.
const stays = `
import os, sys, time, maniple
from maniple.util.scheduling_strategies import NodeAffinitySchedulingStrategy

maniple.init()

@maniple.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)
class Place:
    def where(self):
        return os.environ["NM_HOST"]

@maniple.remote(num_cpus=1)
def work(i):
    time.sleep(0.5)
    return os.environ["NM_HOST"], i

places = [Place.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=True)).remote() for n in ("n1", "n2")]
print("driver on", os.environ["NM_HOST"], flush=True)
last, done = None, 0
while not os.path.exists(sys.argv[1]):
    results = maniple.get([work.remote(i) for i in range(4)])
    assert [i for _, i in results] == list(range(4))
    done += 4
    now = "actors on " + " ".join(sorted(maniple.get([p.where.remote() for p in places]))) + ", tasks on " + " ".join(sorted({h for h, _ in results}))
    if now != last:
        print(now, flush=True)
    last = now
print("all", done, flush=True)
`

// When YARN's administrator takes a machine out of the cluster, with time to leave, tasks and actors move away from it at once, and when it is there again its place
// is taken again.
func TestMachineIsDecommissioned(t *testing.T) {
	b := &testbed{variable: "MANIPLE_E2E_YARN_LEAVES", programs: apart.programs, settings: []string{"NETNS=1"}}
	if os.Getenv(b.variable) == "" {
		t.Cleanup(func() { b.script("down.sh") })
	}
	g := gatewayOn(t, b.up(t))
	python, top := devPython(t)
	g.write("main.py", stays)
	enough := filepath.Join(g.home, "enough")
	id := g.submit("-N", "2", "-c", "4", "--mem", "2500M", "--am-memory", "512M", "--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"), "--", python, "main.py", enough) // each on a machine of its own
	one, two := strings.TrimSuffix(g.b.rm.Host, ".1")+".11", strings.TrimSuffix(g.b.rm.Host, ".1")+".12"
	last := func() string { // what it said last
		all := regexp.MustCompile(`(?m)^actors on .*$`).FindAllString(g.logs(id), -1)
		return append([]string{""}, all...)[len(all)]
	}
	e2e.Until(t, afterwards, "both machines are used", func() bool { return last() == fmt.Sprintf("actors on %s %s, tasks on %s %s", one, two, one, two) })
	here := regexp.MustCompile(`driver on (\S+)`).FindStringSubmatch(g.logs(id))[1]
	leaves := "nm1"
	if here == one {
		leaves = "nm2"
	}
	daemon(t, g, "leave "+leaves+" 100")
	began := time.Now()
	e2e.Until(t, time.Minute, "all of it has moved", func() bool { return last() == fmt.Sprintf("actors on %s %s, tasks on %s", here, here, here) })
	t.Logf("after %v", time.Since(began))
	if r := g.run("nodes", "--cluster", id); r.Code != 0 || !strings.Contains(r.Stdout, "draining") {
		t.Errorf("%+v", r)
	}
	daemon(t, g, "back "+leaves) // before its time
	e2e.Until(t, time.Minute, "tasks are on both again", func() bool { return strings.HasSuffix(last(), fmt.Sprintf(", tasks on %s %s", one, two)) })
	if err := os.WriteFile(enough, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.Log(last(), g.run("explain", id))
	}
	if r := g.over(id); r.Final != yarn.Succeeded || !strings.Contains(g.logs(id), "all ") {
		t.Errorf("%+v\n%s", r, g.logs(id))
	}
}
