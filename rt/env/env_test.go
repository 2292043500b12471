package env_test

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/env"
)

// packed makes an archive of headers and their contents, and gives its path and its hash.
func packed(t *testing.T, members ...any) (path, hash string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a.zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	for i := 0; i < len(members); i += 2 {
		h := members[i].(zip.FileHeader)
		into, err := w.CreateHeader(&h)
		if err == nil {
			_, err = into.Write([]byte(members[i+1].(string)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(all)
	return path, hex.EncodeToString(sum[:])
}

func member(name string, mode fs.FileMode) zip.FileHeader {
	h := zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(mode)
	return h
}

func TestUnpack(t *testing.T) {
	archive, hash := packed(t, member("empty/", fs.ModeDir|0o755), "", member("a/b/c.py", 0o644), "X = 1\n", member("run.sh", 0o755), "true")
	dir := filepath.Join(t.TempDir(), hash)
	for range 2 { // the second time it is there
		if err := env.Unpack(t.Context(), archive, hash, dir); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "a/b/c.py")); string(text) != "X = 1\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	for name, want := range map[string]fs.FileMode{"run.sh": 0o700, "a/b/c.py": 0o600, "empty": fs.ModeDir | 0o700} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info, err, want)
		}
	}
}

// What can't be unpacked whole leaves nothing behind, and nothing is written beside it.
func TestUnpackRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		header zip.FileHeader
		want   string
	}{
		"a path that leads out": {member("../out", 0o644), "leads out"},
		"an absolute path":      {member("/etc/out", 0o644), "leads out"},
		"a link":                {member("link", fs.ModeSymlink|0o777), "neither a file nor a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			archive, hash := packed(t, member("first", 0o644), "1", c.header, "../../out")
			in := filepath.Join(t.TempDir(), "jobs")
			if err := os.Mkdir(in, 0o700); err != nil {
				t.Fatal(err)
			}
			err := env.Unpack(t.Context(), archive, hash, filepath.Join(in, hash))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			for _, dir := range []string{in, filepath.Dir(in)} {
				if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 1 || len(left) == 1 && left[0] != in {
					t.Errorf("left in %s: %v", dir, left)
				}
			}
		})
	}
	archive, hash := packed(t, member("a", 0o644), "1")
	dir := filepath.Join(t.TempDir(), "d")
	if err := env.Unpack(t.Context(), archive, strings.Repeat("0", 64), dir); err == nil || !strings.Contains(err.Error(), "not what its name says") || !errors.Is(err, env.ErrDamaged) {
		t.Errorf("another hash: %v", err)
	}
	if _, err := os.Stat(archive); err != nil { // it may have another name elsewhere
		t.Errorf("what is not Unpack's was removed: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := env.Unpack(ended, archive, hash, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if err := os.WriteFile(archive, []byte("no zip"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("no zip"))
	if err := env.Unpack(t.Context(), archive, hex.EncodeToString(sum[:]), dir); err == nil || !strings.Contains(err.Error(), "zip") {
		t.Errorf("what is no archive: %v", err)
	}
}

func TestParse(t *testing.T) {
	one, two := strings.Repeat("a1", 32), strings.Repeat("0f", 32)
	e, err := env.Parse(`{"env_vars":{"A":"${X}:$X:${NONE}","B":"b"},"working_dir":"package:` + one + `","py_modules":["package:` + two + `","package:` + one + `"]}`)
	if got := e.Packages(); err != nil || len(got) != 2 || got[0] != one || got[1] != two || e.Timeout() != 10*time.Minute {
		t.Errorf("%v, %v, %v", got, e.Timeout(), err)
	}
	e.Expand(map[string]string{"X": "x"})
	if e.Vars["A"] != "x:$X:" || e.Vars["B"] != "b" {
		t.Errorf("%v", e.Vars)
	}
	for text, want := range map[string]time.Duration{`{"config":{"setup_timeout_seconds":3}}`: 3 * time.Second, `{"config":{"setup_timeout_seconds":-1}}`: 0} {
		if e, err := env.Parse(text); e.Timeout() != want || err != nil {
			t.Errorf("%s: %v, %v", text, e.Timeout(), err)
		}
	}
	for text, want := range map[string]string{`{"env_vars":{"A":"1"}}`: "", `{"pip": {"packages": ["a"]}, "env_vars": {"A": "1"}}`: `{"pip":{"packages": ["a"]}}`, `{"conda":"x"}`: `{"conda":"x"}`} {
		if e, err := env.Parse(text); e.Install() != want || err != nil {
			t.Errorf("%s is to install %s: %v", text, e.Install(), err)
		}
	}
	if e, err := env.Parse(""); err != nil || len(e.Packages()) != 0 {
		t.Errorf("the empty one: %v", err)
	}
	for _, bad := range []string{`{"java_jars":["x"]}`, `{"pip":["x"],"conda":"y"}`, `{`, `{"working_dir":"/etc"}`, `{"working_dir":"package:../../x"}`, `{"py_modules":["package:` + strings.ToUpper(one) + `"]}`} {
		if _, err := env.Parse(bad); err == nil || !strings.Contains(err.Error(), "runtime_env can't be made") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
