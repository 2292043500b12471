package conf

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// ShortName is who a principal, name@REALM or name/host@REALM, is to the cluster's services: hadoop.security.auth_to_local says
// it (CONF-5). realm is the default one, of krb5.conf.
func (c *Conf) ShortName(principal, realm string) (string, error) {
	const key = "hadoop.security.auth_to_local"
	fault := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("conf: %s: %s: "+format, append([]any{c.sourceOf(key), key}, args...)...)
	}
	m := principalPattern.FindStringSubmatch(principal)
	if m == nil {
		return fault("%q is no principal; one looks like alice@EXAMPLE.COM", principal)
	}
	if m[2] == "" && m[3] == "" {
		return m[1], nil
	}
	parts := []string{m[3], m[1]}
	if m[2] != "" {
		parts = append(parts, m[2])
	}
	anyName := strings.EqualFold(c.Get(key+".mechanism"), "mit") // which also lets what no rule is for be its own name
	rules := c.Get(key)
	if rules == "" {
		rules = "DEFAULT"
	}
	for rules != "" {
		r, rest, err := nextRule(rules)
		if err != nil {
			return fault("%w", err)
		}
		rules = strings.TrimSpace(rest)
		name, ok := r.apply(parts, realm)
		switch {
		case !ok:
		case strings.ContainsAny(name, "/@") && !anyName:
			return fault("the rule %s makes %q of %s, which is no user's name", r.text, name, principal)
		case r.lower:
			return strings.ToLower(name), nil
		default:
			return name, nil
		}
	}
	if anyName {
		return principal, nil
	}
	return fault("no rule is for %s: the cluster knows no such user (the default realm is %q)", principal, realm)
}

// sourceOf is the file that has a key, in words for the defaults.
func (c *Conf) sourceOf(key string) string {
	if s := c.Source(key); s != "" {
		return s
	}
	return "Hadoop's default"
}

var (
	principalPattern = regexp.MustCompile(`^([^/@]+)(?:/([^/@]+))?(?:@([^/@]+))?$`)
	rulePattern      = regexp.MustCompile(`^\s*(?:(DEFAULT)|RULE:\[(\d*):([^\]]*)\](\([^)]*\))?(s/([^/]*)/([^/]*)/(g)?)?)/?(L)?`)
	partPattern      = regexp.MustCompile(`\$\d*`)
)

// rule is one of auth_to_local.
type rule struct {
	text  string
	plain bool           // DEFAULT: of the default realm, and the name is the first part
	parts int            // that a principal has, without its realm
	form  []string       // what is made of them: numbers of parts at odd places, text between them
	match *regexp.Regexp // of all of what is made; nil: any
	from  *regexp.Regexp // what of it is replaced; nil: nothing
	to    string
	all   bool // not only the first such
	lower bool
}

// nextRule reads the first of some rules.
func nextRule(text string) (r rule, rest string, err error) {
	m := rulePattern.FindStringSubmatch(text)
	if m == nil {
		return r, "", fmt.Errorf("no rule begins at %.60q", text)
	}
	r = rule{text: strings.TrimSpace(m[0]), plain: m[1] != "", all: m[8] != "", lower: m[9] != ""}
	rest = text[len(m[0]):]
	if r.plain {
		return r, rest, nil
	}
	bad := func(err error) (rule, string, error) { return r, "", fmt.Errorf("the rule %s: %w", r.text, err) }
	if r.parts, err = strconv.Atoi(m[2]); err != nil {
		return bad(err)
	}
	if r.form, err = formOf(m[3], r.parts); err != nil {
		return bad(err)
	}
	if m[4] != "" {
		if r.match, err = regexp.Compile(`^(?:` + m[4] + `)$`); err != nil {
			return bad(err)
		}
	}
	if m[5] != "" {
		if r.from, err = regexp.Compile(m[6]); err != nil {
			return bad(err)
		}
		if r.to, err = replacement(m[7], r.from.NumSubexp()); err != nil {
			return bad(err)
		}
	}
	return r, rest, nil
}

// formOf takes $1@$0 apart.
func formOf(text string, parts int) (form []string, err error) {
	at := 0
	for _, found := range partPattern.FindAllStringIndex(text, -1) {
		number := text[found[0]+1 : found[1]]
		if n, err := strconv.Atoi(number); err != nil || n > parts {
			return nil, fmt.Errorf("%s is none of its %d parts", text[found[0]:found[1]], parts)
		}
		form, at = append(form, text[at:found[0]], number), found[1]
	}
	return append(form, text[at:]), nil
}

// replacement is Java's way to write one in Go's: $1 is a group, \x is x.
func replacement(text string, groups int) (string, error) {
	var b strings.Builder
	literal := func(c byte) {
		if c == '$' {
			b.WriteByte('$')
		}
		b.WriteByte(c)
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			literal(text[i])
		case c == '$' && i+1 < len(text) && text[i+1] >= '0' && text[i+1] <= '9':
			i++
			group := int(text[i] - '0')
			for i+1 < len(text) && text[i+1] >= '0' && text[i+1] <= '9' && group*10+int(text[i+1]-'0') <= groups {
				i++
				group = group*10 + int(text[i]-'0')
			}
			if group > groups {
				return "", fmt.Errorf("there is no group $%d", group)
			}
			fmt.Fprintf(&b, "${%d}", group)
		case c == '\\' || c == '$':
			return "", fmt.Errorf("%q is no replacement", text)
		default:
			literal(c)
		}
	}
	return b.String(), nil
}

// apply is the name that a rule gives a principal, whose realm is the first of parts; false: it is for others.
func (r *rule) apply(parts []string, realm string) (string, bool) {
	if r.plain {
		return parts[1], parts[0] == realm
	}
	if len(parts)-1 != r.parts {
		return "", false
	}
	name := ""
	for i, text := range r.form {
		if i%2 == 1 {
			n, _ := strconv.Atoi(text) // formOf has seen to it
			text = parts[n]
		}
		name += text
	}
	if r.match != nil && !r.match.MatchString(name) {
		return "", false
	}
	if r.from == nil {
		return name, true
	}
	if r.all {
		return r.from.ReplaceAllString(name, r.to), true
	}
	found := r.from.FindStringSubmatchIndex(name)
	if found == nil {
		return name, true
	}
	return name[:found[0]] + string(r.from.ExpandString(nil, r.to, name, found)) + name[found[1]:], true
}
