//go:build e2e

package local

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/launcher/s3"
	"github.com/maniple-hpc/maniple/objstore/spill"
)

// s3Version is that of versitygw, a server that speaks S3 and keeps objects as files.
const s3Version = "v1.8.0"

// s3Server is one with the bucket "values".
type s3Server struct {
	w       *world
	dir     string // its buckets
	address string
	run     *process
}

const s3Secret = "open-sesame-please"

// serveS3 starts one, builds it first if there is none in the cache (some minutes), and points the test's environment to it.
func (w *world) serveS3() *s3Server {
	w.t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		w.t.Fatal(err)
	}
	program := filepath.Join(cache, "maniple", "versitygw-"+s3Version, "versitygw")
	if _, err := os.Stat(program); err != nil {
		build := exec.Command("go", "install", "github.com/versity/versitygw/cmd/versitygw@"+s3Version)
		build.Dir, build.Env = w.dir, append(os.Environ(), "GOBIN="+filepath.Dir(program), "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			w.t.Fatalf("%v: %v\n%s", build.Args, err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	s := &s3Server{w: w, dir: filepath.Join(w.dir, "s3"), address: l.Addr().String()}
	l.Close()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": "http://" + s.address, "AWS_ACCESS_KEY_ID": "alice", "AWS_SECRET_ACCESS_KEY": s3Secret, "AWS_CONFIG_FILE": w.dir + "/none",
		"AWS_SHARED_CREDENTIALS_FILE": w.dir + "/none",
	} {
		w.t.Setenv(name, value)
		w.env = append(w.env, name+"="+value)
	}
	s.start(program)
	return s
}

// start starts it, again if it was killed, and waits until it answers.
func (s *s3Server) start(program string) {
	s.w.t.Helper()
	if err := os.MkdirAll(filepath.Join(s.dir, "values"), 0o755); err != nil {
		s.w.t.Fatal(err)
	}
	s.run = s.w.launch("", append(os.Environ(), "ROOT_ACCESS_KEY=alice", "ROOT_SECRET_KEY="+s3Secret), program, "--port", s.address, "--quiet", "posix", s.dir)
	s.w.t.Cleanup(s.kill)
	s.w.wait(20*time.Second, "the S3 server answers", func() bool {
		c, err := net.Dial("tcp", s.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill ends it as a crash does.
func (s *s3Server) kill() {
	_ = s.run.cmd.Process.Kill()
	<-s.run.done
}

// has gives the files that lie in the bucket, but for what the server has begun itself.
func (s *s3Server) has() (names []string) {
	filepath.WalkDir(filepath.Join(s.dir, "values"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(path, "/.sgwtmp/") {
			names = append(names, strings.TrimPrefix(path, s.dir))
		}
		return nil
	})
	return names
}

// bucket is a driver with three times as many values as its node's memory holds.
const bucket = `
import sys
import maniple

maniple.init(address=sys.argv[1])
MIB = 1 << 20
refs = [maniple.put(bytes([i]) * (2 * MIB)) for i in range(40)] + [maniple.put(bytes([i]) * (200 << 10)) for i in range(40, 140)]
print("written", flush=True)
for i, ref in enumerate(refs):
    assert maniple.get(ref) == bytes([i]) * (2 * MIB if i < 40 else 200 << 10), i
print("all is well", flush=True)
`

// Values go to a bucket of S3 and come back, more than memory holds, while its server is killed and starts again; they go with the
// cluster, and nobody can read the credentials. What a cluster that was killed has left there is named by the next.
func TestSpillToS3(t *testing.T) {
	w := newWorld(t)
	server := w.serveS3()
	left := filepath.Join(server.dir, "values/of/ours/maniple-ofyesterday/1")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	w.file(strings.TrimPrefix(left, w.dir)+"/1", "what a cluster left that was killed")
	w.must("up", "--cluster", "s3", "--cpus", "2", "--object-store-memory", "32M", "--object-spilling-directory", "s3://values/of/ours")
	p := w.python(bucket, "s3")
	w.wait(time.Minute, "values are in the bucket", func() bool { return len(server.has()) > 1 || exited(p) })
	server.kill()
	for _, pid := range w.marked() {
		if strings.Contains(command(pid), s3Secret) {
			t.Errorf("who lists processes reads the credentials: %s", command(pid))
		}
	}
	server.start(server.run.cmd.Path)
	if code := p.code(3 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Fatalf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	if strings.Contains(w.logs(), s3Secret) {
		t.Error("the logs have the credentials")
	}
	if text := w.must("status", "--cluster", "s3"); !strings.Contains(text, " in s3://values/of/ours\n") {
		t.Errorf("status says:\n%s", text)
	}
	if !strings.Contains(w.logs(), "s3://values/of/ours/maniple-ofyesterday") {
		t.Errorf("what another cluster left is not named:\n%s", w.logs())
	}
	w.must("down", "--cluster", "s3")
	if left := server.has(); len(left) != 1 || !strings.HasSuffix(left[0], "maniple-ofyesterday/1/1") {
		t.Errorf("left in the bucket: %q", left)
	}
	w.nothingLeft()
}

// spilled opens a folder of the bucket for the values of one agent.
func spilled(t *testing.T, uri, agent string) *spill.Files {
	t.Helper()
	fs, err := s3.OpenSpill(uri)
	if err != nil {
		t.Fatal(err)
	}
	f, err := spill.Open([]spill.Directory{{FS: fs, Path: "maniple-c/" + agent, Full: 0.95}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(false) })
	return f
}

// What goes wrong with a server of S3 is an error that says what, or nothing that anybody notices.
func TestFaultsOfS3(t *testing.T) {
	w := newWorld(t)
	server := w.serveS3()
	f := spilled(t, "s3://values/x", "1")
	large, small := e2e.Parts(20<<20, 1000), e2e.Parts(100, 200<<10, 7)
	if err := errors.Join(f.Probe(), f.Write(1, large), f.Write(2, small), e2e.ReadParts(f, 1, large), e2e.ReadParts(f, 2, small)); err != nil {
		t.Fatal(err)
	}
	server.kill()
	during := make(chan error, 3)
	go func() { during <- e2e.ReadParts(f, 1, large) }()
	go func() { during <- e2e.ReadParts(f, 2, small) }()
	go func() { during <- f.Write(3, large) }()
	server.start(server.run.cmd.Path)
	if err := errors.Join(<-during, <-during, <-during, e2e.ReadParts(f, 3, large)); err != nil {
		t.Error("while the server started again: ", err)
	}
	on := filepath.Join(server.dir, "values/x/maniple-c/1/1")
	b, err := os.ReadFile(on)
	if err != nil {
		t.Fatal(err)
	}
	b[5<<20] ^= 1
	if err := os.WriteFile(on, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := e2e.ReadParts(f, 1, large); !errors.Is(err, spill.ErrDamaged) || !strings.Contains(err.Error(), "s3://values/x") {
		t.Errorf("a flipped bit: %v", err)
	}
	if err := e2e.ReadParts(f, 1, large[1:]); err != nil {
		t.Errorf("the object beside it: %v", err)
	}
	if err := spilled(t, "s3://nowhere/x", "1").Probe(); err == nil || !strings.Contains(err.Error(), `no bucket "nowhere"`) {
		t.Errorf("%v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "guessed")
	if err := spilled(t, "s3://values/x", "1").Probe(); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "refuses the credentials") {
		t.Errorf("%v", err)
	}
	f.Close(false)
	if left := server.has(); len(left) > 0 {
		t.Errorf("left in the bucket: %q", left)
	}
}

// A store that is full says so, and the next directory is used.
func TestFullS3(t *testing.T) {
	w := newWorld(t)
	if err := os.Mkdir(filepath.Join(w.dir, "s3"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", filepath.Join(w.dir, "s3"), "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(w.dir, "s3"), unix.MNT_DETACH) })
	server := w.serveS3()
	bucket, err := s3.OpenSpill("s3://values/x")
	if err != nil {
		t.Fatal(err)
	}
	next := t.TempDir()
	f, err := spill.Open([]spill.Directory{{FS: bucket, Path: "c/1"}, {FS: spill.Dir(next), Path: "c/1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close(false)
	large := e2e.Parts(20 << 20)
	began := time.Now()
	if err := errors.Join(f.Write(1, large), e2e.ReadParts(f, 1, large)); err != nil {
		t.Error(err)
	}
	if uses := f.Uses(); uses[0].Bytes != 0 || uses[1].Bytes != 20<<20 {
		t.Errorf("%+v", uses)
	}
	t.Logf("after %v", time.Since(began))
	if left := server.has(); len(left) > 0 {
		t.Errorf("left in the bucket: %q", left)
	}
}
