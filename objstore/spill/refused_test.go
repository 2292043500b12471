package spill

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// answering is a directory that nodes share. It gives files unless says is set.
type answering struct {
	Dir
	says *error
}

// Open is FS's.
func (a answering) Open(name string) (Reader, error) {
	if *a.says != nil {
		return nil, *a.says
	}
	return a.Dir.Open(name)
}

// refusing gives such a directory, and Files with four objects in four files there.
func refusing(t *testing.T) (f *Files, says *error, want []byte) {
	says, want = new(error), value(1, 1000)
	f, err := Open([]Directory{{FS: answering{Dir(t.TempDir()), says}, Path: "c/1"}})
	for i := range uint64(4) {
		if err == nil {
			err = f.Write(i+1, []Part{{Object: object(i + 1), Bytes: want}})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return f, says, want
}

// asks reads a file each two seconds, and gives what comes last: when it can't be had for some other reason than that it is away, or for so long.
func asks(f *Files, number uint64, long time.Duration) (took time.Duration, err error) {
	for began := time.Now(); ; time.Sleep(2 * time.Second) {
		took = time.Since(began)
		if _, err = readAll(f, number, 0, 1000); !errors.Is(err, ErrAway) || took >= long {
			return took, err
		}
	}
}

// SPL-6: what an FS refuses for five minutes is lost, and the error says where it lies, and why; however long an FS is silent, nothing is.
func TestRefusedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, says, want := refusing(t)
		for _, silent := range []error{syscall.ECONNREFUSED, syscall.ETIMEDOUT, syscall.EIO, fmt.Errorf("nobody there: %w", os.ErrDeadlineExceeded)} {
			*says = silent
			if _, err := asks(f, 1, time.Hour); !errors.Is(err, ErrAway) || !errors.Is(err, silent) {
				t.Errorf("silent for an hour: %v", err)
			}
		}
		for i, no := range []error{fmt.Errorf("no block: %w", ErrRefused), syscall.ESTALE, syscall.EACCES} {
			*says = no
			took, err := asks(f, uint64(i)+1, time.Hour)
			if errors.Is(err, ErrAway) || !errors.Is(err, no) || took != refusedFor {
				t.Errorf("after %v: %v", took, err)
			}
			if name := fmt.Sprintf("c/1/%d of %s", i+1, f.Directories()[0]); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "refused for 5m0s") {
				t.Errorf("%v does not name %s", err, name)
			}
		}
		*says = nil
		if got, err := readAll(f, 4, 0, 1000); err != nil || !bytes.Equal(got, want) {
			t.Error(err)
		}
	})
}

// What was refused and is given again was never lost: the next refusals count anew. Silence between two of them counts for nothing, and nor does the time in
// which nobody asks.
func TestRefusedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, says, _ := refusing(t)
		for range 5 {
			*says = syscall.EACCES
			if took, err := asks(f, 1, refusedFor-2*time.Second); !errors.Is(err, ErrAway) {
				t.Fatalf("after %v: %v", took, err)
			}
			*says = nil
			if _, err := readAll(f, 1, 0, 1000); err != nil {
				t.Fatal(err)
			}
		}
		for i, no := range []error{syscall.EACCES, syscall.ETIMEDOUT, syscall.EACCES} {
			*says = no
			if took, err := asks(f, 1, []time.Duration{4 * time.Minute, time.Hour, 50 * time.Second}[i]); !errors.Is(err, ErrAway) {
				t.Fatalf("%v after %v: %v", no, took, err)
			}
		}
		if took, err := asks(f, 1, time.Hour); errors.Is(err, ErrAway) || took > 15*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		*says = syscall.ESTALE
		for range 3 {
			if _, err := readAll(f, 3, 0, 1000); !errors.Is(err, ErrAway) {
				t.Error(err)
			}
			time.Sleep(6 * time.Hour)
		}
	})
}

// Where rights were taken from one object for five minutes others are not waited for as long, until something can be read there again, or it is long ago.
func TestRightsAreTakenFromAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, says, _ := refusing(t)
		*says = syscall.EACCES
		if took, err := asks(f, 1, time.Hour); errors.Is(err, ErrAway) || took != refusedFor {
			t.Fatalf("after %v: %v", took, err)
		}
		for _, n := range []uint64{2, 3} {
			if took, err := asks(f, n, time.Hour); errors.Is(err, ErrAway) || took != 0 {
				t.Errorf("after %v: %v", took, err)
			}
		}
		*says = syscall.ESTALE
		if _, err := readAll(f, 4, 0, 1000); !errors.Is(err, ErrAway) {
			t.Errorf("what is refused for something else: %v", err)
		}
		for _, again := range []func(){
			func() { *says = nil; _, _ = readAll(f, 4, 0, 1000) },
			func() { *says = syscall.EACCES; _, _ = asks(f, 1, time.Hour); time.Sleep(refusedFor) },
		} {
			again()
			*says = syscall.EACCES
			if _, err := readAll(f, 4, 0, 1000); !errors.Is(err, ErrAway) {
				t.Errorf("later: %v", err)
			}
			f.Remove(1)
			if err := f.Write(1, []Part{{Object: object(1), Bytes: value(1, 1000)}}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
