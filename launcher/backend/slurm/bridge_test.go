package slurm

import (
	"bytes"
	"crypto/rand"
	"io"
	"testing"
)

// Slurm passes on lines of at most 1,024 bytes in one piece; any bytes have to come through.
func TestBridgeLines(t *testing.T) {
	for _, n := range []int{0, 1, bridgeChunk - 1, bridgeChunk, bridgeChunk + 1, 100_000} {
		data := make([]byte, n)
		rand.Read(data)
		var wire bytes.Buffer
		if m, err := WriteLines(&wire, data); m != n || err != nil {
			t.Fatalf("%d of %d bytes: %v", m, n, err)
		}
		for line := range bytes.Lines(wire.Bytes()) {
			if len(line) > 1024 {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
		got, err := io.ReadAll(NewLineReader(&wire))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back as %d: %v", n, len(got), err)
		}
	}
	if _, err := io.ReadAll(NewLineReader(bytes.NewBufferString("srun: error!\n"))); err == nil {
		t.Error("srun's own words are taken for data")
	}
}
