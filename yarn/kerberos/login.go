package kerberos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// Config says who logs in. The zero value is what kinit left for this user.
type Config struct {
	Keytab    string // path of a keytab; "": from the cache
	Principal string // name@REALM or name; needed with a keytab, else that of the cache

	Cache string // as KRB5CCNAME, such as FILE:/tmp/krb5cc_1000 or DIR:/path; "": KRB5CCNAME, krb5.conf's, FILE:/tmp/krb5cc_UID
	Conf  string // as KRB5_CONFIG: files with a colon between them; "": KRB5_CONFIG, /etc/krb5.conf

	Getenv func(string) string // nil: os.Getenv
}

// Login is a principal's. It may be used by many goroutines.
type Login struct {
	client *client.Client
	realm  string // the default one
	hint   string // what to do when a ticket can't be had any more
}

// New logs in: with a keytab at the KDC, else from the cache, without a word to the KDC.
func New(cfg Config) (*Login, error) {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	k, err := readConf(first(cfg.Conf, cfg.Getenv("KRB5_CONFIG"), "/etc/krb5.conf"))
	if err != nil {
		return nil, err
	}
	conf, err := guarded(func() (*config.Config, error) { return config.NewFromString(k.minimal()) })
	if err != nil {
		return nil, fmt.Errorf("kerberos: krb5.conf: %w", err)
	}
	if cfg.Keytab != "" {
		return fromKeytab(cfg, k, conf)
	}
	path, err := cachePath(cfg, k)
	if err != nil {
		return nil, err
	}
	const hint = "get a ticket with kinit"
	cache, err := guarded(func() (*credentials.CCache, error) { return credentials.LoadCCache(path) })
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("kerberos: there is no ticket cache %s; %s", path, hint)
		}
		return nil, fmt.Errorf("kerberos: the ticket cache %s can't be read: %w; %s", path, err, hint)
	}
	c, err := guarded(func() (*client.Client, error) {
		return client.NewFromCCache(cache, conf, client.DisablePAFXFAST(true))
	})
	if err != nil {
		return nil, fmt.Errorf("kerberos: the ticket cache %s: %w; %s", path, err, hint)
	}
	return &Login{c, k.defaults["default_realm"], hint}, nil
}

func fromKeytab(cfg Config, k *krb5conf, conf *config.Config) (*Login, error) {
	name, realm, _ := strings.Cut(cfg.Principal, "@")
	if realm == "" {
		realm = k.defaults["default_realm"]
	}
	if name == "" || realm == "" {
		return nil, fmt.Errorf("kerberos: a login by keytab needs a principal with its realm, not %q", cfg.Principal)
	}
	kt, err := guarded(func() (*keytab.Keytab, error) { return keytab.Load(cfg.Keytab) })
	if err != nil {
		return nil, fmt.Errorf("kerberos: the keytab %s: %w", cfg.Keytab, err)
	}
	c := client.NewWithKeytab(name, realm, kt, conf, client.DisablePAFXFAST(true))
	if _, err := guarded(func() (any, error) { return nil, c.Login() }); err != nil {
		c.Destroy()
		return nil, fmt.Errorf("kerberos: the login of %s@%s with the keytab %s: %w; `klist -k %s` shows whose keys it has", name, realm, cfg.Keytab, err, cfg.Keytab)
	}
	return &Login{c, k.defaults["default_realm"], "is the KDC up, and the keytab current?"}, nil
}

// cachePath is the file of the cache.
func cachePath(cfg Config, k *krb5conf) (string, error) {
	uid := fmt.Sprint(os.Getuid())
	name := first(cfg.Cache, cfg.Getenv("KRB5CCNAME"), k.defaults["default_ccache_name"], "FILE:/tmp/krb5cc_"+uid)
	name = strings.NewReplacer("%{uid}", uid, "%{euid}", uid, "%{TEMP}", "/tmp", "%{null}", "").Replace(name)
	kind, rest, ok := strings.Cut(name, ":")
	switch {
	case !ok || strings.HasPrefix(name, "/"):
		return name, nil
	case kind == "FILE":
		return rest, nil
	case kind == "DIR":
		if file, ok := strings.CutPrefix(rest, ":"); ok { // DIR::/path/tktX names one of them
			return file, nil
		}
		primary, err := os.ReadFile(filepath.Join(rest, "primary"))
		if os.IsNotExist(err) {
			return filepath.Join(rest, "tkt"), nil
		}
		if err != nil {
			return "", fmt.Errorf("kerberos: the ticket cache %s: %w", name, err)
		}
		return filepath.Join(rest, filepath.Base(strings.TrimSpace(string(primary)))), nil
	}
	return "", fmt.Errorf("kerberos: the ticket cache %s is of a kind that only MIT's own programs read; run `kinit -c FILE:/tmp/krb5cc_%s` and set KRB5CCNAME=FILE:/tmp/krb5cc_%s", name, uid, uid)
}

// Principal is who is logged in, with the realm.
func (l *Login) Principal() string {
	return l.client.Credentials.CName().PrincipalNameString() + "@" + l.client.Credentials.Domain()
}

// Realm is the default one of krb5.conf; where that names none, the principal's own.
func (l *Login) Realm() string { return first(l.realm, l.client.Credentials.Domain()) }

// Close ends the renewal, and forgets keys and tickets.
func (l *Login) Close() error {
	l.client.Destroy()
	return nil
}

// Mechanism begins an exchange with a service (name/host). It is for the clients of package yarn.
func (l *Login) Mechanism(ctx context.Context, service string, allowed []sasl.QOP) (sasl.Mechanism, error) {
	type answer struct {
		sasl.Ticket
		err error
	}
	got := make(chan answer, 1)
	go func() { // ends with the library's own limits
		a := answer{Ticket: sasl.Ticket{Realm: l.client.Credentials.Domain(), Client: l.client.Credentials.CName()}}
		type pair struct {
			ticket messages.Ticket
			key    types.EncryptionKey
		}
		p, err := guarded(func() (p pair, err error) {
			p.ticket, p.key, err = l.client.GetServiceTicket(service)
			return p, err
		})
		a.Ticket.Ticket, a.Key, a.err = p.ticket, p.key, err
		got <- a
	}()
	select {
	case a := <-got:
		if a.err != nil {
			return nil, fmt.Errorf("kerberos: a ticket of %s for %s: %w; %s", l.Principal(), service, a.err, l.hint)
		}
		return sasl.NewGSS(a.Ticket, allowed), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// guarded runs a call into the library, which panics on some input.
func guarded[T any](f func() (T, error)) (out T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it can't be understood: %v", p)
		}
	}()
	return f()
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
