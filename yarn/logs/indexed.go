package logs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/maniple-hpc/maniple/yarn"
)

// An indexed file is
//
//	seal (32) | logs, each compressed by itself | index | length of the index (4) | seal (32)
//
// The seal is a hash of the application's ID. The index is an object of Java's, which has what each log is called and where it is.
const (
	sealSize  = 32
	indexTail = 4 + sealSize
)

// indexed is such a file.
type indexed struct {
	r     io.ReaderAt
	codec string
	logs  []indexEntry
}

// indexEntry is a log.
type indexEntry struct {
	container, name string
	region
}

// openIndexed reads a file's index; nil: it is no indexed file.
func openIndexed(r io.ReaderAt, size int64) (*indexed, error) {
	if size < sealSize+indexTail {
		return nil, nil
	}
	var first [sealSize]byte
	var end [indexTail]byte
	if _, err := r.ReadAt(first[:], 0); err != nil {
		return nil, fmt.Errorf("logs: the beginning of the file: %w", whole(err))
	}
	if _, err := r.ReadAt(end[:], size-indexTail); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("logs: the end of the file: %w", whole(err))
	}
	if !bytes.Equal(first[:], end[4:]) {
		return nil, nil
	}
	length := int64(binary.BigEndian.Uint32(end[:]))
	until := size - indexTail - length
	if until < sealSize || length > maxMeta {
		return nil, fmt.Errorf("logs: an index of %d bytes in a file of %d", length, size)
	}
	b := make([]byte, length)
	if _, err := r.ReadAt(b, until); err != nil {
		return nil, fmt.Errorf("logs: the file's index: %w", whole(err))
	}
	f := &indexed{r: r}
	if err := f.index(b); err != nil {
		return nil, fmt.Errorf("logs: the file's index: %w", err)
	}
	for _, l := range f.logs {
		if l.at < sealSize || l.size < 0 || l.raw < 0 || l.at > until || l.size > until-l.at {
			return nil, fmt.Errorf("logs: %.100q: a block of %d bytes at %d of %d", l.name, l.size, l.at, size)
		}
	}
	slices.SortStableFunc(f.logs, func(a, b indexEntry) int { return cmp.Compare(a.at, b.at) })
	return f, nil
}

func (f *indexed) each(do func(Log) error) error {
	for _, l := range f.logs {
		container, err := yarn.ParseContainerID(l.container)
		if err != nil {
			return fmt.Errorf("logs: %w", err)
		}
		in, err := decompressed(f.r, l.region, f.codec)
		if err != nil {
			return err
		}
		if err := handed(container, l.name, l.raw, in, do); err != nil {
			return err
		}
	}
	return nil
}
