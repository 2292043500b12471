package slurm

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseConf reads the partitions out of the text of a slurm.conf: what the controller began with, which an
// operator may have changed since. A file that goes on elsewhere (Include), and partitions whose nodes it
// does not list, are an error: the controller has to be asked then.
func ParseConf(text string) ([]Partition, error) {
	c := conf{nodes: map[string]settings{}, node: settings{}, partition: settings{}}
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 0 {
			if err := c.line(words); err != nil {
				return nil, err
			}
		}
	}
	for _, s := range c.partitions {
		if err := c.add(s); err != nil {
			return nil, err
		}
	}
	if len(c.list) == 0 {
		return nil, fmt.Errorf("slurm: configuration: no partition")
	}
	return c.list, nil
}

// KillWait reads out of the text of a slurm.conf how long after its TERM Slurm's KILL comes; the file that
// does not say means 30 s.
func KillWait(text string) time.Duration {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, word := range strings.Fields(line) {
			name, value, _ := strings.Cut(word, "=")
			if n, err := strconv.ParseUint(value, 10, 16); err == nil && strings.EqualFold(name, "KillWait") {
				return time.Duration(n) * time.Second
			}
		}
	}
	return 30 * time.Second
}

// settings are the NAME=VALUE words of a line, by the name in small letters.
type settings map[string]string

type conf struct {
	node, partition settings            // what DEFAULT lines set for those below them
	hosts           []string            // in the file's order
	nodes           map[string]settings // by host
	partitions      []settings
	list            []Partition
}

func (c *conf) line(words []string) error {
	if strings.EqualFold(words[0], "include") {
		return fmt.Errorf("slurm: configuration: it goes on in other files")
	}
	line := settings{}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		line[strings.ToLower(name)] = strings.Trim(value, `"`)
	}
	if name, ok := line["nodename"]; ok {
		if strings.EqualFold(name, "DEFAULT") {
			maps.Copy(c.node, line)
			return nil
		}
		hosts, err := ParseHosts(name)
		if err != nil {
			return err
		}
		all := maps.Clone(c.node)
		maps.Copy(all, line)
		for _, h := range hosts {
			c.nodes[h] = all
		}
		c.hosts = append(c.hosts, hosts...)
	} else if name, ok := line["partitionname"]; ok {
		if strings.EqualFold(name, "DEFAULT") {
			maps.Copy(c.partition, line)
			return nil
		}
		all := maps.Clone(c.partition)
		maps.Copy(all, line)
		c.partitions = append(c.partitions, all)
	}
	return nil
}

// add makes a partition of its line.
func (c *conf) add(s settings) error {
	p := Partition{Name: s["partitionname"], Default: strings.EqualFold(s["default"], "YES"), Limit: Infinite}
	p.Up = s["state"] == "" || strings.EqualFold(s["state"], "UP")
	bad := func(what string) error { return fmt.Errorf("slurm: configuration: partition %s: %s", p.Name, what) }
	var err error
	if v := s["maxtime"]; v != "" {
		if p.Limit, err = ParseDuration(v); err != nil {
			return bad(err.Error())
		}
	}
	if v := s["defaulttime"]; v != "" {
		if d, err := ParseDuration(v); err == nil { // as in what sinfo prints
			p.DefaultTime = d
		}
	}
	if v := s["maxnodes"]; v != "" && !strings.EqualFold(v, "UNLIMITED") {
		if p.MaxNodes, err = strconv.Atoi(v); err != nil {
			return bad("MaxNodes=" + v)
		}
	}
	hosts := c.hosts
	if !strings.EqualFold(s["nodes"], "ALL") {
		if hosts, err = ParseHosts(s["nodes"]); err != nil {
			return bad(err.Error())
		}
	}
	if len(hosts) == 0 {
		return bad("no nodes")
	}
	for _, h := range hosts {
		node, ok := c.nodes[h]
		if !ok { // a set of nodes, or one that comes and goes
			return bad("the file does not list " + clip(h))
		}
		if err := p.has(node); err != nil {
			return bad(err.Error())
		}
	}
	p.Nodes, p.Hosts = len(hosts), []string{FoldHosts(hosts)}
	c.list = append(c.list, p)
	return nil
}

// has counts a node in.
func (p *Partition) has(node settings) error {
	cpus := atoi(node["cpus"])
	if cpus == 0 {
		cores := max(atoi(node["corespersocket"]), 1) * max(atoi(node["threadspercore"]), 1)
		cpus = max(atoi(node["boards"]), 1) * max(atoi(node["socketsperboard"]), atoi(node["sockets"]), 1) * cores
	}
	memory := int64(1 << 20) // Slurm's default
	if v := node["realmemory"]; v != "" {
		var err error
		if memory, err = ParseMemory(v); err != nil {
			return err
		}
	}
	gres, err := ParseGRES(node["gres"])
	if err != nil {
		return err
	}
	gpus := 0
	for _, g := range gres {
		if g.Name == "gpu" {
			gpus += int(g.Count)
			if g.Type != "" && !slices.Contains(p.GPUTypes, g.Type) {
				p.GPUTypes = append(p.GPUTypes, g.Type)
			}
		}
	}
	p.CPUs, p.Memory, p.GPUs = max(p.CPUs, int(cpus)), max(p.Memory, memory), max(p.GPUs, gpus)
	return nil
}
