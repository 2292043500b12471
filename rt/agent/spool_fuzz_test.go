package agent

import (
	"encoding/binary"
	"os"
	"testing"
)

// FuzzOpenSpool gives an agent a spool that nobody in his senses wrote: it must come up, with the ring at most.
func FuzzOpenSpool(f *testing.F) {
	words := func(values ...uint64) []byte {
		var b []byte
		for _, v := range values {
			b = binary.NativeEndian.AppendUint64(b, v)
		}
		return b
	}
	f.Add(words(spoolMagic, 4096, 0, 0, 0, 0, 0, 0, 0, 10, 5, 3), uint16(4096))
	f.Add(words(spoolMagic, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1), uint16(0))
	f.Add(words(spoolMagic, 8, 0, 0, 0, 0, 0, 0, 1<<63, 1<<62, 1, 8, 0, 0, 0, 0, 7, 3, 1<<40, 9), uint16(8))
	f.Fuzz(func(t *testing.T, words []byte, size uint16) {
		dir := t.TempDir()
		k := Key{Incarnation: 1}
		data := make([]byte, spoolPage+2*int(size))
		copy(data[:spoolPage], words)
		if err := os.WriteFile(spoolPath(dir, k), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSpool(dir, k)
		if err != nil {
			return
		}
		defer s.close(true)
		for stream := range 2 {
			if r := s.restored(k, stream); len(r.Data) > s.size || len(r.Tail) > tailBytes {
				t.Fatalf("stream %d: %d bytes of output and %d of tail from a ring of %d", stream, len(r.Data), len(r.Tail), s.size)
			}
		}
	})
}
