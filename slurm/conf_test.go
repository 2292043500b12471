package slurm

import (
	"reflect"
	"testing"
	"time"
)

// A slurm.conf says what sinfo says, until somebody changes it at run time.
func TestParseConf(t *testing.T) {
	list, err := ParseConf(`# NodeName=no Nodes
ClusterName=x
NodeName=DEFAULT RealMemory=4000 Gres=gpu:h100:4 # for all below
nodename=n[1-2] CPUs=8 \
   State=UNKNOWN
NodeName=login,n3 Sockets=2 CoresPerSocket=4 ThreadsPerCore=2 RealMemory=64000 Gres=gpu:a100:2,shard:8
PartitionName=DEFAULT MaxTime=1-0 State=UP
PartitionName=low Nodes=ALL Default=YES
PartitionName=short Nodes=n[1-2] MaxTime=10 DefaultTime=1 MaxNodes=1 State=DRAIN
PartitionName=free Nodes=n1 MaxTime=UNLIMITED
`)
	want := []Partition{
		{Name: "low", Default: true, Up: true, Limit: 24 * time.Hour, Nodes: 4, CPUs: 16, Memory: 64000 << 20, GPUs: 4, GPUTypes: []string{"h100", "a100"}, Hosts: []string{"login,n[1-3]"}},
		{Name: "short", Limit: 10 * time.Minute, DefaultTime: time.Minute, Nodes: 2, MaxNodes: 1, CPUs: 8, Memory: 4000 << 20, GPUs: 4, GPUTypes: []string{"h100"}, Hosts: []string{"n[1-2]"}},
		{Name: "free", Up: true, Limit: Infinite, Nodes: 1, CPUs: 8, Memory: 4000 << 20, GPUs: 4, GPUTypes: []string{"h100"}, Hosts: []string{"n1"}},
	}
	if err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("%v\n%+v\n%+v", err, list, want)
	}
	for _, text := range []string{
		"", "NodeName=n1\n",
		"NodeName=n1\nPartitionName=a Nodes=ALL\nInclude more.conf\n",
		"NodeName=n1\nPartitionName=a Nodes=set\n", // a NodeSet
		"NodeName=n1\nPartitionName=a Nodes=n1 MaxTime=soon\n",
		"PartitionName=a Nodes=ALL\n", // the nodes come by themselves
		"NodeName=n[1-\nPartitionName=a Nodes=ALL\n",
	} {
		if list, err := ParseConf(text); err == nil {
			t.Errorf("%q: %+v", text, list)
		}
	}
}

func TestKillWait(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 30 * time.Second, "ClusterName=x\n#KillWait=5\n": 30 * time.Second, "killwait=60 # long\n": time.Minute,
		"KillWait=soon\n": 30 * time.Second, "InactiveLimit=0\nKillWait=5 MinJobAge=9\n": 5 * time.Second,
	} {
		if got := KillWait(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
