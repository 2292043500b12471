package conf

import (
	"strings"
	"testing"
)

// CONF-5: rules as sites have them, and what Hadoop makes of each principal.
func TestShortName(t *testing.T) {
	const usual = `
		RULE:[2:$1@$0]([rn]m@.*EXAMPLE\.COM)s/.*/yarn/
		RULE:[1:$1@$0](.*@AD\.EXAMPLE\.COM)s/@.*//L
		RULE:[1:ext_$1@$0](ext_.*@PARTNER\.ORG)s/(ext_.*)@.*/$1/
		DEFAULT`
	for _, tc := range []struct{ rules, principal, want string }{
		{"", "alice@EXAMPLE.COM", "alice"},
		{"", "alice/admin@EXAMPLE.COM", "alice"},
		{"", "alice", "alice"},
		{usual, "alice@EXAMPLE.COM", "alice"},
		{usual, "rm/h.example.com@EXAMPLE.COM", "yarn"},
		{usual, "nn/h.example.com@EXAMPLE.COM", "nn"},
		{usual, "Alice.Smith@AD.EXAMPLE.COM", "alice.smith"},
		{usual, "carol@PARTNER.ORG", "ext_carol"},
		{"RULE:[1:$1@$0](a@.*)s/a/b/g", "a@A.a", "!makes \"b@A.b\" of a@A.a"},
		{"RULE:[1:$1.$1]s/a/b/ DEFAULT", "aa@X", "ba.aa"},
		{"RULE:[1:$1.$1]s/a/b/g/L DEFAULT", "aA@X", "ba.ba"},
		{"RULE:[1:$1]s/(.)(.)/$2\\$$1/", "xyz@X", "y$xz"},
		{"RULE:[1:$1](b)RULE:[1:$1]/L", "A@X", "a"}, // nothing needs to be between them
		{"RULE:[2:$2]", "a/b@X", "b"},
		{"RULE:[1:$1]s/.*/other/ RULE:[3:$3] DEFAULT", "alice/admin@EXAMPLE.COM", "alice"},
		{"RULE:[1:$1](alic)", "alice@X", "!no rule is for alice@X"}, // all of it has to match
		{"", "alice@ELSEWHERE", "!no rule is for alice@ELSEWHERE"},
		{"RULE:[1:$1@$0]", "alice@X", "!no user's name"},
		{"RULE:[1:$2]", "alice@X", "!$2 is none of its 1 parts"},
		{"RULE:[1:$]", "alice@X", "!$ is none"},
		{"RULE:[:$1]", "alice@X", "!RULE:[:$1]"},
		{"RULE:[1:$1](a(b)", "alice@X", "!the rule RULE"},
		{"RULE:[1:$1]s/a/$1/", "alice@X", "!there is no group $1"},
		{"RULE:[1:$1]s/a/\\/", "alice@X", "!is no replacement"},
		{"rule", "alice@X", "!no rule begins at \"rule\""},
		{"", "a/b/c@X", "!is no principal"},
		{"", "@X", "!is no principal"},
	} {
		c := New()
		if tc.rules != "" {
			c.Set("hadoop.security.auth_to_local", tc.rules)
		}
		got, err := c.ShortName(tc.principal, "EXAMPLE.COM")
		if why, fails := strings.CutPrefix(tc.want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "hadoop.security.auth_to_local") {
				t.Errorf("%s of %q: %q, %v", tc.principal, tc.rules, got, err)
			}
		} else if err != nil || got != tc.want {
			t.Errorf("%s of %q: %q, %v", tc.principal, tc.rules, got, err)
		}
	}
	c := New()
	c.Set("hadoop.security.auth_to_local.mechanism", "MIT")
	if got, err := c.ShortName("alice@ELSEWHERE", "EXAMPLE.COM"); err != nil || got != "alice@ELSEWHERE" {
		t.Error(got, err)
	}
}
