package logs

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A TFile is a BCFile: blocks, then an index of named blocks ("meta"), then at the very end where that index is, a version, and the magic bytes.
// One named block lists the data blocks. In these there are records: a key and a value, each behind its length; a value is in chunks.
var magic = [16]byte{0xd1, 0x11, 0xd3, 0x68, 0x91, 0xb5, 0xd7, 0xb6, 0x39, 0xdf, 0x41, 0x40, 0x92, 0xba, 0xe1, 0x50}

const (
	tail      = 8 + 4 + len(magic)
	major     = 1              // of the version that is known
	dataIndex = "BCFile.index" // the block that lists the data blocks
	maxBlocks = 1 << 20
	maxMeta   = 64 << 20 // bytes of an index
	maxKey    = 64 << 10
)

// tfile is such a file.
type tfile struct {
	r      io.ReaderAt
	codec  string
	blocks []region
}

// region is where a block is.
type region struct{ at, size, raw int64 }

// openTFile reads a file's index; nil: it is no TFile.
func openTFile(r io.ReaderAt, size int64) (*tfile, error) {
	f := &tfile{r: r}
	if size < int64(tail) {
		return nil, nil
	}
	end := make([]byte, tail)
	if _, err := r.ReadAt(end, size-int64(tail)); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("logs: the end of the file: %w", whole(err))
	}
	if !bytes.Equal(end[12:], magic[:]) {
		return nil, nil
	}
	if v := binary.BigEndian.Uint16(end[8:]); v != major {
		return nil, fmt.Errorf("logs: the file has version %d, and %d is known", v, major)
	}
	at := int64(binary.BigEndian.Uint64(end))
	meta := size - int64(tail) - at
	if at < 0 || meta <= 0 || meta > maxMeta {
		return nil, fmt.Errorf("logs: its index would begin at byte %d of %d", at, size)
	}
	d := &decoder{r: bufio.NewReader(io.NewSectionReader(r, at, meta))}
	var index *region
	codec := ""
	for range d.count() {
		name, by, where := d.text(), d.text(), d.region(size)
		if name == "data:"+dataIndex {
			index, codec = &where, by
		}
	}
	if d.err != nil {
		return nil, fmt.Errorf("logs: the file's index: %w", whole(d.err))
	}
	if index == nil {
		return nil, errors.New("logs: the file has no list of its blocks")
	}
	if index.raw > maxMeta {
		return nil, fmt.Errorf("logs: a list of blocks of %d bytes", index.raw)
	}
	list, err := decompressed(r, *index, codec)
	if err != nil {
		return nil, err
	}
	d = &decoder{r: bufio.NewReader(list)}
	f.codec = d.text()
	for range d.count() {
		f.blocks = append(f.blocks, d.region(size))
		if d.err != nil {
			break
		}
	}
	if d.err != nil {
		return nil, fmt.Errorf("logs: the list of blocks: %w", whole(d.err))
	}
	return f, nil
}

// decompressed opens a block.
func decompressed(r io.ReaderAt, at region, codec string) (io.Reader, error) {
	stored := io.NewSectionReader(r, at.at, at.size)
	switch codec {
	case "none":
		return stored, nil
	case "gz":
		z, err := zlib.NewReader(bufio.NewReader(stored))
		if err != nil {
			return nil, fmt.Errorf("logs: a block: %w", whole(err))
		}
		return z, nil
	}
	return nil, fmt.Errorf("logs: the file is compressed by %.20q, which is not read here; `yarn logs` reads it", codec)
}

// records calls do with each record. value is good until do returns, and need not be read.
func (f *tfile) records(do func(key []byte, value io.Reader) error) error {
	for _, at := range f.blocks {
		in, err := decompressed(f.r, at, f.codec)
		if err != nil {
			return err
		}
		d := &decoder{r: bufio.NewReaderSize(in, 64<<10)}
		for {
			if _, err := d.r.Peek(1); errors.Is(err, io.EOF) {
				break
			}
			key := d.bytes(maxKey)
			if d.err != nil {
				return fmt.Errorf("logs: a record's key: %w", whole(d.err))
			}
			value := &chunks{d: d}
			if err := do(key, value); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, value); err != nil { // what nobody wanted
				return fmt.Errorf("logs: a record: %w", whole(err))
			}
		}
	}
	return nil
}

// chunks is a value: parts with their lengths before them, the last one's not below zero.
type chunks struct {
	d    *decoder
	left int64
	last bool
}

// Read is io.Reader's.
func (c *chunks) Read(b []byte) (int, error) {
	for c.left == 0 {
		if c.last {
			return 0, io.EOF
		}
		n := c.d.long()
		if c.d.err != nil {
			return 0, whole(c.d.err)
		}
		if c.last = n >= 0; !c.last {
			n = -n
		}
		if n < 0 {
			return 0, errors.New("a part with an impossible length")
		}
		c.left = n
	}
	n, err := c.d.r.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, whole(err)
}

// whole says of an end that came too early that it did.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// decoder reads the format's numbers and texts; its first error stays.
type decoder struct {
	r   *bufio.Reader
	err error
}

// next reads n bytes, eight at most, as a number.
func (d *decoder) next(n int) (v uint64) {
	for range n {
		b, err := d.r.ReadByte()
		if err != nil && d.err == nil {
			d.err = err
		}
		v = v<<8 | uint64(b)
	}
	return v
}

// long reads a number: one byte from -32 to 127, else the first byte says how many follow, and has the highest bits of small ones.
func (d *decoder) long() int64 {
	if d.err != nil {
		return 0
	}
	first := int64(int8(d.next(1)))
	switch {
	case first >= -32:
		return first
	case first >= -72:
		return (first+52)<<8 | int64(d.next(1))
	case first >= -104:
		return (first+88)<<16 | int64(d.next(2))
	case first >= -120:
		return (first+112)<<24 | int64(d.next(3))
	}
	n := int(first + 129)
	if n < 4 || n > 8 {
		if d.err == nil {
			d.err = fmt.Errorf("a number of %d bytes", n)
		}
		return 0
	}
	return int64(d.next(n)<<(64-8*n)) >> (64 - 8*n)
}

// count reads how many of something there are.
func (d *decoder) count() int64 {
	n := d.long()
	if d.err == nil && (n < 0 || n > maxBlocks) {
		d.err = fmt.Errorf("%d entries", n)
	}
	if d.err != nil {
		return 0
	}
	return n
}

// bytes reads a length and as many bytes.
func (d *decoder) bytes(most int64) []byte {
	n := d.long()
	if d.err == nil && (n < 0 || n > most) {
		d.err = fmt.Errorf("%d bytes of text", n)
	}
	if d.err != nil {
		return nil
	}
	b := make([]byte, n)
	_, d.err = io.ReadFull(d.r, b)
	return b
}

func (d *decoder) text() string { return string(d.bytes(1 << 10)) }

// region reads where a block is, which must be in the file.
func (d *decoder) region(size int64) (r region) {
	r = region{d.long(), d.long(), d.long()}
	if d.err == nil && (r.at < 0 || r.size < 0 || r.raw < 0 || r.at > size || r.size > size-r.at) {
		d.err = fmt.Errorf("a block of %d bytes at %d of %d", r.size, r.at, size)
	}
	return r
}
