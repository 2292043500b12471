package kerberos

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
)

// folder writes files, given as name and content, and gives their folder.
func folder(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(files[i+1], "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// KRB-1: what distributions ship, and what gokrb5 ignores, refuses or panics on.
func TestConfAsDistributionsHaveIt(t *testing.T) {
	dir := folder(t, "krb5.conf", `# comment
include	DIR/first
includedir 	 DIR/conf.d
includedir DIR/nothing.d
module /usr/lib/x.so:init

[logging]
    default = FILE:/var/log/krb5libs.log
[libdefaults]
    default_realm = EXAMPLE.COM
    dns_lookup_realm = false
    dns_lookup_kdc = no
    dns_canonicalize_hostname = fallback
    rdns = fallback
    default_ccache_name = KEYRING:persistent:%{uid}
    permitted_enctypes = aes256-cts aes128-sha2 rc4-hmac
    pkinit_anchors = FILE:/etc/pki/tls/certs/ca-bundle.crt
    default_realm = SECOND.COM
[realms]
    EXAMPLE.COM = {
        kdc = kdc1.example.com:88
        kdc = tcp/kdc2.example.com
        kdc = https://proxy.example.com/KdcProxy
        admin_server = kdc1.example.com
        auth_to_local_names = {
            a = b
        }
    }
    ONELINE.COM = { kdc = one.example.com }
    NEXTLINE.COM =
    {
        kdc = next.example.com
    }
    v4.COM = {
        v4_instance_convert = {
            x = y
        }
        kdc = "v4.example.com"
    }
[domain_realm]
    .example.com = EXAMPLE.COM
    Host.Other.org = ONELINE.COM
[plugins]
    localauth = {
        module = sssd:/usr/lib/sssd.so
    }
`,
		"first", "[domain_realm]\r\n .first.org = FIRST.COM\r\n[realms]\r\n FIRST.COM = {\r\n kdc = first.org\r\n }\r\n",
		"conf.d/10_a", "[domain_realm]\n .a.org = A.COM\n", "conf.d/b.conf", "[libdefaults]\n ticket_lifetime = 24h\n",
		"conf.d/ignored.rpmsave", "{{{", "conf.d/.hidden", "{{{")
	k, err := readConf(filepath.Join(dir, "krb5.conf"))
	if err != nil {
		t.Fatal(err)
	}
	text := k.minimal()
	for _, want := range []string{
		"default_realm = EXAMPLE.COM\n", "dns_lookup_kdc = false", "permitted_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha256-128\n",
		" EXAMPLE.COM = {\n  kdc = kdc1.example.com:88\n  kdc = kdc2.example.com\n }", "ONELINE.COM = {\n  kdc = one.example.com\n", "NEXTLINE.COM = {\n  kdc = next",
		"v4.COM = {\n  kdc = v4.example.com\n", ".example.com = EXAMPLE.COM", "host.other.org = ONELINE.COM", ".first.org = FIRST.COM", "FIRST.COM = {\n  kdc = first.org\n", ".a.org = A.COM",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "https") || strings.Contains(text, "SECOND") {
		t.Error(text)
	}
	c, err := config.NewFromString(text)
	if err != nil || c.LibDefaults.DefaultRealm != "EXAMPLE.COM" || c.ResolveRealm("x.example.com") != "EXAMPLE.COM" {
		t.Error(err)
	}
	if n, kdcs, err := c.GetKDCs("EXAMPLE.COM", true); err != nil || n != 2 {
		t.Error(n, kdcs, err)
	}
}

func TestListOfConfs(t *testing.T) {
	dir := folder(t, "a", "[libdefaults]\n default_realm = A\n", "b", "[libdefaults]\n default_realm = B\n dns_lookup_kdc = true\n")
	k, err := readConf(dir + "/none:" + dir + "/a:" + dir + "/b")
	if err != nil || k.defaults["default_realm"] != "A" || !strings.Contains(k.minimal(), "dns_lookup_kdc = true") {
		t.Error(k, err)
	}
	if _, err := readConf(dir + "/none"); err == nil || !strings.Contains(err.Error(), "KRB5_CONFIG") {
		t.Error(err)
	}
}

// KRB-1: the error names file and line.
func TestConfThatIsNotUnderstood(t *testing.T) {
	for want, text := range map[string]string{
		"krb5.conf:2: \"word\"":       "[libdefaults]\nword\n",
		"krb5.conf:1: \"a = b\"":      "a = b\n",
		"is not closed":               "[realms]\n X = {\n",
		"krb5.conf:2: \"}\"":          "[realms]\n }\n",
		"krb5.conf:2: \"{\"":          "[realms]\n {\n",
		"krb5.conf:1: \"[libdefaults": "[libdefaults\n",
		"include each other":          "include DIR/krb5.conf\n",
		"no such file":                "include DIR/gone\n",
	} {
		_, err := readConf(folder(t, "krb5.conf", text) + "/krb5.conf")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "krb5.conf") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestCachePaths(t *testing.T) {
	dir := folder(t, "cc/primary", "tktABC\n", "plain/x", "")
	env := func(n string) string { return map[string]string{"KRB5CCNAME": "FILE:/env"}[n] }
	none := func(string) string { return "" }
	k := &krb5conf{defaults: map[string]string{"default_ccache_name": "FILE:/run/user/%{uid}/cc"}}
	uid := os.Getuid()
	for _, c := range []struct {
		cfg  Config
		conf *krb5conf
		want string
	}{
		{Config{Getenv: env, Cache: "FILE:/given"}, k, "/given"}, {Config{Getenv: env}, k, "/env"}, {Config{Getenv: none}, k, "/run/user/" + strconv.Itoa(uid) + "/cc"},
		{Config{Getenv: none}, &krb5conf{}, "/tmp/krb5cc_" + strconv.Itoa(uid)}, {Config{Getenv: none, Cache: "/plain"}, k, "/plain"},
		{Config{Getenv: none, Cache: "DIR:" + dir + "/cc"}, k, dir + "/cc/tktABC"}, {Config{Getenv: none, Cache: "DIR:" + dir + "/plain"}, k, dir + "/plain/tkt"},
		{Config{Getenv: none, Cache: "DIR::/a/tktX"}, k, "/a/tktX"},
	} {
		if got, err := cachePath(c.cfg, c.conf); err != nil || got != c.want {
			t.Errorf("%+v: %s %v", c.cfg, got, err)
		}
	}
	// KRB-2.
	for _, kind := range []string{"KEYRING:persistent:0", "KCM:", "KCM:1000", "API:", "MEMORY:x"} {
		if _, err := cachePath(Config{Getenv: none, Cache: kind}, k); err == nil || !strings.Contains(err.Error(), "kinit -c FILE:") {
			t.Error(kind, err)
		}
	}
}

// KRB-3, and what is said when there is nothing to log in with.
func TestLoginsThatFail(t *testing.T) {
	kt := keytab.New()
	if err := kt.AddEntry("alice", "EXAMPLE.COM", "hidden", time.Now(), 1, 18); err != nil {
		t.Fatal(err)
	}
	b, err := kt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t, "krb5.conf", "[libdefaults]\n default_realm = EXAMPLE.COM\n dns_lookup_kdc = false\n[realms]\n EXAMPLE.COM = {\n kdc = 127.0.0.1:1\n }\n",
		"keytab", string(b), "junk", "junk", "cut", "\x05\x04\x00\x0c\x00\x01\x00\x08\xff")
	none := func(string) string { return "" }
	for want, cfg := range map[string]Config{
		"there is no ticket cache":       {Cache: dir + "/none"},
		"can't be read":                  {Cache: dir + "/junk"},
		"get a ticket with kinit":        {Cache: dir + "/cut"},
		"needs a principal":              {Keytab: dir + "/keytab"},
		"the keytab " + dir + "/none":    {Keytab: dir + "/none", Principal: "alice"},
		"the keytab " + dir + "/junk":    {Keytab: dir + "/junk", Principal: "alice"},
		"the login of alice@EXAMPLE.COM": {Keytab: dir + "/keytab", Principal: "alice"},
	} {
		cfg.Conf, cfg.Getenv = dir+"/krb5.conf", none
		l, err := New(cfg)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzConf(f *testing.F) {
	f.Add("[realms]\n X = { kdc = a }\n[libdefaults]\n default_realm = X\n")
	f.Fuzz(func(t *testing.T, text string) {
		k := &krb5conf{defaults: map[string]string{}, realms: map[string][]string{}, domains: map[string]string{}}
		p := parser{conf: k, path: "x", depth: maxIncludes} // includes go no further
		for line := range strings.Lines(text) {
			if strings.HasPrefix(strings.TrimSpace(line), "include") {
				return
			}
			if p.take(line) != nil {
				return
			}
		}
		guarded(func() (*config.Config, error) { return config.NewFromString(k.minimal()) })
	})
}
