package logs

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

const container = "container_1700000000000_0001_01_000001"

// long writes a number as the format does.
func long(b []byte, n int64) []byte {
	switch {
	case n >= -32 && n < 128:
		return append(b, byte(n))
	case n >= -(1<<12) && n < 5<<10: // see decoder.long
		return append(b, byte(n>>8-52), byte(n))
	case n >= -(1<<19) && n < 1<<19:
		return append(b, byte(n>>16-88), byte(n>>8), byte(n))
	case n >= -(1<<31) && n < 1<<31:
		return binary.BigEndian.AppendUint32(append(b, byte(4-129+256)), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, byte(8-129+256)), uint64(n))
}

func text(b []byte, s string) []byte { return append(long(b, int64(len(s))), s...) }

func java(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// record is a key with a value in chunks of some bytes.
func record(b []byte, key string, value []byte, chunk int) []byte {
	b = text(b, string(java(nil, key)))
	for len(value) > chunk {
		b = append(long(b, int64(-chunk)), value[:chunk]...)
		value = value[chunk:]
	}
	return append(long(b, int64(len(value))), value...)
}

// logsOf is the value of a container's record.
func logsOf(pairs ...string) (b []byte) {
	for i := 0; i < len(pairs); i += 2 {
		b = append(java(java(b, pairs[i]), fmt.Sprint(len(pairs[i+1]))), pairs[i+1]...)
	}
	return b
}

// tfileOf makes a file of blocks.
func tfileOf(codec string, blocks ...[]byte) []byte {
	var file []byte
	put := func(block []byte) (where []byte) {
		raw, at := len(block), len(file)
		if codec == "gz" {
			var z bytes.Buffer
			w := zlib.NewWriter(&z)
			w.Write(block)
			w.Close()
			block = z.Bytes()
		}
		file = append(file, block...)
		return long(long(long(nil, int64(at)), int64(len(block))), int64(raw))
	}
	list := long(text(nil, codec), int64(len(blocks)))
	for _, b := range blocks {
		list = append(list, put(b)...)
	}
	index := long(nil, 2)
	index = append(text(text(index, "data:TFile.meta"), codec), put([]byte("something"))...)
	index = append(text(text(index, "data:BCFile.index"), codec), put(list)...)
	at := len(file)
	file = append(file, index...)
	return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(file, uint64(at)), 1), 0), magic[:]...)
}

// all reads the logs of a file as lines.
func all(b []byte) (list []string, err error) {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	return list, f.Each(func(l Log) error {
		text, err := io.ReadAll(l)
		list = append(list, fmt.Sprintf("%s %s %d %s", l.Container, l.Name, l.Size, text))
		return err
	})
}

// LOGS-2: whatever the blocks, the chunks and the compression.
func TestLogs(t *testing.T) {
	large := strings.Repeat("line\n", 40_000)
	for _, codec := range []string{"none", "gz"} {
		for _, chunk := range []int{1, 7, 300, 1 << 20} {
			first := record(record(nil, "VERSION", []byte("\x00\x01"), chunk), container, logsOf("stderr", "", "stdout", "hello\n"), chunk)
			second := record(nil, strings.Replace(container, "_000001", "_000002", 1), logsOf("stdout", large), chunk)
			got, err := all(tfileOf(codec, first, second))
			want := []string{container + " stderr 0 ", container + " stdout 6 hello\n", strings.Replace(container, "_000001", "_000002", 1) + " stdout 200000 " + large}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s by %d: %v, %d logs", codec, chunk, err, len(got))
			}
		}
	}
	// What is not read is passed over, and an error ends it.
	b := tfileOf("none", record(nil, container, logsOf("a", large, "b", "x", "c", "y"), 100))
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	enough, names := errors.New("enough"), ""
	if err := f.Each(func(l Log) error {
		if names += l.Name; l.Name == "b" {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) || names != "ab" {
		t.Error(names, err)
	}
}

func TestNumbers(t *testing.T) {
	for _, n := range []int64{0, 1, -1, -32, 127, 128, -33, 300, -300, 4000, 100_000, -100_000, 1 << 24, -(1 << 24), 1 << 31, -(1 << 40), 1<<62 + 5} {
		d := decoderOf(long(nil, n))
		if got := d.long(); got != n || d.err != nil {
			t.Errorf("%d is read as %d, %v", n, got, d.err)
		}
	}
}

// LOGS-1.
func TestDamagedFiles(t *testing.T) {
	good := tfileOf("none", record(nil, container, logsOf("stdout", "hello\n"), 100))
	for want, b := range map[string][]byte{
		"5 bytes are no whole":      []byte("short"),
		"TFile and IndexedFile":     append(bytes.Repeat([]byte("x"), 100), 'y'),
		"version 2":                 bytes.Replace(good, append([]byte{0, 1, 0, 0}, magic[:]...), append([]byte{0, 2, 0, 0}, magic[:]...), 1),
		"lzo":                       tfileOf("lzo", nil),
		"cut off":                   tfileOf("none", record(nil, container, logsOf("stdout", "hello\n")[:15], 100)),
		"has \"many\" bytes":        tfileOf("none", record(nil, container, java(java(nil, "stdout"), "many"), 100)),
		"unexpected EOF":            tfileOf("none", record(nil, container, logsOf("stdout", "hello\n"), 100)[:50]),
		"its index would begin":     append(bytes.Repeat([]byte{0xff}, 8), good[len(good)-tail+8:]...),
		"has no list of its blocks": bytes.Replace(good, []byte("BCFile.index"), []byte("BCFile.wrong"), 1),
	} {
		list, err := all(b)
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrFormat) != strings.Contains(err.Error(), "no whole aggregated file") {
			t.Errorf("%s: %v %v", want, list, err)
		}
	}
}

func TestWhere(t *testing.T) {
	id, err := yarn.ParseApplicationID("application_1700000000000_12345")
	if err != nil {
		t.Fatal(err)
	}
	c := conf.New()
	if got, on := Where(c, "alice", id); on || !slices.Equal(got, []string{"/tmp/logs/alice/bucket-logs-tfile/2345/application_1700000000000_12345", "/tmp/logs/alice/logs/application_1700000000000_12345"}) {
		t.Error(got, on)
	}
}

func FuzzFile(f *testing.F) {
	f.Add(tfileOf("none", record(nil, container, logsOf("stdout", "hello\n"), 3)))
	f.Add(tfileOf("gz", record(nil, container, logsOf("stdout", "hello\n"), 100)))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		file, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		_ = file.Each(func(l Log) error {
			n, err := io.Copy(io.Discard, io.LimitReader(l, 1<<20))
			if total += int(n); total > 1<<22 {
				return errors.New("enough")
			}
			return err
		})
	})
}

func decoderOf(b []byte) *decoder { return &decoder{r: bufio.NewReader(bytes.NewReader(b))} }
