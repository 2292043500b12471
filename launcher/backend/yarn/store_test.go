package yarn

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
)

// meddled are local files, with something that happens before the first rename.
type meddled struct {
	localFiles
	before func()
}

func (m *meddled) rename(from, to string) error {
	if do := m.before; do != nil {
		m.before = nil
		do()
	}
	return m.localFiles.rename(from, to)
}

// storeIn is a store below dir, with a file to put there.
func storeIn(t *testing.T, dir string, fs files, text string) (s *Store, file string) {
	t.Helper()
	file = filepath.Join(dir, "a.txt")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return &Store{fs: fs, base: yarn.URL{Scheme: "file", Path: filepath.Join(dir, "home")}}, file
}

// alone tells that nothing is left but one copy of one content.
func alone(t *testing.T, dir, text string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "home", ".maniple", "files", "*", "*", "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, "home", ".maniple", "files", "*", ".*"))
	if err != nil || len(found) != 1 || len(hidden) != 0 {
		t.Fatal(found, hidden, err)
	}
	if got, err := os.ReadFile(found[0]); err != nil || string(got) != text {
		t.Errorf("%q %v", got, err)
	}
}

// YJOB-4: a content is written once, and found again by its hash.
func TestStoreWritesOnce(t *testing.T) {
	dir := t.TempDir()
	put := func(text string) yarn.LocalResource {
		t.Helper()
		s, file := storeIn(t, dir, localFiles{}, text)
		r, err := s.Put(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := put("one")
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(first.URL.Path, long, long); err != nil {
		t.Fatal(err)
	}
	again, other := put("one"), put("two")
	if again.URL != first.URL || again.Timestamp.UnixMilli() != long.UnixMilli() || other.URL == first.URL || filepath.Base(other.URL.Path) != "a.txt" {
		t.Errorf("%+v %+v %+v", first, again, other)
	}
	if text, _ := os.ReadFile(other.URL.Path); string(text) != "two" || other.Size != 3 || other.Visibility != yarn.Private {
		t.Errorf("%q %+v", text, other)
	}
	if info, err := os.Stat(filepath.Join(dir, "home", ".maniple")); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info, err)
	}
	// A file that was cut short on its way does not count.
	if err := os.WriteFile(other.URL.Path, []byte("t"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := put("two"); r.Size != 3 {
		t.Errorf("%+v", r)
	}
	s, _ := storeIn(t, dir, localFiles{}, "")
	if _, err := s.Put(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "--archives") {
		t.Error(err)
	}
}

// YJOB-4: of two that bring the same content at the same moment the first one's copy stays as it is, since an application
// may have been told of it, and the other is told of the same.
func TestStoreKeepsTheFirstCopy(t *testing.T) {
	dir := t.TempDir()
	var first yarn.LocalResource
	other, file := storeIn(t, dir, localFiles{}, "text")
	fs := &meddled{before: func() {
		var err error
		if first, err = other.Put(t.Context(), file); err != nil {
			t.Error(err)
		}
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(first.URL.Path, long, long); err != nil {
			t.Error(err)
		}
		first.Timestamp = time.UnixMilli(long.UnixMilli())
	}}
	s, file := storeIn(t, dir, fs, "text")
	second, err := s.Put(t.Context(), file)
	if err != nil || second != first || second.Size != 4 {
		t.Errorf("%+v, the first: %+v; %v", second, first, err)
	}
	alone(t, dir, "text")
}

// losing are local files, of which the next so many are not written to their end.
type losing struct {
	localFiles
	n, made int
	why     error
}

var errMachineLost = errors.New("a machine is lost")

func (l *losing) lost(err error) bool { return errors.Is(err, errMachineLost) }

func (l *losing) create(ctx context.Context, name string) (io.WriteCloser, error) {
	l.made++
	w, err := l.localFiles.create(ctx, name)
	if l.made <= l.n && err == nil {
		w = half{w, l.why}
	}
	return w, err
}

// half is a file that breaks when it is closed.
type half struct {
	io.WriteCloser
	why error
}

func (h half) Close() error { return errors.Join(h.WriteCloser.Close(), h.why) }

// A content that is lost on its way is written again as a whole, a few times, and nothing stays of what was written before.
func TestStoreWritesAgain(t *testing.T) {
	for _, tc := range []struct {
		n, made int
		why     error
		good    bool
	}{{4, 5, errMachineLost, true}, {5, 5, errMachineLost, false}, {1, 1, errors.New("the quota is full"), false}} {
		dir := t.TempDir()
		fs := &losing{n: tc.n, why: tc.why}
		s, file := storeIn(t, dir, fs, "text")
		_, err := s.Put(t.Context(), file)
		if (err == nil) != tc.good || err != nil && !errors.Is(err, tc.why) || fs.made != tc.made {
			t.Errorf("%+v: %d made, %v", tc, fs.made, err)
		}
		if tc.good {
			alone(t, dir, "text")
		} else if left, _ := filepath.Glob(filepath.Join(dir, "home", ".maniple", "files", "*", ".*")); len(left) > 0 {
			t.Error(left)
		}
	}
}

// What somebody left under a content's hash and is not that content goes out of the way, however large it is.
func TestStoreReplacesWhatIsDamaged(t *testing.T) {
	for _, bad := range []string{"tex", "taxt", ""} {
		dir := t.TempDir()
		other, file := storeIn(t, dir, localFiles{}, "text")
		fs := &meddled{before: func() {
			r, err := other.Put(t.Context(), file)
			if err == nil {
				err = os.WriteFile(r.URL.Path, []byte(bad), 0o600)
			}
			if err != nil {
				t.Error(err)
			}
		}}
		s, file := storeIn(t, dir, fs, "text")
		if r, err := s.Put(t.Context(), file); err != nil || r.Size != 4 {
			t.Errorf("%q: %+v %v", bad, r, err)
		}
		alone(t, dir, "text")
	}
}

// A file that is on the cluster's file system already is named as it is, and nothing is brought; what containers have no token for is refused.
func TestStoreRefers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data.bin")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := yarn.URL{Scheme: "hdfs", Host: "nn", Port: 8020, Path: "/user/alice"}
	s := &Store{fs: localFiles{}, base: base}
	for _, name := range []string{"hdfs://" + file, "hdfs://nn:8020" + file} {
		r, err := s.Put(t.Context(), name)
		if err != nil || r.URL.String() != "hdfs://nn:8020"+file || r.Size != 4 || r.Timestamp.IsZero() || r.Visibility != yarn.Private {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
	for _, c := range []struct {
		base yarn.URL
		name string
	}{{yarn.URL{Scheme: "hdfs", Host: "nn"}, "hdfs://nn:8020"}, {base, "hdfs://NN"}} { // 8020 is the port that need not be written
		if r, err := (&Store{fs: localFiles{}, base: c.base}).Put(t.Context(), c.name+file); err != nil || r.URL.Host != "nn" || r.URL.Port != c.base.Port {
			t.Errorf("%s of %s: %+v %v", c.name, c.base, r, err)
		}
	}
	for name, want := range map[string]string{
		"hdfs://nn:9000" + file: "own file system", "hdfs://other:8020" + file: "own file system", "hdfs://" + filepath.Dir(file): "is a folder", "hdfs:///none": "does not exist", "hdfs://nn:8020": "no URL",
	} {
		if _, err := s.Put(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&Store{fs: localFiles{}, base: yarn.URL{Scheme: "file", Path: "/home/alice"}}).Put(t.Context(), "hdfs://"+file); err == nil || !strings.Contains(err.Error(), "own file system") {
		t.Error(err)
	}
}
