package main

import "testing"

// A time that not every rank stands for is none.
func TestFirstRank(t *testing.T) {
	const ranks = "at 1500000000\nat 1400000000\nat 1600000000\nat 1700000000\n"
	if s, err := firstRank("start 1000000000\n" + ranks + "state JobState=COMPLETED\n"); err != nil || s != 0.4 {
		t.Errorf("%v, %v", s, err)
	}
	for what, out := range map[string]string{
		"a rank without a time":    "start 1000000000\nat 1500000000\nat 1400000000\nat 1600000000\nstate JobState=COMPLETED\n",
		"an empty time":            "start 1000000000\nat \nat 1500000000\nat 1400000000\nat 1600000000\nstate JobState=COMPLETED\n",
		"a job that failed":        "start 1000000000\n" + ranks + "state JobState=FAILED\n",
		"a rank of an earlier job": "start 1450000000\n" + ranks + "state JobState=COMPLETED\n",
		"no start":                 ranks + "state JobState=COMPLETED\n",
	} {
		if s, err := firstRank(out); err == nil {
			t.Errorf("%s: %v s", what, s)
		}
	}
}
