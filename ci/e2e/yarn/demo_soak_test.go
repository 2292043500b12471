//go:build e2e && soak

package yarn

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// trainer is an account that can run the training of `make demo`, with its data on HDFS.
type trainer struct {
	*gateway
	python, out string
}

// bringData is who has the data put it where the training reads it, by pieces of another library on top of ours.
const bringData = `
import fsspec, numpy
from sklearn.datasets import load_digits
digits = load_digits()
with fsspec.open("hdfs:///user/alice/data/digits.npz", "wb") as file:
    numpy.savez(file, images=digits.images, target=digits.target)
`

func (g *gateway) trains() *trainer {
	g.t.Helper()
	python, top := pythonFor(g.t, "demo")
	// What an installation has beside the package: fsspec finds its hdfs by it.
	info := filepath.Join(g.home, "installed", "maniple-0.dist-info")
	if err := os.MkdirAll(info, 0o755); err != nil {
		g.t.Fatal(err)
	}
	for name, text := range map[string]string{"METADATA": "Metadata-Version: 2.1\nName: maniple\nVersion: 0\n", "entry_points.txt": "[fsspec.specs]\nhdfs = maniple._fsspec:HDFSFileSystem\n"} {
		if err := os.WriteFile(filepath.Join(info, name), []byte(text), 0o644); err != nil {
			g.t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(top, "ci", "e2e", "programs", "digits.py"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.write("digits.py", string(text))
	g.write("bring.py", bringData)
	sdk := "PYTHONPATH=" + filepath.Join(top, "libs", "python") + ":" + filepath.Dir(info)
	g.environ = append(g.environ, sdk, "PATH="+filepath.Dir(g.binary)+":"+os.Getenv("PATH"))
	cmd := g.command(forTraining(g.t))
	cmd.Path, cmd.Args = python, []string{python, "bring.py"}
	if r := e2e.Do(g.t, cmd); r.Code != 0 {
		g.t.Fatalf("%+v", r)
	}
	return &trainer{g, python, fmt.Sprintf("/user/alice/digits-%d", time.Now().UnixNano())} // the testbed may be there for longer than a test
}

// run trains up to an epoch, as an application.
func (t *trainer) run(epochs, target string, flags ...string) e2e.Result {
	t.t.Helper()
	args := append([]string{"submit", "--on", "yarn", "-N", "2", "--ntasks-per-node", "1", "--mem", "1200M", "--am-memory", "512M", "--export", "PYTHONPATH,OMP_NUM_THREADS=1"}, flags...)
	return e2e.Do(t.t, t.command(forTraining(t.t), append(args, "--", t.python, "digits.py", "--data", "hdfs:///user/alice/data", "--out", "hdfs://"+t.out,
		"--workers", "0", "--epochs", epochs, "--target", target)...))
}

// forTraining is the time for one: three processes import torch at once.
func forTraining(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*limit)
	t.Cleanup(cancel)
	return ctx
}

// The training of `make demo` runs as it is, with data and checkpoints on HDFS: first as an application, then on from its checkpoint with the master here.
func TestDemoOnYARN(t *testing.T) {
	g := gatewayOf(t).trains()
	if r := g.run("2", "0.1", "--follow"); r.Code != 0 || !strings.Contains(r.Stdout, "on 2 ranks") || !strings.Contains(r.Stdout, "epoch 2/2") {
		t.Fatalf("%+v", r)
	}
	if r := g.run("6", "0.9", "--client"); r.Code != 0 || !strings.Contains(r.Stdout, "resuming after epoch 1") || !strings.Contains(r.Stdout, "shows all 6 epochs") {
		t.Errorf("%+v", r)
	}
	g.left()
}

// With Kerberos: by the application's token.
func TestDemoOnYARNWithKerberos(t *testing.T) {
	b := secure.up(t)
	g := accountOn(t, b)
	keytab, krb5 := filepath.Join(b.dir, "kdc", "keytab"), filepath.Join(b.dir, "kdc", "krb5.conf")
	g.kerberosHome().Close()
	g.environ = []string{"KRB5_CONFIG=" + krb5, "KRB5CCNAME=FILE:" + filepath.Join(g.home, "none"), "MANIPLE_PRINCIPAL=alice", "MANIPLE_KEYTAB=" + keytab}
	at := g.trains()
	if r := at.run("2", "0.1", "--follow"); r.Code != 0 || !strings.Contains(r.Stdout, "epoch 2/2") {
		t.Fatalf("%+v", r)
	}
	if r := at.run("4", "0.8", "--follow"); r.Code != 0 || !strings.Contains(r.Stdout, "resuming after epoch 1") {
		t.Errorf("%+v", r)
	}
}

// left looks at what a training leaves on HDFS.
func (t *trainer) left() {
	t.t.Helper()
	owner, err := yarn.CurrentUser()
	if err != nil {
		t.t.Fatal(err)
	}
	fs := t.hdfsHome(yarn.Config{User: owner})
	defer fs.Close()
	list, err := fs.ReadDir(t.out)
	var names []string
	for _, info := range list {
		names = append(names, info.Name())
	}
	if strings.Join(names, " ") != "checkpoint.pt curves.png metrics.json" {
		t.t.Error(names, err)
	}
}
