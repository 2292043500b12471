package hdfs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/yarn/conf"
)

// inode is a file of a nameNode.
type inode struct {
	id, size, block uint64
	policy          string // erasure-coded so
	data            []byte // that DataNodes have
}

// nameNode is as much of one as a commit asks for. Of one call it loses the answer, before or after it has done what was asked, or refuses it.
type nameNode struct {
	t                   *testing.T
	lost, missed, never string            // methods, once: acted and not answered; neither; refused
	meanwhile           map[string]*inode // what other programs made when the connection broke
	policy              string            // of new files
	few                 bool              // no block ever has the copies that are wanted
	nodes               []*dataNode       // for blocks, the first one that is not excluded; after a recovery the first one that lives

	running sync.WaitGroup
	address string

	mu       sync.Mutex
	files    map[string]*inode
	open     map[io.Closer]bool
	replies  map[string][]byte // by the numbers of a call that must not be done twice
	made     int               // calls to make a file that were done
	recovers int               // calls to recover one
}

// start has it listen, where it did before.
func (n *nameNode) start() {
	l, err := net.Listen("tcp", cmp.Or(n.address, "127.0.0.1:0"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.address = l.Addr().String()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open = map[io.Closer]bool{l: true}
	n.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			n.open[conn] = true
			n.mu.Unlock()
			n.running.Go(func() {
				defer conn.Close()
				n.serve(conn)
			})
		}
	})
}

// stop kills it. What it knows is on its disk.
func (n *nameNode) stop() {
	n.mu.Lock()
	for c := range n.open {
		c.Close()
	}
	n.mu.Unlock()
	n.running.Wait()
}

// client gives a client of it.
func (n *nameNode) client() *Client {
	n.start()
	c := &Client{addresses: []string{n.address}, conf: conf.New(), getenv: func(name string) string { return map[string]string{"HADOOP_USER_NAME": "alice"}[name] }}
	n.t.Cleanup(func() {
		c.Close()
		n.stop()
	})
	return c
}

// serve answers calls: behind a greeting frames of a header, a method's header and a request.
func (n *nameNode) serve(conn net.Conn) {
	if _, err := io.ReadFull(conn, make([]byte, 7)); err != nil {
		return
	}
	for {
		var length [4]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(conn, frame); err != nil {
			return
		}
		header, rest := cut(frame)
		number, _ := field(header, 3)
		if number&1 == 1 { // negative: the connection's context
			continue
		}
		called, rest := cut(rest)
		request, _ := cut(rest)
		_, method := field(called, 1)
		_, who := field(header, 4)
		answer, exception, heard := n.call(fmt.Sprintf("%x %d", who, number), string(method), request)
		if !heard {
			return
		}
		head := message(uint64(1), number/2, uint64(2), uint64(0), uint64(3), uint64(9))
		body := delimited(answer)
		if exception != "" {
			head, body = message(uint64(1), number/2, uint64(2), uint64(1), uint64(3), uint64(9), uint64(4), []byte(exception), uint64(5), []byte("no")), nil
		}
		all := append(delimited(head), body...)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(all))), all...)); err != nil {
			return
		}
	}
}

// once tells whether it is this method's turn.
func once(which *string, method string) bool {
	is := *which == method
	if is {
		*which = ""
	}
	return is
}

func (n *nameNode) call(numbers, method string, request []byte) (answer []byte, exception string, heard bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if reply, done := n.replies[numbers]; done {
		return reply, "", true
	}
	if method == "create" || method == "rename2" || method == "delete" {
		defer func() {
			if n.replies == nil {
				n.replies = map[string][]byte{}
			}
			if exception == "" && answer != nil {
				n.replies[numbers] = answer
			}
		}()
	}
	if once(&n.missed, method) {
		maps.Copy(n.files, n.meanwhile)
		return nil, "", false
	}
	if once(&n.never, method) {
		return nil, "org.apache.hadoop.security.AccessControlException", true
	}
	_, name := field(request, 1)
	f := n.files[string(name)]
	switch method {
	case "getServerDefaults":
		answer = message(uint64(1), message(uint64(1), uint64(1<<27), uint64(2), uint64(512), uint64(3), uint64(1<<16), uint64(4), uint64(3), uint64(5), uint64(4096)))
	case "getFileInfo":
		if f != nil {
			answer = f.status()
		}
	case "create":
		if f != nil {
			exception = "org.apache.hadoop.fs.FileAlreadyExistsException"
			break
		}
		block, _ := field(request, 7)
		f = &inode{id: 100, block: block, policy: n.policy}
		n.made++
		n.files[string(name)] = f
		answer = f.status()
	case "addBlock", "append", "recoverLease", "isFileClosed", "updateBlockForPipeline":
		answer, exception = n.ofBlock(method, f, request)
	case "getBlockLocations": // of one block, which no DataNode gives
		block := message(uint64(1), message(uint64(1), []byte("pool"), uint64(2), uint64(1), uint64(3), uint64(1), uint64(4), f.size), uint64(2), uint64(0), uint64(4), uint64(0),
			uint64(5), message(uint64(1), []byte{}, uint64(2), []byte{}, uint64(3), []byte{}, uint64(4), []byte{}))
		for i, d := range n.nodes {
			block = append(block, message(uint64(3), d.info(i))...)
		}
		answer = message(uint64(1), message(uint64(1), f.size, uint64(2), block, uint64(3), uint64(0), uint64(5), uint64(1)))
	case "complete":
		answer = message(uint64(1), uint64(1))
		if n.few {
			answer = message(uint64(1), uint64(0))
		}
	case "mkdirs":
		answer = message(uint64(1), uint64(1))
	case "rename2":
		_, to := field(request, 2)
		if f == nil {
			exception = "java.io.FileNotFoundException"
			break
		}
		n.files[string(to)] = f
		delete(n.files, string(name))
		answer = []byte{}
	case "delete":
		delete(n.files, string(name))
		answer = message(uint64(1), uint64(1))
	}
	return answer, exception, !once(&n.lost, method)
}

// status is an answer with the file's.
func (f *inode) status() []byte {
	fields := []any{
		uint64(1), uint64(2), uint64(2), []byte{}, uint64(3), f.size + uint64(len(f.data)), uint64(4), message(uint64(1), uint64(0o644)), uint64(5), []byte("alice"),
		uint64(6), []byte("users"), uint64(7), uint64(0), uint64(8), uint64(0), uint64(11), f.block, uint64(13), f.id,
	}
	if f.policy != "" {
		fields = append(fields, uint64(17), message(uint64(1), []byte(f.policy), uint64(4), uint64(1)))
	}
	return message(uint64(1), message(fields...))
}

// message encodes fields: numbers of them, and what they have.
func message(fields ...any) (b []byte) {
	for pair := range slices.Chunk(fields, 2) {
		switch v := pair[1].(type) {
		case uint64:
			b = binary.AppendUvarint(binary.AppendUvarint(b, pair[0].(uint64)<<3), v)
		case []byte:
			b = append(binary.AppendUvarint(b, pair[0].(uint64)<<3|2), delimited(v)...)
		}
	}
	return b
}

func delimited(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }

// cut gives what is behind its length, and the rest.
func cut(b []byte) (first, rest []byte) {
	n, k := binary.Uvarint(b)
	return b[k : k+int(n)], b[k+int(n):]
}

// field gives a message's field, a number or bytes.
func field(b []byte, want uint64) (number uint64, data []byte) {
	for in := bytes.NewReader(b); in.Len() > 0; {
		key, _ := binary.ReadUvarint(in)
		v, _ := binary.ReadUvarint(in)
		var bytes []byte
		if key&7 == 2 {
			bytes = make([]byte, v)
			_, _ = io.ReadFull(in, bytes)
		}
		if key>>3 == want {
			return v, bytes
		}
	}
	return 0, nil
}

// A file that must not replace another one takes its place, also when an answer is lost on the way there; and what was made for that does not stay.
func TestPlaceIsTakenOnce(t *testing.T) {
	const name, part = "/out/f", "/out/.f.part"
	for _, tc := range []struct {
		what                string
		lost, missed, never string
		meanwhile, there    *inode
		want                unix.Errno
		size                uint64 // of the file in its place; 0: there is none
	}{
		{what: "nothing is lost", size: 5},
		{what: "made, and the answer is lost", lost: "create", size: 5},
		{what: "closed, and the answer is lost", lost: "complete", size: 5},
		{what: "not closed", missed: "complete", size: 5},
		{what: "not made", missed: "create", size: 5},
		{what: "moved, and the answer is lost", lost: "rename2", size: 5},
		{what: "there is one", there: &inode{id: 3, size: 9, block: 1 << 27}, want: unix.EEXIST, size: 9},
		{what: "another program made it meanwhile", missed: "create", meanwhile: &inode{id: 3, size: 9, block: 1 << 27}, want: unix.EEXIST, size: 9},
		{what: "closing it is refused", never: "complete", want: unix.EACCES},
		{what: "moving it is refused", never: "rename2", want: unix.EACCES},
	} {
		t.Run(tc.what, func(t *testing.T) {
			n := &nameNode{t: t, lost: tc.lost, missed: tc.missed, never: tc.never, files: map[string]*inode{part: {id: 7, size: 5, block: 1 << 27}}, meanwhile: map[string]*inode{}}
			if tc.there != nil {
				n.files[name] = tc.there
			}
			if tc.meanwhile != nil {
				n.meanwhile[name] = tc.meanwhile
			}
			d := draft{c: n.client(), name: name, as: part, exclusive: true, id: 7, done: true}
			err, got := d.commit(), unix.Errno(0)
			if err != nil {
				got, _ = errnoOf(err)
			}
			if got != tc.want {
				t.Error(err)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if f := n.files[name]; (f == nil) != (tc.size == 0) || f != nil && f.size != tc.size || n.files[part] != nil {
				t.Errorf("%+v %v", f, n.files)
			}
			if strings.Join([]string{n.lost, n.missed, n.never}, "") != "" {
				t.Error("it was not asked for what should have failed")
			}
		})
	}
}

// Another program's empty file is not the one that was made here, whoever's it is.
func TestEmptyFileOfAnother(t *testing.T) {
	n := &nameNode{t: t, missed: "create", files: map[string]*inode{}, meanwhile: map[string]*inode{"/f": {id: 3, block: 1 << 27}}}
	if _, err := n.client().reserve("/f"); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
}
