//go:build e2e

package yarn

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colinmarc/hdfs/v2"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/kerberos"
)

// kerberosHome makes alice's folder on an HDFS with Kerberos, as the NameNode's own user, whose client it gives.
func (g *gateway) kerberosHome() *hdfs.Client {
	g.t.Helper()
	kdc := filepath.Join(g.b.dir, "kdc")
	login, err := kerberos.New(kerberos.Config{Keytab: filepath.Join(kdc, "keytab"), Principal: "nn/localhost", Conf: filepath.Join(kdc, "krb5.conf")})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { login.Close() })
	return g.hdfsHome(yarn.Config{User: "nn", Kerberos: login})
}

// By a keytab, on a cluster with Kerberos whose calls are sealed. Containers get their files from HDFS by its token.
func TestSubmitWithKerberos(t *testing.T) {
	b := secure.up(t)
	g := accountOn(t, b)
	fs := g.kerberosHome()
	defer fs.Close()
	g.environ = []string{"KRB5_CONFIG=" + filepath.Join(b.dir, "kdc", "krb5.conf"), "KRB5CCNAME=FILE:" + filepath.Join(g.home, "none")}
	if r := g.run("submit", "--on", "yarn", "--", "true"); r.Code != 77 || !strings.Contains(r.Stderr, "kinit") {
		t.Errorf("without a ticket: %+v", r)
	}
	g.environ = append(g.environ, "MANIPLE_PRINCIPAL=alice", "MANIPLE_KEYTAB="+filepath.Join(b.dir, "kdc", "keytab"))
	if r := g.run("submit", "--on", "yarn", "--client", "--", "true"); r.Code != 78 || !strings.Contains(r.Stderr, "gives no token to a master") {
		t.Errorf("in client mode: %+v", r)
	}
	g.write("who.sh", "echo $USER $RANK; exit 4")
	r := g.run(append(append([]string{"submit", "--on", "yarn", "--follow", "-N", "1", "-n", "1"}, small...), "--", "bash", "who.sh")...)
	if r.Code != 4 || !strings.Contains(r.Stdout, "alice 0") {
		t.Errorf("%+v", r)
	}
	python, top := devPython(t)
	g.write("files.py", usesFiles)
	r = g.run(append(append([]string{"submit", "--on", "yarn", "--follow", "-N", "1", "-n", "1", "--export", "PYTHONPATH=" + filepath.Join(top, "libs", "python")}, small...),
		"--", python, "files.py", "hdfs:///user/alice/files")...)
	if r.Code != 0 || !strings.Contains(r.Stdout, "owner alice") || !strings.Contains(r.Stdout, "all well") {
		t.Errorf("a program's own files, by the application's token: %+v", r)
	}
	if list, err := fs.ReadDir("/user/alice/.maniple/files"); err != nil || len(list) < 2 {
		t.Error(list, err)
	}
}

// Where Hadoop is as it comes, memory alone is counted, and rounded up: a node has the cores that were asked for all the same, and what a queue never has is refused. bob
// is robert on this cluster (auth_to_local), and so is his folder.
func TestSubmitWhereMemoryAloneCounts(t *testing.T) {
	b := secure.up(t)
	g := accountOn(t, b)
	fs := g.kerberosHome()
	defer fs.Close()
	if err := errors.Join(fs.MkdirAll("/user/robert", 0o755), fs.Chown("/user/robert", "robert", "robert")); err != nil {
		t.Fatal(err)
	}
	kdc := filepath.Join(b.dir, "kdc")
	g.environ = []string{"KRB5_CONFIG=" + filepath.Join(kdc, "krb5.conf"), "MANIPLE_PRINCIPAL=bob", "MANIPLE_KEYTAB=" + filepath.Join(kdc, "keytab")}
	if r := g.run(append(append([]string{"submit", "--on", "yarn", "-N", "6"}, small...), "--", "true")...); r.Code != 78 || !strings.Contains(r.Stderr, "need 7168 of memory-mb, since YARN rounds each up to a multiple of 1024") {
		t.Errorf("more than the cluster has: %+v", r)
	}
	python, top := devPython(t)
	g.write("main.py", `
import os, maniple

maniple.init()

@maniple.remote(num_cpus=5)
def who():
    return os.environ["USER"]

print(maniple.cluster_resources()["CPU"], *maniple.get([who.remote(), who.remote()]))
`)
	r := g.run("submit", "--on", "yarn", "--follow", "-N", "2", "-c", "6", "--mem", "512M", "--am-memory", "512M",
		"--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"), "--", python, "main.py")
	if r.Code != 0 || !strings.HasSuffix(r.Stdout, "\n12 robert robert\n") {
		t.Errorf("%+v", r)
	}
	if list, err := fs.ReadDir("/user/robert/.maniple/files"); err != nil || len(list) < 2 {
		t.Error(list, err)
	}
}
