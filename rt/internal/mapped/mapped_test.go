package mapped

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t testing.TB) (f *os.File, memory []byte) {
	f, err := os.Create(t.TempDir() + "/file")
	if err == nil {
		err = f.Truncate(8192)
	}
	if err == nil {
		memory, err = unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(memory); _ = f.Close() })
	return f, memory
}

func TestAFileThatIsCut(t *testing.T) {
	f, memory := open(t)
	far := func() { copy(memory[5000:], "far") }
	if err := Touch(far); err != nil || string(memory[5000:5003]) != "far" {
		t.Fatalf("%v, %q", err, memory[5000:5003])
	}
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	if err := Touch(far); !errors.Is(err, ErrCut) {
		t.Errorf("of a page that is gone: %v", err)
	}
	if err := Touch(func() { memory[1] = memory[6000] }); !errors.Is(err, ErrCut) {
		t.Errorf("reading: %v", err)
	}
	if err := Touch(func() { memory[100] = 1 }); err != nil {
		t.Errorf("of the page that is left: %v", err)
	}
}

// Other panics, one of a nil pointer among them, are bugs, and stay what they are.
func TestOtherPanics(t *testing.T) {
	for _, fn := range []func(){func() { panic("mine") }, func() { var p *int; *p = 1 }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a panic was taken for a file that was cut")
				}
			}()
			_ = Touch(fn)
		}()
	}
}

func TestTouchCostsNothing(t *testing.T) {
	_, memory := open(t)
	at := 0
	if n := testing.AllocsPerRun(100, func() { _ = Touch(func() { memory[at] = 1; at++ }) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
