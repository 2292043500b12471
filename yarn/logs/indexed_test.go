package logs

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// javaWriter writes objects as Java does.
type javaWriter struct{ b []byte }

func (w *javaWriter) text(s string) {
	w.b = append(binary.BigEndian.AppendUint16(append(w.b, javaText), uint16(len(s))), s...)
}

// class writes a class: its fields are "I size", "L name", ...
func (w *javaWriter) class(name string, flags byte, fields ...string) {
	w.b = append(java(append(w.b, javaClass), name), 1, 2, 3, 4, 5, 6, 7, 8, flags)
	w.b = binary.BigEndian.AppendUint16(w.b, uint16(len(fields)))
	for _, f := range fields {
		if w.b = java(append(w.b, f[0]), f[2:]); f[0] == 'L' {
			w.text("Ljava/lang/Object;")
		}
	}
	w.b = append(w.b, javaEnd, javaNull)
}

func (w *javaWriter) object(class string, flags byte, fields ...string) {
	w.b = append(w.b, javaObject)
	w.class(class, flags, fields...)
}

func (w *javaWriter) int(n int) { w.b = binary.BigEndian.AppendUint32(w.b, uint32(n)) }

func (w *javaWriter) long(n int) { w.b = binary.BigEndian.AppendUint64(w.b, uint64(n)) }

// list begins one of n elements.
func (w *javaWriter) list(n int) {
	w.object("java.util.ArrayList", serializable|ownWrite, "I size")
	w.int(n)
	w.b = append(w.b, javaBlock, 4)
	w.int(n)
}

func (w *javaWriter) mapping(n int) {
	w.object("java.util.HashMap", serializable|ownWrite, "F loadFactor", "I threshold")
	w.int(1061158912)
	w.int(12)
	w.b = append(w.b, javaBlock, 8)
	w.int(16)
	w.int(n)
}

// at is a log in a file.
type at struct {
	container, name string
	start, size, n  int
}

// indexOf is an index: each container's logs.
func indexOf(codec string, version int, containers ...[]at) []byte {
	w := &javaWriter{b: []byte{0xac, 0xed, 0, 5}}
	w.object("IndexedLogsMeta", serializable, "I version", "L acls", "L compressName", "L logMetas", "L nodeId", "L user")
	w.int(version)
	w.mapping(1)
	w.b = append(w.b, javaEnum)
	w.class("ApplicationAccessType", serializable|16)
	w.text("VIEW_APP")
	w.text("alice")
	w.b = append(w.b, javaEnd)
	w.text(codec)
	w.list(1)
	w.object("IndexedPerAggregationLogMeta", serializable, "J uploadTimeStamp", "L logMetas", "L remoteNodeLogFileName")
	w.long(1_700_000_000_000)
	w.mapping(len(containers))
	for _, logs := range containers {
		w.text(logs[0].container)
		w.list(len(logs))
		for _, l := range logs {
			w.object("IndexedFileLogMeta", serializable, "J fileCompressedSize", "J fileSize", "J lastModifiedTime", "J startIndex", "L containerId", "L fileName")
			for _, n := range []int{l.size, l.n, 1_700_000_000_000, l.start} {
				w.long(n)
			}
			w.text(l.container)
			w.text(l.name)
		}
		w.b = append(w.b, javaEnd)
	}
	w.b = append(w.b, javaEnd)
	w.text("node_1")
	w.b = append(w.b, javaEnd)
	w.text("node:1")
	w.text("alice")
	return w.b
}

var seal = bytes.Repeat([]byte("seal"), 8)

// indexedOf makes a file: each container's logs, as name and content in turn.
func indexedOf(codec string, containers map[string][]string, order ...string) []byte {
	file := slices.Clone(seal)
	var all [][]at
	for _, c := range order {
		var logs []at
		for i := 0; i < len(containers[c]); i += 2 {
			content := []byte(containers[c][i+1])
			l := at{c, containers[c][i], len(file), 0, len(content)}
			if codec == "gz" {
				var z bytes.Buffer
				w := zlib.NewWriter(&z)
				w.Write(content)
				w.Close()
				content = z.Bytes()
			}
			l.size = len(content)
			logs, file = append(logs, l), append(file, content...)
		}
		all = append(all, logs)
	}
	slices.Reverse(all) // a map has no order
	return sealed(file, indexOf(codec, 1, all...))
}

func sealed(file, index []byte) []byte {
	return append(binary.BigEndian.AppendUint32(append(file, index...), uint32(len(index))), seal...)
}

// LOGS-2: whatever the compression, in the order of the file.
func TestIndexedFiles(t *testing.T) {
	large, other := strings.Repeat("line\n", 40_000), strings.Replace(container, "_000001", "_000002", 1)
	for _, codec := range []string{"none", "gz"} {
		got, err := all(indexedOf(codec, map[string][]string{container: {"stderr", "", "stdout", "hello\n"}, other: {"stdout", large}}, container, other))
		want := []string{container + " stderr 0 ", container + " stdout 6 hello\n", other + " stdout 200000 " + large}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %d logs: %.300q", codec, err, len(got), got)
		}
	}
}

// LOGS-1.
func TestDamagedIndexedFiles(t *testing.T) {
	entry := at{container, "stdout", sealSize, 6, 6}
	file := func(index []byte) []byte { return sealed(append(slices.Clone(seal), "hello\n"...), index) }
	good := indexOf("none", 1, []at{entry})
	for want, b := range map[string][]byte{
		"TFile and IndexedFile":       file(good)[1:],
		"an index of 4294967295":      append(append(slices.Clone(seal), 0xff, 0xff, 0xff, 0xff), seal...),
		"does not begin as one":       file([]byte("an object of another language")),
		"ends too early":              file(good[:len(good)-1]),
		"1 bytes are left over":       file(append(slices.Clone(good), 0)),
		"it has version 2":            file(indexOf("none", 2)),
		"lzo":                         file(indexOf("lzo", 1, []at{entry})),
		"a block of 7 bytes at 32":    file(indexOf("none", 1, []at{{container, "stdout", sealSize, 7, 7}})),
		"a block of 6 bytes at 31":    file(indexOf("none", 1, []at{{container, "stdout", sealSize - 1, 6, 6}})),
		"1 of its 7 bytes":            file(indexOf("none", 1, []at{{container, "stdout", sealSize, 6, 7}})),
		"there is no version":         file([]byte{0xac, 0xed, 0, 5, javaNull}),
		"refers to object 7":          file([]byte{0xac, 0xed, 0, 5, javaRefer, 0, 0x7e, 0, 7}),
		"nested too deeply":           file(append([]byte{0xac, 0xed, 0, 5}, bytes.Repeat([]byte{javaObject, javaClass, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0}, 300)...)),
		"an array of nothing":         file([]byte{0xac, 0xed, 0, 5, javaArray, javaNull, 0xff, 0xff, 0xff, 0xff}),
		"something else than logs":    file(bytes.ReplaceAll(good, []byte("fileSize"), []byte("fileSite"))),
		"not_a_container":             file(indexOf("none", 1, []at{{"not_a_container", "stdout", sealSize, 6, 6}})),
		"0x76 is not read":            file([]byte{0xac, 0xed, 0, 5, 0x76}),
		"class \"Own\" wrote itself":  file(append(java([]byte{0xac, 0xed, 0, 5, javaObject, javaClass}, "Own"), 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, javaEnd, javaNull)),
		"an object stands for a clas": file(append(java([]byte{0xac, 0xed, 0, 5, javaArray, javaClass}, "[L"), 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, javaEnd, javaNull, 0, 0, 0, 2, javaText, 0, 0, javaObject, javaRefer, 0, 0x7e, 0, 2)),
	} {
		if list, err := all(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %.100q", want, err, list)
		}
	}
}

func FuzzIndexed(f *testing.F) {
	f.Add(indexOf("none", 1, []at{{container, "stdout", sealSize, 6, 6}}))
	f.Add(indexOf("gz", 1, []at{{container, "a", sealSize, 1, 1}, {container, "b", sealSize + 1, 5, 9}}, []at{{container, "c", sealSize, 6, 6}}))
	f.Fuzz(func(t *testing.T, index []byte) {
		b := sealed(append(slices.Clone(seal), "hello\n"...), index)
		file, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		total := 0
		_ = file.Each(func(l Log) error {
			n, err := io.Copy(io.Discard, io.LimitReader(l, 1<<20))
			if total += int(n); total > 1<<22 {
				return errors.New("enough")
			}
			return err
		})
	})
}
