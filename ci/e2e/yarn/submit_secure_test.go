//go:build e2e

package yarn

import (
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
