package hdfs

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
