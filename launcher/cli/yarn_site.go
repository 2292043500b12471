package cli

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/kerberos"
)

// site is the cluster that Hadoop's configuration names, and who this user is there.
type site struct {
	*yarn.Client
	at         []string     // its ResourceManagers
	watch      *yarn.Client // as Client, for who waits: it says so within a minute when nobody answers
	conf       *conf.Conf
	login      *kerberos.Login  // nil on a cluster without Kerberos, and where a token is enough
	carried    yarn.Credentials // of the file that HADOOP_TOKEN_FILE_LOCATION names, where they are what this process logs in by
	user       string           // its short name
	protection []string
}

// Close ends the connection and the login.
func (s *site) Close() {
	_ = s.Client.Close()
	_ = s.watch.Close()
	if s.login != nil {
		_ = s.login.Close()
	}
}

// as is how a user names himself: by nothing, or by what kinit does not know.
type as struct{ user, principal, keytab string }

// me is who the environment says that this is: commands other than submit have no flags for it.
func (c *call) me() as {
	return as{principal: c.getenv("MANIPLE_PRINCIPAL"), keytab: c.getenv("MANIPLE_KEYTAB"), user: c.getenv("MANIPLE_USER")}
}

// yarnSite is a client of the cluster that Hadoop's configuration names. On one with Kerberos it logs in by the keytab that is
// given, else by a token for the ResourceManager that it carries, as in the launcher of a workflow, else by what kinit left.
func (c *call) yarnSite(who as) (*site, error) {
	read, err := conf.Find(c.getenv)
	if err != nil {
		return nil, &Fault{Name: "CONFIG", What: c.page.name, Why: plain(err), Do: "set HADOOP_CONF_DIR to the folder of yarn-site.xml", Err: err}
	}
	cfg, err := yarn.FromConf(read)
	if err != nil {
		return nil, &Fault{Name: "CONFIG", What: c.page.name, Why: plain(err), Do: "set HADOOP_CONF_DIR to the folder of yarn-site.xml", Err: err}
	}
	s := &site{conf: read, protection: cfg.Protection}
	var token yarn.Token
	carried := false
	if read.Secure() && who.principal == "" && who.keytab == "" {
		if s.carried, err = c.carriedTokens(); err != nil {
			return nil, err
		}
		token, carried = s.carried.Find(yarn.KindRMDelegation, "")
	}
	switch {
	case carried:
		cfg.Token = &token
		if s.user = c.getenv("USER"); s.user == "" { // YARN says whose its containers are
			return nil, &Fault{Name: "CONFIG", What: c.page.name, Why: "the tokens of HADOOP_TOKEN_FILE_LOCATION are a container's, and USER does not say whose", Do: "set USER to the name that the cluster knows"}
		}
	case read.Secure():
		if s.login, err = kerberos.New(kerberos.Config{Principal: who.principal, Keytab: who.keytab}); err != nil {
			return nil, &Fault{Name: "REFUSED", What: c.page.name, Why: plain(err), Do: "or give --principal and --keytab", Err: err}
		}
		cfg.Kerberos = s.login
		if s.user, err = read.ShortName(s.login.Principal(), s.login.Realm()); err != nil {
			_ = s.login.Close()
			return nil, &Fault{Name: "CONFIG", What: c.page.name, Why: plain(err), Do: "log in as somebody else, or have the site's core-site.xml in HADOOP_CONF_DIR", Err: err}
		}
	case who.principal != "" || who.keytab != "":
		return nil, usage(c.page.name, "this cluster has no Kerberos to log in by", "leave --principal and --keytab away; --user names a user")
	case who.user != "":
		s.user, cfg.User = who.user, who.user
	default:
		if s.user, err = yarn.UserOf(c.getenv); err != nil {
			return nil, yarnFault(c.page.name, err)
		}
	}
	cfg.Waits = c.noAnswer()
	if err := s.open(cfg); err != nil {
		return nil, yarnFault(c.page.name, err)
	}
	return s, nil
}

// toldAfter is how long who waits for an application's end is told nothing while no ResourceManager answers.
const toldAfter = time.Minute

// managers are the cluster's ResourceManagers, as those who are waited for.
func (s *site) managers() string {
	return "YARN's ResourceManager at " + strings.Join(s.at, " or ") + " to answer"
}

// noAnswer says why YARN has no answer yet, at most once a minute.
func (c *call) noAnswer() func(error) {
	var mu sync.Mutex
	var last time.Time
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); last.IsZero() || now.Sub(last) >= toldAfter {
			last = now
			c.say("%s: YARN has no answer yet: %s", c.page.name, plain(err))
		}
	}
}

// open makes the clients.
func (s *site) open(cfg yarn.Config) (err error) {
	s.at = cfg.ResourceManagers
	if s.Client, err = yarn.New(cfg); err == nil {
		cfg.Waits = nil                                                // it is what is said that matters then
		cfg.RetryFor = min(cmp.Or(cfg.RetryFor, toldAfter), toldAfter) // the site's may be for ever
		s.watch, err = yarn.New(cfg)
	}
	return err
}

// carriedTokens are those of the file that YARN gives a container, which are none elsewhere.
func (c *call) carriedTokens() (yarn.Credentials, error) {
	file := c.getenv("HADOOP_TOKEN_FILE_LOCATION")
	if file == "" {
		return yarn.Credentials{}, nil
	}
	all, err := yarn.ReadCredentials(file)
	if err != nil {
		return all, &Fault{Name: "CONFIG", What: c.page.name, Why: plain(err), Do: "unset HADOOP_TOKEN_FILE_LOCATION to log in by kinit", Err: err}
	}
	return all, nil
}
