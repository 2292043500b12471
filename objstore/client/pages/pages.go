// Package pages maps shared memory so that huge pages fit, and makes them. A huge page is one entry in a process's page
// table in place of 512: what is mapped for the first time costs a thousandth, and copies miss fewer translations.
//
// Nothing here needs a setting of the machine. MADV_COLLAPSE (Linux 6.1) makes huge pages of a memfd on request, also
// where shmem_enabled says "never", which is the default; only "deny" forbids it. Where it can't be had all works the
// same with small pages.
package pages

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Huge is the size of a huge page, 0 on a kernel that has none.
var Huge = sync.OnceValue(func() int64 {
	b, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil || n <= 0 || n&(n-1) != 0 {
		return 0
	}
	return n
})

// Map maps a part of a file, shared, at an address where its huge pages are huge in this process, too. The caller unmaps it by Unmap.
func Map(fd int, offset, size int64, prot int) ([]byte, error) {
	at, err := place(offset, size)
	if err != nil {
		return nil, err
	}
	flags := unix.MAP_SHARED
	if at != nil {
		flags |= unix.MAP_FIXED
	}
	p, err := unix.MmapPtr(fd, offset, at, uintptr(size), prot, flags)
	if err != nil {
		if at != nil {
			_ = unix.MunmapPtr(at, uintptr(size))
		}
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return unsafe.Slice((*byte)(p), size), nil
}

// place reserves addresses for size bytes that lie to a huge page as the offset does; nil: any will do.
func place(offset, size int64) (unsafe.Pointer, error) {
	huge := Huge()
	if huge == 0 || size < huge || huge > size*8 { // or it would waste more than it brings
		return nil, nil
	}
	room := uintptr(size + huge)
	p, err := unix.MmapPtr(-1, 0, nil, room, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, nil // of addresses there are few: the kernel may find some that fit without the margin
	}
	before := uintptr(offset-int64(uintptr(p))) & uintptr(huge-1)
	at := unsafe.Add(p, before)
	if before > 0 {
		err = unix.MunmapPtr(p, before)
	}
	if after := room - before - uintptr(size); err == nil && after > 0 {
		err = unix.MunmapPtr(unsafe.Add(at, size), after)
	}
	if err != nil {
		return nil, fmt.Errorf("munmap: %w", err)
	}
	return at, nil
}

// Unmap ends a mapping of Map.
func Unmap(b []byte) error {
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)))
}

// Enter enters the pages of b, a part of a shared mapping, in the page table, which takes a fraction of what as many faults
// take. Kernels before 5.14 don't know how to; there the faults come. It only reads: a kernel then enters the neighbours of each
// page with it, and in a mapping that may be written they may be written at once.
func Enter(b []byte) {
	if len(b) > 0 {
		_ = unix.Madvise(whole(b), unix.MADV_POPULATE_READ)
	}
}

// whole is b from the start of its first page.
func whole(b []byte) []byte {
	p := unsafe.Pointer(unsafe.SliceData(b))
	before := int(uintptr(p) % uintptr(os.Getpagesize()))
	return unsafe.Slice((*byte)(unsafe.Add(p, -before)), len(b)+before)
}
