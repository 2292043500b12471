//go:build e2e

package yarn

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	hdfsfiles "github.com/maniple-hpc/maniple/launcher/hdfs"
	"github.com/maniple-hpc/maniple/objstore/spill"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/kerberos"
)

// spillsTo opens a folder of alice's on HDFS for values of one agent.
func spillsTo(t *testing.T, agent string, env map[string]string) (*spill.Files, spill.FS) {
	t.Helper()
	fs, err := hdfsfiles.OpenSpill("hdfs:///user/alice/spill", func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	f, err := spill.Open([]spill.Directory{{FS: fs, Path: "maniple-c/" + agent, Full: 0.999}})
	if err == nil {
		err = f.Probe()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(false) })
	return f, fs
}

// HDFS-4: values go to HDFS and come back, also while its NameNode is killed and starts again; another agent finds them after the first one's end.
func TestSpillToHDFS(t *testing.T) {
	g := gatewayOf(t)
	t.Setenv("HADOOP_USER_NAME", "alice")
	env := map[string]string{"HADOOP_CONF_DIR": filepath.Join(g.b.dir, "conf", "rm"), "HADOOP_USER_NAME": "alice"}
	f, fs := spillsTo(t, "1", env)
	parts := e2e.Parts(5<<20+17, 100, 1<<20)
	if err := f.Write(1, parts); err != nil {
		t.Fatal(err)
	}
	if err := e2e.ReadParts(f, 1, parts); err != nil {
		t.Fatal(err)
	}
	heir, _ := spillsTo(t, "2", env)
	left, err := spill.ReadLeft(fs, "maniple-c/1")
	if at, n, found := left.Find(parts[2].Object); err != nil || !found || n != 1<<20 || at != parts[2].At {
		t.Fatalf("%d, %d, %v, %v", at, n, found, err)
	}
	heir.Inherit(7, left, parts[2].Object)
	some := e2e.Parts(3 << 19)[0].Bytes
	alice := g.hdfs(yarn.Config{User: "alice"})
	defer alice.Close()
	for _, mode := range []os.FileMode{0, 0o600} { // rights that are taken are no silence, and may come back
		if err := alice.Chmod("/user/alice/spill/maniple-c/1/1", mode); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := e2e.ReadParts(f, 1, parts)
		if given := mode != 0; given != (err == nil) || !given && (!errors.Is(err, spill.ErrAway) || !errors.Is(err, spill.ErrRefused) || !errors.Is(err, os.ErrPermission) || time.Since(began) > 30*time.Second) {
			t.Errorf("with the rights %v, after %v: %v", mode, time.Since(began), err)
		}
	}
	const name = "/user/alice/held"
	held, err := alice.CreateFile(name, 1, 1<<20, 0o600) // of blocks so small that it needs several while the NameNode is away
	if err == nil {
		_, err = held.Write(some)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := g.b.script("daemon.sh kill nn"); err != nil {
		t.Fatal(err, out)
	}
	during := make(chan error, 4)
	go func() { // a file in the midst of its writing
		_, err := held.Write(some)
		during <- errors.Join(err, hdfsfiles.Closed(t.Context(), held))
	}()
	go func() { during <- e2e.ReadParts(f, 1, parts) }()
	go func() { during <- e2e.ReadParts(heir, 7, parts[2:]) }()
	go func() { during <- f.Write(2, parts) }()
	time.Sleep(time.Second) // they find nobody there
	if out, err := g.b.script("daemon.sh start nn"); err != nil {
		t.Fatal(err, out)
	}
	if out, err := g.b.script("daemon.sh wait"); err != nil {
		t.Fatal(err, out)
	}
	for range 4 {
		if err := <-during; err != nil {
			t.Error("while the NameNode started again: ", err)
		}
	}
	if got, err := alice.ReadFile(name); err != nil || !bytes.Equal(got, append(some, some...)) {
		t.Errorf("what was being written when the NameNode was killed are %d bytes: %v", len(got), err)
	}
	if err := e2e.ReadParts(f, 2, parts); err != nil {
		t.Error(err)
	}
	f.Remove(1)
	if names, err := fs.List("maniple-c/1", "", 0); err != nil || len(names) != 1 || names[0] != "2" {
		t.Error(names, err)
	}
	f.Close(false)
	if names, err := fs.List("maniple-c/1", "", 0); err != nil || len(names) > 0 {
		t.Error("left behind: ", names, err)
	}
	if free, all, err := fs.Space(); err != nil || free <= 0 || all < free {
		t.Error(free, all, err)
	}
	if _, err := hdfsfiles.OpenSpill("hdfs:///user/alice/spill", func(string) string { return "" }); err == nil {
		t.Error("without a configuration nobody knows which HDFS is meant")
	}
}

// With Kerberos: by a keytab, and by the token that containers have.
func TestSpillToHDFSWithKerberos(t *testing.T) {
	b := secure.up(t)
	g := accountOn(t, b)
	keytab, krb5 := filepath.Join(b.dir, "kdc", "keytab"), filepath.Join(b.dir, "kdc", "krb5.conf")
	g.kerberosHome().Close()
	alice, err := kerberos.New(kerberos.Config{Keytab: keytab, Principal: "alice", Conf: krb5})
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	addresses, service, err := b.conf.NameNodes("")
	if err != nil {
		t.Fatal(err)
	}
	way, err := yarn.NewHDFS(b.conf, yarn.Config{Kerberos: alice}, addresses)
	if err != nil {
		t.Fatal(err)
	}
	token, err := way.Token(within(t), service, b.conf.Principal("yarn.resourcemanager.principal", "localhost"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(g.home, "tokens")
	if err := os.WriteFile(file, yarn.Credentials{Tokens: map[string]yarn.Token{"hdfs": token}}.Marshal(), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(b.dir, "conf", "rm")
	for what, env := range map[string]map[string]string{
		"keytab": {"HADOOP_CONF_DIR": conf, "MANIPLE_PRINCIPAL": "alice", "MANIPLE_KEYTAB": keytab, "KRB5_CONFIG": krb5},
		"token":  {"HADOOP_CONF_DIR": conf, "HADOOP_TOKEN_FILE_LOCATION": file},
	} {
		f, _ := spillsTo(t, what, env)
		parts := e2e.Parts(2<<20, 64)
		if err := errors.Join(f.Write(1, parts), e2e.ReadParts(f, 1, parts)); err != nil {
			t.Errorf("by a %s: %v", what, err)
		}
	}
}
