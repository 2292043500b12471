package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt/agent/work"
)

// A Go driver's workers come from its own binary, whose content it has to name; who is of another language gets none.
func TestLanguages(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	good := jobConfig{Executable: "/bin/prog", Cwd: "/", Argv: []string{"prog", "-v"}, Hash: hash}
	for _, c := range []struct {
		language string
		config   jobConfig
		ok       bool
	}{
		{"go", good, true},
		{"go", jobConfig{Executable: "prog", Cwd: "/", Argv: good.Argv, Hash: hash}, false},
		{"go", jobConfig{Executable: "/bin/prog", Cwd: "/", Argv: good.Argv}, false},
		{"go", jobConfig{Executable: "/bin/prog", Cwd: "/", Hash: hash}, false},
		{"python", jobConfig{Executable: "/bin/python", Cwd: "/"}, true},
		{"python", jobConfig{}, false},
		{"", jobConfig{}, true}, // a driver that has no tasks
	} {
		if why := c.config.check(c.language); (why == "") != c.ok {
			t.Errorf("%s with %+v: %q", c.language, c.config, why)
		}
	}
	j := &job{language: "go", config: good}
	argv, env := j.program()
	if !slices.Equal(argv, []string{"/bin/prog", "-v"}) || !slices.Equal(env, []string{"MANIPLE_SERVE=template:" + hash}) {
		t.Errorf("%q with %q", argv, env)
	}
	if j.cannot("go") != "" || !strings.Contains(j.cannot("python"), "python") || (&job{}).cannot("") == "" {
		t.Error("workers of another language, or of none")
	}
	vars, _, why := j.fork(&work.Need{Key: 1, Threads: 3}, nil)
	if why != "" || !slices.Contains(vars, "GOMAXPROCS=3") || !slices.Contains(vars, "OMP_NUM_THREADS=3") {
		t.Errorf("%q, %s", vars, why)
	}
	j.config.Env = map[string]string{"GOMAXPROCS": "1"}
	if vars, _, _ := j.fork(&work.Need{Key: 1, Threads: 3}, nil); slices.ContainsFunc(vars, func(v string) bool { return strings.HasPrefix(v, "GOMAXPROCS=") }) {
		t.Errorf("over the driver's: %q", vars)
	}
}
