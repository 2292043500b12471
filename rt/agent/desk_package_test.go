package agent

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/env"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// packing is a desk with a job that an errand of agent 2 brought, or that agent 2 works for.
func packing(t *testing.T, now *int64, back bool) (*desk, *job, *errand) {
	d := alone(now)
	j := &job{number: 3, dir: filepath.Join(t.TempDir(), "3"), template: &template{}}
	e := &errand{number: 5, peer: 2, back: back, job: j}
	if d.errands = append(d.errands, e); back {
		j.errand = e
	}
	return d, j, e
}

// filed does what goroutines gave the desk to do, until there is nothing more.
func (d *desk) filed() (told []ToAgent) {
	for {
		d.l.wait.Wait()
		d.mu.Lock()
		box := d.box
		d.box = nil
		d.mu.Unlock()
		if len(box) == 0 && len(d.l.inbox) == 0 {
			return told
		}
		for _, m := range box {
			m.do()
		}
		for len(d.l.inbox) > 0 {
			told = append(told, (<-d.l.inbox).ev.(ToAgent))
		}
	}
}

// archived is a package of so many bytes that can't be compressed, and its hash.
func archived(t *testing.T, size int) ([]byte, string) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("data")
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	_, _ = f.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	return b.Bytes(), hex.EncodeToString(sum[:])
}

// wanting is a worker that waits for a package.
func wanting(t *testing.T, d *desk, j *job, key uint64, environment string) *hired {
	h := &hired{key: key, job: j, template: j.template}
	d.hired[key] = h
	j.hired++
	e, err := env.Parse(environment)
	if err != nil {
		t.Fatal(err)
	}
	d.setup(t.Context(), h, &fb.ForkT{Key: key}, &e)
	return h
}

// A package goes from the driver's node to a second one by pieces, and by way of that to a third; each unpacks it once, and
// workers are forked after that.
func TestPackagesOnThreeNodes(t *testing.T) {
	now := int64(time.Second)
	first, theirs, _ := packing(t, &now, false)
	second, j, toFirst := packing(t, &now, true)
	third, mine, _ := packing(t, &now, true)
	toThird := &errand{number: 5, peer: 2, job: j}
	archive, hash := archived(t, 9<<20)
	if err := os.MkdirAll(theirs.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(theirs.archive(hash), archive, 0o600); err != nil {
		t.Fatal(err)
	}
	second.errands = append(second.errands, toThird)
	wanted := `{"working_dir":"package:` + hash + `"}`
	h1, h2 := wanting(t, third, mine, 1, wanted), wanting(t, third, mine, 2, wanted)
	largest := 0
	for rounds := 0; len(mine.template.queue) == 0; rounds++ {
		if rounds > 40 {
			t.Fatal("it does not come")
		}
		for _, m := range third.filed() {
			second.packagePulled(t.Context(), toThird, m.M.(*fb.PullT))
		}
		for _, m := range second.filed() {
			if part, ok := m.M.(*fb.PartT); ok {
				largest = max(largest, len(m.Payload))
				third.packageCame(t.Context(), mine.errand, part, m.Payload)
			} else {
				first.packagePulled(t.Context(), first.errands[0], m.M.(*fb.PullT))
			}
		}
		for _, m := range first.filed() {
			second.packageCame(t.Context(), toFirst, m.M.(*fb.PartT), m.Payload)
		}
	}
	if len(mine.template.queue) != 2 || h1.setup != nil || h2.setup != nil || largest > partSize {
		t.Errorf("%d workers are forked, pieces of %d bytes", len(mine.template.queue), largest)
	}
	for _, dir := range []string{j.dir, mine.dir} {
		if info, err := os.Stat(filepath.Join(dir, hash, "data")); err != nil || info.Size() != 9<<20 {
			t.Errorf("%v, %v", info, err)
		}
	}
	wanting(t, third, mine, 3, wanted)
	if told := third.filed(); len(told) > 0 || len(mine.template.queue) != 3 {
		t.Errorf("of a package that is here %v is asked for", told)
	}
}

// failed gives why the workers of a desk could not be started.
func (d *desk) failed(t *testing.T) (why []string) {
	for _, ev := range d.events {
		f, ok := ev.(work.WorkerFailed)
		if !ok || !f.Final {
			t.Errorf("%+v", ev)
		}
		why = append(why, f.Why)
	}
	d.events = nil
	return why
}

func TestPackagesThatFail(t *testing.T) {
	now := int64(time.Second)
	_, hash := archived(t, 10)
	wanted := `{"py_modules":["package:` + hash + `"],"config":{"setup_timeout_seconds":3}}`
	expect := func(d *desk, want string) {
		t.Helper()
		if why := d.failed(t); len(why) != 1 || !strings.Contains(why[0], want) {
			t.Errorf("%q, want %q", why, want)
		}
		if len(d.hired) != 0 {
			t.Errorf("%d workers are left", len(d.hired))
		}
	}
	d, j, _ := packing(t, &now, false)
	wanting(t, d, j, 1, wanted)
	d.filed()
	expect(d, "not on node n1")

	d, j, e := packing(t, &now, true)
	for _, c := range []struct {
		part fb.PartT
		data string
		want string
	}{
		{fb.PartT{Package: hash, Error: "gone"}, "", "gone"},
		{fb.PartT{Package: hash, Offset: 7, Total: 9}, "x", "were next"},
		{fb.PartT{Package: hash, Total: 1}, "xy", "were next"},
	} {
		wanting(t, d, j, 1, wanted)
		if told := d.filed(); len(told) != 1 {
			t.Fatalf("told %v", told)
		}
		d.packageCame(t.Context(), e, &c.part, []byte(c.data))
		d.filed()
		expect(d, c.want)
	}
	wanting(t, d, j, 1, wanted)
	d.filed()
	if due := d.settleSetups(now); due != now+3*int64(time.Second) {
		t.Errorf("due in %v", time.Duration(due-now))
	}
	d.settleSetups(now + 3*int64(time.Second))
	expect(d, "0 of 0 bytes")
	d.obtained(j, j.packs[0], errors.New("late"))
	h := wanting(t, d, j, 2, wanted)
	if h.setup == nil {
		t.Fatal("it is not tried again")
	}
	d.kill(h, "its driver ended")
	if len(d.hired) != 0 || d.events[0].(work.WorkerFailed).Final {
		t.Errorf("a worker that was killed: %+v", d.events)
	}
	d.filed()
	for _, ask := range []fb.PullT{{Package: "../../x", Size: 1}, {Package: hash, Size: 1 << 40}, {Package: hash, Size: 1}} {
		d, _, e := packing(t, &now, false)
		d.packagePulled(t.Context(), e, &ask)
		if told := d.filed(); len(told) != 1 || told[0].M.(*fb.PartT).Error == "" {
			t.Errorf("%+v: %v", ask, told)
		}
	}
}

// An archive that is damaged, here or on its way, is removed and brought again, once; then the next worker may try.
func TestDamagedPackages(t *testing.T) {
	now := int64(time.Second)
	archive, hash := archived(t, 1000)
	wanted := `{"working_dir":"package:` + hash + `"}`
	d, j, e := packing(t, &now, true)
	damage := func() {
		t.Helper()
		if err := errors.Join(os.MkdirAll(j.dir, 0o700), os.WriteFile(j.archive(hash), []byte("damaged"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	comes := func(data []byte) {
		t.Helper()
		told := d.filed()
		if len(told) != 1 || told[0].M.(*fb.PullT).Offset != 0 {
			t.Fatalf("asked for %+v", told)
		}
		d.packageCame(t.Context(), e, &fb.PartT{Package: hash, Total: uint64(len(data))}, data)
	}
	wanting(t, d, j, 1, wanted)
	comes([]byte("damaged"))
	comes([]byte("again"))
	if d.filed(); len(j.template.queue) != 0 {
		t.Error("a worker is forked without its package")
	}
	if why := d.failed(t); len(why) != 1 || !strings.Contains(why[0], "not what its name says") {
		t.Errorf("%q", why)
	}
	damage() // of what came before
	wanting(t, d, j, 2, wanted)
	comes(archive)
	if d.filed(); len(j.template.queue) != 1 {
		t.Errorf("it was brought again, and no worker is forked: %v", d.failed(t))
	}

	d, j, _ = packing(t, &now, false) // where its driver put it
	damage()
	wanting(t, d, j, 1, wanted)
	d.filed()
	if why := d.failed(t); len(why) != 1 || !strings.Contains(why[0], "not what its name says") {
		t.Errorf("%q", why)
	}
	if err := os.WriteFile(j.archive(hash)+".1", archive, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(j.archive(hash)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the damaged one is there still: %v", err)
	}
	if err := os.Rename(j.archive(hash)+".1", j.archive(hash)); err != nil { // as a process does that names it
		t.Fatal(err)
	}
	wanting(t, d, j, 2, wanted)
	if d.filed(); len(j.template.queue) != 1 {
		t.Errorf("it was put there again, and no worker is forked: %v", d.failed(t))
	}
}

// A job's directory goes with it, and that of agents before this one at once.
func TestJobsDirectories(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.l.core.cfg.Socket = filepath.Join(t.TempDir(), "agent.sock")
	before, mine := jobsDir(&d.l.core.cfg, 9), jobsDir(&d.l.core.cfg, 1)
	for _, dir := range []string{before, filepath.Join(mine, "7", "a"), filepath.Join(mine, "8")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d.tidyDirs()
	d.jobs = []*job{{number: 7, dir: filepath.Join(mine, "7")}, {number: 8, dir: filepath.Join(mine, "8"), busy: 1}}
	d.tidyJobs(t.Context())
	d.l.wait.Wait()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(mine), "*", "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "8" {
		t.Errorf("left: %v, %v", left, err)
	}
}
