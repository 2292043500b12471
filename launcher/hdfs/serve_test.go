package hdfs

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

// talk is a program's side of a connection to a server.
type talk struct {
	t    *testing.T
	conn net.Conn
}

func talks(t *testing.T, s *Server) *talk {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		s.Serve(theirs)
		close(done)
	}()
	t.Cleanup(func() {
		ours.Close()
		<-done
	})
	return &talk{t, ours}
}

// says sends a text and bytes, whatever they are.
func (k *talk) says(text string, data []byte) {
	k.t.Helper()
	frame := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(len(text))), uint32(len(data)))
	if _, err := k.conn.Write(append(append(frame, text...), data...)); err != nil {
		k.t.Fatal(err)
	}
}

// hears reads an answer.
func (k *talk) hears() (r reply) {
	k.t.Helper()
	var lengths [8]byte
	if _, err := io.ReadFull(k.conn, lengths[:]); err != nil {
		k.t.Fatal(err)
	}
	text := make([]byte, binary.LittleEndian.Uint32(lengths[:]))
	if _, err := io.ReadFull(k.conn, text); err != nil {
		k.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		k.t.Fatal(err)
	}
	return r
}

// HDFS-5: a program that says what makes no sense is told so; one that is no program of ours is left.
func TestServeRefuses(t *testing.T) {
	s := &Server{}
	k := talks(t, s)
	k.says(`{"op":"hello","version":1,"server":"nowhere.invalid:1"}`, nil)
	if r := k.hears(); r.Errno != 0 {
		t.Fatalf("%+v", r)
	}
	if len(s.clients) != 1 {
		t.Error(s.clients)
	}
	for request, want := range map[string]unix.Errno{
		`{"op":"read","at":0,"size":10}`: unix.EINVAL, `{"op":"read","at":-1,"size":-1}`: unix.EINVAL, `{"op":"write"}`: unix.EBADF, `{"op":"finish"}`: unix.EBADF,
		`{"op":"commit"}`: unix.EBADF, `{"op":"discard"}`: unix.EBADF, `{"op":"fly"}`: unix.EINVAL, `{"op":"hello","version":1}`: unix.EINVAL, `{}`: unix.EINVAL,
	} {
		k.says(request, []byte("bytes"))
		if r := k.hears(); unix.Errno(r.Errno) != want || r.Error == "" {
			t.Errorf("%s: %+v", request, r)
		}
	}
	k.says(`[]`, nil)
	if _, err := k.conn.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	for text, want := range map[string]string{
		`{"op":"hello","version":7}`: "version 7", `{"op":"stat","path":"/"}`: "version 0",
		`{"op":"hello","version":1,"env":{"HADOOP_CONF_DIR":"/nowhere"}}`: "HADOOP_CONF_DIR", `{"op":"hello","version":1,"server":"h:99999"}`: `the NameNode is "h:99999"`,
	} {
		k := talks(t, s)
		k.says(text, nil)
		if r := k.hears(); r.Errno != int(unix.EINVAL) && r.Errno != int(unix.EPROTONOSUPPORT) || !strings.Contains(r.Error, want) {
			t.Errorf("%s: %+v", text, r)
		}
	}
	for _, head := range []string{"\xff\xff\xff\xff\x00\x00\x00\x00", "\x00\x00\x00\x00\xff\xff\xff\xff", "GET / HT"} {
		k := talks(t, s)
		if _, err := io.WriteString(k.conn, head); err != nil {
			t.Error(err)
		}
		if _, err := k.conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%q: %v", head, err)
		}
	}
}

// A client is a program's as long as a connection of it is there, and nobody else's: HDFS knows it as what it said of itself.
func TestServeKeepsUsersApart(t *testing.T) {
	s := &Server{}
	take := func(env map[string]string) (*Client, func()) {
		c, give, err := s.take(ask{Server: "h:1", Env: env})
		if err != nil {
			t.Fatal(err)
		}
		return c, give
	}
	alice, first := take(map[string]string{"HADOOP_USER_NAME": "alice"})
	again, second := take(map[string]string{"HADOOP_USER_NAME": "alice", "PATH": "/bin"})
	bob, third := take(map[string]string{"HADOOP_USER_NAME": "bob"})
	contained, fourth := take(map[string]string{"USER": "carol", "CONTAINER_ID": "container_1"})
	if alice != again || alice == bob {
		t.Error("clients are mixed up")
	}
	for c, want := range map[*Client]string{alice: "alice", bob: "bob", contained: "carol"} {
		if o, _, err := c.options(oneRound); err != nil || o.User != want || o.Addresses[0] != "h:1" {
			t.Error(o.User, o.Addresses, err)
		}
	}
	first()
	third()
	fourth()
	if len(s.clients) != 1 {
		t.Error(len(s.clients), "clients are left")
	}
	second()
	if len(s.clients) != 0 {
		t.Error(len(s.clients), "clients are left")
	}
}

// What Hadoop's configuration says counts: which file system, and what new files may be read by.
func TestClientOfConfiguration(t *testing.T) {
	dir := t.TempDir()
	text := `<configuration><property><name>fs.defaultFS</name><value>hdfs://cluster</value></property><property><name>dfs.nameservices</name><value>cluster</value></property>` +
		`<property><name>dfs.ha.namenodes.cluster</name><value>a,b</value></property><property><name>dfs.namenode.rpc-address.cluster.a</name><value>a:8020</value></property>` +
		`<property><name>dfs.namenode.rpc-address.cluster.b</name><value>b:8020</value></property><property><name>fs.permissions.umask-mode</name><value>077</value></property></configuration>`
	if err := os.WriteFile(filepath.Join(dir, "core-site.xml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	getenv := func(name string) string {
		return map[string]string{"HADOOP_CONF_DIR": dir, "HADOOP_USER_NAME": "alice"}[name]
	}
	for _, uri := range []string{"", "hdfs://", "hdfs://cluster"} {
		c, err := New(uri, getenv)
		if err != nil || strings.Join(c.addresses, " ") != "a:8020 b:8020" || c.service != "ha-hdfs:cluster" || c.permission(0o777) != 0o700 || c.permission(0o666) != 0o600 {
			t.Errorf("%s: %+v %v", uri, c, err)
		}
	}
	if c, err := New("hdfs://other:9000", getenv); err != nil || c.addresses[0] != "other:9000" {
		t.Error(c, err)
	}
	if _, err := New("hdfs://a b", getenv); err == nil {
		t.Error("a name with a space")
	}
}

// What a site lets nobody else read it may say in letters, as Hadoop lets it; what is neither is no reason to let everybody.
func TestUmaskInLetters(t *testing.T) {
	for text, want := range map[string]os.FileMode{
		"": 0o022, "027": 0o027, "u=rwx,g=rx,o=": 0o027, "u=rwx, g=, o=": 0o077, "a=rx": 0o222, "ug=rw,o+r": 0o113, "=rwx": 0, "u=rwx,go-w": 0o077, "1077": 0o077,
	} {
		c := conf.New()
		c.Set("fs.permissions.umask-mode", text)
		if got, err := umask(c); err != nil || got != want {
			t.Errorf("%q: %o %v", text, got, err)
		}
		if got := (&Client{conf: c}).permission(0o777); got != 0o777&^want {
			t.Errorf("%q: %o", text, got)
		}
	}
	dir := t.TempDir()
	text := `<configuration><property><name>fs.permissions.umask-mode</name><value>private</value></property></configuration>`
	if err := os.WriteFile(filepath.Join(dir, "core-site.xml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New("hdfs://nn", func(name string) string { return map[string]string{"HADOOP_CONF_DIR": dir}[name] }); err == nil || !strings.Contains(err.Error(), `is "private"`) {
		t.Error(err)
	}
}

// The NameNode takes no path with // or .. in it, which programs make by joining others; Hadoop's own clients send none.
func TestPathsAreCleaned(t *testing.T) {
	for text, want := range map[string]string{"/": "/", "": "/", "/data//x/": "/data/x", "//data/./x": "/data/x", "/data/a/../x": "/data/x", "/data/a b": "/data/a b"} {
		if got := clean(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// An error of HDFS's is one of a file system's, with its text in one line.
func TestErrnoOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want unix.Errno
	}{
		{&os.PathError{Op: "open", Path: "/x", Err: os.ErrNotExist}, unix.ENOENT},
		{saidNo("org.apache.hadoop.security.AccessControlException"), unix.EACCES},
		{saidNo("org.apache.hadoop.fs.ParentNotDirectoryException"), unix.ENOTDIR},
		{asFull(saidNo("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException")), unix.EDQUOT},
		{saidNo("java.io.IOException"), unix.EIO},
		{&formError{path: "/x", form: "encrypted"}, unix.EOPNOTSUPP},
		{errReplaced, unix.ESTALE},
		{&setupError{io.ErrUnexpectedEOF}, unix.EACCES},
		{io.ErrUnexpectedEOF, unix.ETIMEDOUT},
		{unix.EISDIR, unix.EISDIR},
	} {
		if got, text := errnoOf(c.err); got != c.want || text == "" || strings.Contains(text, "\n") {
			t.Errorf("%v: %v %q", c.err, got, text)
		}
	}
	for class, want := range map[string]bool{
		"org.apache.hadoop.hdfs.server.namenode.SafeModeException": false, "org.apache.hadoop.ipc.StandbyException": false, "java.io.IOException": true, "": false,
	} {
		if got := refused(&os.PathError{Err: saidNo(class)}); got != want {
			t.Errorf("%q is an answer: %v", class, got)
		}
	}
}

// HDFS-3: the library would give the wrong bytes of such files.
func TestFormsThatAreNotRead(t *testing.T) {
	for field, want := range map[string]string{"EcPolicy": "erasure-coded", "FileEncryptionInfo": "encrypted", "": ""} {
		status := &hdfs.FileStatus{}
		if field != "" {
			v := reflect.ValueOf(status).Elem().FieldByName(field)
			v.Set(reflect.New(v.Type().Elem()))
		}
		_, err := plainFile("/x", stated{status})
		if want == "" && !errors.Is(err, unix.EISDIR) || want != "" && (err == nil || !strings.Contains(err.Error(), "/x is "+want) || !refused(err)) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// stated is what the library knows of a file.
type stated struct{ *hdfs.FileStatus }

func (s stated) Sys() any { return s.FileStatus }

func FuzzReadFrame(f *testing.F) {
	f.Add("\x0d\x00\x00\x00\x02\x00\x00\x00{\"op\":\"stat\"}ab")
	f.Fuzz(func(t *testing.T, text string) {
		a, data, err := readFrame(bufio.NewReader(strings.NewReader(text)), nil)
		if err == nil && (len(data) > len(text) || len(a.Op) > 6*len(text)) {
			t.Errorf("%d bytes of %d", len(data), len(text))
		}
	})
}

// Who waits for HDFS is told why once in a while, and not what is asked at once.
func TestWaitingIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		c := &Client{addresses: []string{"127.0.0.1:1"}, conf: conf.New(), getenv: func(string) string { return "alice" }, say: func(err error) { said = append(said, err.Error()) }}
		defer c.Close()
		for _, step := range []struct {
			patience time.Duration
			told     int
		}{{time.Second, 0}, {10 * time.Second, 1}, {time.Minute, 1}, {10 * time.Second, 2}} {
			if err := c.again(step.patience, refused, func(h *hdfs.Client) error { _, err := h.Stat("/f"); return err }); !errors.Is(err, yarn.ErrUnreachable) {
				t.Error(err)
			}
			if len(said) != step.told || step.told > 0 && !strings.Contains(said[0], "refused") {
				t.Errorf("after %v: %q", step.patience, said)
			}
		}
	})
}
