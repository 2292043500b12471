package yarn

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fetch asks a page as somebody at an address, whom the proxy names.
func fetch(p *page, from, user, method, path string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = from + ":1234"
	if user != "" {
		r.AddCookie(&http.Cookie{Name: "proxy-user", Value: user})
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result()
}

// YJOB-8: the page is for YARN's proxies, and on a cluster that knows its users for the application's own.
func TestPageIsForTheProxy(t *testing.T) {
	p := &page{title: "x", proxies: []string{"http://192.0.2.1:8088", "https://192.0.2.2:8090"}, base: "/proxy/application_1_0001", owner: "alice"}
	for _, tt := range []struct {
		from, user, method, path string
		code                     int
	}{
		{"192.0.2.1", "alice", "GET", "/", 200},
		{"192.0.2.2", "alice", "HEAD", "/", 200},
		{"192.0.2.1", "bob", "GET", "/", 403},
		{"192.0.2.1", "", "GET", "/", 403},
		{"192.0.2.1", "alice", "POST", "/", 405},
		{"192.0.2.1", "alice", "GET", "/etc/passwd", 404},
		{"192.0.2.3", "alice", "GET", "/", 302},
	} {
		r := fetch(p, tt.from, tt.user, tt.method, tt.path)
		if r.StatusCode != tt.code {
			t.Errorf("%+v: %s", tt, r.Status)
		}
		if at := r.Header.Get("Location"); tt.code == 302 && at != "http://192.0.2.1:8088/proxy/application_1_0001/" {
			t.Error(at)
		}
	}
	p.owner = ""
	if r := fetch(p, "192.0.2.1", "dr.who", "GET", "/"); r.StatusCode != 200 {
		t.Error(r.Status)
	}
	p = &page{proxies: []string{"http://127.0.0.1:8088"}}
	own := addressesOf(t.Context(), []string{"http://127.0.0.1:1"})
	if len(own) < 2 {
		t.Skip("this machine has one address")
	}
	for _, a := range own { // a proxy of this machine comes from any of its addresses
		if !p.proxy(t.Context(), a) {
			t.Error(a)
		}
	}
}

// What it shows is what the head says, what it waits for and the ends of the logs: as text, whatever it has in it.
func TestPageShowsTheApplication(t *testing.T) {
	dir := t.TempDir()
	logs := [2]string{filepath.Join(dir, "out"), filepath.Join(dir, "none")}
	if err := os.WriteFile(logs[0], []byte(strings.Repeat("old line\n", 10000)+"<b>last</b>\xff\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &page{title: "a<b", logs: logs}
	text := p.text(t.Context())
	if !strings.Contains(text, "<h1>a&lt;b</h1>") || !strings.Contains(text, "Nothing runs yet") || !strings.Contains(text, "&lt;b&gt;last&lt;/b&gt;\uFFFD") || strings.Count(text, "old line") > pageLines {
		t.Error(text)
	}
	p.tells(func() string { return "3 of 4 containers" })
	p.asks(func(context.Context) (Standing, error) {
		return Standing{Nodes: Table{[]string{"NODE"}, [][]string{{"n1", "<i>"}}}, Gangs: Table{[]string{"GANG"}, [][]string{{"1.2.3"}}}, Explain: "it waits & waits"}, errors.New("half of it")
	})
	text = p.newest(t.Context())
	for _, want := range []string{"waits for nodes: 3 of 4 containers", "<td>n1</td><td>&lt;i&gt;</td>", "<th>GANG</th>", "1.2.3", "it waits &amp; waits", "does not answer: half of it", `http-equiv="refresh"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	p.asks(nil)
	if again := p.newest(t.Context()); again != text {
		t.Error("it was made again at once")
	}
	p.made = time.Now().Add(-time.Minute)
	if again := p.newest(t.Context()); strings.Contains(again, "1.2.3") {
		t.Error(again)
	}
}

// YJOB-9: where a site's calls are private the page has nothing of what the program said, which would go to the proxy as it is.
func TestPageOfAPrivateCluster(t *testing.T) {
	log := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(log, []byte("said by it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		protection []string
		private    bool
	}{{nil, false}, {[]string{"authentication"}, false}, {[]string{"authentication", "privacy"}, false}, {[]string{"privacy"}, true}, {[]string{"Privacy"}, true}} {
		p, err := openPage("train", "/proxy/application_1_0001", Job{Proxies: []string{"http://127.0.0.1:8088"}, Protection: tt.protection}, [2]string{log, log})
		if err != nil {
			t.Fatal(err)
		}
		p.asks(func(context.Context) (Standing, error) {
			return Standing{Nodes: Table{[]string{"NODE"}, [][]string{{"n1"}}}, Explain: "its last lines: what it said"}, nil
		})
		text := p.newest(t.Context())
		p.close()
		if !strings.Contains(text, "<td>n1</td>") || strings.Contains(text, "said by it") == tt.private || strings.Contains(text, "what it said") == tt.private || strings.Contains(text, "maniple logs") != tt.private {
			t.Errorf("%v:\n%s", tt.protection, text)
		}
	}
}
