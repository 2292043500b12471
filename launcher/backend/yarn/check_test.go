package yarn

import (
	"errors"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/yarntest"
)

// What a queue never has is refused: memory as YARN rounds it up, and cores where they are counted. What nobody here can know of that is a doubt.
func TestCheck(t *testing.T) {
	node := yarn.Resource{MemoryMB: 4096, VCores: 8}
	for name, tc := range map[string]struct {
		node    yarn.Resource // of two
		count   int
		size    yarn.Resource
		outside bool
		least   string // of memory; "": no file says
		want    string // of the error, parted by |; "": none
		doubt   string // of what nobody can know; "": none
	}{
		"rounded by default":    {node, 4, yarn.Resource{MemoryMB: 1408, VCores: 1}, false, "", "", "4 nodes and the master need 9216 of memory-mb, since YARN rounds each up to a multiple of 1024 (yarn.scheduler.minimum-allocation-mb, which no file here sets: that is Hadoop's default), and queue default never has more than 8192 of the cluster's 8192, so that they wait for ever if the ResourceManager has no other value"},
		"too large in any case": {node, 5, yarn.Resource{MemoryMB: 1792, VCores: 1}, false, "", "5 nodes and the master need 11264 of memory-mb, since YARN rounds each up", ""},
		"rounded":               {node, 4, yarn.Resource{MemoryMB: 1408, VCores: 1}, false, "1024", "need 9216 of memory-mb, since YARN rounds each up to a multiple of 1024 (yarn.scheduler.minimum-allocation-mb), and queue default", ""},
		"in small steps":        {node, 4, yarn.Resource{MemoryMB: 1408, VCores: 1}, false, "64", "", ""},
		"with no master":        {node, 4, yarn.Resource{MemoryMB: 1408, VCores: 1}, true, "1024", "", ""},
		"too large as it is":    {node, 5, yarn.Resource{MemoryMB: 2048, VCores: 1}, false, "1024", "5 nodes and the master need 11264 of memory-mb, and queue", ""},
		"outside":               {node, 5, yarn.Resource{MemoryMB: 2048, VCores: 1}, true, "1024", "5 nodes need 10240 of memory-mb, and queue", ""},
		"up to the largest":     {node, 1, yarn.Resource{MemoryMB: 3500, VCores: 1}, false, "3000", "", ""},
		"no steps":              {node, 1, yarn.Resource{MemoryMB: 3500, VCores: 1}, false, "-1", "", ""},
		"huge steps":            {node, 1, yarn.Resource{MemoryMB: 3500, VCores: 1}, false, "0x7fffffffffffffff", "", ""},
		"cores":                 {node, 4, yarn.Resource{MemoryMB: 1024, VCores: 8}, false, "64", "", "4 nodes and the master need 33 of vcores, and queue default never has more than 16 of the cluster's 16, so that they wait for ever if its scheduler counts cores (DominantResourceCalculator)"},
		"counted cores":         {node.With(yarn.GPU, 1), 4, yarn.Resource{MemoryMB: 1024, VCores: 8}, false, "64", "4 nodes and the master need 33 of vcores, and queue default never has more than 16", ""},
		"too many cores":        {node, 1, yarn.Resource{MemoryMB: 1024, VCores: 9}, false, "64", "9 of vcores, and the largest container has 8", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := yarntest.New(t, tc.node, tc.node)
			client := must(yarn.New(yarn.Config{ResourceManagers: []string{cluster.ResourceManager()}, User: "alice"}))
			defer client.Close()
			site := conf.New()
			site.Set("yarn.resourcemanager.hostname", "localhost")
			if tc.least != "" {
				site.Set("yarn.scheduler.minimum-allocation-mb", tc.least)
			}
			a := &Application{Master: yarn.Resource{MemoryMB: 1024, VCores: 1}, Outside: tc.outside, Job: Job{Nodes: tc.count, MinNodes: tc.count, Size: tc.size}}
			if err := a.Configure(site, "alice"); err != nil {
				t.Fatal(err)
			}
			err := a.Check(t.Context(), client)
			var no *InfeasibleError
			if tc.want == "" && err != nil || tc.want != "" && !errors.As(err, &no) {
				t.Fatal(err)
			}
			if err == nil && a.Job.Doubt != tc.doubt {
				t.Error(a.Job.Doubt)
			}
			for want := range strings.SplitSeq(tc.want, "|") {
				if tc.want != "" && !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %v", want, err)
				}
			}
		})
	}
}
