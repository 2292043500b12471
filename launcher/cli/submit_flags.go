package cli

import (
	"fmt"
	"slices"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/slurm"
)

// flagValue is a flag for sbatch. set is false for one without a value.
type flagValue struct {
	name, value string
	set         bool
}

// request is a command line of submit, understood.
type request struct {
	groups  [][]flagValue     // sbatch's flags; more than one for a heterogeneous job
	own     map[string]string // ours by their long names; "true" for a switch
	command []string
}

// get is the last value of one of sbatch's flags in the first group.
func (r *request) get(name string) (string, bool) { return lastOf(r.groups[0], name) }

func lastOf(list []flagValue, name string) (value string, ok bool) {
	for _, f := range list {
		if f.name == name {
			value, ok = f.value, true
		}
	}
	return value, ok
}

// submitTable is what flags there are.
type submitTable struct {
	options []slurm.Option
	own     map[string]flagShape
}

func newSubmitTable(options []slurm.Option) *submitTable {
	return &submitTable{options: options, own: shapes(submitFlagSet())}
}

func submitFlagSet() *urfave.Command { return &urfave.Command{Flags: submitFlags()} }

// find looks a flag up by its long or short name. Ours win over sbatch's of the same name.
func (t *submitTable) find(name string) (flagShape, slurm.Value, bool, bool) {
	if s, ok := t.own[name]; ok {
		v := slurm.NeedsValue
		if s.boolean {
			v = slurm.NoValue
		}
		return s, v, true, true
	}
	for _, o := range t.options {
		if o.Name == name || o.Short != "" && o.Short == name {
			return flagShape{name: o.Name}, o.Value, false, true
		}
	}
	return flagShape{}, "", false, false
}

// near is the known flag that an unknown one probably means: within most edits.
func (t *submitTable) near(name string, most int) string {
	best := ""
	least := most + 1
	for _, n := range t.names() {
		if d := edits(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

func (t *submitTable) names() []string {
	var names []string
	for n := range t.own {
		if len(n) > 1 {
			names = append(names, n)
		}
	}
	for _, o := range t.options {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// notHere are flags of sbatch that would make it do something else than submit this program.
var notHere = map[string]string{
	"wrap":        "the program stands after --, as `maniple submit -n 2 -- ./prog args`",
	"help":        "",
	"usage":       "write `maniple submit --help`, or `sbatch --usage`",
	"version":     "write `sbatch --version`, or `maniple version`",
	"test-only":   "write `maniple submit --dry-run ... | sbatch --test-only`",
	"export-file": "write --export=NAME=VALUE,...",
	"quiet":       "write --parsable",
	"verbose":     "write --sbatch=-v",
}

// parseSubmit reads the arguments of submit. Flags end at "--" or at the program's name; a ":" of its
// own begins the flags of the next component of a heterogeneous job.
func parseSubmit(args []string, options []slurm.Option, getenv func(string) string) (*request, error) {
	t := newSubmitTable(options)
	r := &request{groups: make([][]flagValue, 1), own: map[string]string{}}
	t.fromEnv(r, getenv)
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			r.command = args[i+1:]
			return r, nil
		case arg == ":":
			r.groups = append(r.groups, nil)
		case strings.HasPrefix(arg, "--"):
			used, err := t.long(r, arg[2:], args[i+1:])
			if err != nil {
				return nil, err
			}
			i += used
		case len(arg) > 1 && arg[0] == '-':
			used, err := t.short(r, arg[1:], args[i+1:])
			if err != nil {
				return nil, err
			}
			i += used
		default:
			r.command = args[i:]
			return r, nil
		}
	}
	return r, nil
}

// fromEnv takes MANIPLE_<FLAG>, which the command line overrides.
func (t *submitTable) fromEnv(r *request, getenv func(string) string) {
	for _, name := range t.names() {
		v := getenv(envName(name))
		if v == "" || notHere[name] != "" {
			continue
		}
		s, kind, ours, _ := t.find(name)
		if kind == slurm.NoValue && (v == "false" || v == "0") {
			continue
		}
		t.put(r, s.name, v, kind != slurm.NoValue, ours)
	}
}

func (t *submitTable) put(r *request, name, value string, set, ours bool) {
	if ours {
		if !set {
			value = "true"
		}
		r.own[name] = value
		return
	}
	last := &r.groups[len(r.groups)-1]
	*last = append(*last, flagValue{name, value, set})
}

// long reads --name, --name=value and --name value. used is how many of the next arguments it took.
func (t *submitTable) long(r *request, text string, next []string) (used int, err error) {
	name, value, has := strings.Cut(text, "=")
	if do, bad := notHere[name]; bad {
		return 0, usage("submit", "--"+name+" of sbatch has no place here", do)
	}
	s, kind, ours, ok := t.find(name)
	if !ok || len(name) == 1 {
		return 0, t.unknown(r, name, value, has)
	}
	switch {
	case kind == slurm.NoValue && has && ours && (value == "true" || value == "false"):
		if value == "false" {
			delete(r.own, name)
			return 0, nil
		}
	case kind == slurm.NoValue && has:
		return 0, usage("--"+name, "it takes no value", "write --"+name+" alone")
	case kind == slurm.NeedsValue && !has:
		if len(next) == 0 {
			return 0, usage("--"+name, "its value is missing", "write --"+name+"=VALUE")
		}
		value, has, used = next[0], true, 1
	}
	t.put(r, s.name, value, has && kind != slurm.NoValue, ours)
	return used, nil
}

// unknown passes --name=value on to sbatch, unless it is a misspelt flag.
func (t *submitTable) unknown(r *request, name, value string, has bool) error {
	if near := t.near(name, min(2, max(1, len(name)/3))); near != "" {
		return usage("submit", "no flag --"+name, "did you mean --"+near+"? (flags of your program go after --)")
	}
	if has && name != "" {
		t.put(r, name, value, true, false)
		return nil
	}
	do := "flags that this sbatch does not list pass as --" + name + "=VALUE, or in --sbatch='...'; flags of your program go after --"
	if near := nearest(name, t.names()); near != "" {
		do = "did you mean --" + near + "? " + strings.ToUpper(do[:1]) + do[1:]
	}
	return usage("submit", "no flag --"+name, do)
}

// short reads -N2, -N 2 and -HOv.
func (t *submitTable) short(r *request, letters string, next []string) (used int, err error) {
	for i := range len(letters) {
		name := letters[i : i+1]
		s, kind, ours, ok := t.find(name)
		if !ok {
			if i == 0 && len(letters) > 1 {
				name = letters // "-nodes": they meant the long one
			}
			do := "`maniple submit --help` and `sbatch --help` list what there is"
			if near := nearest(name, t.names()); near != "" && len(name) > 1 {
				do = "did you mean --" + near + "?"
			}
			return 0, usage("submit", "no flag -"+name, do)
		}
		if do, bad := notHere[s.name]; bad {
			return 0, usage("submit", "-"+name+" of sbatch has no place here", do)
		}
		if kind == slurm.NoValue || kind == slurm.OptionalValue {
			t.put(r, s.name, "", false, ours)
			continue
		}
		value := strings.TrimPrefix(letters[i+1:], "=")
		if value == "" {
			if len(next) == 0 {
				return 0, usage("-"+name, "its value is missing", fmt.Sprintf("write -%s VALUE", name))
			}
			value, used = next[0], 1
		}
		t.put(r, s.name, value, true, ours)
		return used, nil
	}
	return 0, nil
}

// basicOptions are the flags of sbatch that people use most, for a --dry-run where there is no sbatch.
func basicOptions() []slurm.Option {
	const page = `
  -a, --array=i
  -A, --account=n
  -b, --begin=t
      --comment=c
  -c, --cpus-per-task=n
  -C, --constraint=l
  -d, --dependency=d
  -D, --chdir=d
  -e, --error=f
      --exclusive[=u]
      --export[=n]
  -G, --gpus=n
      --gpus-per-node=n
      --gpus-per-task=n
      --gres=l
  -H, --hold
  -J, --job-name=n
  -k, --no-kill
  -L, --licenses=l
      --mail-type=t
      --mail-user=u
      --mem=s
      --mem-per-cpu=s
      --mem-per-gpu=s
  -n, --ntasks=n
      --ntasks-per-node=n
  -N, --nodes=n
      --no-requeue
  -o, --output=f
      --open-mode=m
  -p, --partition=p
  -q, --qos=q
      --requeue
      --reservation=r
      --signal=s
  -t, --time=t
  -w, --nodelist=h
  -x, --exclude=h
`
	return slurm.ParseOptions(page)
}
