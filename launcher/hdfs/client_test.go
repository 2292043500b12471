package hdfs

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/yarn"
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

// A NameNode that lets nobody in is not asked again for a minute, and who asked is told what may be done; the next call looks for another token.
func TestWhoIsNotLetInIsTold(t *testing.T) {
	ended := &yarn.Token{Kind: yarn.KindHDFS, Identifier: []byte{0, 0, 0, 0, 1, 2}} // long ago
	for _, no := range []struct {
		token      *yarn.Token
		said, want string
	}{
		{ended, "is expired", "1970-01-01T00:00:00Z, and nobody can renew it"},
		{&yarn.Token{}, "can't be found in cache", "can't be found in cache; YARN renews the token"},
		{nil, "GSS initiate failed", "GSS initiate failed"},
	} {
		n := &nameNode{t: t}
		c, tries := n.client(), 0
		err := c.again(time.Minute, refused, func(*hdfs.Client) error {
			c.token = no.token
			tries++
			return &os.PathError{Op: "stat", Path: "/x", Err: &yarn.Error{Op: yarn.OpNameNode, Text: no.said, Kind: yarn.ErrCredentials}}
		})
		number, text := errnoOf(err)
		if number != unix.EACCES || !strings.Contains(text, no.want) || tries != 1 || c.client != nil {
			t.Error(number, text, tries, c.client)
		}
	}
	c := &Client{token: ended}
	if err := c.told(&yarn.Error{Op: "DataNode", Text: "no common quality", Kind: yarn.ErrCredentials}); strings.Contains(err.Error(), "renew") {
		t.Error("another one's refusal: ", err)
	}
}
