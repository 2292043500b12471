package spill

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Write makes a file of objects. The error names each directory, and what went wrong there.
func (f *Files) Write(number uint64, parts []Part) error {
	x := &file{}
	for _, p := range parts {
		x.parts = append(x.parts, part{at: p.At, size: int64(len(p.Bytes))})
		x.size = max(x.size, p.At+int64(len(p.Bytes)))
	}
	summed := make(chan struct{})
	go func() { // beside the writing; ends before Write does
		defer close(summed)
		for i, p := range parts {
			for b := range slices.Chunk(p.Bytes, block) {
				x.parts[i].sums = append(x.parts[i].sums, crc32.Checksum(b, castagnoli))
			}
		}
	}()
	defer func() { <-summed }()
	f.mu.Lock()
	first := f.turn
	f.turn++
	f.mu.Unlock()
	var errs []error
	try := func(d *dir, write func(*dir) error) bool {
		if err := write(d); err != nil {
			errs = append(errs, fmt.Errorf("spill: %s to %s: %w", size(x.size), d, err))
			return false
		}
		<-summed
		f.mu.Lock()
		defer f.mu.Unlock()
		f.files[number], x.dir = x, d
		d.used += x.size
		return true
	}
	var busy []*dir // with a write, of which nobody knows whether the disk will ever end it
	for i := range f.dirs {
		d := f.dirs[(first+i)%len(f.dirs)]
		if !d.begin(0) {
			busy = append(busy, d)
		} else if try(d, func(d *dir) error { return f.write(d, x, parts) }) {
			return nil
		}
	}
	for _, d := range busy {
		if try(d, func(d *dir) error {
			if !d.begin(busyTime) {
				return fmt.Errorf("another write there has not ended in %v", busyTime)
			}
			return f.write(d, x, parts)
		}) {
			return nil
		}
	}
	for _, d := range f.far {
		if try(d, func(d *dir) error { return d.keep(x, number, parts, func() { <-summed }) }) {
			return nil
		}
	}
	return errors.Join(errs...)
}

// busyTime is how long a directory in which somebody writes is waited for before another one is taken.
const busyTime = 5 * time.Second

// begin gives the directory to who will write there, unless somebody else writes for longer than that.
func (d *dir) begin(wait time.Duration) bool {
	select {
	case d.writing <- struct{}{}:
		return true
	default:
	}
	if wait == 0 {
		return false
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case d.writing <- struct{}{}:
		return true
	case <-late.C:
		return false
	}
}

// write writes to a directory that was begun with.
func (f *Files) write(d *dir, x *file, parts []Part) error {
	defer func() { <-d.writing }()
	if err := d.room(x.size); err != nil {
		return err
	}
	if d.open == nil {
		s, err := create(d.Path)
		if err != nil {
			return err
		}
		d.open = s
	}
	s := d.open
	x.in, x.at = s, s.end
	for _, p := range parts {
		if _, err := s.f.WriteAt(p.Bytes, x.at+p.At); err != nil { // SPL-2
			_ = s.f.Truncate(s.end)
			if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) { // the next one gets a new segment, if that can be made
				f.leave(d)
			}
			return err
		}
	}
	// The disk begins at once, so that pages of files do not pile up in the memory that is short.
	_ = unix.SyncFileRange(int(s.f.Fd()), x.at, x.size, unix.SYNC_FILE_RANGE_WRITE)
	f.mu.Lock()
	defer f.mu.Unlock()
	s.end += (x.size + 4095) / 4096 * 4096 // holes are punched by pages
	s.live++
	if s.end >= segment {
		s.open, d.open = false, nil
	}
	return nil
}

// leave puts no more files into the segment that is open in a directory.
func (f *Files) leave(d *dir) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := d.open
	if s.open, d.open = false, nil; s.live == 0 {
		_ = s.f.Close()
	}
}

// room refuses what would make the directory's file system fuller than its bound (SPL-4).
func (d *dir) room(n int64) error {
	var st unix.Statfs_t
	var err error
	if d.open != nil { // the directory may be gone, the file system is not
		err = unix.Fstatfs(int(d.open.f.Fd()), &st)
	} else {
		err = unix.Statfs(d.Path, &st)
	}
	if err != nil {
		return err
	}
	return d.holds(int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize, n)
}

// holds refuses what leaves less than the bound of what is free, of all.
func (d *dir) holds(free, all, n int64) error {
	if d.Full > 0 && float64(free-n) < (1-d.Full)*float64(all) {
		return fmt.Errorf("it has %s free of %s, and is filled up to %.0f%% only: %w", size(free), size(all), 100*d.Full, unix.ENOSPC)
	}
	return nil
}
