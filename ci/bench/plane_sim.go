package main

import "github.com/maniple-hpc/maniple/rt/sim/plane"

// thousandNodes: large values on 1,000 nodes, in the simulator, beside what no way of moving them could beat. One run is as another.
func thousandNodes(l *lab) error {
	f, err := plane.Measure(plane.Config{Nodes: 1000})
	if err != nil {
		return err
	}
	const note = "simulated: docs/perf/simulated-data-plane.md"
	l.add(single("256 MiB to 1,000 nodes: time over its bound", "", []float64{f.Broadcast}).most(2.5).noted(note))
	l.add(single("256 MiB to 1,000 nodes: copies from the first", "", []float64{f.Copies}).most(3).noted(note))
	l.add(single("256 MiB to 1,000 nodes: questions of each", "", []float64{f.Questions}).most(1).noted(note))
	l.add(single("1,000 pairs of nodes: time over its bound", "", []float64{f.Pairs}).most(1.1).noted(note))
	l.add(single("1,000 nodes, 32 values of others each: time over its bound", "", []float64{f.Shuffle}).most(1.25).noted(note))
	return nil
}
