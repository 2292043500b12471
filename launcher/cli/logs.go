package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/slurm"
)

// pollLog is how often --follow looks for more.
const pollLog = 200 * time.Millisecond

func (a *app) logsCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "logs", summary: "show what happened in the cluster, or what its own processes wrote", args: "[GANG|NODE]",
		examples: []string{
			"maniple logs\twhat happened: deaths, restarts",
			"maniple logs train\twhat happened to a gang, and its last lines",
			"maniple logs n2\tof node n2's processes",
			"maniple logs n2 --of agent -f\tas it comes",
		},
		flags: []urfave.Flag{
			value("of", "", "keeper|agent|head", "one process only"),
			value("lines", "l", "N", "that many lines from the end (50)"),
			toggle("follow", "f", "go on as it is written"),
			clusterFlag(), jsonFlag(),
		},
		notes:  []string{"What programs print is in the files of -o, or where `maniple run` was started."},
		action: (*call).logs,
	})
}

var daemons = []string{"keeper", "agent", "head"}

func (c *call) logs() error {
	if len(c.rest()) > 1 {
		return usage("logs", "one gang or node at a time", "write the command once for each")
	}
	of, origin, given := c.flag("of")
	if given && !slices.Contains(daemons, of) {
		return usage(origin, fmt.Sprintf("%q writes no log", of), "write keeper, agent or head")
	}
	lines, err := c.number("lines", 1, 1<<30)
	if err != nil {
		return err
	}
	if lines == 0 {
		lines = 50
	}
	if len(c.rest()) == 1 && isApplication(c.rest()[0]) {
		return c.applicationLog(c.rest()[0])
	}
	if of == "" && len(c.rest()) == 0 && !c.on("follow") {
		return c.events(lines)
	}
	ep, err := c.findAny()
	if err != nil {
		return err
	}
	here := nodesHere(ep)
	if len(c.rest()) == 1 {
		which := c.rest()[0]
		if !slices.Contains(here, which) {
			return c.gangLog(which, lines)
		}
		here = []string{which}
	}
	var files []string
	for _, node := range here {
		for _, d := range daemons {
			if of == "" || of == d {
				files = append(files, filepath.Join(ep.Dir, node, d+".log"))
			}
		}
	}
	if len(files) == 0 {
		return usage("logs", "no node of cluster "+ep.Name+" is on this machine", "log in to one of "+slurm.FoldHosts(ep.Nodes)+" and write it there")
	}
	c.manyNodes = len(here) > 1
	return c.showLogs(files, lines)
}

// nodesHere are the nodes of a cluster whose logs are on this machine.
func nodesHere(ep *boot.Endpoint) []string {
	var list []string
	for _, node := range ep.Nodes {
		if info, err := os.Stat(filepath.Join(ep.Dir, node)); err == nil && info.IsDir() {
			list = append(list, node)
		}
	}
	if node := filepath.Base(filepath.Dir(ep.Socket)); len(list) == 0 && ep.Here() && ep.Socket != "" {
		list = append(list, node)
	}
	return list
}

// gangLog shows what happened to a gang, and its last words: of what programs print the cluster keeps
// no more.
func (c *call) gangLog(which string, lines int) error {
	return c.withClient(func(ctx context.Context, client *gang.Client, ep *boot.Endpoint) error {
		if slices.Contains(ep.Nodes, which) {
			return usage("logs", "node "+which+" is on another machine", "log in there and write `maniple logs "+which+"`; `maniple explain "+which+"` works from here")
		}
		reply, _, err := ask[stateExplain](ctx, c, client, "explain", which)
		if err != nil {
			return err
		}
		if reply.Explain.Kind != "group" { // a node that came later
			return usage("logs", "node "+which+" is on another machine", "log in there and write `maniple logs "+which+"`")
		}
		group, _, err := ask[struct {
			Group stateGroup `json:"group"`
		}](ctx, c, client, "group", which)
		if err != nil {
			return err
		}
		happened, _, err := ask[stateLog](ctx, c, client, "log", "")
		if err != nil {
			return err
		}
		list := slices.DeleteFunc(happened.Notices, func(n stateNotice) bool { return n.Group != group.Group.ID })
		list = list[max(0, len(list)-lines):]
		if c.on("json") {
			return c.json(struct {
				Version int           `json:"version"`
				Group   string        `json:"group"`
				Notices []stateNotice `json:"notices"`
				Text    string        `json:"text"`
			}{1, group.Group.ID, append([]stateNotice{}, list...), reply.Explain.Text})
		}
		for _, n := range list {
			fmt.Fprintf(c.stdout, "%s %-7s %s\n", n.Wall.Format(time.RFC3339), n.Level, n.Text)
		}
		fmt.Fprintln(c.stdout, strings.TrimRight(reply.Explain.Text, "\n"))
		c.say("logs: all that it printed is where `maniple run` was started, or in the files of its -o")
		return nil
	})
}

// events shows what the head told of: nodes that died, processes started again, gangs restarted.
func (c *call) events(lines int) error {
	return c.withClient(func(ctx context.Context, client *gang.Client, _ *boot.Endpoint) error {
		reply, raw, err := ask[stateLog](ctx, c, client, "log", "")
		if err != nil {
			return err
		}
		if c.on("json") {
			return c.raw(raw)
		}
		if len(reply.Notices) == 0 {
			c.say("logs: nothing has happened yet; `maniple logs NODE` shows what its processes wrote")
		}
		for _, n := range reply.Notices[max(0, len(reply.Notices)-lines):] {
			fmt.Fprintf(c.stdout, "%s %-7s %s\n", n.Wall.Format(time.RFC3339), n.Level, n.Text)
		}
		return nil
	})
}

func (c *call) showLogs(files []string, lines int) error {
	offsets := make([]int64, len(files))
	empty := true
	for i, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // that process does not run on this node
		}
		offsets[i], empty = int64(len(data)), empty && len(data) == 0
		c.printLog(f, lastLines(data, lines))
	}
	if !c.on("follow") {
		if empty {
			c.say("logs: nothing has been written yet")
		}
		return nil
	}
	ctx, sig := watchSignals(c.ctx)
	defer sig.stop()
	tick := time.NewTicker(pollLog)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil // Ctrl-C is how one leaves
		case <-tick.C:
		}
		gone := 0
		for i, f := range files {
			more, err := readFrom(f, offsets[i])
			if err != nil {
				gone++
				continue
			}
			if at := bytes.LastIndexByte(more, '\n'); at >= 0 {
				c.printLog(f, more[:at+1])
				offsets[i] += int64(at + 1)
			}
		}
		if gone == len(files) {
			return nil // the node is over
		}
	}
}

func readFrom(file string, offset int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, offset, 1<<20))
}

func logName(file string) string {
	name := filepath.Base(file)
	return name[:len(name)-len(filepath.Ext(name))]
}

// printLog prefixes each line with its process, as JSON each line is an object.
func (c *call) printLog(file string, data []byte) {
	name, node := logName(file), filepath.Base(filepath.Dir(file))
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if c.on("json") {
			c.json(struct {
				Version int    `json:"version"`
				Node    string `json:"node"`
				Process string `json:"process"`
				Line    string `json:"line"`
			}{1, node, name, string(line)})
			continue
		}
		if c.manyNodes {
			fmt.Fprintf(c.stdout, "%s ", node)
		}
		fmt.Fprintf(c.stdout, "%s: %s\n", name, line)
	}
}

func lastLines(data []byte, n int) []byte {
	at := len(bytes.TrimSuffix(data, []byte("\n")))
	for range n {
		if at = bytes.LastIndexByte(data[:at], '\n'); at < 0 {
			return data
		}
	}
	return data[at+1:]
}
