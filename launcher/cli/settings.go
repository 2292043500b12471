package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/BurntSushi/toml"

	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/slurm"
)

// Configuration files hold flags by their long names, for all commands that have them or, in a table
// called like a command, for that one. They are weaker than a flag, its variable and the Slurm job, and
// among themselves the nearest is the strongest: the directory's, the user's, the site's.

// settings is one file's.
type settings struct {
	path   string
	values map[string]string            // for all commands
	tables map[string]map[string]string // by command
}

// acts are flags that do something rather than say how: nobody wants them from a file.
var acts = []string{"all", "now", "dry-run", "show-origin", "with-stdin", "or-join", "when-unused", "id"}

// settingsFiles are the places, the strongest first.
func (a *app) settingsFiles() []string {
	list := []string{"maniple.toml"}
	dir := a.getenv("XDG_CONFIG_HOME")
	if home := a.getenv("HOME"); !filepath.IsAbs(dir) && filepath.IsAbs(home) {
		dir = filepath.Join(home, ".config")
	}
	if filepath.IsAbs(dir) {
		list = append(list, filepath.Join(dir, "maniple", "config.toml"))
	}
	site := a.getenv("MANIPLE_SITE_CONFIG") // a module of a site without /etc sets it
	if site == "" {
		site = "/etc/maniple/config.toml"
	}
	return append(list, site)
}

// readSettings reads the files that exist.
func (a *app) readSettings() error {
	a.settings = nil
	for _, path := range a.settingsFiles() {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return badSettings(path, err.Error(), "")
		}
		if owner, mine := ownerOf(path); !filepath.IsAbs(path) && !mine {
			a.say("%s is not read: it belongs to user %d", path, owner) // whoever may write in a shared directory must not set our flags
			continue
		}
		s, err := parseSettings(path, string(text), a.settable())
		if err != nil {
			return err
		}
		a.settings = append(a.settings, s)
	}
	return nil
}

func ownerOf(path string) (uid int, mine bool) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return -1, false
	}
	uid = int(st.Uid)
	return uid, uid == 0 || uid == os.Getuid()
}

func badSettings(path, why, do string) error {
	return &Fault{Name: "CONFIG", What: path, Why: why, Do: do}
}

// settable are the flags of each command that a file may set.
func (a *app) settable() map[string][]string {
	all := map[string][]string{}
	for _, cmd := range visible(a.commands()) {
		list := []string{}
		for _, f := range cmd.Flags {
			if name := f.Names()[0]; settableFor(cmd.Name, name) {
				list = append(list, name)
			}
		}
		if cmd.Name == "submit" {
			for _, o := range append(basicOptions(), a.rememberedSlurm().Options...) {
				if notHere[o.Name] == "" && o.Name != "help" {
					list = append(list, o.Name)
				}
			}
		}
		all[cmd.Name] = list
	}
	return all
}

// settableFor leaves away what acts; what cancel and down have in common with run by name means
// something else there.
func settableFor(cmd, flag string) bool {
	if cmd == "cancel" || cmd == "down" {
		return slices.Contains([]string{"cluster", "grace", "json"}, flag)
	}
	return !slices.Contains(acts, flag)
}

func parseSettings(path, text string, settable map[string][]string) (*settings, error) {
	var raw map[string]any
	if _, err := toml.Decode(text, &raw); err != nil {
		var at toml.ParseError
		if errors.As(err, &at) {
			return nil, badSettings(path, fmt.Sprintf("line %d: %s", at.Position.Line, at.Message), "")
		}
		return nil, badSettings(path, err.Error(), "")
	}
	var anywhere []string
	for _, list := range settable {
		anywhere = append(anywhere, list...)
	}
	s := &settings{path: path, values: map[string]string{}, tables: map[string]map[string]string{}}
	for _, key := range sortedKeys(raw) {
		table, is := raw[key].(map[string]any)
		if !is {
			if err := s.put(s.values, key, "", raw[key], anywhere); err != nil {
				return nil, err
			}
			continue
		}
		known, ok := settable[key]
		if !ok {
			do := "tables are called like commands"
			if near := nearest(key, sortedKeys(settable)); near != "" {
				do = "did you mean [" + near + "]?"
			}
			return nil, badSettings(path, fmt.Sprintf("no command %q", key), do)
		}
		s.tables[key] = map[string]string{}
		for _, name := range sortedKeys(table) {
			if err := s.put(s.tables[key], name, key, table[name], known); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *settings) put(to map[string]string, key, cmd string, value any, known []string) error {
	if !slices.Contains(known, key) {
		where := ""
		if cmd != "" {
			where = "[" + cmd + "]: "
		}
		do := "`maniple help COMMAND` lists the flags"
		if near := nearest(key, slices.Clone(known)); slices.Contains(acts, key) {
			do = "it belongs on a command line"
		} else if near != "" {
			do = "did you mean " + near + "?"
		}
		return badSettings(s.path, where+"no flag "+strconv.Quote(key)+" for a file", do)
	}
	switch v := value.(type) {
	case string:
		to[key] = v
	case bool, int64, float64:
		to[key] = fmt.Sprint(v)
	default:
		return badSettings(s.path, key+" is no single value", "write it as on the command line, in quotes")
	}
	return nil
}

// find is what a file says of a flag of a command.
func (s *settings) find(cmd, flag string) (string, bool) {
	if v, ok := s.tables[cmd][flag]; ok {
		return v, true
	}
	v, ok := s.values[flag]
	return v, ok
}

// setting is what the files say of a flag of this command.
func (c *call) setting(flag string) (value, origin string, ok bool) {
	if !settableFor(c.page.name, flag) {
		return "", "", false
	}
	if flag == "cluster" && (c.getenv("MANIPLE_ADDRESS") != "" || c.getenv("SLURM_JOB_ID") != "") {
		return "", "", false // a rank's own cluster and the job's are nearer than any file
	}
	for _, s := range c.settings {
		if v, ok := s.find(c.page.name, flag); ok {
			return v, s.path + ": " + flag, true
		}
	}
	return "", "", false
}

// shaped is how run's flags are found: given, else the Slurm job's, else a file's. A shape is one thing:
// where anything of it is given, the files' is not asked.
func (c *call) shaped() func(string) (string, string, bool) {
	get := spec.InSlurm(c.jobEnv(), c.given)
	said := c.jobEnv()("SLURM_JOB_ID") != "" || !spec.Shapeless(c.given)
	return func(name string) (string, string, bool) {
		if v, origin, ok := get(name); ok || said && spec.Shapes(name) {
			return v, origin, ok
		}
		return c.setting(name)
	}
}

// rememberedSlurm is what earlier commands learned of Slurm. Nothing is asked.
func (a *app) rememberedSlurm() (f struct {
	Options    []slurm.Option    `json:"options"`
	Partitions []slurm.Partition `json:"partitions"`
}) {
	if path := slurmCache(a.getenv); path != "" {
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &f) != nil {
			f.Options, f.Partitions = nil, nil
		}
	}
	return f
}
