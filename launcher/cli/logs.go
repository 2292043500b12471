package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
)

// pollLog is how often --follow looks for more.
const pollLog = 200 * time.Millisecond

func (a *app) logsCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "logs", summary: "show what the cluster's own processes wrote", args: "[NODE]",
		examples: []string{
			"maniple logs\tof the first node",
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
		return usage("logs", "one node at a time", "")
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
	ep, err := c.find()
	if err != nil {
		return err
	}
	node := ""
	if len(c.rest()) == 1 {
		node = c.rest()[0]
	} else if len(ep.Nodes) > 0 {
		node = ep.Nodes[0]
	} else {
		node = filepath.Base(filepath.Dir(ep.Socket))
	}
	dir := filepath.Join(ep.Dir, node)
	if _, err := os.Stat(dir); err != nil {
		return c.remoteLogs(ep, node, of, lines)
	}
	var files []string
	for _, d := range daemons {
		if of == "" || of == d {
			files = append(files, filepath.Join(dir, d+".log"))
		}
	}
	return c.showLogs(files, lines)
}

// remoteLogs asks the cluster for the log of a node that is elsewhere.
func (c *call) remoteLogs(ep *boot.Endpoint, node, of string, lines int) error {
	if len(ep.Nodes) > 0 && !slices.Contains(ep.Nodes, node) {
		return &Fault{Name: "USAGE", What: "logs", Why: "no node " + node + " in cluster " + ep.Name, Do: "`maniple nodes` lists them"}
	}
	if c.on("follow") {
		return usage("--follow", "node "+node+" is not on this machine", "run it there")
	}
	return c.withClient(func(ctx context.Context, client *gang.Client, _ *boot.Endpoint) error {
		data, err := c.query(ctx, client, "log", node)
		if err != nil {
			return err
		}
		var reply struct {
			Logs []struct {
				Name string `json:"name"`
				Text string `json:"text"`
			} `json:"logs"`
		}
		if err := json.Unmarshal(data, &reply); err != nil {
			return &Fault{Name: "BUG", What: "logs", Why: "the log's form: " + err.Error(), Err: err}
		}
		for _, l := range reply.Logs {
			if of == "" || l.Name == of {
				c.printLog(l.Name, lastLines([]byte(l.Text), lines))
			}
		}
		return nil
	})
}

func (c *call) showLogs(files []string, lines int) error {
	offsets := make([]int64, len(files))
	for i, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // that process does not run on this node
		}
		offsets[i] = int64(len(data))
		c.printLog(logName(f), lastLines(data, lines))
	}
	if !c.on("follow") {
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
				c.printLog(logName(f), more[:at+1])
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
func (c *call) printLog(name string, data []byte) {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if c.on("json") {
			c.json(struct {
				Version int    `json:"version"`
				Process string `json:"process"`
				Line    string `json:"line"`
			}{1, name, string(line)})
			continue
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
