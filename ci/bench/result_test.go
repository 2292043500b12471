package main

import "testing"

func TestFigureIsTheMedianOfRatios(t *testing.T) {
	r := paired("x", "s", "peer", 0.5, []float64{1, 2, 30}, []float64{4, 4, 10})
	if r.Figure != 0.5 || r.Low != 0.25 || r.High != 3 || !r.Pass {
		t.Errorf("got %+v", r)
	}
	if r := single("x", "s", 1, []float64{2, 1, 4, 3}); r.Figure != 2.5 || r.Pass {
		t.Errorf("got %+v", r)
	}
	if r := single("x", "s", 1, nil); r.Pass {
		t.Error("a bar without a measurement holds")
	}
}
