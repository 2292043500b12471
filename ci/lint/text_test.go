package lint

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// LINT-10.
func TestLicence(t *testing.T) {
	if text := string(read(t, "LICENSE")); !strings.Contains(text, "Apache License") || !strings.Contains(text, "Version 2.0") || len(text) < 10_000 {
		t.Errorf("LICENSE (%d bytes) is not the text of the Apache License 2.0", len(text))
	}
}

var (
	link    = regexp.MustCompile(`!?\[[^\]]*\]\(([^()\s]+)(?: "[^"]*")?\)`)
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	code    = regexp.MustCompile("`[^`\n]*`")
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.*)$`)
	marks   = strings.NewReplacer("`", "", "*", "")
)

// LINT-10: links between the documents resolve, to the heading if they name one.
func TestDocLinks(t *testing.T) {
	checked := 0
	for _, p := range allFiles(t) {
		if path.Ext(p) != ".md" {
			continue
		}
		text := code.ReplaceAllString(fence.ReplaceAllString(string(read(t, p)), ""), "``")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			at := p
			if target != "" {
				at = path.Join(path.Dir(p), target)
			}
			info, err := os.Stat(filepath.Join(root, at))
			if err != nil {
				t.Errorf("%s: the link to %s leads nowhere", p, m[1])
				continue
			}
			if anchor != "" && !info.IsDir() && path.Ext(at) == ".md" && !anchors(string(read(t, at)))[anchor] {
				t.Errorf("%s: %s has no heading #%s", p, at, anchor)
			}
		}
	}
	if checked == 0 {
		t.Error("no link found in any document; does this test still read them?")
	}
}

// anchors gives the names of the headings as pages show them.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		out[anchor(m[1])] = true
	}
	return out
}

func anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, marks.Replace(strings.TrimSpace(title)))
}

// foreign is what no text here may name: the folder that the tree was written in, and hosts that a
// user's machine need not reach. The patterns are cut in two, so that this file passes, too.
var foreign = map[string]*regexp.Regexp{
	"a folder of the machine it was written on": regexp.MustCompile(`(^|[^\w.$}/-])/wo` + `rk/`),
	"the home of root":                          regexp.MustCompile(`/ro` + `ot/(go|\.cache|\.pyenv)`),
	"a package registry's host":                 regexp.MustCompile(`(py` + `pi\.org|pytho` + `nhosted\.org|proxy\.go` + `lang\.org|registry\.np` + `mjs|regis` + `try\.yarn|repo[0-9]*\.ma` + `ven\.)`),
	"a package mirror's setting":                regexp.MustCompile(`(GOPRO` + `XY|--index` + `-url|PIP_INDEX` + `_URL)=?[ "']*http`),
}

// LINT-10.
func TestNoForeignNames(t *testing.T) {
	for _, p := range allFiles(t) {
		text := read(t, p)
		if !isText(text) {
			continue
		}
		for n, line := range strings.Split(string(text), "\n") {
			for what, re := range foreign {
				if re.MatchString(line) {
					t.Errorf("%s:%d names %s: %s", p, n+1, what, strings.TrimSpace(line))
				}
			}
		}
	}
}
