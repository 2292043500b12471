package hdfs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dataNode takes what is written, and dies. What it had not said to have others may not have.
type dataNode struct {
	n    *nameNode
	l    net.Listener
	f    *inode // whose block it has
	dies int    // once a file has so many bytes; 0: never
	lags int    // bytes that nobody else has then
	cut  int    // once a file has so many bytes the one behind it is lost, which it says, and takes more; 0: never
}

// serves has it listen.
func (n *nameNode) serves(d *dataNode) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	d.n, d.l = n, l
	n.mu.Lock()
	n.nodes, n.open[l] = append(n.nodes, d), true
	n.mu.Unlock()
	n.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.running.Go(func() {
				defer conn.Close()
				_ = d.takes(bufio.NewReader(conn), conn) // until it breaks
			})
		}
	})
}

// takes takes a block, and gives none.
func (d *dataNode) takes(in *bufio.Reader, conn net.Conn) error {
	var first [3]byte // version and operation
	if _, err := io.ReadFull(in, first[:]); err != nil {
		return err
	}
	if first[2] == 81 { // to read
		_, err := conn.Write(delimited(message(uint64(1), uint64(1), uint64(5), []byte("it is not here"))))
		return err
	}
	size, err := binary.ReadUvarint(in)
	if err == nil {
		_, err = io.CopyN(io.Discard, in, int64(size))
	}
	if err == nil {
		_, err = conn.Write(delimited(message(uint64(1), uint64(0), uint64(2), []byte{}, uint64(5), []byte("ready"))))
	}
	for alone := false; err == nil; {
		var lengths [6]byte
		if _, err = io.ReadFull(in, lengths[:]); err != nil {
			break
		}
		head := make([]byte, binary.BigEndian.Uint16(lengths[4:]))
		if _, err = io.ReadFull(in, head); err != nil {
			break
		}
		at, number, length := fixed(head, 1), fixed(head, 2), int(binary.BigEndian.Uint32(lengths[:4]))-4
		body := make([]byte, length)
		if _, err = io.ReadFull(in, body); err != nil {
			break
		}
		data := body[(length+515)/516*4:]
		if alone = alone || d.cut > 0 && int(at)+len(data) > d.cut; alone {
			d.cut = 0
			_, err = conn.Write(delimited(message(uint64(1), 2*number, uint64(2), uint64(0), uint64(2), uint64(1))))
			continue
		}
		if err = d.keeps(int(at), data); err != nil {
			d.l.Close()
			break
		}
		_, err = conn.Write(delimited(message(uint64(1), 2*number, uint64(2), uint64(0))))
	}
	return err
}

// info is what a NameNode says of it, as the one of a number.
func (d *dataNode) info(i int) []byte {
	port := uint64(d.l.Addr().(*net.TCPAddr).Port)
	return message(uint64(1), message(uint64(1), []byte("127.0.0.1"), uint64(2), []byte("localhost"), uint64(3), fmt.Append(nil, i), uint64(4), port, uint64(5), uint64(1), uint64(6), uint64(1)))
}

// keeps keeps what was sent: behind a checksum of 4 bytes for each 512 of them.
func (d *dataNode) keeps(at int, b []byte) error {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	if at > len(d.f.data) {
		return fmt.Errorf("bytes from %d on, and %d are there", at, len(d.f.data))
	}
	d.f.data = append(d.f.data[:at], b...)
	if d.dies > 0 && len(d.f.data) >= d.dies {
		d.f.data = d.f.data[:len(d.f.data)-d.lags]
		return errors.New("it dies")
	}
	return nil
}

// fixed is a field of eight bytes.
func fixed(head []byte, want byte) uint64 {
	for len(head) > 8 && head[0]&7 == 1 {
		if head[0]>>3 == want {
			return binary.LittleEndian.Uint64(head[1:])
		}
		head = head[9:]
	}
	return 0
}

// ofBlock answers what is asked of a file's only block.
func (n *nameNode) ofBlock(method string, f *inode, request []byte) (answer []byte, exception string) {
	token := message(uint64(1), []byte{}, uint64(2), []byte{}, uint64(3), []byte{}, uint64(4), []byte{})
	block := func(size int) []byte {
		return message(uint64(1), []byte("BP-1"), uint64(2), uint64(7), uint64(3), uint64(1000), uint64(4), uint64(size))
	}
	switch method {
	case "recoverLease":
		n.recovers++
		return message(uint64(1), uint64(1)), ""
	case "updateBlockForPipeline":
		return message(uint64(1), message(uint64(1), block(0), uint64(2), uint64(0), uint64(4), uint64(0), uint64(5), token)), ""
	}
	if f == nil {
		return nil, "java.io.FileNotFoundException"
	}
	for i, d := range n.nodes {
		info := d.info(i)
		if bytes.Contains(request, info) { // excluded
			continue
		}
		if method == "append" {
			c, err := net.Dial("tcp", d.l.Addr().String())
			if err != nil {
				continue
			}
			c.Close()
		}
		d.f = f
		return message(uint64(1), message(uint64(1), block(len(f.data)), uint64(2), uint64(0), uint64(3), info, uint64(4), uint64(0), uint64(5), token), uint64(2), f.statusOf()), ""
	}
	return nil, "java.io.IOException"
}

// statusOf is what an answer says of the file.
func (f *inode) statusOf() []byte {
	_, status := field(f.status(), 1)
	return status
}

// HDFS-6: a file goes on behind what other DataNodes have of it when one is lost, wherever that happens; a small one is written anew. One of which less is
// left than is kept here is lost, and whoever writes it is told so.
func TestFileOutlivesItsDataNode(t *testing.T) {
	for _, tc := range []struct {
		what       string
		size, made int
		dies, lags []int // of each DataNode
		cut        int   // of the first
		lost       bool
	}{
		{"none dies", 5 << 20, 1, []int{0}, []int{0}, 0, false},
		{"one behind it", 24 << 20, 1, []int{0}, []int{0}, 10 << 20, false},
		{"a small file", 700_000, 2, []int{300_000, 0}, []int{300_000, 0}, 0, false},
		{"a large file", 18 << 20, 1, []int{10 << 20, 0}, []int{0, 0}, 0, false},
		{"some did not come everywhere", 18<<20 + 17, 1, []int{10 << 20, 0}, []int{400_001, 0}, 0, false},
		{"one after the other", 24 << 20, 1, []int{10 << 20, 10<<20 + 99, 18 << 20, 0}, []int{400_001, 17, 1, 0}, 0, false},
		{"with the last bytes", 8<<20 + 5, 1, []int{8<<20 + 5, 0}, []int{5, 0}, 0, false},
		{"too much is gone", 18 << 20, 1, []int{14 << 20, 0}, []int{10 << 20, 0}, 0, true},
	} {
		t.Run(tc.what, func(t *testing.T) {
			n := &nameNode{t: t, files: map[string]*inode{}}
			c := n.client()
			for i := range tc.dies {
				d := &dataNode{dies: tc.dies[i], lags: tc.lags[i]}
				if i == 0 {
					d.cut = tc.cut
				}
				n.serves(d)
			}
			d, err := c.create("/f", false)
			if err != nil {
				t.Fatal(err)
			}
			all := make([]byte, tc.size)
			for i := range all {
				all[i] = byte(i % 251)
			}
			for rest := all; len(rest) > 0 && err == nil; rest = rest[min(len(rest), 300_000):] {
				err = d.write(rest[:min(len(rest), 300_000)])
			}
			if err == nil {
				err = d.commit()
			} else {
				d.discard()
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if tc.lost {
				n.mu.Unlock()
				again, later := d.w.Write([]byte("more"))
				closed := d.w.Close()
				n.mu.Lock()
				if again != 0 || later != err || closed != err || n.recovers != 1 {
					t.Error(again, later, closed, n.recovers)
				}
				if number, text := errnoOf(err); number != unix.EIO || !strings.Contains(text, "written again") || len(n.files) != 0 {
					t.Error(err, n.files)
				}
				return
			}
			if err != nil || len(n.files) != 1 || n.made != tc.made || !bytes.Equal(n.files["/f"].data, all) {
				t.Errorf("%v, %v, %d made", err, n.files, n.made)
			}
		})
	}
}
