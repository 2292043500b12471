package spill

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"slices"
	"strconv"
	"sync"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A file in an FS has a name, and says itself what is in it, so that whoever finds it needs nothing else:
//
//	| objects, each where its Part says | index, JSON | length of the index, 8 bytes | its checksum, 4 | mark, 4 |
//
// One without an end was not written whole: its process died, and it is nobody's.

const (
	keptMark = 0x4d53504c // "MSPL"
	keptEnd  = 16
	keptMost = 256 << 20 // an index is not larger
)

// kept is where a file lies that has a name.
type kept struct {
	fs   FS
	name string
}

// indexed is an object in an index.
type indexed struct {
	Task   string   `json:"task"`
	Index  uint32   `json:"index"`
	At     int64    `json:"at"`
	Size   int64    `json:"size"`
	Blocks []uint32 `json:"sums"` // CRC-32C of each mebibyte
}

// keep writes a file with a name. summed returns once the parts of x have their checksums.
func (d *dir) keep(x *file, number uint64, parts []Part, summed func()) error {
	d.writing <- struct{}{}
	defer func() { <-d.writing }()
	free, all, err := d.FS.Space()
	if err != nil {
		return err
	}
	if err := d.holds(free, all, x.size); err != nil {
		return err
	}
	name := path.Join(d.Path, strconv.FormatUint(number, 10))
	w, err := d.FS.Create(name)
	if err != nil {
		return err
	}
	err = writeKept(w, x, parts, summed)
	if err = errors.Join(err, w.Close()); err != nil { // SPL-2
		return errors.Join(err, d.FS.Remove(name))
	}
	x.in, x.at = nil, 0 // where another directory may have begun with it
	x.kept = &kept{d.FS, name}
	return nil
}

func writeKept(w io.Writer, x *file, parts []Part, summed func()) error {
	var list []indexed
	at, zeros := int64(0), [4096]byte{}
	for i, p := range parts {
		for at < p.At {
			n, err := w.Write(zeros[:min(int64(len(zeros)), p.At-at)])
			if at += int64(n); err != nil {
				return err
			}
		}
		for b := range slices.Chunk(p.Bytes, block) {
			n, err := w.Write(b)
			if at += int64(n); err != nil {
				return err
			}
		}
		list = append(list, indexed{Task: p.Object.Task.String(), Index: p.Object.Index, At: x.parts[i].at, Size: x.parts[i].size})
	}
	summed()
	for i := range list {
		list[i].Blocks = x.parts[i].sums
	}
	index, err := json.Marshal(list)
	if err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint64(nil, uint64(len(index)))
	end = binary.LittleEndian.AppendUint32(end, crc32.Checksum(index, castagnoli))
	end = binary.LittleEndian.AppendUint32(end, keptMark)
	_, err = w.Write(append(index, end...))
	return err
}

// Left is what another process has left in an FS.
type Left struct {
	parts map[id.Object]leftPart
}

type leftPart struct {
	kept kept
	part part
}

// ReadLeft looks what is in a folder. What can't be read is not in it; the error says of some of that why.
func ReadLeft(fs FS, folder string) (*Left, error) {
	l := &Left{parts: map[id.Object]leftPart{}}
	names, err := fs.List(folder, "", 0)
	if err != nil {
		return l, fmt.Errorf("spill: %s: %w", fs, err)
	}
	slices.Sort(names)
	var (
		mu    sync.Mutex // of l.parts and err
		wait  sync.WaitGroup
		turns = make(chan struct{}, leftReaders)
	)
	for _, name := range names {
		turns <- struct{}{}
		wait.Go(func() {
			defer func() { <-turns }()
			k := kept{fs, path.Join(folder, name)}
			parts, e := k.index()
			mu.Lock()
			defer mu.Unlock()
			if e != nil {
				err = fmt.Errorf("spill: %s in %s: %w", k.name, fs, e)
			}
			for o, p := range parts {
				l.parts[o] = p
			}
		})
	}
	wait.Wait()
	return l, err
}

// leftReaders is how many files of a folder are looked at at a time: each takes some round trips.
const leftReaders = 16

// index reads what is in the file.
func (k kept) index() (map[id.Object]leftPart, error) {
	r, err := k.fs.Open(k.name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var end [keptEnd]byte
	size, err := r.Size()
	if err != nil {
		return nil, err
	}
	if size -= keptEnd; size < 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if _, err := r.ReadAt(end[:], size); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(end[:])
	if binary.LittleEndian.Uint32(end[12:]) != keptMark || n > uint64(min(size, keptMost)) {
		return nil, ErrDamaged
	}
	index := make([]byte, n)
	if _, err := r.ReadAt(index, size-int64(n)); err != nil {
		return nil, err
	}
	if crc32.Checksum(index, castagnoli) != binary.LittleEndian.Uint32(end[8:]) {
		return nil, ErrDamaged
	}
	var list []indexed
	if err := json.Unmarshal(index, &list); err != nil {
		return nil, err
	}
	parts := make(map[id.Object]leftPart, len(list))
	for _, x := range list {
		task, err := id.ParseTask(x.Task)
		if err != nil || x.At < 0 || x.Size < 0 || x.Size > size-int64(n) || x.At > size-int64(n)-x.Size || int64(len(x.Blocks)) != (x.Size+block-1)/block {
			return nil, ErrDamaged
		}
		parts[id.Object{Task: task, Index: x.Index}] = leftPart{k, part{at: x.At, size: x.Size, sums: x.Blocks}}
	}
	return parts, nil
}

// Find tells where in its file an object begins that was left, and its size.
func (l *Left) Find(o id.Object) (at, size int64, found bool) {
	p, found := l.parts[o]
	return p.part.at, p.part.size, found
}

// Inherit takes in an object that another process has left, as a file of its own. Remove forgets it, and leaves the other's file as it is.
func (f *Files) Inherit(number uint64, l *Left, o id.Object) {
	if p, found := l.parts[o]; found {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.files[number] = &file{kept: &p.kept, size: p.part.size, parts: []part{p.part}, inherited: true}
	}
}
