package hdfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/kerberos"
)

// Client is a process's way to one file system. It connects with the first call, and anew when a connection broke. It may be used by several
// goroutines.
type Client struct {
	uri       string // as it was named, for people
	conf      *conf.Conf
	addresses []string
	service   string
	getenv    func(string) string
	say       func(error)  // hears why a call has had no answer for a while, and goes on; nil: nobody does
	active    atomic.Int32 // which of addresses answered last: a connection begins with it
	broken    yarn.Broken
	said      atomic.Int64 // when say was called last; nanoseconds since 1970
	missed    atomic.Int64 // when a DataNode took no connection, last; the same

	mu     sync.Mutex
	client *hdfs.Client    // nil: with the next call
	end    func()          // of it
	login  *kerberos.Login // nil: there was no need of one
	token  *yarn.Token     // with which the last connection logs in; nil: with none
}

const (
	patience = time.Minute // so long is asked again
	again    = 200 * time.Millisecond
	rarely   = 2 * time.Second
	silently = 3 * time.Second // it is waited before anybody hears why
)

// New gives a client of a file system: hdfs://namenode:8020, hdfs://nameservice, or "" and hdfs:// for the one that Hadoop's configuration names
// first. On a cluster with Kerberos it logs in by a token of HADOOP_TOKEN_FILE_LOCATION, else by MANIPLE_PRINCIPAL and MANIPLE_KEYTAB, else by
// what kinit left.
func New(uri string, getenv func(string) string) (*Client, error) {
	host := strings.TrimPrefix(uri, scheme)
	c := &Client{uri: scheme + host, getenv: getenv}
	read, err := conf.Find(getenv)
	if err != nil && host == "" {
		return nil, fmt.Errorf("%w; or name a NameNode as in hdfs://namenode:8020/path", err)
	}
	if err != nil {
		read = conf.New()
	}
	server := ""
	if host != "" {
		server = scheme + host
	}
	c.conf = read
	if _, err = umask(read); err != nil {
		return nil, err
	}
	if c.addresses, c.service, err = read.NameNodes(server); err != nil {
		return nil, err
	}
	return c, nil
}

// scheme begins a path of HDFS.
const scheme = "hdfs://"

// options are looked for with each connection: tokens are replaced in their file.
func (c *Client) options(patience time.Duration) (o hdfs.ClientOptions, way *yarn.HDFS, err error) {
	cfg := yarn.Config{RetryFor: patience, Active: &c.active, Broken: &c.broken, Waits: c.waits}
	if cfg.User, err = yarn.UserOf(c.getenv); err != nil {
		return o, nil, err
	}
	if c.conf.Secure() {
		if cfg.User, err = c.prove(&cfg); err != nil {
			return o, nil, err
		}
	}
	c.token = cfg.Token
	return Reach(c.conf, cfg, c.addresses)
}

// waits says why HDFS has no answer, once in a while.
func (c *Client) waits(err error) {
	now := time.Now().UnixNano()
	if last := c.said.Load(); c.say != nil && (last == 0 || now-last > int64(patience)) && c.said.CompareAndSwap(last, now) {
		c.say(err)
	}
}

// Options are those of the library for the file system behind NameNodes, reached as the site's configuration says. cfg says who asks, and how long calls that no
// NameNode answers are made again (a minute).
func Options(c *conf.Conf, cfg yarn.Config, addresses []string) (hdfs.ClientOptions, error) {
	o, _, err := Reach(c, cfg, addresses)
	return o, err
}

// Reach gives the same, and the way that they go.
func Reach(c *conf.Conf, cfg yarn.Config, addresses []string) (hdfs.ClientOptions, *yarn.HDFS, error) {
	o := hdfs.ClientOptions{Addresses: addresses, User: cfg.User}
	cfg.Timeout = cmp.Or(cfg.Timeout, silence)
	if cfg.Token != nil || cfg.Kerberos != nil {
		cfg.User = "" // whom to act for; the login itself says who asks
	}
	way, err := yarn.NewHDFS(c, cfg, addresses)
	if err == nil {
		o.NamenodeDialFunc, o.DatanodeDialFunc = way.DialNameNode, Heard(way.DialDataNode)
	}
	return o, way, err
}

// prove sets with what this process logs in, and gives whose it is.
func (c *Client) prove(cfg *yarn.Config) (user string, err error) {
	if file := c.getenv("HADOOP_TOKEN_FILE_LOCATION"); file != "" {
		all, err := yarn.ReadCredentials(file)
		if err != nil {
			return "", err
		}
		if t, found := all.ForHDFS(c.service); found {
			cfg.Token = &t
			return cfg.User, nil
		}
	}
	if c.login == nil {
		who := kerberos.Config{Principal: c.getenv("MANIPLE_PRINCIPAL"), Keytab: c.getenv("MANIPLE_KEYTAB"), Getenv: c.getenv}
		if c.login, err = kerberos.New(who); err != nil {
			return "", err
		}
	}
	cfg.Kerberos = c.login
	user, _, _ = strings.Cut(c.login.Principal(), "@")
	return user, nil
}

// connected gives the connection of all that is asked again if nobody answers.
func (c *Client) connected() (*hdfs.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		return c.client, nil
	}
	l, err := c.connect(oneRound)
	if err == nil {
		c.client, c.end = l.Client, l.end
	}
	return l.Client, err
}

// oneRound has a call end when none of the NameNodes answers it.
const oneRound = -1

// apart gives a connection for a file that is to be written, whose calls are made again while no NameNode answers. Nobody else has it: it is not forgotten when
// another call fails, and has leases of its own. Its end is for whoever asked.
func (c *Client) apart() (line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connect(patience)
}

// line is a connection: as the library has it, what it goes by, and its end, which may be called again.
type line struct {
	*hdfs.Client
	way *yarn.HDFS
	end func()
}

// connect makes a connection, which asks for nothing yet. The caller has the lock. After its end it dials no more: the library would
// turn to the next NameNode where the connection to one is closed.
func (c *Client) connect(patience time.Duration) (line, error) {
	o, way, err := c.options(patience)
	if err != nil {
		return line{}, &setupError{err}
	}
	var over atomic.Bool
	dial, dialData := o.NamenodeDialFunc, o.DatanodeDialFunc
	o.DatanodeDialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialData(ctx, network, address)
		if err != nil {
			c.missed.Store(time.Now().UnixNano())
		}
		return conn, err
	}
	o.NamenodeDialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if over.Load() {
			return nil, net.ErrClosed
		}
		return dial(ctx, network, address)
	}
	h, err := hdfs.NewClient(o)
	if err != nil {
		return line{}, fmt.Errorf("HDFS at %s: %w", strings.Join(c.addresses, ", "), err)
	}
	return line{h, way, sync.OnceFunc(func() {
		over.Store(true)
		_ = h.Close()
	})}, nil
}

// forget has the next call connect anew, and waits for none that is under way.
func (c *Client) forget(h *hdfs.Client) {
	if end := c.taken(h); end != nil {
		go end() // once the calls that have begun are over
	}
}

// taken takes the connection out, and gives its end; nil: it is another one by now.
func (c *Client) taken(h *hdfs.Client) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h == nil || c.client != h {
		return nil
	}
	end, c.client, c.end = c.end, nil, nil
	return end
}

// Close ends the connection and the login.
func (c *Client) Close() {
	c.mu.Lock()
	h, login := c.client, c.login
	c.login = nil
	c.mu.Unlock()
	if end := c.taken(h); end != nil {
		end()
	}
	if login != nil {
		_ = login.Close()
	}
}

// again does something until HDFS has an answer, which may be no: one of which final says that asking again would give the same.
func (c *Client) again(patience time.Duration, final func(error) bool, do func(*hdfs.Client) error) error {
	told := false
	for wait, began := again, time.Now(); ; wait = min(2*wait, rarely) {
		h, err := c.connected()
		if err == nil {
			err = do(h)
		}
		if !told && err != nil && !final(err) && time.Since(began) >= silently {
			told = true
			c.waits(err)
		}
		over := err == nil || final(err) || time.Since(began) > patience
		if err != nil && (!over || errors.Is(err, yarn.ErrCredentials)) { // the file of tokens may have a new one by the next call
			c.forget(h)
		}
		if over {
			return c.told(err)
		}
		time.Sleep(wait)
	}
}

// told is an error as who asked is told it.
func (c *Client) told(err error) error {
	var site *yarn.Error
	if errors.As(err, &site) && site.Op == yarn.OpNameNode && errors.Is(err, yarn.ErrCredentials) && !errors.As(err, new(*loginError)) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return &loginError{site, c.token, time.Now()}
	}
	return asFull(err)
}
