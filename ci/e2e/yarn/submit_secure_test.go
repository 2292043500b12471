//go:build e2e

package yarn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// By a keytab, on a cluster with Kerberos whose calls are sealed; the nodes see this machine's files.
func TestSubmitWithKerberos(t *testing.T) {
	b := secure.up(t)
	g := accountOn(t, b)
	g.environ = []string{"KRB5_CONFIG=" + filepath.Join(b.dir, "kdc", "krb5.conf"), "KRB5CCNAME=FILE:" + filepath.Join(g.home, "none")}
	if r := g.run("submit", "--on", "yarn", "--", "true"); r.Code != 77 || !strings.Contains(r.Stderr, "kinit") {
		t.Errorf("without a ticket: %+v", r)
	}
	g.environ = append(g.environ, "MANIPLE_PRINCIPAL=alice", "MANIPLE_KEYTAB="+filepath.Join(b.dir, "kdc", "keytab"))
	g.write("who.sh", "echo $USER $RANK; exit 4")
	r := g.run(append(append([]string{"submit", "--on", "yarn", "--follow", "-N", "1", "-n", "1"}, small...), "--", "bash", "who.sh")...)
	if r.Code != 4 || !strings.Contains(r.Stdout, "alice 0") {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(filepath.Join(g.home, ".maniple", "files")); err != nil {
		t.Error(err)
	}
}
