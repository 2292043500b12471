package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Each rank's mask: its own GPUs, or all that the gang has on this node, whichever way bundles cut it.
func TestMaskOfEachRank(t *testing.T) {
	type bundle struct {
		ranks   uint32
		devices string
	}
	for _, tc := range []struct {
		name    string
		bundles []bundle
		own     uint32
		want    string // masks of the ranks in their order
	}{
		{"driver", []bundle{{1, ""}}, 0, "a,b,c,d,e"},
		{"driver that asked", []bundle{{1, "b"}}, 0, "b"},
		{"a bundle of the node, all see all", []bundle{{2, "a b"}}, 0, "a,b a,b"},
		{"a bundle of the node, each its own", []bundle{{2, "a b"}}, 1, "a b"},
		{"two for each", []bundle{{2, "a b c d"}}, 2, "a,b c,d"},
		{"a bundle of each rank, each its own", []bundle{{1, "c"}, {1, "a"}, {1, "b"}}, 1, "c a b"},
		{"a bundle of each rank, all see all", []bundle{{1, "c"}, {1, "a"}, {1, "b"}}, 0, "c,a,b c,a,b c,a,b"},
		{"bundles that share a device", []bundle{{1, "a"}, {1, "a"}}, 0, "a a"},
		{"two bundles of two", []bundle{{2, "a b"}, {2, "c d"}}, 1, "a b c d"},
		{"no GPU", []bundle{{2, ""}}, 0, " "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := config()
			cfg.Devices = nil
			for _, id := range strings.Fields("a b c d e") {
				cfg.Devices = append(cfg.Devices, &fb.DeviceT{Id: id, Kind: "nvidia"})
			}
			w := joined(t, cfg)
			const base = 4 // ranks of other nodes come first
			r, s := reserve(0, false), start(0, 7, 1)
			r.Bundles = nil
			s.Program.Driver = strings.HasPrefix(tc.name, "driver")
			s.Program.GpusPerRank, s.Program.Env = tc.own, []string{"CUDA_VISIBLE_DEVICES=0", "ROCR_VISIBLE_DEVICES=0"}
			for i, b := range tc.bundles {
				first := uint32(base + len(s.Ranks))
				r.Bundles = append(r.Bundles, &fb.BundlePlaceT{Index: uint32(i), Ranks: b.ranks, FirstRank: first, Devices: strings.Fields(b.devices)})
				for range b.ranks {
					n := uint32(len(s.Ranks))
					s.Ranks = append(s.Ranks, &fb.RankPlaceT{Rank: base + n, Bundle: uint32(i), Agent: 7, LocalRank: n, NodeRank: 1})
				}
			}
			w.head(r, s)
			var got []string
			for _, e := range w.effs {
				k, ok := e.(ToKeeper)
				if !ok {
					continue
				}
				l, ok := k.M.(*fb.ProgramLaunchT)
				if !ok {
					continue
				}
				at := slices.IndexFunc(l.Env, func(kv string) bool { return strings.HasPrefix(kv, "CUDA_VISIBLE_DEVICES=") })
				if at < 0 || slices.ContainsFunc(l.Env, func(kv string) bool { return strings.HasPrefix(kv, "ROCR_VISIBLE_DEVICES") }) {
					t.Fatalf("rank %d: not exactly one mask in %q", l.Rank, l.Env)
				}
				got = append(got, strings.TrimPrefix(l.Env[at], "CUDA_VISIBLE_DEVICES="))
			}
			if strings.Join(got, " ") != tc.want || len(got) != len(s.Ranks) {
				t.Errorf("masks %q, want %q", got, tc.want)
			}
		})
	}
}

// A container's own variables stand in the place of those of the node that asked, and its folder where none was named.
func TestVariablesOfTheNode(t *testing.T) {
	cfg := config()
	cfg.Dir, cfg.Env = "/here", []string{"CONTAINER_ID=mine", "PWD=/here"}
	for _, asked := range []string{"", "/there"} {
		w := joined(t, cfg)
		s := start(0, 7, 1)
		s.Ranks = []*fb.RankPlaceT{{Agent: 7}}
		s.Program.Env, s.Program.Cwd = []string{"CONTAINER_ID=another", "A=b"}, asked
		w.head(reserve(0, false), s)
		found := false
		for _, e := range w.effs {
			k, ok := e.(ToKeeper)
			if !ok {
				continue
			}
			l, ok := k.M.(*fb.ProgramLaunchT)
			if !ok {
				continue
			}
			found = true
			cwd := asked
			if cwd == "" {
				cwd = "/here"
			}
			if l.Cwd != cwd || !slices.Contains(l.Env, "PWD="+cwd) || !slices.Contains(l.Env, "CONTAINER_ID=mine") || slices.Contains(l.Env, "CONTAINER_ID=another") || !slices.Contains(l.Env, "A=b") {
				t.Errorf("%q: %s %q", asked, l.Cwd, l.Env)
			}
		}
		if !found {
			t.Error("nothing was launched")
		}
	}
	for _, tc := range [][4]string{{"a /x/1 b", "/x/1", "/x/2", "a /x/2 b"}, {"a /x/1", "", "/x/2", "a /x/1"}, {"a /x/1", "/x/1", "", "a /x/1"}} {
		if got := moved(tc[0], tc[1], tc[2]); got != tc[3] {
			t.Error(tc, got)
		}
	}
}
