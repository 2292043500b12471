package spill

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkSpill writes files of 64 MiB, as a large store does, and reads them back; between them it writes and reads as much by
// plain calls with the same block. plain-write-% and plain-read-% are how fast that is beside it: over 100, spilling is faster.
func BenchmarkSpill(b *testing.B) {
	dir := b.TempDir()
	f, err := Open([]Directory{{Path: dir}})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close(false)
	const n = 64 << 20
	v, buf := value(1, n), make([]byte, block)
	plain, err := os.Create(filepath.Join(dir, "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer plain.Close()
	var took [4]time.Duration
	timed := func(i int, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		took[i] += time.Since(began)
	}
	b.SetBytes(2 * n)
	for number := uint64(1); b.Loop(); number++ {
		timed(0, func() error { return f.Write(number, []Part{{Bytes: v}}) })
		timed(1, func() error { return f.Read(number, 0, 0, n, func(int64, []byte) error { return nil }) })
		b.StopTimer()
		f.Remove(number)
		timed(2, func() error { _, err := plain.WriteAt(v, 0); return err })
		timed(3, func() error {
			for at := int64(0); at < n; at += block {
				if _, err := plain.ReadAt(buf, at); err != nil {
					return err
				}
			}
			return nil
		})
		if err := plain.Truncate(0); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(100*float64(took[2])/float64(took[0]), "plain-write-%")
	b.ReportMetric(100*float64(took[3])/float64(took[1]), "plain-read-%")
}
