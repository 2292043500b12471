package spec

import (
	"slices"
	"strings"
)

// Environ is what --export makes of an environment: all of it (also ""), nothing, or the named variables;
// NAME=VALUE adds one. As with sbatch, a list without ALL has only what it names.
func (s *Spec) Environ(environ []string) []string {
	all := s.Export == ""
	var named, added []string
	for _, item := range strings.FieldsFunc(s.Export, func(r rune) bool { return r == ',' }) {
		switch {
		case item == "ALL":
			all = true
		case item == "NONE" || item == "NIL":
		case strings.Contains(item, "="):
			added = append(added, item)
		default:
			named = append(named, item)
		}
	}
	var env []string
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); all || slices.Contains(named, name) {
			env = append(env, kv)
		}
	}
	for _, kv := range added {
		name, _, _ := strings.Cut(kv, "=")
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		env = append(env, kv)
	}
	return env
}
