//go:build e2e

package yarn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// usesFiles is a program that reads and writes HDFS: first who it is there, then what goes wrong and how that is called.
const usesFiles = `
import os, signal, sys
from maniple import fs

at = sys.argv[1]
rank = os.environ.get("RANK", "0")
mine = f"{at}/part.{rank}/data"
block = bytes(range(256)) * 4096

if os.path.exists("given.txt"):  # --files
    print("given", open("given.txt").read())
with fs.open(mine, "wb") as f:
    for _ in range(5):
        f.write(block)
with fs.open(mine, "rb") as f:
    assert f.read() == block * 5
    assert f.seek(len(block) + 7) and f.read(3) == block[7:10] and f.seek(-2, 2) and f.read() == block[-2:]
info = fs.stat(mine)
print("owner", info.owner, info.size, oct(info.mode))
with fs.open(mine, "w") as f:
    f.write("größer")
assert fs.open(mine).read() == "größer"
try:
    with fs.open(mine, "w") as f:
        f.write("half of it" * 1000000)
        raise KeyError
except KeyError:
    pass
pid = os.fork()
if pid == 0:  # one that dies while it writes
    f = fs.open(mine, "w")
    f.write("half of it" * 1000000)
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)
assert fs.open(mine).read() == "größer"
new = mine + ".new"
f = fs.open(new, "xb")
f.write(b"not new any more")
assert not fs.exists(new)
with fs.open(new, "wb") as theirs:  # another program was faster
    theirs.write(b"theirs")
try:
    f.close()
    raise AssertionError("it took the place of another's")
except FileExistsError:
    assert fs.open(new, "rb").read() == b"theirs"
fs.remove(new)
with fs.open(new, "x") as f:
    f.write("new")
assert fs.open(new).read() == "new"
fs.remove(new)
assert [e.name for e in fs.listdir(os.path.dirname(mine))] == ["data"], fs.listdir(os.path.dirname(mine))
for wrong, do in {
    "FileNotFoundError": lambda: fs.open(at + "/none"),
    "FileExistsError": lambda: fs.open(mine, "x"),
    "IsADirectoryError": lambda: fs.open(at),
    "NotADirectoryError": lambda: fs.listdir(mine),
}.items():
    try:
        do()
        raise AssertionError("no " + wrong)
    except OSError as e:
        assert type(e).__name__ == wrong and str(e.filename).startswith("hdfs://"), repr(e)
fs.rename(mine, mine + "2")
fs.remove(os.path.dirname(mine), recursive=True)
assert not fs.exists(mine + "2")
print("all well", rank)
`

// HDFS-1: programs read and write HDFS as their application's user, in containers and at the gateway, and what went wrong is an error of its own kind.
func TestProgramsUseHDFS(t *testing.T) {
	g := gatewayOf(t)
	python, top := devPython(t)
	g.write("files.py", usesFiles)
	sdk := "PYTHONPATH=" + filepath.Join(top, "libs", "python")
	shared := g.hdfs(yarn.Config{User: "alice"})
	defer shared.Close()
	name := fmt.Sprintf("/user/alice/shared-%d.txt", time.Now().UnixNano())
	w, err := shared.Create(name)
	if err == nil {
		_, err = w.Write([]byte("by its path"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil && !hdfs.IsErrReplicating(err) {
		t.Fatal(err)
	}
	r := g.run(append(append([]string{"submit", "--on", "yarn", "--follow", "-N", "2", "--ntasks-per-node", "1", "--export", sdk, "--files", "hdfs://" + name + "#given.txt"}, small...),
		"--", python, "files.py", "hdfs:///user/alice/files")...)
	for _, want := range []string{"] given by its path\n", "] owner alice 5242880 0o644\n", "] all well 0\n", "] all well 1\n"} { // equal lines of both are one
		if r.Code != 0 || !strings.Contains(r.Stdout, want) {
			t.Errorf("no %q: %+v", want, r)
		}
	}
	cmd := g.command(within(t))
	cmd.Path, cmd.Args = python, []string{python, "files.py", "hdfs:///user/alice/here"}
	cmd.Env = append(cmd.Env, sdk, "PATH="+filepath.Dir(g.binary)+":"+os.Getenv("PATH"))
	if r := e2e.Do(t, cmd); r.Code != 0 || !strings.Contains(r.Stdout, "owner alice 5242880 0o644\nall well 0\n") {
		t.Errorf("%+v", r)
	}
}
