package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const schema = 2

// everything is the title of a run of all experiments, and the target of the Makefile that makes it.
const everything = "bench"

// dirty ends the commit of a tree that is not it.
const dirty = " with changes"

// trial is said in the title of a report that is none.
const trial = "NOT A MEASUREMENT, one pair of small sizes (BARS_QUICK)"

// Report is one run of the bench.
type Report struct {
	Schema  int       `json:"schema"`
	Title   string    `json:"title"`
	When    time.Time `json:"when"`
	Took    float64   `json:"took"` // seconds
	Commit  string    `json:"commit"`
	Machine string    `json:"machine"`
	Load    float64   `json:"load"`              // average of the minute before the run: what others did
	Resumed []string  `json:"resumed,omitempty"` // experiments of an earlier run, which was cut off
	Results []Result  `json:"results"`
}

func newReport(top, title string) *Report {
	git := func(args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = top
		out, _ := cmd.Output()
		return strings.TrimSpace(string(out))
	}
	commit := git("rev-parse", "--short", "HEAD")
	if git("status", "--porcelain", "--untracked-files=no") != "" {
		commit += dirty
	}
	return &Report{Schema: schema, Title: title, When: time.Now().UTC().Truncate(time.Second), Commit: commit, Machine: machine(), Load: load()}
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

func load() (one float64) {
	data, _ := os.ReadFile("/proc/loadavg")
	fmt.Sscan(string(data), &one)
	return one
}

// holds tells whether every bar was measured and holds: one that was left out does not.
func (r *Report) holds() bool {
	for _, x := range r.Results {
		if x.Skipped != "" || x.Error != "" || !x.Pass {
			return false
		}
	}
	return len(r.Results) > 0
}

func (r Result) verdict() string {
	switch {
	case r.Skipped != "":
		return "NOT RUN"
	case r.Error != "":
		return "NOT MEASURED"
	case !r.Bar:
		return "reported"
	case !r.Pass:
		return "FAIL"
	}
	return "pass"
}

// row is a result as the table has it: name, figure, range, p90, limit, verdict, and what is to be said.
func (r Result) row() []string {
	if r.Skipped != "" || r.Error != "" {
		return []string{r.Name, "", "", "", "", r.verdict(), r.Skipped + r.Error}
	}
	unit, limit := r.Unit, ""
	if r.Of == "median ratio" {
		unit = "x"
	}
	value := func(v float64) string { return strings.TrimSpace(fmt.Sprintf("%.4g %s", v, unit)) }
	if r.Bar {
		limit = "<= " + value(r.Limit)
		if r.Least {
			limit = ">= " + value(r.Limit)
		}
		if r.Each != 0 {
			limit += ", each " + value(r.Each)
		}
	}
	said := []string{r.Of}
	if n := len(r.Ours); n > 0 && r.Peer == "" {
		said = []string{fmt.Sprintf("%s of %d", r.Of, n)}
	}
	if r.Peer != "" {
		ours, theirs := result("", "", "", r.Ours), result("", "", "", r.Theirs)
		said = []string{fmt.Sprintf("%s of %d pairs: ours %.4g %s, %s %.4g %s", r.Of, len(r.Ours), ours.Figure, r.Unit, r.Peer, theirs.Figure, r.Unit)}
	}
	if r.P99 > r.P90 {
		said = append(said, fmt.Sprintf("p99 %s", value(r.P99)))
	}
	if r.Note != "" {
		said = append(said, r.Note)
	}
	return []string{r.Name, value(r.Figure), fmt.Sprintf("%.4g .. %.4g", r.Low, r.High), fmt.Sprintf("%.4g", r.P90), limit, r.verdict(), strings.Join(said, "; ")}
}

var columns = []string{"bar", "figure", "range", "p90", "limit", "", ""}

// print writes the table that `make bars-NAME` shows.
func (r *Report) print(to io.Writer) {
	rows := [][]string{columns}
	for _, x := range r.Results {
		rows = append(rows, x.row())
	}
	width := make([]int, len(columns))
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			width[i] = max(width[i], len(cell))
		}
	}
	fmt.Fprintf(to, "\n%s\n%s, commit %s, %.1f min, load %.2f before\n%s\n\n", r.Title, r.When.Format(time.RFC3339), r.Commit, r.Took/60, r.Load, r.Machine)
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			if i == len(row)-1 {
				line += cell
			} else {
				line += fmt.Sprintf("%-*s  ", width[i], cell)
			}
		}
		fmt.Fprintln(to, strings.TrimRight(line, " "))
	}
	fmt.Fprintf(to, "\n%s\n", r.sum())
}

// sum says how many bars hold, and names the others.
func (r *Report) sum() string {
	names := map[string][]string{}
	for _, x := range r.Results {
		names[x.verdict()] = append(names[x.verdict()], x.Name)
	}
	text := fmt.Sprintf("pass: %d", len(names["pass"]))
	for _, how := range []string{"FAIL", "NOT MEASURED", "NOT RUN"} {
		if n := len(names[how]); n > 0 {
			text += fmt.Sprintf("\n%s: %d: %s", how, n, strings.Join(names[how], "; "))
		}
	}
	return text
}

// interrupted is what there is of a report whose run ends now, before its time.
func (r *Report) interrupted(took time.Duration) *Report {
	part := *r
	part.Title, part.Took, part.Results = r.Title+": INTERRUPTED, not all was measured", took.Seconds(), slices.Clone(r.Results)
	return &part
}

// page is the report as a document.
func (r *Report) page() string {
	var b strings.Builder
	target := "bars-" + r.Title
	if r.Title == everything {
		target = everything
	}
	fmt.Fprintf(&b, "# Bars: %s\n\nWritten by `make %s`; the samples are in the JSON file of the same name.\n\n", r.Title, target)
	fmt.Fprintf(&b, "* When: %s, in %.1f min\n* Commit: %s\n* Machine: %s\n* Load average in the minute before: %.2f\n\n", r.When.Format(time.RFC3339), r.Took/60, r.Commit, r.Machine, r.Load)
	if len(r.Resumed) > 0 {
		fmt.Fprintf(&b, "Of an earlier run of the same commit, which was cut off: %s.\n\n", strings.Join(r.Resumed, ", "))
	}
	b.WriteString("| bar | figure | range | p90 | limit | | |\n|---|---|---|---|---|---|---|\n")
	for _, x := range r.Results {
		row := x.row()
		for i := range row {
			row[i] = strings.NewReplacer("|", "\\|", "\n", " ").Replace(row[i])
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	b.WriteString("\nOf pairs the median has to be within the limit; of runs of ours alone the median and the p90, or no run beyond the limit that is given for each; the p99 is reported.\n")
	return b.String()
}

// save writes the report beside the others of docs/perf: samples as JSON, and a page.
func (r *Report) save(top string) error {
	dir := filepath.Join(top, "docs", "perf")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	base := filepath.Join(dir, r.When.Format("2006-01-02")+"-"+r.Title)
	if err := os.WriteFile(base+".json", append(data, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Printf("written: docs/perf/%s.json and .md\n", filepath.Base(base))
	return os.WriteFile(base+".md", []byte(r.page()), 0o644)
}

// anonymous takes folders and names of this machine out of a text that goes into a report.
func anonymous(text string, folders ...string) string {
	pairs := []string{"\n", " / "}
	host, _ := os.Hostname()
	home, _ := os.UserHomeDir()
	for _, name := range append(folders, home, host) {
		if len(name) > 1 {
			pairs = append(pairs, name, "~")
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
