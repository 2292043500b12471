package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Result is one line of docs/perf/*.json (schema 1).
type Result struct {
	Schema  int       `json:"schema"`
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`             // of ours and peer: s, ms, MiB, count
	Figure  float64   `json:"figure"`           // what the bar is about
	Of      string    `json:"of"`               // what the figure is: "median ratio", "median", "worst"
	Low     float64   `json:"low"`              // range of the figure over the pairs or runs
	High    float64   `json:"high"`             //
	Limit   float64   `json:"limit,omitempty"`  // 0: reported only
	Pass    bool      `json:"pass"`             // figure <= limit, or reported only
	Peer    string    `json:"peer,omitempty"`   // what ours was paired with
	Ours    []float64 `json:"ours,omitempty"`   // per run
	Theirs  []float64 `json:"theirs,omitempty"` // per run, in the same order
	Note    string    `json:"note,omitempty"`
	Skipped string    `json:"skipped,omitempty"` // why it was not measured; it then does not pass
}

// Report is one run of the bench.
type Report struct {
	Schema  int       `json:"schema"`
	When    time.Time `json:"when"`
	Commit  string    `json:"commit"`
	Machine string    `json:"machine"`
	Results []Result  `json:"results"`
}

func newReport() *Report {
	commit, _ := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	return &Report{Schema: 1, When: time.Now().UTC().Truncate(time.Second), Commit: strings.TrimSpace(string(commit)), Machine: machine()}
}

// machine says what the figures were measured on, without naming it.
func machine() string {
	model, kb := "unknown processor", 0
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		for s := bufio.NewScanner(f); s.Scan(); {
			if name, found := strings.CutPrefix(s.Text(), "model name"); found {
				model = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
		f.Close()
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		fmt.Sscanf(string(data), "MemTotal: %d kB", &kb)
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d x %s, %d GiB, Linux %s, %s", runtime.NumCPU(), model, kb>>20, strings.TrimSpace(string(kernel)), runtime.Version())
}

// paired makes a result of runs in pairs: the figure is the median of ours/theirs.
func paired(name, unit, peer string, limit float64, ours, theirs []float64) Result {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	r := single(name, unit, limit, ratios)
	r.Of, r.Peer, r.Ours, r.Theirs = "median ratio", peer, ours, theirs
	return r
}

// single makes a result of runs of ours alone: the figure is their median.
func single(name, unit string, limit float64, runs []float64) Result {
	sorted := slices.Sorted(slices.Values(runs))
	r := Result{Schema: 1, Name: name, Unit: unit, Of: "median", Limit: limit, Ours: runs}
	if len(sorted) > 0 {
		r.Figure, r.Low, r.High = median(sorted), sorted[0], sorted[len(sorted)-1]
	}
	r.Pass = limit == 0 || (len(sorted) > 0 && r.Figure <= limit)
	return r
}

func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// print writes the table that `make bars-NAME` shows, and tells whether every bar holds.
func (r *Report) print() bool {
	fmt.Printf("\n%s, commit %s\n%s\n\n", r.When.Format(time.RFC3339), r.Commit, r.Machine)
	fmt.Printf("%-34s %12s %21s %10s  %s\n", "bar", "figure", "range", "limit", "")
	ok := true
	for _, x := range r.Results {
		verdict, limit := "pass", fmt.Sprintf("%.4g", x.Limit)
		switch {
		case x.Skipped != "":
			verdict = "NOT MEASURED: " + x.Skipped
		case x.Limit == 0:
			verdict, limit = "reported", "-"
		case !x.Pass:
			verdict = "FAIL"
		}
		ok = ok && x.Pass && x.Skipped == ""
		unit := x.Unit
		if x.Of == "median ratio" {
			unit = "x"
			verdict += fmt.Sprintf("  (ours %.4g %s, %s %.4g %s)", median(slices.Sorted(slices.Values(x.Ours))), x.Unit, x.Peer, median(slices.Sorted(slices.Values(x.Theirs))), x.Unit)
		}
		if x.Note != "" {
			verdict += "  " + x.Note
		}
		fmt.Printf("%-34s %10.4g %-2s %9.4g .. %-9.4g %9s  %s\n", x.Name, x.Figure, unit, x.Low, x.High, limit, verdict)
	}
	return ok
}

// save writes the report beside the others of docs/perf.
func (r *Report) save(top, name string) error {
	dir := filepath.Join(top, "docs", "perf")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, r.When.Format("2006-01-02")+"-"+name+".json")
	fmt.Println("written:", path)
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
