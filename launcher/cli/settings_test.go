package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What files say of sbatch's flags becomes #SBATCH lines, under those of the script and the command line;
// a shape of which anything is given stands for itself.
func TestSubmitTakesSettings(t *testing.T) {
	q := newQueue(t, "22.05")
	user := filepath.Join(q.home, ".config", "maniple")
	if err := os.MkdirAll(user, 0o700); err != nil {
		t.Fatal(err)
	}
	text := "account = \"phys lab\"\nntasks = 4\ntime = 5\n[submit]\npartition = \"short\"\nmax-restarts = 2\nexclusive = true\nhold = false\n"
	if err := os.WriteFile(filepath.Join(user, "config.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, has, hasNot string }{
		{"--dry-run -- ./solver", "--account=\"phys lab\"\n|--ntasks=4\n|--time=5\n|--partition=short\n|run --max-restarts=2 |--exclusive\n", "hold"},
		{"--dry-run -N 2 --max-restarts 1 -A me -- ./solver", "--nodes=2|--account=me\n|run --max-restarts=1 ", "ntasks|phys lab|exclusive"},
		{"--dry-run -t 3 -- ./job.sh", "-p short\n|--time=3\n", "--partition|--time=5\n"},
	} {
		out, errs, code := q.submit(strings.Fields(c.args)...)
		if code != 0 {
			t.Fatalf("%s: %d %s", c.args, code, errs)
		}
		for _, want := range strings.Split(c.has, "|") {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", c.args, want, out)
			}
		}
		for _, no := range strings.Split(c.hasNot, "|") {
			if strings.Contains(out, no) {
				t.Errorf("%s: %q in\n%s", c.args, no, out)
			}
		}
	}
}
