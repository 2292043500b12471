package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/matrix"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
)

const (
	fabricWithin = time.Minute      // that a measurement takes at most, unless it is told otherwise
	fabricWait   = 20 * time.Second // beyond its time, until the head must have answered
	fabricPrints = 16               // nodes whose ways are printed each
	fabricAgain  = time.Second      // a way that seems slow is measured
)

// stateWays is what nodes measured (docs/spec/state.md).
type stateWays struct {
	Nodes []struct {
		Name  string    `json:"name"`
		From  string    `json:"from"`
		Error string    `json:"error"`
		Ways  []fullWay `json:"ways"`
	} `json:"nodes"`
}

// fullWay is a way by one carrier.
type fullWay struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Carrier string `json:"carrier,omitempty"`
	Streams int    `json:"streams,omitempty"`
	Error   string `json:"error,omitempty"` // in place of numbers
	matrix.Way
}

// measured is what --json prints.
type measured struct {
	Version  int              `json:"version"`
	Cluster  string           `json:"cluster"`
	Nodes    []string         `json:"nodes"`
	Ways     []fullWay        `json:"ways"` // in the order of their measurement, some twice
	Failed   []fullWay        `json:"failed,omitempty"`
	Left     int              `json:"left,omitempty"` // pairs that there was no time for
	Findings []matrix.Finding `json:"findings"`
}

// doctorFabric measures the ways between all nodes.
func (c *call) doctorFabric() error {
	within := fabricWithin
	if v, origin, ok := c.flag("within"); ok {
		if within, ok = spec.ParseSeconds(v); !ok || within < time.Second {
			return usage(origin, strconv.Quote(v)+" is no time", "write seconds, one at least")
		}
	}
	var picture *os.File
	if path, _, ok := c.flag("image"); ok { // a minute later is too late to learn of it
		var err error
		if picture, err = os.Create(path); err != nil {
			return &Fault{Name: "CANNOT_CREATE", What: "doctor", Why: err.Error(), Do: "name a file that can be written with --image", Err: err}
		}
		defer picture.Close()
	}
	return c.withCluster(func(ctx context.Context, client *gang.Client, ep *boot.Endpoint) error {
		reply, _, err := ask[stateNodes](ctx, c, client, "nodes", "")
		if err != nil {
			return err
		}
		var names, hosts []string
		for _, n := range reply.Nodes {
			if n.State != "up" || len(n.Addresses) == 0 {
				c.say("doctor: %s is left out: it is %s", n.Name, n.State)
				continue
			}
			host, _, _ := net.SplitHostPort(n.Addresses[0])
			names, hosts = append(names, n.Name), append(hosts, host)
		}
		if len(names) < 2 {
			return &Fault{Name: "INFEASIBLE", What: "doctor --fabric", Why: fmt.Sprintf("%d node is up: there is no way to measure", len(names)), Do: "start it on two nodes or more"}
		}
		m := measured{Version: 1, Cluster: ep.Name, Nodes: names, Ways: []fullWay{}, Findings: []matrix.Finding{}}
		if err := c.measure(ctx, client, &m, hosts, within); err != nil {
			return err
		}
		if err := c.again(ctx, client, &m, time.Now().Add(within/4)); err != nil {
			return err
		}
		matrices := m.matrices()
		for _, x := range matrices {
			m.Findings = append(m.Findings, x.Explain()...)
		}
		if picture != nil {
			if err := matrix.Picture(picture, matrices); err != nil {
				return &Fault{Name: "CANNOT_CREATE", What: "doctor", Why: err.Error(), Do: "name a file that can be written with --image", Err: err}
			}
		}
		if c.on("json") {
			err = c.json(m)
		} else {
			c.printFabric(&m, matrices)
		}
		if err == nil && len(m.Failed) > 0 {
			err = exitOnly(ExitConfig)
		}
		return err
	})
}

// withCluster is withClient that starts a cluster on the nodes of the Slurm job, if none is up in it.
func (c *call) withCluster(do func(context.Context, *gang.Client, *boot.Endpoint) error) error {
	if boot.JobName(c.getenv) == "" || c.namesOther() {
		return c.withClient(do)
	}
	if _, err := c.find(); err == nil {
		return c.withClient(do)
	}
	ctx, sig := watchSignals(c.ctx)
	defer sig.stop()
	o, _, err := c.cluster()
	if err != nil {
		return err
	}
	o.Embedded = true
	cluster, err := c.bringUp(ctx, o)
	if err != nil {
		return err
	}
	defer c.stopEmbedded(cluster)
	client, err := c.connect(ctx, &cluster.Endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(ctx, client, &cluster.Endpoint)
}

// measure has the nodes measure their ways, round after round.
func (c *call) measure(ctx context.Context, client *gang.Client, m *measured, hosts []string, within time.Duration) error {
	rounds := matrix.Rounds(hosts)
	some, _ := matrix.Fit(len(rounds), within)
	bar := progress{to: c.stderr, shown: terminal(c.stderr) && !c.on("json"), began: time.Now(), total: 2 * some}
	defer bar.end()
	for i, r := range rounds {
		left := within - time.Since(bar.began)
		if i >= some || i > 0 && left <= 0 {
			m.Left += len(r)
			continue
		}
		_, each := matrix.Fit(some-i, left) // less, where measurements cost more than was thought
		for _, back := range []bool{false, true} {
			pairs := make([][2]string, len(r))
			for j, p := range r {
				pairs[j] = [2]string{m.Nodes[p.A], m.Nodes[p.B]}
				if back {
					pairs[j] = [2]string{m.Nodes[p.B], m.Nodes[p.A]}
				}
			}
			if err := c.round(ctx, client, m, pairs, each); err != nil {
				return err
			}
			bar.step()
		}
	}
	return nil
}

// again measures single ways that seem slow once more, with nothing beside them, until a time: something else may have used them.
func (c *call) again(ctx context.Context, client *gang.Client, m *measured, until time.Time) error {
	for _, x := range m.matrices() {
		for _, f := range x.Explain() {
			if len(f.Nodes) == 2 && time.Now().Before(until) {
				if err := c.round(ctx, client, m, [][2]string{{f.Nodes[0], f.Nodes[1]}}, fabricAgain); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// round has some pairs measured, all at the same time.
func (c *call) round(ctx context.Context, client *gang.Client, m *measured, pairs [][2]string, each time.Duration) error {
	question, err := json.Marshal(map[string]any{"pairs": pairs, "ms": each.Milliseconds()})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, each+fabricWait)
	defer cancel()
	text, err := client.Query(ctx, "ways", string(question))
	if err != nil {
		return overWire(c.page.name, "", err)
	}
	var reply stateWays
	if err := json.Unmarshal(text, &reply); err != nil {
		return &Fault{Name: "BUG", What: c.page.name, Why: fmt.Sprintf("the head's answer to \"ways\": %v", err), Do: doReport, Err: err}
	}
	for _, n := range reply.Nodes {
		if n.Error != "" {
			m.Failed = append(m.Failed, fullWay{From: n.From, To: n.Name, Error: n.Error})
		}
		for _, w := range n.Ways {
			if w.From, w.To = n.From, n.Name; w.Error != "" {
				m.Failed = append(m.Failed, w)
				continue
			}
			m.Ways = append(m.Ways, w)
		}
	}
	return nil
}

// matrices are what was measured, by carrier.
func (m *measured) matrices() (list []*matrix.Matrix) {
	places := map[string]int{}
	for i, name := range m.Nodes {
		places[name] = i
	}
	by := map[string]*matrix.Matrix{}
	for _, w := range m.Ways {
		x := by[w.Carrier]
		if x == nil {
			x = matrix.New(w.Carrier, m.Nodes)
			by[w.Carrier], list = x, append(list, x)
		}
		x.Set(places[w.From], places[w.To], w.Way)
	}
	return list
}

// printFabric shows it to people.
func (c *call) printFabric(m *measured, matrices []*matrix.Matrix) {
	for _, x := range matrices {
		u := x.Usual()
		fmt.Fprintf(c.stdout, "%d nodes, %d ways by %s: usually %s, %s\n", len(m.Nodes), x.Measured(), x.Carrier, matrix.Speed(u.Bandwidth), matrix.Time(u.Latency))
		if len(m.Nodes) > fabricPrints {
			fmt.Fprintf(c.stdout, "  those of more than %d nodes are not printed: --json has them, --image FILE.png draws them\n", fabricPrints)
			continue
		}
		c.printWays(x, "BANDWIDTH", func(w *matrix.Way) string { return matrix.Speed(w.Bandwidth) })
		c.printWays(x, "LATENCY", func(w *matrix.Way) string { return matrix.Time(w.Latency) })
	}
	if m.Left > 0 {
		fmt.Fprintf(c.stdout, "%d pairs were left out: there was no time for them (--within)\n", m.Left)
	}
	for _, w := range m.Failed {
		by := ""
		if w.Carrier != "" {
			by = " by " + w.Carrier
		}
		fmt.Fprintf(c.stdout, "bad   from %s to %s%s: %s\n", w.From, w.To, by, w.Error)
	}
	for _, f := range m.Findings {
		fmt.Fprintf(c.stdout, "warn  %s\n      -> %s\n", f.Text, f.Do)
	}
	if len(m.Failed)+len(m.Findings)+m.Left == 0 {
		fmt.Fprintln(c.stdout, "ok    none is much slower than the others")
	}
}

// printWays prints one number of each way: who sends from above to below, who reads from left to right.
func (c *call) printWays(x *matrix.Matrix, title string, number func(*matrix.Way) string) {
	headings := []string{cmp.Or(title, "-")}
	var rows [][]string
	for from, name := range x.Nodes {
		headings = append(headings, name)
		row := []string{name}
		for to := range x.Nodes {
			text := "-"
			if w := x.Get(from, to); w != nil {
				text = number(w)
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	table(c.stdout, "  ", strings.Join(headings, " "), rows)
}

// progress is a line on a terminal that says how far it is.
type progress struct {
	to          io.Writer
	shown       bool
	began       time.Time
	done, total int
}

const barWidth = 30

func (p *progress) step() {
	p.done++
	if !p.shown {
		return
	}
	full := barWidth * p.done / p.total
	left := time.Duration(p.total-p.done) * time.Since(p.began) / time.Duration(p.done)
	fmt.Fprintf(p.to, "\r[%s%s] round %d of %d, %ds left ", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), (p.done+1)/2, p.total/2, int(left.Seconds()+0.5))
}

// end takes the line away.
func (p *progress) end() {
	if p.shown && p.done > 0 {
		fmt.Fprintf(p.to, "\r%*s\r", barWidth+40, "")
	}
}
