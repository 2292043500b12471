package kerberos

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// krb5conf is what of krb5.conf counts here.
type krb5conf struct {
	defaults map[string]string   // of [libdefaults]; the first of a name counts, as with MIT
	realms   map[string][]string // a realm's kdc lines
	domains  map[string]string   // of [domain_realm]
	order    []string            // realms as they came
}

const maxIncludes = 20

// readConf reads files, parted by colons as in KRB5_CONFIG. Of several those that are missing are skipped.
func readConf(paths string) (*krb5conf, error) {
	k := &krb5conf{defaults: map[string]string{}, realms: map[string][]string{}, domains: map[string]string{}}
	found := false
	var missing error
	for _, p := range strings.Split(paths, ":") {
		if p == "" {
			continue
		}
		err := k.file(p, 0)
		if os.IsNotExist(err) {
			missing = err
			continue
		}
		if err != nil {
			return nil, err
		}
		found = true
	}
	if !found {
		return nil, fmt.Errorf("kerberos: no krb5.conf: %w; set KRB5_CONFIG", missing)
	}
	return k, nil
}

func (k *krb5conf) file(path string, depth int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if depth > maxIncludes {
		return fmt.Errorf("kerberos: %s: files include each other", path)
	}
	p := parser{conf: k, path: path, depth: depth}
	s := bufio.NewScanner(f)
	for s.Scan() {
		p.line++
		if err := p.take(s.Text()); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("kerberos: %s: %w", path, err)
	}
	if len(p.open) > 0 {
		return fmt.Errorf("kerberos: %s: the { after %s is not closed", path, strings.Join(p.open, " "))
	}
	return nil
}

// parser is one file's reading.
type parser struct {
	conf    *krb5conf
	path    string
	line    int
	depth   int
	section string
	open    []string // names whose braces are open
	last    string   // a name whose value has not come: its brace may be on the next line
}

func (p *parser) take(text string) error {
	text = strings.TrimSpace(text)
	if text == "" || text[0] == '#' || text[0] == ';' {
		return nil
	}
	word, rest := text, ""
	if i := strings.IndexAny(text, " \t"); i > 0 {
		word, rest = text[:i], strings.TrimSpace(text[i:])
	}
	if len(p.open) == 0 && !strings.Contains(text, "=") {
		switch word {
		case "include":
			if err := p.conf.file(rest, p.depth+1); err != nil {
				return fmt.Errorf("kerberos: %s:%d: %w", p.path, p.line, err)
			}
			return nil
		case "includedir":
			return p.directory(rest)
		case "module":
			return nil
		}
	}
	if text[0] == '[' {
		end := strings.IndexByte(text, ']')
		if end < 0 || len(p.open) > 0 {
			return p.bad(text)
		}
		p.section, p.last = strings.TrimSpace(text[1:end]), ""
		return nil
	}
	return p.relation(text)
}

// directory includes what MIT would: files whose names have only letters, digits, - and _, or end in .conf.
func (p *parser) directory(dir string) error {
	entries, err := os.ReadDir(dir) // sorted
	if os.IsNotExist(err) {
		return nil // a folder that a package would fill
	}
	if err != nil {
		return fmt.Errorf("kerberos: %s:%d: %w", p.path, p.line, err)
	}
	for _, e := range entries {
		name := e.Name()
		plain := strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
		if e.IsDir() || strings.HasPrefix(name, ".") || !plain && !strings.HasSuffix(name, ".conf") {
			continue
		}
		if err := p.conf.file(filepath.Join(dir, name), p.depth+1); err != nil {
			return fmt.Errorf("kerberos: %s:%d: %w", p.path, p.line, err)
		}
	}
	return nil
}

// relation reads what may stand in a section: name = value, name = {, {, }, and all of it on one line.
func (p *parser) relation(text string) error {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		switch {
		case text[0] == '}':
			if len(p.open) == 0 {
				return p.bad(text)
			}
			p.open = p.open[:len(p.open)-1]
			text = strings.TrimPrefix(text[1:], "*")
			continue
		case text[0] == '{':
			if p.last == "" {
				return p.bad(text)
			}
			p.open, p.last, text = append(p.open, p.last), "", text[1:]
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		name = strings.TrimSuffix(strings.TrimSpace(name), "*")
		if !ok || name == "" || p.section == "" {
			return p.bad(text)
		}
		value = strings.TrimSpace(value)
		switch {
		case value == "":
			p.last = name
			return nil
		case value[0] == '{':
			p.last, text = name, value
		default:
			text = ""
			if len(p.open) > 0 { // X = { kdc = a }
				if before, _, closed := strings.Cut(value, "}"); closed {
					value, text = strings.TrimSpace(before), value[len(before):]
				}
			}
			p.set(name, strings.Trim(value, `"`))
		}
	}
	return nil
}

func (p *parser) bad(text string) error {
	return fmt.Errorf("kerberos: %s:%d: %.60q is not understood", p.path, p.line, text)
}

// set takes what counts.
func (p *parser) set(name, value string) {
	k := p.conf
	switch {
	case p.section == "libdefaults" && len(p.open) == 0:
		if _, ok := k.defaults[name]; !ok {
			k.defaults[name] = value
		}
	case p.section == "domain_realm" && len(p.open) == 0:
		if _, ok := k.domains[name]; !ok {
			k.domains[strings.ToLower(name)] = value
		}
	case p.section == "realms" && len(p.open) == 1:
		realm := p.open[0]
		if _, ok := k.realms[realm]; !ok {
			k.realms[realm] = nil
			k.order = append(k.order, realm)
		}
		if name == "kdc" {
			k.realms[realm] = append(k.realms[realm], value)
		}
	}
}

// enctypes are those that gokrb5 has and Java's services take, the best first.
var enctypes = []string{"aes256-cts-hmac-sha384-192", "aes128-cts-hmac-sha256-128", "aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96"}

// aliases are short names of encryption types.
var aliases = map[string]string{
	"aes256-sha2": enctypes[0], "aes128-sha2": enctypes[1],
	"aes256-cts": enctypes[2], "aes256-sha1": enctypes[2], "aes128-cts": enctypes[3], "aes128-sha1": enctypes[3],
}

// wanted are the encryption types of a setting that are known here, in its order; all if it names none.
func (k *krb5conf) wanted(setting string) []string {
	var out []string
	for _, w := range strings.FieldsFunc(strings.ToLower(k.defaults[setting]), func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
		if full, ok := aliases[w]; ok {
			w = full
		}
		switch {
		case w == "aes", w == "default":
			out = append(out, enctypes...)
		case slices.Contains(enctypes, w):
			out = append(out, w)
		}
	}
	if len(out) == 0 {
		return enctypes
	}
	return out
}

// minimal is a krb5.conf that gokrb5 understands, with what counts.
func (k *krb5conf) minimal() string {
	var b strings.Builder
	b.WriteString("[libdefaults]\n")
	if r := k.defaults["default_realm"]; r != "" {
		fmt.Fprintf(&b, " default_realm = %s\n", r)
	}
	lookup := "false"
	switch strings.ToLower(k.defaults["dns_lookup_kdc"]) {
	case "", "true", "yes", "y", "t", "1", "on": // MIT's default is true
		lookup = "true"
	}
	fmt.Fprintf(&b, " dns_lookup_kdc = %s\n dns_lookup_realm = false\n udp_preference_limit = 1\n forwardable = true\n", lookup)
	for _, s := range []string{"default_tkt_enctypes", "default_tgs_enctypes", "permitted_enctypes"} {
		fmt.Fprintf(&b, " %s = %s\n", s, strings.Join(k.wanted(s), " "))
	}
	b.WriteString("\n[realms]\n")
	for _, r := range k.order {
		if len(k.realms[r]) == 0 {
			continue
		}
		fmt.Fprintf(&b, " %s = {\n", r)
		for _, kdc := range k.realms[r] {
			// tcp/host is MIT's way to say how; it is over TCP in any case.
			kdc = strings.TrimPrefix(strings.TrimPrefix(kdc, "tcp/"), "udp/")
			if !strings.Contains(kdc, "://") {
				fmt.Fprintf(&b, "  kdc = %s\n", kdc)
			}
		}
		b.WriteString(" }\n")
	}
	b.WriteString("\n[domain_realm]\n")
	names := make([]string, 0, len(k.domains))
	for n := range k.domains {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(&b, " %s = %s\n", n, k.domains[n])
	}
	return b.String()
}
