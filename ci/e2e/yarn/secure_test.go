//go:build e2e

package yarn

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/kerberos"
)

// login logs alice in by keytab.
func (b *testbed) login(t *testing.T) *kerberos.Login {
	t.Helper()
	l, err := kerberos.New(kerberos.Config{Keytab: filepath.Join(b.dir, "kdc", "keytab"), Principal: "alice", Conf: filepath.Join(b.dir, "kdc", "krb5.conf")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// as is a client of what the testbed's own configuration says, changed by edit.
func (b *testbed) as(t *testing.T, edit func(*yarn.Config)) *yarn.Client {
	t.Helper()
	cfg, err := yarn.FromConf(b.conf)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Protection = nil
	edit(&cfg)
	c, err := yarn.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestKerberosByKeytab(t *testing.T) {
	b := secure.up(t)
	l, ctx := b.login(t), within(t)
	if l.Principal() != "alice@TEST.LOCAL" {
		t.Error(l.Principal())
	}
	for _, protection := range []string{"authentication", "integrity", "privacy", ""} {
		c := b.as(t, func(c *yarn.Config) { c.Kerberos, c.Protection = l, strings.Fields(protection) })
		for range 2 {
			if m, err := c.Metrics(ctx); err != nil || m.Active != 1 {
				t.Errorf("%q: %+v %v", protection, m, err)
			}
		}
		if _, err := c.NewApplication(ctx); err != nil {
			t.Error(protection, err)
		}
	}
}

// The caches that kinit writes, one file and a folder of them.
func TestKerberosByCache(t *testing.T) {
	b := secure.up(t)
	ctx, dir := within(t), t.TempDir()
	conf := filepath.Join(b.dir, "kdc", "krb5.conf")
	for _, cache := range []string{"FILE:" + dir + "/cc", "DIR:" + dir + "/many"} {
		if err := os.MkdirAll(dir+"/many", 0o700); err != nil {
			t.Fatal(err)
		}
		home, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		krb := filepath.Join(home, "maniple", "krb5")
		libs, err := filepath.Glob(filepath.Join(krb, "usr", "lib", "*"))
		if err != nil || len(libs) == 0 {
			t.Fatal(libs, err)
		}
		cmd := exec.CommandContext(ctx, filepath.Join(krb, "usr", "bin", "kinit"), "-c", cache, "-k", "-t", filepath.Join(b.dir, "kdc", "keytab"), "alice")
		cmd.Env = append(os.Environ(), "KRB5_CONFIG="+conf, "LD_LIBRARY_PATH="+strings.Join(libs, ":"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatal(string(out), err)
		}
		l, err := kerberos.New(kerberos.Config{Cache: cache, Conf: conf})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if m, err := b.as(t, func(c *yarn.Config) { c.Kerberos = l }).Metrics(ctx); err != nil || m.Active != 1 {
			t.Error(cache, m, err)
		}
	}
}

func TestKerberosRefusals(t *testing.T) {
	b := secure.up(t)
	l, ctx := b.login(t), within(t)
	for want, edit := range map[string]func(*yarn.Config){
		"kinit":                func(c *yarn.Config) { c.User = "alice" },
		"configuration wants":  func(c *yarn.Config) { c.Kerberos, c.Principal = l, "nm/localhost@TEST.LOCAL" },
		"not allowed to imper": func(c *yarn.Config) { c.Kerberos, c.User = l, "bob" },
		"Invalid":              func(c *yarn.Config) { c.Token = &yarn.Token{Identifier: []byte{1}, Password: []byte("x")} },
	} {
		c := b.as(t, func(c *yarn.Config) { edit(c); c.RetryFor = -1 })
		if _, err := c.Metrics(ctx); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, yarn.ErrCredentials) && !errors.Is(err, yarn.ErrNotYours) {
			t.Errorf("%s: %v", want, err)
		}
	}
	_, err := kerberos.New(kerberos.Config{Keytab: filepath.Join(b.dir, "kdc", "keytab"), Principal: "nobody", Conf: filepath.Join(b.dir, "kdc", "krb5.conf")})
	if err == nil || !strings.Contains(err.Error(), "nobody@TEST.LOCAL") {
		t.Error(err)
	}
}

// A token for who has no ticket: got, used, renewed, cancelled.
func TestDelegationToken(t *testing.T) {
	b := secure.up(t)
	l, ctx := b.login(t), within(t)
	c := b.as(t, func(c *yarn.Config) { c.Kerberos = l })
	token, err := c.DelegationToken(ctx, "alice")
	if err != nil || token.Kind != yarn.KindRMDelegation || len(token.Password) == 0 {
		t.Fatal(token, err)
	}
	until, err := c.Renew(ctx, token)
	if err != nil || time.Until(until) < 0 || time.Until(until) > 2*time.Minute {
		t.Error(until, err)
	}
	with := b.as(t, func(c *yarn.Config) { c.Token = &token })
	if m, err := with.Metrics(ctx); err != nil || m.Active != 1 {
		t.Error(m, err)
	}
	if _, err := with.DelegationToken(ctx, "alice"); err == nil || !strings.Contains(err.Error(), "kerberos") {
		t.Error("a token gave a token:", err)
	}
	if err := c.CancelToken(ctx, token); err != nil {
		t.Fatal(err)
	}
	if _, err := b.as(t, func(c *yarn.Config) { c.Token = &token }).Metrics(ctx); !errors.Is(err, yarn.ErrCredentials) {
		t.Error("a cancelled token:", err)
	}
}

// A master in a container of a cluster with Kerberos, under privacy.
func TestManagedMasterWithKerberos(t *testing.T) {
	b := secure.up(t)
	l := b.login(t)
	b.managed(t, b.as(t, func(c *yarn.Config) { c.Kerberos, c.Protection = l, []string{"privacy"} }))
}
