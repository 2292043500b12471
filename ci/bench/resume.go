package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// resume takes the rows of a run of the same bars of this commit that was cut off, and measures the others.
var resume = os.Getenv("BARS_RESUME") != ""

// kept is what there is of a run that is not over: the rows of each experiment that is.
type kept struct {
	path    string
	Title   string   `json:"title"`
	Commit  string   `json:"commit"`
	Machine string   `json:"machine"`
	Done    []keptOf `json:"done"`
}

type keptOf struct {
	Experiment string   `json:"experiment"`
	Took       float64  `json:"took"` // seconds
	Results    []Result `json:"results"`
}

// keeps opens what is kept of a report's run, in the cache outside the tree: what an earlier run of the same left, if that is wanted, else nothing.
func keeps(r *Report, earlier bool) (*kept, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	k := &kept{path: filepath.Join(cache, "maniple", "bench-"+r.Title+".json"), Title: r.Title, Commit: r.Commit, Machine: r.Machine}
	if !earlier {
		return k, k.remove()
	}
	data, err := os.ReadFile(k.path)
	if os.IsNotExist(err) {
		return k, nil
	}
	old := *k
	if err == nil {
		err = json.Unmarshal(data, &old)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("what is kept of a run: %w", err)
	case strings.HasSuffix(k.Commit, dirty):
		return nil, fmt.Errorf("nothing can be resumed: the tree has changes, and what is kept is of commit %s", old.Commit)
	case old.Title != k.Title || old.Commit != k.Commit || old.Machine != k.Machine:
		return nil, fmt.Errorf("nothing can be resumed: what is kept is of commit %s on %s, and this is %s on %s", old.Commit, old.Machine, k.Commit, k.Machine)
	}
	return &old, nil
}

// of gives the rows that are kept of an experiment. One that could not be measured is measured again.
func (k *kept) of(experiment string) (keptOf, bool) {
	i := slices.IndexFunc(k.Done, func(d keptOf) bool { return d.Experiment == experiment })
	if i < 0 || slices.ContainsFunc(k.Done[i].Results, func(r Result) bool { return r.Error != "" }) {
		return keptOf{}, false
	}
	return k.Done[i], true
}

// add keeps the rows of an experiment, in place of what was there.
func (k *kept) add(d keptOf) error {
	k.Done = append(slices.DeleteFunc(k.Done, func(o keptOf) bool { return o.Experiment == d.Experiment }), d)
	data, err := json.MarshalIndent(k, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(k.path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(k.path+".new", k.path)
}

// remove ends it: the report is written.
func (k *kept) remove() error {
	if err := os.Remove(k.path); !os.IsNotExist(err) {
		return err
	}
	return nil
}
