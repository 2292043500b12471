//go:build e2e && soak

package yarn

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colinmarc/hdfs/v2"
)

// private is what a program has to do with that nobody else is to read: each of its texts is used once, for what it is called.
const private = `
import os, sys, time, maniple
from maniple import fs

maniple.init()
given, at = sys.argv[1], sys.argv[2]
texts = dict(line.split() for line in open("texts.txt"))

@maniple.remote(num_cpus=1)
def elsewhere(argument, value, mine):
    time.sleep(0.3)
    assert value[:20].decode() in texts["value"] * 2 and argument == texts["argument"]
    with fs.open(f"{at}/{mine}", "w") as f:
        f.write(texts["content"] * 1000)
    assert fs.open(f"{at}/{mine}").read() == texts["content"] * 1000
    print(texts["printed"], flush=True)
    return os.environ["CONTAINER_ID"], texts["result"]

value = maniple.put(texts["value"].encode() * 100_000)
seen = maniple.get([elsewhere.remote(texts["argument"], value, i) for i in range(6)])
assert len(given) == len(os.environ["EXPORTED"]) == len(texts["result"]) and {r for _, r in seen} == {texts["result"]}
print("tasks in", len({c for c, _ in seen}), "containers", flush=True)
until = time.monotonic() + 300
while not fs.exists(f"{at}/looked"):
    assert time.monotonic() < until, "nobody looks"
    time.sleep(0.2)
`

// A whole run on a cluster with Kerberos whose calls and data are private: whoever reads all that goes over its network finds none of its secrets, and nothing of what it works with. That the capture
// sees what can be seen shows one whose data is not private.
func TestPrivacy(t *testing.T) {
	for name, tc := range map[string]struct {
		settings []string
		open     string // what can be read, since it goes to or from DataNodes
	}{
		"protected": {[]string{"DATA_PROTECTION=privacy"}, ""},
		"encrypted": {[]string{"DATA_ENCRYPTION=true", "DATA_CIPHERS=AES/CTR/NoPadding"}, ""},
		"open":      {nil, "content value"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &testbed{variable: "MANIPLE_E2E_YARN_PRIVACY_" + strings.ToUpper(name), programs: apart.programs, settings: append([]string{"KERBEROS=1", "NETNS=1", "WEB_LOGIN=1", "PROTECTION=privacy"}, tc.settings...)}
			if os.Getenv(b.variable) == "" {
				t.Cleanup(func() { b.script("down.sh") })
			}
			b.up(t)
			g := accountOn(t, b)
			home := g.kerberosHome()
			defer home.Close()
			texts, streams, secrets := g.works(home)
			for what, text := range texts {
				found := carriers(streams, []byte(text))
				if seen := len(found) > 0; tc.open == "" && seen || strings.Contains(tc.open, what) && !seen {
					t.Errorf("what is %s: it was read on %v", what, found)
				}
			}
			for i, secret := range secrets {
				if found := carriers(streams, secret); len(found) > 0 {
					t.Errorf("secret %d of %d can be read on %v", i+1, len(secrets), found)
				}
			}
		})
	}
}

// works has an application work with texts on two nodes, and looks at its page. It gives them, and what went over the network meanwhile.
func (g *gateway) works(home *hdfs.Client) (texts map[string]string, streams map[flow][]byte, secrets [][]byte) {
	t := g.t
	t.Helper()
	kdc := filepath.Join(g.b.dir, "kdc")
	python, top := devPython(t)
	g.environ = []string{"KRB5_CONFIG=" + filepath.Join(kdc, "krb5.conf"), "KRB5CCNAME=FILE:" + filepath.Join(g.home, "none"), "MANIPLE_PRINCIPAL=alice", "MANIPLE_KEYTAB=" + filepath.Join(kdc, "keytab")}
	texts = map[string]string{}
	for _, what := range []string{"given", "exported", "argument", "value", "result", "printed", "content"} {
		texts[what] = rand.Text()
	}
	lines := ""
	for what, text := range texts {
		if what != "given" && what != "exported" {
			lines += what + " " + text + "\n"
		}
	}
	g.write("texts.txt", lines)
	g.write("main.py", private)

	c := captures(t, netip.MustParseAddr(g.b.rm.Host), g.interfaces()...)
	cmd := g.command(forTraining(t), "submit", "--on", "yarn", "--follow", "-N", "2", "-c", "2", "--mem", "2500M", "--am-memory", "512M", "--no-same-host-handover", "--files", "texts.txt", // one of them on each NodeManager
		"--export", "PYTHONPATH="+filepath.Join(top, "libs", "python")+",EXPORTED="+texts["exported"], "--", python, "main.py", texts["given"], "hdfs:///user/alice/private")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var messages bytes.Buffer
	cmd.Stderr = &messages
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, printed, looked := "", false, false
	for in := bufio.NewScanner(out); in.Scan(); {
		line := in.Text()
		if _, after, found := strings.Cut(line, "application_"); found && id == "" {
			id = "application_" + strings.FieldsFunc(after, func(r rune) bool { return r != '_' && (r < '0' || r > '9') })[0]
		}
		printed = printed || strings.Contains(line, texts["printed"])
		if line == "tasks in 2 containers" {
			g.looksOn(id)
			looked = true
			if err := home.CreateEmptyFile("/user/alice/private/looked"); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || id == "" || !printed || !looked {
		t.Fatalf("%v: %q was printed: %v, looked at: %v: %s", err, id, printed, looked, &messages)
	}
	streams = c.end()
	secrets, _ = g.secrets(id)
	between := 0 // the two nodes
	for f, all := range streams {
		if f.from.IsValid() && f.from.Addr() != f.to.Addr() && f.from.Addr().As4()[3] > 10 && f.to.Addr().As4()[3] > 10 {
			between += len(all)
		}
	}
	t.Logf("%d streams with %d bytes, %d of them between nodes; %d secrets", len(streams), c.bytes, between, len(secrets))
	if asked, page := carriers(streams, []byte("proxy-user=alice")), carriers(streams, []byte("<h1>main.py, "+id)); len(asked) == 0 || len(page) < 2 { // by the proxy, and the page on its way to it and from it
		t.Errorf("who looks was told on %v, and the page was seen on %v", asked, page)
	}
	if len(secrets) < 6 || between < 26*100_000 {
		t.Error("too little was seen")
	}
	return texts, streams, secrets
}

// looksOn looks at an application that runs as a browser does, by YARN's proxy and its cookies, and at what YARN says of it to programs. What the program printed is there by then.
func (g *gateway) looksOn(id string) {
	t := g.t
	t.Helper()
	_, at, _ := strings.Cut(g.run("explain", id).Stdout, "its page: ")
	at, _, _ = strings.Cut(at, "\n")
	page, err := url.Parse(at)
	jar, none := cookiejar.New(nil)
	if err = errors.Join(err, none); err != nil || !strings.Contains(page.Path, "/proxy/"+id) {
		t.Fatalf("%q: %v", at, err)
	}
	page.RawQuery = "user.name=alice" // so it logs in, once
	data := *page
	data.Path, data.RawQuery = "/ws/v1/cluster/apps/"+id, ""
	browser := &http.Client{Jar: jar, Timeout: limit, Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(address)
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(g.b.rm.Host, port)) // it names the machine, which only the daemons know by this address
	}}}
	read := func(at *url.URL) string {
		r, err := browser.Get(at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v\n%s", at, r.Status, err, text)
		}
		return string(text)
	}
	if text := read(page); !strings.Contains(text, "<h1>main.py, "+id) || !strings.Contains(text, "<td>n2</td>") || !strings.Contains(text, "<code>maniple logs</code>") {
		t.Errorf("its page:\n%s", text)
	}
	var of struct{ App struct{ ID, State string } }
	if text := read(&data); json.Unmarshal([]byte(text), &of) != nil || of.App.ID != id || of.App.State != "RUNNING" {
		t.Errorf("YARN's word on it:\n%s", text)
	}
	if !slices.ContainsFunc(jar.Cookies(page), func(c *http.Cookie) bool { return c.Name == "hadoop.auth" }) {
		t.Errorf("the browser is known by %v", jar.Cookies(page))
	}
}

// interfaces are those that the testbed's packets go by on this side.
func (g *gateway) interfaces() (list []int) {
	g.t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, i := range all {
		addresses, _ := i.Addrs()
		for _, a := range addresses {
			if ip, ok := a.(*net.IPNet); ok && (ip.IP.String() == g.b.rm.Host || i.Flags&net.FlagLoopback != 0) {
				list = append(list, i.Index)
				break
			}
		}
	}
	if len(list) != 2 {
		g.t.Fatalf("%v: neither the testbed's bridge nor the loopback interface may be missing", list)
	}
	return list
}
