package yarn

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	pageRefresh  = 5 * time.Second
	pagePatience = 2 * time.Second // for the head's answer
	pageKept     = time.Second
	pageResolve  = time.Minute // between looks for the proxies' addresses
	pageLines    = 100         // of each log
	pageBytes    = 32 << 10    // of a log at most
)

// Standing is what the head says of the application, for its page.
type Standing struct {
	Nodes   Table
	Gangs   Table
	Explain string
}

// Table is rows of texts under their headings.
type Table struct {
	Headings []string
	Rows     [][]string
}

// page is what YARN's web proxy shows of a running application. Only the proxies get it; who else asks is sent to the first of them. Where YARN
// knows its users by Kerberos, or has them keep apart, only the application's own user does: the proxy says in a cookie who asks. It goes to the proxy by HTTP, so that where a
// site's calls are private nothing is on it that the program has said.
//
// It owns a listener and net/http's goroutines; close ends them.
type page struct {
	listener net.Listener
	server   *http.Server
	title    string
	proxies  []string // http://host:port
	base     string   // path of the application on a proxy
	owner    string   // "": everybody may see it
	private  bool     // nothing of what the program says is on it
	logs     [2]string
	began    time.Time

	mu       sync.Mutex
	waits    func() string
	standing func(context.Context) (Standing, error) // nil: the head is not asked yet, or no more

	looking sync.Mutex
	looked  time.Time
	allow   []string // addresses of the proxies

	making sync.Mutex
	made   time.Time
	last   string // the page as it was made last
}

// openPage opens the page of an application on all interfaces.
func openPage(title, base string, j Job, logs [2]string) (*page, error) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		return nil, fmt.Errorf("yarn: the page's port: %w", err)
	}
	p := &page{listener: l, title: title, proxies: j.Proxies, base: base, owner: j.Owner, private: private(j.Protection), logs: logs, began: time.Now()}
	p.server = &http.Server{Handler: p, ReadTimeout: helloTime, WriteTimeout: helloTime, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	go p.server.Serve(l) // ends with close
	return p, nil
}

// private tells whether a site lets no call go that others can read.
func private(protection []string) bool {
	return len(protection) > 0 && !slices.ContainsFunc(protection, func(p string) bool { return !strings.EqualFold(p, "privacy") })
}

func (p *page) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// url is the page's own address, on a host.
func (p *page) url(host string) string {
	return (&url.URL{Scheme: "http", Host: net.JoinHostPort(host, fmt.Sprint(p.port())), Path: "/"}).String()
}

func (p *page) close() { _ = p.server.Close() }

// asks has the page ask for what the head says; nil: it is not there any more.
func (p *page) asks(standing func(context.Context) (Standing, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.standing = standing
}

// tells has the page say what the application waits for.
func (p *page) tells(waits func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits = waits
}

// ServeHTTP is http.Handler's.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, _, _ := net.SplitHostPort(r.RemoteAddr)
	if !p.proxy(r.Context(), from) {
		http.Redirect(w, r, strings.TrimSuffix(p.proxies[0]+p.base, "/")+"/", http.StatusFound)
		return
	}
	who := ""
	if c, err := r.Cookie("proxy-user"); err == nil {
		who = c.Value
	}
	switch {
	case p.owner != "" && who != p.owner:
		http.Error(w, "This application is "+p.owner+"'s.", http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "This page is for looking at.", http.StatusMethodNotAllowed)
	case r.URL.Path != "/" && r.URL.Path != "":
		http.NotFound(w, r)
	default:
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_, _ = io.WriteString(w, p.newest(r.Context())) // who went needs none
	}
}

// proxy tells whether an address is that of one of YARN's proxies. Where one is on this very machine, its connections may have any of the
// machine's addresses.
func (p *page) proxy(ctx context.Context, address string) bool {
	p.looking.Lock()
	defer p.looking.Unlock()
	if !slices.Contains(p.allow, address) && time.Since(p.looked) > pageResolve {
		p.looked = time.Now()
		if found := addressesOf(context.WithoutCancel(ctx), p.proxies); len(found) > 0 {
			p.allow = found
		}
	}
	return slices.Contains(p.allow, address)
}

// addressesOf are those of the hosts of some URLs.
func addressesOf(ctx context.Context, list []string) (all []string) {
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	for _, text := range list {
		if u, err := url.Parse(text); err == nil {
			found, _ := net.DefaultResolver.LookupHost(ctx, u.Hostname()) // one that has none connects from nowhere
			all = append(all, found...)
		}
	}
	var mine []string
	interfaces, _ := net.InterfaceAddrs() // without them the proxy's own address is the only one
	for _, a := range interfaces {
		if n, ok := a.(*net.IPNet); ok {
			mine = append(mine, n.IP.String())
		}
	}
	if slices.ContainsFunc(all, func(a string) bool { return slices.Contains(mine, a) }) {
		all = append(all, mine...)
	}
	return all
}

const pageStyle = `body{font:15px/1.4 sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222}
h1{font-size:1.3em}h2{font-size:1.05em;margin:1.6em 0 .4em}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25em .8em .25em 0;border-bottom:1px solid #ddd;vertical-align:top}th{font-weight:600}
pre{background:#f6f6f6;padding:.8em;overflow-x:auto;font-size:13px;line-height:1.35}p{margin:.4em 0}`

// newest is the page as it is now, or was a moment ago: however many look at it, the head is asked once.
func (p *page) newest(ctx context.Context) string {
	p.making.Lock()
	defer p.making.Unlock()
	if time.Since(p.made) > pageKept {
		p.last, p.made = p.text(context.WithoutCancel(ctx)), time.Now()
	}
	return p.last
}

// text is the page as it is now.
func (p *page) text(ctx context.Context) string {
	p.mu.Lock()
	waits, standing := p.waits, p.standing
	p.mu.Unlock()
	var b strings.Builder
	title := html.EscapeString(p.title)
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"%d\"><title>%s</title><style>%s</style></head><body>\n<h1>%s</h1>\n",
		int(pageRefresh/time.Second), title, pageStyle, title)
	fmt.Fprintf(&b, "<p>This master runs since %s. The page is renewed every %d seconds.</p>\n", p.began.Format(time.RFC1123), int(pageRefresh/time.Second))
	if waits != nil {
		if text := waits(); text != "" {
			fmt.Fprintf(&b, "<p>It waits for nodes: %s.</p>\n", html.EscapeString(text))
		}
	}
	if standing == nil {
		b.WriteString("<p>Nothing runs yet, or it has just ended.</p>\n")
	} else {
		ctx, cancel := context.WithTimeout(ctx, pagePatience)
		s, err := standing(ctx)
		cancel()
		if err != nil {
			fmt.Fprintf(&b, "<p>The head of its cluster does not answer: %s</p>\n", html.EscapeString(err.Error()))
		}
		s.Gangs.write(&b, "Gangs")
		s.Nodes.write(&b, "Nodes")
		if !p.private { // it has the last lines of what has ended
			pre(&b, "What waits, and why", s.Explain)
		}
	}
	if p.private {
		b.WriteString("<p>Calls are private on this cluster, and this page is not: <code>maniple explain</code> says what waits, and why, and <code>maniple logs</code> what was printed.</p>\n")
	} else {
		pre(&b, "Last lines of its output", lastLines(p.logs[0]))
		pre(&b, "Last lines of its messages", lastLines(p.logs[1]))
	}
	b.WriteString("</body></html>\n")
	return b.String()
}

func (t *Table) write(b *strings.Builder, heading string) {
	if len(t.Rows) == 0 {
		return
	}
	fmt.Fprintf(b, "<h2>%s</h2>\n<table><tr>", html.EscapeString(heading))
	for _, h := range t.Headings {
		fmt.Fprintf(b, "<th>%s</th>", html.EscapeString(h))
	}
	b.WriteString("</tr>\n")
	for _, row := range t.Rows {
		b.WriteString("<tr>")
		for _, cell := range row {
			fmt.Fprintf(b, "<td>%s</td>", html.EscapeString(cell))
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</table>\n")
}

func pre(b *strings.Builder, heading, text string) {
	if text = strings.TrimRight(text, "\n"); text != "" {
		fmt.Fprintf(b, "<h2>%s</h2>\n<pre>%s</pre>\n", html.EscapeString(heading), html.EscapeString(strings.ToValidUTF8(text, "\uFFFD")))
	}
}

// lastLines is the end of a log; what can't be read is empty.
func lastLines(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from := max(0, size-pageBytes)
	data := make([]byte, size-from)
	n, err := f.ReadAt(data, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	text := string(data[:n])
	if from > 0 { // it begins within a line
		_, text, _ = strings.Cut(text, "\n")
	}
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-pageLines-1):], "")
}
