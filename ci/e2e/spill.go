package e2e

import (
	"bytes"
	"errors"
	"math/rand/v2"

	"github.com/maniple-hpc/maniple/objstore/spill"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Parts are objects of some sizes as they are written together.
func Parts(sizes ...int) (list []spill.Part) {
	at := int64(0)
	for i, n := range sizes {
		b := make([]byte, n)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(b)
		list = append(list, spill.Part{Object: id.Object{Task: id.Task{Agent: 1, Process: 2, Counter: uint64(i + 1)}}, At: at, Bytes: b})
		at += int64(n+63) / 64 * 64
	}
	return list
}

// ReadParts reads them all, and compares them.
func ReadParts(f *spill.Files, number uint64, list []spill.Part) error {
	for _, p := range list {
		got := make([]byte, len(p.Bytes))
		if err := f.Read(number, p.At, 0, int64(len(got)), func(at int64, b []byte) error { copy(got[at:], b); return nil }); err != nil {
			return err
		}
		if !bytes.Equal(got, p.Bytes) {
			return errors.New("it is not what was written")
		}
	}
	return nil
}
