//go:build e2e && soak

package yarn

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
)

// Tokens of 60 s: that YARN renews for as long as it likes, and that nobody can renew.
var (
	renewed = &testbed{variable: "MANIPLE_E2E_YARN_RENEWED", programs: secure.programs, settings: []string{"KERBEROS=1", "NODES=1", "NM_MB=8192", "NM_VCORES=16", "TOKEN_RENEW_MS=60000"}}
	passing = &testbed{variable: "MANIPLE_E2E_YARN_PASSING", programs: secure.programs, settings: []string{"KERBEROS=1", "NODES=1", "NM_MB=8192", "NM_VCORES=16", "TOKEN_RENEW_MS=60000", "TOKEN_MAX_MS=60000"}}
)

func init() { testbeds = append(testbeds, renewed, passing) }

// atATime is how many applications there are when the KDC stops, as many as the bar wants.
const atATime = 5

// keepsFiles writes a file to HDFS now and then, and reads it, each in a process of its own, which logs in anew.
const keepsFiles = `
import subprocess, sys, time
from maniple import fs

at, seconds, n = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
if n:
    with fs.open(f"{at}/{n}", "w") as f:
        f.write(str(n) * 1000)
    assert fs.open(f"{at}/{n}").read() == str(n) * 1000
    sys.exit()
end = time.time() + seconds
while time.time() < end:
    n += 1
    done = subprocess.run([sys.executable, __file__, at, "0", str(n)], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr.splitlines()[-1])
    print("kept", n, flush=True)
    time.sleep(3)
print("kept all")
`

// secureAccount is alice's on a testbed with Kerberos, and a client of hers that has a ticket.
func secureAccount(t *testing.T, b *testbed) (*gateway, *yarn.Client) {
	t.Helper()
	g := accountOn(t, b.up(t))
	g.kerberosHome().Close()
	kdc := filepath.Join(b.dir, "kdc")
	g.environ = []string{"KRB5_CONFIG=" + filepath.Join(kdc, "krb5.conf"), "KRB5CCNAME=FILE:" + filepath.Join(g.home, "none"), "MANIPLE_PRINCIPAL=alice", "MANIPLE_KEYTAB=" + filepath.Join(kdc, "keytab")}
	l := b.login(t)
	client := b.as(t, func(c *yarn.Config) { c.Kerberos = l })
	if _, err := client.Metrics(within(t)); err != nil { // with a ticket of the KDC's
		t.Fatal(err)
	}
	if r := g.run(append(append([]string{"submit", "--on", "yarn", "--wait", "-N", "1", "-n", "1"}, small...), "--", "true")...); r.Code != 0 { // so have Hadoop's daemons, from then on
		t.Fatalf("%+v", r)
	}
	return g, client
}

// withoutKDC submits commands, stops the KDC, and gives the ends of all.
func (g *gateway) withoutKDC(client *yarn.Client, within time.Duration, commands ...[]string) (reports []yarn.Report) {
	t := g.t
	t.Helper()
	var ids []yarn.ApplicationID
	for _, command := range commands {
		id, err := yarn.ParseApplicationID(g.submit(append(append([]string{"-N", "1", "-n", "1"}, small...), command...)...))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	daemon(t, g, "kill kdc")
	defer daemon(t, g, "start kdc")
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for _, id := range ids {
		r, err := client.Watch(ctx, id, time.Second, nil)
		if err != nil {
			t.Fatal(id, err)
		}
		reports = append(reports, r)
	}
	return reports
}

// Applications go on for as long as YARN renews their token, whether there is a KDC or not.
func TestTokensAreRenewedWithoutKDC(t *testing.T) {
	g, client := secureAccount(t, renewed)
	python, top := devPython(t)
	g.write("keeps.py", keepsFiles)
	var commands [][]string
	for i := range atATime {
		commands = append(commands, []string{"--export", "PYTHONPATH=" + filepath.Join(top, "libs", "python"), "--", python, "keeps.py", fmt.Sprintf("hdfs:///user/alice/renewed-%d-%d", time.Now().UnixNano(), i), "150", "0"})
	}
	for i, r := range g.withoutKDC(client, 5*time.Minute, commands...) {
		if text := g.logs(r.ID.String()); r.Final != yarn.Succeeded || !strings.Contains(text, "kept all\n") {
			t.Errorf("%d: %+v\n%s", i, r, text)
		}
	}
}

// Once their token's life is over, applications go on, but for who uses HDFS: that is told whose life ended, and what was kept before is there.
func TestTokensPassAway(t *testing.T) {
	g, client := secureAccount(t, passing)
	python, top := devPython(t)
	g.write("keeps.py", keepsFiles)
	commands, places := [][]string{{"--", "sleep", "100"}}, []string(nil)
	for i := range atATime {
		places = append(places, fmt.Sprintf("/user/alice/passing-%d-%d", time.Now().UnixNano(), i))
		commands = append(commands, []string{"--export", "PYTHONPATH=" + filepath.Join(top, "libs", "python"), "--", python, "keeps.py", "hdfs://" + places[i], "150", "0"})
	}
	reports := g.withoutKDC(client, 5*time.Minute, commands...)
	if r := reports[0]; r.Final != yarn.Succeeded {
		t.Errorf("%+v", r)
	}
	fs := g.kerberosHome()
	defer fs.Close()
	for i, r := range reports[1:] {
		text, why := g.logs(r.ID.String()), g.written(r.ID.String(), "stderr")
		if r.Final != yarn.Failed || !strings.HasPrefix(r.Diagnostics, "exit code 1") || !strings.Contains(text, "kept 5\n") ||
			!strings.Contains(why, "PermissionError: [Errno 13] the life of the token for HDFS was over at ") || !strings.Contains(why, "dfs.namenode.delegation.token.max-lifetime") {
			t.Errorf("%d: %+v\n%s%s", i, r, text, why)
		}
		for n := range strings.Count(text, "kept ") { // what was told to be there
			if _, err := fs.Stat(fmt.Sprintf("%s/%d", places[i], n+1)); err != nil {
				t.Error(err)
			}
		}
	}
}
