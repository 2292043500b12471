package yarn

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/colinmarc/hdfs/v2"

	hdfsfiles "github.com/maniple-hpc/maniple/launcher/hdfs"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/kerberos"
)

// Store is where the program and files lie for containers: a user's own folder of the cluster's file system, with a file
// for each content that was ever brought there.
type Store struct {
	fs    files
	base  yarn.URL    // of the user's home
	token *yarn.Token // with which containers get at it; nil: they need none
}

// files are the few calls of a file system that a store needs.
type files interface {
	stat(name string) (os.FileInfo, error)
	mkdir(name string) error
	create(ctx context.Context, name string) (io.WriteCloser, error) // Close waits as long as ctx for it to be whole
	open(name string) (io.ReadCloser, error)
	rename(from, to string) error // of a folder; onto none that has something in it
	remove(name string) error
	lost(err error) bool // why a file was not written is a place that is not taken again
	close() error
}

// OpenStore opens the store of a user on the file system that Hadoop's configuration names first. On a cluster with
// Kerberos login is the user's, and the store has a token for the application's containers, which YARN renews. Where login is nil
// it is a token that this process carries: who has no ticket is given no other one.
//
// waits is told why HDFS has no answer for a while, and is asked again.
func OpenStore(ctx context.Context, c *conf.Conf, user string, login *kerberos.Login, carried yarn.Credentials, waits func(error)) (*Store, error) {
	uri := c.Get("fs.defaultFS")
	if uri == "" || strings.HasPrefix(uri, "file:") {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("yarn: a place for files: %w", err)
		}
		return &Store{fs: localFiles{}, base: yarn.URL{Scheme: "file", Path: home}}, nil
	}
	base, err := yarn.ParseURL(strings.TrimSuffix(uri, "/") + "/user/" + user)
	if err != nil {
		return nil, err
	}
	addresses, service, err := c.NameNodes(uri)
	if err != nil {
		return nil, fmt.Errorf("yarn: fs.defaultFS: %w; files go to HDFS only", err)
	}
	s := &Store{base: base}
	who := yarn.Config{User: user, Waits: waits}
	if c.Secure() {
		service = yarn.TokenService(ctx, service, c.Bool("hadoop.security.token.service.use_ip", true))
		if who.Kerberos = login; login == nil {
			t, ok := carried.ForHDFS(service)
			if !ok {
				return nil, fmt.Errorf("yarn: HDFS at %s: this process has neither a ticket nor, in the file of HADOOP_TOKEN_FILE_LOCATION, a token for it; log in with --principal and --keytab", strings.Join(addresses, ", "))
			}
			who.Token, s.token = &t, &t
		}
	}
	options, reached, err := hdfsfiles.Reach(c, who, addresses)
	if err != nil {
		return nil, err
	}
	if who.Kerberos != nil {
		way, err := yarn.NewHDFS(c, yarn.Config{Kerberos: login, Waits: waits}, addresses)
		if err != nil {
			return nil, err
		}
		renewer := c.Get("yarn.resourcemanager.principal")
		if list, err := c.ResourceManagers(); err == nil && len(list) > 0 {
			renewer = c.Principal("yarn.resourcemanager.principal", list[0].Host)
		}
		token, err := way.Token(ctx, service, renewer)
		if err != nil {
			return nil, err
		}
		s.token = &token
	}
	client, err := hdfs.NewClient(options)
	if err != nil {
		return nil, fmt.Errorf("yarn: HDFS at %s: %w", strings.Join(addresses, ", "), err)
	}
	s.fs = hdfsFiles{client, reached}
	return s, nil
}

// Close ends the connection.
func (s *Store) Close() error { return s.fs.close() }

// Put brings a file of this machine into the store, unless its content is there (YJOB-4), and gives what containers
// are told of it.
func (s *Store) Put(ctx context.Context, file string) (yarn.LocalResource, error) {
	var none yarn.LocalResource
	if Far(file) {
		return s.refer(file)
	}
	f, err := os.Open(file)
	if err != nil {
		return none, fmt.Errorf("yarn: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return none, fmt.Errorf("yarn: %w", err)
	}
	if !info.Mode().IsRegular() {
		return none, fmt.Errorf("yarn: %s is no file; pack a folder with tar and give it to --archives", file)
	}
	c := content{from: f, name: filepath.Base(file)}
	if c.sum, c.size, err = digest(f); err != nil {
		return none, fmt.Errorf("yarn: read %s: %w", file, err)
	}
	// The name stays, since YARN unpacks an archive by its ending.
	c.dir = path.Join(s.base.Path, ".maniple", "files", c.sum, c.name)
	url := s.base
	url.Path = path.Join(c.dir, c.name)
	have, err := s.fs.stat(url.Path)
	if err != nil {
		// An older build put the file itself where its folder is now. Applications may name it: it stays, and is as good.
		if old, oldErr := s.fs.stat(c.dir); oldErr == nil && old.Mode().IsRegular() {
			if old.Size() != c.size {
				return none, fmt.Errorf("yarn: %s, which an older build made, has %d bytes instead of %d; remove it when nothing of yours runs", c.dir, old.Size(), c.size)
			}
			url.Path, have, err = c.dir, old, nil
		}
	}
	if err != nil || have.Size() != c.size {
		if have, err = s.bring(ctx, c); err != nil {
			return none, fmt.Errorf("yarn: put %s into %s: %w", file, s.base, err)
		}
	}
	return yarn.LocalResource{
		URL: url, Size: have.Size(), Timestamp: time.UnixMilli(have.ModTime().UnixMilli()), Type: yarn.File, Visibility: yarn.Private,
	}, nil
}

// Far tells whether what is named as a file is on HDFS already.
func Far(file string) bool { return strings.HasPrefix(file, "hdfs://") }

// refer gives what containers are told of a file that is on the cluster's file system already. It stays where it is, and must not change before they have it.
func (s *Store) refer(file string) (yarn.LocalResource, error) {
	var none yarn.LocalResource
	url, err := yarn.ParseURL(file)
	if err != nil {
		return none, err
	}
	if same := strings.EqualFold(url.Host, s.base.Host) && portOf(url) == portOf(s.base); s.base.Scheme == "hdfs" && (url.Host == "" || same) {
		path := url.Path
		url = s.base
		url.Path = path
	} else {
		return none, &InfeasibleError{file + " is not on the cluster's own file system, " + s.base.String() + ", for which alone containers have a token", "copy it there"}
	}
	have, err := s.fs.stat(url.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return none, &InfeasibleError{file + " does not exist", "give a file that does"}
	case err != nil:
		return none, fmt.Errorf("yarn: %s: %w", file, err)
	}
	if have.IsDir() {
		return none, &InfeasibleError{file + " is a folder", "pack it with tar, and give the archive to --archives"}
	}
	return yarn.LocalResource{
		URL: url, Size: have.Size(), Timestamp: time.UnixMilli(have.ModTime().UnixMilli()), Type: yarn.File, Visibility: yarn.Private,
	}, nil
}

// portOf is a NameNode's port, which need not be written if it is Hadoop's default.
func portOf(u yarn.URL) int32 { return cmp.Or(u.Port, 8020) }

// content is a file that is to be in the store: as name in a folder dir of its own.
type content struct {
	from      *os.File
	name, dir string
	sum       string
	size      int64
}

func digest(r io.Reader) (sum string, size int64, err error) {
	hash := sha256.New()
	size, err = io.Copy(hash, r)
	return hex.EncodeToString(hash.Sum(nil)), size, err
}

// bring writes the content into a folder beside its own, which then takes that name. A folder is renamed onto no other that
// has something in it, neither on HDFS nor here: of several that bring the same content at once the first one's copy stays,
// and the others use it once they have read that it is what they have.
func (s *Store) bring(ctx context.Context, c content) (os.FileInfo, error) {
	beside, err := s.brought(ctx, c)
	if err != nil {
		return nil, err
	}
	at := path.Join(c.dir, c.name)
	for again := false; ; again = true {
		refused := s.fs.rename(beside, c.dir)
		if refused == nil {
			return s.fs.stat(at)
		}
		have, err := s.verify(at, c)
		if err == nil {
			s.drop(beside, c.name)
			return have, nil
		}
		if again || !errors.Is(err, errOther) {
			s.drop(beside, c.name)
			return nil, fmt.Errorf("%w (%w)", refused, err)
		}
		// What is there is not what its name says: it goes out of the way, and is nobody's any more.
		if old := c.beside(); s.fs.rename(c.dir, old) == nil {
			s.drop(old, c.name)
		}
	}
}

// broughtTries is how often a content is written, each time to other DataNodes.
const broughtTries = 5

// brought writes the content into a folder beside its own. One that is lost on its way, with a machine that it went to, is written again as a whole.
func (s *Store) brought(ctx context.Context, c content) (beside string, err error) {
	for try := 1; ; try++ {
		beside = c.beside()
		if err = s.fs.mkdir(beside); err != nil {
			return "", err
		}
		if err = s.write(ctx, c, path.Join(beside, c.name)); err == nil {
			return beside, nil
		}
		again := s.fs.lost(err) && try < broughtTries && ctx.Err() == nil
		s.drop(beside, c.name)
		if !again {
			return "", err
		}
	}
}

// beside names a folder next to a content's own, as nobody else does.
func (c *content) beside() string { return path.Join(path.Dir(c.dir), ".new-"+rand.Text()) }

// drop removes such a folder. What can't be removed is in nobody's way.
func (s *Store) drop(dir, name string) {
	_ = s.fs.remove(path.Join(dir, name))
	_ = s.fs.remove(dir)
}

// write writes the content as a file, which is whole when there is no error.
func (s *Store) write(ctx context.Context, c content, at string) error {
	if _, err := c.from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w, err := s.fs.create(ctx, at)
	if err != nil {
		return err
	}
	sum, _, err := digest(io.TeeReader(c.from, w))
	if err != nil {
		_ = w.Close()
		return err
	}
	if err = w.Close(); err == nil && sum != c.sum {
		err = errors.New("it changed while it was read; try again")
	}
	return err
}

// errOther says that a file of the store is not what its name says.
var errOther = errors.New("what is there under its hash is something else")

// verify reads a file of the store, which somebody else brought there.
func (s *Store) verify(at string, c content) (os.FileInfo, error) {
	have, err := s.fs.stat(at)
	if errors.Is(err, fs.ErrNotExist) || err == nil && have.Size() != c.size {
		return nil, errOther
	}
	if err != nil {
		return nil, err
	}
	r, err := s.fs.open(at)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	sum, _, err := digest(r)
	if err == nil && sum != c.sum {
		err = errOther
	}
	return have, err
}

// hdfsFiles are HDFS's.
type hdfsFiles struct {
	c   *hdfs.Client
	way *yarn.HDFS
}

func (h hdfsFiles) stat(name string) (os.FileInfo, error) { return h.c.Stat(name) }
func (h hdfsFiles) mkdir(name string) error               { return h.c.MkdirAll(name, 0o700) }
func (h hdfsFiles) create(ctx context.Context, name string) (io.WriteCloser, error) {
	return hdfsfiles.Create(ctx, h.c, name)
}
func (h hdfsFiles) open(name string) (io.ReadCloser, error) { return h.c.Open(name) }
func (h hdfsFiles) rename(from, to string) error            { return h.c.Rename(from, to) }
func (h hdfsFiles) remove(name string) error                { return h.c.Remove(name) }
func (h hdfsFiles) close() error                            { return h.c.Close() }
func (h hdfsFiles) lost(err error) bool {
	is := hdfsfiles.LostDataNode(err)
	if is {
		h.way.Break(context.Background())
	}
	return is
}

// localFiles are those of a file system that all nodes see.
type localFiles struct{}

func (localFiles) stat(name string) (os.FileInfo, error) { return os.Stat(name) }
func (localFiles) mkdir(name string) error               { return os.MkdirAll(name, 0o700) }
func (localFiles) create(_ context.Context, name string) (io.WriteCloser, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
}
func (localFiles) open(name string) (io.ReadCloser, error) { return os.Open(name) }
func (localFiles) rename(from, to string) error            { return os.Rename(from, to) }
func (localFiles) remove(name string) error                { return os.Remove(name) }
func (localFiles) lost(error) bool                         { return false }
func (localFiles) close() error                            { return nil }
