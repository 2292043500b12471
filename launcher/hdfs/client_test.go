package hdfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

// saidNo is an answer of a NameNode.
type saidNo string

func (e saidNo) Error() string     { return string(e) }
func (e saidNo) Method() string    { return "addBlock" }
func (e saidNo) Desc() string      { return "ERROR_APPLICATION" }
func (e saidNo) Message() string   { return string(e) }
func (e saidNo) Exception() string { return string(e) }

// A full quota is an answer, and is said as that of a disk is; a NameNode that is not ready yet is asked again.
func TestQuotaIsAnAnswer(t *testing.T) {
	for class, full := range map[string]bool{
		"org.apache.hadoop.hdfs.protocol.DSQuotaExceededException": true, "org.apache.hadoop.hdfs.protocol.NSQuotaExceededException": true,
		"org.apache.hadoop.hdfs.protocol.QuotaByStorageTypeExceededException": true, "org.apache.hadoop.hdfs.server.namenode.SafeModeException": false,
	} {
		err := error(&os.PathError{Op: "create", Path: "/x", Err: saidNo(class)})
		if answered(err) != full || errors.Is(asFull(err), unix.EDQUOT) != full || !errors.Is(asFull(err), saidNo(class)) {
			t.Error(class, answered(err), asFull(err))
		}
	}
	if got := asFull(asFull(saidNo("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException"))).Error(); strings.Count(got, "quota exceeded") != 1 {
		t.Error(got)
	}
}

// A machine that has vanished is waited for once, and not for ever.
func TestSilentMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := heard(nil, 100*time.Millisecond)(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("anybody?")); err != nil {
		t.Error(err)
	}
	began := time.Now()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 10*time.Second {
		t.Error(err)
	}
	if _, err := c.Write([]byte("again")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// A NameNode that lets nobody in is not asked again for a minute: the library makes text of what it said.
func TestWhoIsNotLetInIsTold(t *testing.T) {
	ended := &yarn.Token{Kind: yarn.KindHDFS, Identifier: []byte{0, 0, 0, 0, 1, 2}} // long ago
	for _, no := range []struct {
		token *yarn.Token
		said  error
		want  string
	}{
		{ended, &yarn.Error{Op: "NameNode", Text: "is expired", Kind: yarn.ErrCredentials}, "1970-01-01T00:00:00Z, and nobody can renew it"},
		{&yarn.Token{}, &yarn.Error{Op: "NameNode", Text: "can't be found in cache", Kind: yarn.ErrCredentials}, "can't be found in cache; YARN renews the token"},
		{nil, &yarn.Error{Op: "NameNode", Text: "GSS initiate failed", Kind: yarn.ErrCredentials}, "GSS initiate failed"},
	} {
		c, tries := &Client{client: &hdfs.Client{}}, 0
		dial := c.noted(func(context.Context, string, string) (net.Conn, error) { return nil, no.said }, no.token)
		err := c.again(time.Minute, refused, func(*hdfs.Client) error {
			tries++
			_, err := dial(t.Context(), "tcp", "nn:8020")
			return errors.New("no available namenodes: " + err.Error()) // as the library does
		})
		number, text := errnoOf(err)
		if number != unix.EACCES || !strings.Contains(text, no.want) || tries != 1 {
			t.Error(number, text, tries)
		}
	}
}

// Of two NameNodes one refuses and the other one is down: the refusal is what is told, until one lets in or both are asked anew.
func TestRefusalOutlastsTheNextNameNode(t *testing.T) {
	says := map[string]error{
		"nn1:8020": &yarn.Error{Op: "NameNode", Text: "can't be found in cache", Kind: yarn.ErrCredentials},
		"nn2:8020": &yarn.Error{Op: "NameNode", Text: "is standby", Kind: yarn.ErrUnreachable},
	}
	c, tries := &Client{client: &hdfs.Client{}, addresses: []string{"127.0.0.1:1"}, conf: conf.New(), getenv: func(string) string { return "" }}, 0
	dial := c.noted(func(_ context.Context, _, address string) (net.Conn, error) { return nil, says[address] }, &yarn.Token{})
	err := c.again(0, refused, func(*hdfs.Client) error {
		tries++
		_, _ = dial(t.Context(), "tcp", "nn1:8020")
		_, err := dial(t.Context(), "tcp", "nn2:8020")
		return fmt.Errorf("no available namenodes: %s", err) // as the library does
	})
	if number, text := errnoOf(err); number != unix.EACCES || !strings.Contains(text, "can't be found in cache") || tries != 1 {
		t.Error(number, text, tries)
	}
	if _, err := dial(t.Context(), "tcp", "nn3:8020"); err != nil || c.noLogin.Load() != nil {
		t.Error(err, c.noLogin.Load())
	}
	_, _ = dial(t.Context(), "tcp", "nn1:8020")
	c.client = nil
	if err := c.again(0, refused, func(*hdfs.Client) error { return nil }); err == nil || errors.Is(err, yarn.ErrCredentials) {
		t.Errorf("nobody listens there, and it is %v", err)
	}
}
