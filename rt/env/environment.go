package env

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Scheme begins the names of packages in an environment; 64 hexadecimal digits follow.
const Scheme = "package:"

// setupTime is how long an environment may take to be made unless it says otherwise.
const setupTime = 10 * time.Minute

// Environment is a runtime environment as an agent reads it.
type Environment struct {
	Vars       map[string]string `json:"env_vars"`
	WorkingDir string            `json:"working_dir"` // a package
	Modules    []string          `json:"py_modules"`  // packages
	Pip        json.RawMessage   `json:"pip"`         // this and what follows is for who installs it
	UV         json.RawMessage   `json:"uv"`
	Conda      json.RawMessage   `json:"conda"`
	Container  json.RawMessage   `json:"container"`
	Config     struct {
		Timeout int64 `json:"setup_timeout_seconds"` // 0: ten minutes; below 0: for ever
	} `json:"config"`
}

// Parse reads an environment; "" is the empty one. What it does not know is an error that says what there is.
func Parse(text string) (e Environment, err error) {
	if text == "" {
		return e, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return e, fmt.Errorf("its runtime_env can't be made: %w; env_vars, working_dir, py_modules, pip, uv, conda, container and config are what there is", err)
	}
	if kinds := e.kinds(); len(kinds) > 1 {
		return e, fmt.Errorf("its runtime_env can't be made: %s and %s can't be had together", kinds[0].name, kinds[1].name)
	}
	for _, name := range e.names() {
		if _, err := Hash(name); err != nil {
			return e, fmt.Errorf("its runtime_env can't be made: %w", err)
		}
	}
	return e, nil
}

func (e *Environment) names() []string {
	if e.WorkingDir == "" {
		return e.Modules
	}
	return append([]string{e.WorkingDir}, e.Modules...)
}

// Packages gives the hashes of its packages, each once.
func (e *Environment) Packages() []string {
	var hashes []string
	for _, name := range e.names() {
		if h, err := Hash(name); err == nil && !slices.Contains(hashes, h) {
			hashes = append(hashes, h)
		}
	}
	return hashes
}

// kind is a way to have more installed than the driver has.
type kind struct {
	name  string
	given json.RawMessage
}

func (e *Environment) kinds() []kind {
	return slices.DeleteFunc([]kind{{"pip", e.Pip}, {"uv", e.UV}, {"conda", e.Conda}, {"container", e.Container}},
		func(k kind) bool { return len(k.given) == 0 })
}

// Install is what has to be installed before it can have workers, as a JSON object with one key; "": nothing. Workers that share it share a template.
func (e *Environment) Install() string {
	for _, k := range e.kinds() {
		return fmt.Sprintf(`{%q:%s}`, k.name, k.given)
	}
	return ""
}

// Timeout is how long it may take to be made; 0: for ever.
func (e *Environment) Timeout() time.Duration {
	switch s := e.Config.Timeout; {
	case s < 0 || s > int64(100*365*24*time.Hour/time.Second):
		return 0
	case s == 0:
		return setupTime
	default:
		return time.Duration(s) * time.Second
	}
}

// Expand puts values for each ${NAME} in its variables: what base has under that name, or nothing.
func (e *Environment) Expand(base map[string]string) {
	for name, value := range e.Vars {
		e.Vars[name] = reference.ReplaceAllStringFunc(value, func(ref string) string { return base[ref[2:len(ref)-1]] })
	}
}

var reference = regexp.MustCompile(`\$\{\w+\}`)

// Hash gives the hash in the name of a package.
func Hash(name string) (string, error) {
	h, ok := strings.CutPrefix(name, Scheme)
	if !ok || !IsHash(h) {
		return "", fmt.Errorf("%q does not name a package (%s and a SHA-256)", name, Scheme)
	}
	return h, nil
}

// IsHash tells whether a text is a SHA-256 in lower-case hexadecimal digits: a name that is safe for a file.
func IsHash(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 64 && strings.ToLower(s) == s
}
