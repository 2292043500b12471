// Package mapped is for memory that is a file, which somebody else may cut short: a cleaner of temporary files, or a user. Whoever touches what
// is not there any more is ended by the kernel (SIGBUS), and with an agent its node's programs. Touch makes an error of that.
//
// What was written before is the file's. Memory that nobody can cut, such as a sealed memfd, needs none of this.
package mapped

import (
	"errors"
	"runtime/debug"
)

// ErrCut says that a part of the file is not there any more.
var ErrCut = errors.New("the file was cut short by somebody else while it was in use")

// fault is what a panic has that stands for memory which is not there.
type fault interface {
	error
	Addr() uintptr
}

// Touch runs fn, which reads or writes a mapped file. Where that is gone fn goes no further, and the error is ErrCut: what fn has done by then is
// done. Panics of other kinds go on.
func Touch(fn func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fault:
			err = ErrCut
		default:
			panic(r)
		}
	}()
	fn()
	return nil
}
