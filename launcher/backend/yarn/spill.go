package yarn

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/kerberos"
)

// SpillStore is a folder on HDFS for values that a node's memory has no room for. What may be repeated is repeated while no NameNode
// answers, with a new connection each time, and what is read goes on behind what came; a write that broke is an error, and is done anew
// by whoever has the bytes.
type SpillStore struct {
	uri       string
	base      string // path of the folder
	conf      *conf.Conf
	addresses []string
	service   string
	getenv    func(string) string

	mu     sync.Mutex
	client *hdfs.Client    // nil: with the next call
	login  *kerberos.Login // nil: there was no need of one
}

const (
	spillPatience = time.Minute     // so long is asked again,
	spillRemove   = 5 * time.Second // and for what need not be
	spillAgain    = 200 * time.Millisecond
	spillRarely   = 2 * time.Second
)

// OpenSpill gives the store of a URI: hdfs://namenode:8020/folder, hdfs://nameservice/folder, or hdfs:///folder of the file system that Hadoop's
// configuration names first. On a cluster with Kerberos it logs in by a token of HADOOP_TOKEN_FILE_LOCATION, else by MANIPLE_PRINCIPAL and
// MANIPLE_KEYTAB, else by what kinit left. It connects with the first call.
func OpenSpill(uri string, getenv func(string) string) (agent.SpillFS, error) {
	rest, found := strings.CutPrefix(uri, "hdfs://")
	host, folder, _ := strings.Cut(rest, "/")
	if !found || folder == "" {
		return nil, fmt.Errorf("yarn: %q names no folder on HDFS; one looks like hdfs://namenode:8020/user/me/spill", uri)
	}
	s := &SpillStore{uri: strings.TrimSuffix(uri, "/"), base: "/" + folder, getenv: getenv}
	c, err := conf.Load(cmp.Or(getenv("HADOOP_CONF_DIR"), "/etc/hadoop/conf"))
	if err != nil && host == "" {
		return nil, fmt.Errorf("%w; set HADOOP_CONF_DIR, or name a NameNode in %s", err, uri)
	}
	if err != nil {
		c = conf.New()
	}
	server := ""
	if host != "" {
		server = "hdfs://" + host
	}
	s.conf = c
	if s.addresses, s.service, err = c.NameNodes(server); err != nil {
		return nil, err
	}
	return s, nil
}

// options are looked for with each connection: tokens are replaced in their file.
func (s *SpillStore) options() (o hdfs.ClientOptions, err error) {
	c := s.conf
	o.Addresses = s.addresses
	o.NamenodeDialFunc, o.DatanodeDialFunc = heard(nil, hdfsSilent), heard(nil, hdfsSilent)
	if o.User, err = s.user(); err != nil || !c.Secure() {
		return o, err
	}
	cfg := yarn.Config{Principal: c.Get("dfs.namenode.kerberos.principal")}
	if c.Source("hadoop.rpc.protection") != "" {
		cfg.Protection = c.Strings("hadoop.rpc.protection")
	}
	if file := s.getenv("HADOOP_TOKEN_FILE_LOCATION"); file != "" {
		all, err := yarn.ReadCredentials(file)
		if err != nil {
			return o, err
		}
		t, found := all.Find(yarn.KindHDFS, s.service)
		if !found { // it is called by its address
			t, found = all.Find(yarn.KindHDFS, "")
		}
		if found {
			cfg.Token = &t
		}
	}
	if cfg.Token == nil {
		if s.login == nil {
			if s.login, err = kerberos.New(kerberos.Config{Principal: s.getenv("MANIPLE_PRINCIPAL"), Keytab: s.getenv("MANIPLE_KEYTAB")}); err != nil {
				return o, err
			}
		}
		cfg.Kerberos = s.login
		o.User, _, _ = strings.Cut(s.login.Principal(), "@")
	}
	dial, err := yarn.DialNameNode(cfg)
	if err != nil {
		return o, err
	}
	o.NamenodeDialFunc = heard(dial, hdfsSilent)
	if offered := c.Strings("dfs.data.transfer.protection"); len(offered) > 0 {
		o.DataTransferProtection = offered[0]
	}
	return o, nil
}

// user is who this process is to a cluster without Kerberos: in a container of YARN, whose processes may have the NodeManager's user, the
// application's.
func (s *SpillStore) user() (string, error) {
	if name := s.getenv("USER"); name != "" && s.getenv("CONTAINER_ID") != "" && s.getenv("HADOOP_USER_NAME") == "" {
		return name, nil
	}
	return yarn.CurrentUser()
}

func (s *SpillStore) String() string { return s.uri }

func (s *SpillStore) path(name string) string { return path.Join(s.base, name) }

// connected gives a client.
func (s *SpillStore) connected() (*hdfs.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	o, err := s.options()
	if err != nil {
		return nil, &setupError{err}
	}
	c, err := hdfs.NewClient(o)
	if err != nil {
		return nil, fmt.Errorf("HDFS at %s: %w", strings.Join(o.Addresses, ", "), err)
	}
	s.client = c
	return c, nil
}

// forget has the next call connect anew.
func (s *SpillStore) forget(c *hdfs.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c != nil && s.client == c {
		_ = c.Close()
		s.client = nil
	}
}

// again does something until HDFS has an answer, which may be no.
func (s *SpillStore) again(patience time.Duration, do func(*hdfs.Client) error) error {
	for wait, began := spillAgain, time.Now(); ; wait = min(2*wait, spillRarely) {
		c, err := s.connected()
		if err == nil {
			err = do(c)
		}
		if err == nil || answered(err) || time.Since(began) > patience {
			return asFull(err)
		}
		s.forget(c)
		time.Sleep(wait)
	}
}

// answered tells whether an error is HDFS's answer, and asking again would give the same.
func answered(err error) bool {
	for _, no := range []error{os.ErrNotExist, os.ErrExist, os.ErrPermission} {
		if errors.Is(err, no) {
			return true
		}
	}
	return overQuota(err) || errors.Is(err, yarn.ErrCredentials) || errors.As(err, new(*setupError))
}

// overQuota tells whether a folder has as much as the site lets it have, in bytes or in names.
func overQuota(err error) bool {
	var said hdfs.Error
	if !errors.As(err, &said) {
		return errors.Is(err, unix.EDQUOT)
	}
	class, ours := strings.CutPrefix(said.Exception(), "org.apache.hadoop.hdfs.protocol.")
	return ours && strings.Contains(class, "Quota")
}

// asFull says of such an error what those of file systems are.
func asFull(err error) error {
	if overQuota(err) && !errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", unix.EDQUOT, err)
	}
	return err
}

// setupError says what keeps this process from connecting at all.
type setupError struct{ error }

// Unwrap gives what it is.
func (e *setupError) Unwrap() error { return e.error }

// spillWriter ends once the blocks are where HDFS wants them.
type spillWriter struct{ *hdfs.FileWriter }

// Write is io.Writer's.
func (w spillWriter) Write(b []byte) (int, error) {
	n, err := w.FileWriter.Write(b)
	return n, asFull(err)
}

// Close waits a while for the last block's copies.
func (w spillWriter) Close() error {
	for wait, began := spillAgain, time.Now(); ; wait = min(2*wait, spillRarely) {
		err := w.FileWriter.Close()
		if err == nil || !hdfs.IsErrReplicating(err) || time.Since(began) > spillPatience {
			return asFull(err)
		}
		time.Sleep(wait)
	}
}

// Create is agent.SpillFS's.
func (s *SpillStore) Create(name string) (w io.WriteCloser, err error) {
	err = s.again(spillPatience, func(c *hdfs.Client) error {
		if err := c.MkdirAll(path.Dir(s.path(name)), 0o700); err != nil {
			return err
		}
		f, err := c.Create(s.path(name))
		w = spillWriter{f}
		return err
	})
	return w, err
}

// Open is agent.SpillFS's.
func (s *SpillStore) Open(name string) (agent.SpillReader, error) {
	r := &spillReader{s: s, name: s.path(name)}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// spillReader reads a file, by a new connection when one broke.
type spillReader struct {
	s    *SpillStore
	name string
	f    *hdfs.FileReader
	size int64
}

func (r *spillReader) open() error {
	return r.s.again(spillPatience, func(c *hdfs.Client) error {
		f, err := c.Open(r.name)
		if err == nil {
			r.f, r.size = f, f.Stat().Size()
		}
		return err
	})
}

// ReadAt is io.ReaderAt's, for one goroutine at a time.
func (r *spillReader) ReadAt(b []byte, off int64) (n int, err error) {
	for began := time.Now(); ; {
		if n, err = r.f.ReadAt(b, off); err == nil || answered(err) || errors.Is(err, io.EOF) && off+int64(len(b)) > r.size || time.Since(began) > spillPatience {
			return n, err
		}
		_ = r.f.Close()
		time.Sleep(spillAgain)
		if err := r.open(); err != nil {
			return 0, err
		}
	}
}

// Size is what the file had when it was opened.
func (r *spillReader) Size() (int64, error) { return r.size, nil }

// Close ends the reading.
func (r *spillReader) Close() error { return r.f.Close() }

// Remove is agent.SpillFS's.
func (s *SpillStore) Remove(name string) error {
	err := s.again(spillRemove, func(c *hdfs.Client) error { return c.Remove(s.path(name)) })
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveAll is agent.SpillFS's.
func (s *SpillStore) RemoveAll(folder string) error {
	err := s.again(spillRemove, func(c *hdfs.Client) error { return c.RemoveAll(s.path(folder)) })
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// List is agent.SpillFS's.
func (s *SpillStore) List(folder string) (names []string, err error) {
	err = s.again(spillPatience, func(c *hdfs.Client) error {
		infos, err := c.ReadDir(s.path(folder))
		names = names[:0]
		for _, i := range infos {
			names = append(names, i.Name())
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// Space is agent.SpillFS's.
func (s *SpillStore) Space() (free, all int64, err error) {
	err = s.again(spillPatience, func(c *hdfs.Client) error {
		info, err := c.StatFs()
		free, all = int64(info.Remaining), int64(info.Capacity)
		if err == nil && all == 0 { // the NameNode has just started
			err = fmt.Errorf("%s has no DataNode", s.uri)
		}
		return err
	})
	return free, all, err
}
