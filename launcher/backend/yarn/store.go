package yarn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/colinmarc/hdfs/v2"

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
	create(name string) (io.WriteCloser, error)
	rename(from, to string) error
	remove(name string) error
	close() error
}

// OpenStore opens the store of a user on the file system that Hadoop's configuration names first. On a cluster with
// Kerberos login is the user's, and the store has a token for the application's containers, which YARN renews.
func OpenStore(ctx context.Context, c *conf.Conf, user string, login *kerberos.Login) (*Store, error) {
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
	options := hdfs.ClientOptions{Addresses: addresses, User: user}
	if c.Secure() {
		cfg := yarn.Config{Kerberos: login, Principal: c.Get("dfs.namenode.kerberos.principal")}
		if c.Source("hadoop.rpc.protection") != "" {
			cfg.Protection = c.Strings("hadoop.rpc.protection")
		}
		if options.NamenodeDialFunc, err = yarn.DialNameNode(cfg); err != nil {
			return nil, err
		}
		// The library takes what a DataNode offers first.
		if offered := c.Strings("dfs.data.transfer.protection"); len(offered) > 0 {
			options.DataTransferProtection = offered[0]
		}
		renewer := c.Get("yarn.resourcemanager.principal")
		if list, err := c.ResourceManagers(); err == nil && len(list) > 0 {
			renewer = c.Principal("yarn.resourcemanager.principal", list[0].Host)
		}
		token, err := yarn.NameNodeToken(ctx, cfg, addresses, service, renewer)
		if err != nil {
			return nil, err
		}
		s.token = &token
	}
	client, err := hdfs.NewClient(options)
	if err != nil {
		return nil, fmt.Errorf("yarn: HDFS at %s: %w", strings.Join(addresses, ", "), err)
	}
	s.fs = hdfsFiles{client}
	return s, nil
}

// Close ends the connection.
func (s *Store) Close() error { return s.fs.close() }

// Put brings a file of this machine into the store, unless its content is there (YJOB-4), and gives what containers
// are told of it.
func (s *Store) Put(ctx context.Context, file string) (yarn.LocalResource, error) {
	var none yarn.LocalResource
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
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return none, fmt.Errorf("yarn: read %s: %w", file, err)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	dir := path.Join(s.base.Path, ".maniple", "files", sum)
	// The name stays, since YARN unpacks an archive by its ending.
	at := path.Join(dir, filepath.Base(file))
	have, err := s.fs.stat(at)
	if err != nil || have.Size() != size {
		if err := s.write(ctx, f, dir, at, sum); err != nil {
			return none, fmt.Errorf("yarn: put %s into %s: %w", file, s.base, err)
		}
		if have, err = s.fs.stat(at); err != nil {
			return none, fmt.Errorf("yarn: put %s into %s: %w", file, s.base, err)
		}
	}
	url := s.base
	url.Path = at
	return yarn.LocalResource{
		URL: url, Size: have.Size(), Timestamp: time.UnixMilli(have.ModTime().UnixMilli()), Type: yarn.File, Visibility: yarn.Private,
	}, nil
}

// write writes beside and renames, so that a file is whole or not there.
func (s *Store) write(ctx context.Context, f *os.File, dir, at, sum string) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := s.fs.mkdir(dir); err != nil {
		return err
	}
	beside := path.Join(dir, fmt.Sprintf(".new-%d-%d", os.Getpid(), time.Now().UnixNano()))
	w, err := s.fs.create(beside)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(w, hash), f)
	if err = errors.Join(err, closed(ctx, w)); err == nil && hex.EncodeToString(hash.Sum(nil)) != sum {
		err = errors.New("it changed while it was read; try again")
	}
	if err == nil {
		err = s.fs.rename(beside, at)
	}
	if err != nil {
		_ = s.fs.remove(beside)
	}
	return err
}

// closed closes a file, and waits until its blocks are where HDFS wants them.
func closed(ctx context.Context, w io.Closer) error {
	for wait := 50 * time.Millisecond; ; wait = min(wait*2, time.Second) {
		err := w.Close()
		if err == nil || !hdfs.IsErrReplicating(err) {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// hdfsFiles are HDFS's.
type hdfsFiles struct{ c *hdfs.Client }

func (h hdfsFiles) stat(name string) (os.FileInfo, error)      { return h.c.Stat(name) }
func (h hdfsFiles) mkdir(name string) error                    { return h.c.MkdirAll(name, 0o700) }
func (h hdfsFiles) create(name string) (io.WriteCloser, error) { return h.c.Create(name) }
func (h hdfsFiles) rename(from, to string) error               { return h.c.Rename(from, to) }
func (h hdfsFiles) remove(name string) error                   { return h.c.Remove(name) }
func (h hdfsFiles) close() error                               { return h.c.Close() }

// localFiles are those of a file system that all nodes see.
type localFiles struct{}

func (localFiles) stat(name string) (os.FileInfo, error) { return os.Stat(name) }
func (localFiles) mkdir(name string) error               { return os.MkdirAll(name, 0o700) }
func (localFiles) create(name string) (io.WriteCloser, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
}
func (localFiles) rename(from, to string) error { return os.Rename(from, to) }
func (localFiles) remove(name string) error     { return os.Remove(name) }
func (localFiles) close() error                 { return nil }
