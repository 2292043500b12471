package hdfs

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// A frame is two numbers of four bytes, little-endian: the length of a text of JSON and of the bytes behind it; then both. A request and the
// replies to it are one frame each; a listing's reply may be several.
const (
	maxText  = 1 << 20
	maxBytes = 8 << 20
)

// ask is a request.
type ask struct {
	Op string `json:"op"`

	Version int               `json:"version,omitempty"` // hello
	Server  string            `json:"server,omitempty"`  // hello: host, host:port or nameservice; "": of the configuration
	Env     map[string]string `json:"env,omitempty"`     // hello: what the program has of settings' variables

	Path      string `json:"path,omitempty"`
	To        string `json:"to,omitempty"`        // rename
	ID        uint64 `json:"id,omitempty"`        // open: this file, and no other one that has its name meanwhile
	At        int64  `json:"at,omitempty"`        // read
	Size      int    `json:"size,omitempty"`      // read
	Exclusive bool   `json:"exclusive,omitempty"` // create, mkdir: there must be none
	Parents   bool   `json:"parents,omitempty"`   // mkdir
	Recursive bool   `json:"recursive,omitempty"` // remove
}

// reply is an answer. Errno is one of Linux's; 0: it went well.
type reply struct {
	Errno int     `json:"errno,omitempty"`
	Error string  `json:"error,omitempty"`
	Info  *entry  `json:"info,omitempty"`
	List  []entry `json:"list,omitempty"`
	More  bool    `json:"more,omitempty"` // of List
}

// entry is a file or a directory.
type entry struct {
	Name        string `json:"name"`
	ID          uint64 `json:"id"`
	Size        int64  `json:"size"`
	Modified    int64  `json:"mtime"` // milliseconds since 1970
	Directory   bool   `json:"dir,omitempty"`
	Mode        uint32 `json:"mode"`
	Owner       string `json:"owner"`
	Group       string `json:"group"`
	Replication uint32 `json:"replication"`
	BlockSize   uint64 `json:"block_size"`
}

// readFrame reads a request; bytes are in buf, as long as it is large enough.
func readFrame(in *bufio.Reader, buf []byte) (a ask, bytes []byte, err error) {
	var lengths [8]byte
	if _, err := io.ReadFull(in, lengths[:]); err != nil {
		return a, nil, err
	}
	text, more := binary.LittleEndian.Uint32(lengths[:]), binary.LittleEndian.Uint32(lengths[4:])
	if text > maxText || more > maxBytes {
		return a, nil, fmt.Errorf("hdfs: a request of %d and %d bytes", text, more)
	}
	head := make([]byte, text)
	if _, err := io.ReadFull(in, head); err != nil {
		return a, nil, err
	}
	if err := json.Unmarshal(head, &a); err != nil {
		return a, nil, fmt.Errorf("hdfs: a request: %w", err)
	}
	if cap(buf) < int(more) {
		buf = make([]byte, more)
	}
	_, err = io.ReadFull(in, buf[:more])
	return a, buf[:more], err
}

// writeFrame writes a reply.
func writeFrame(out *bufio.Writer, r reply, bytes []byte) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var lengths [8]byte
	binary.LittleEndian.PutUint32(lengths[:], uint32(len(text)))
	binary.LittleEndian.PutUint32(lengths[4:], uint32(len(bytes)))
	out.Write(lengths[:]) // what fails is said by Flush
	out.Write(text)
	out.Write(bytes)
	return out.Flush()
}
