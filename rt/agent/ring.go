package agent

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/internal/mapped"
	"github.com/maniple-hpc/maniple/transport/wire"
)

// ringFile holds the last events as lines of equal length, for whoever looks into a crash: the next
// line to be written is the one after the newest. Output and input are left out.
//
// The file is mapped: what is written there is the file's when this process dies, however it does, and costs no call of the
// kernel for each event.
type ringFile struct {
	text []byte // nil: there is none
	line int
}

const (
	ringName  = "agent.ring" // in the node's directory
	ringLines = 1024
	ringLine  = 128
)

// openRing begins a ring. A full disk is no reason not to run: then there is none.
func openRing(path string) *ringFile {
	_ = os.Rename(path, path+".1") // that of the agent before this one
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return &ringFile{}
	}
	defer f.Close()
	empty := append(bytes.Repeat([]byte{' '}, ringLine-1), '\n')
	if _, err := f.Write(bytes.Repeat(empty, ringLines)); err != nil { // to touch what has no place on the disk would end this process
		return &ringFile{}
	}
	text, err := unix.Mmap(int(f.Fd()), 0, ringLines*ringLine, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return &ringFile{}
	}
	return &ringFile{text: text}
}

// note writes an event down. An error is the last one: from then on nothing is noted.
func (r *ringFile) note(now int64, ev Event) error {
	if r == nil || r.text == nil {
		return nil
	}
	text := ""
	switch ev := ev.(type) {
	case Output, InputWritten, Tick, OutputEOF, ToAgent:
		return nil
	case FromHead:
		text = "head " + typeName(ev.M)
	case FromPeer:
		if t := typeName(ev.M); t != "RankOutput" && t != "RankOutputAck" {
			text = fmt.Sprintf("peer %d %s", ev.Peer, t)
		}
	case FromClient:
		if t := typeName(ev.M); t != "RankOutputAck" && t != "RankInput" {
			text = fmt.Sprintf("client %d %s", ev.Process, t)
		}
	case FromKeeper:
		text = "keeper " + typeName(ev.M)
	case Restored:
		text = fmt.Sprintf("restored %v stream %d at %d", ev.Key, ev.Stream, ev.Offset)
	default:
		text = fmt.Sprintf("%T%+v", ev, ev)
	}
	if text == "" {
		return nil
	}
	err := mapped.Touch(func() { r.write(now, text) })
	if err != nil {
		r.close()
	}
	return err
}

func (r *ringFile) write(now int64, text string) {
	at := r.line * ringLine
	line := time.Unix(0, now).UTC().AppendFormat(r.text[at:at:at+ringLine-1], "2006-01-02T15:04:05.000000Z ")
	n := len(line) + copy(line[len(line):cap(line)], text)
	for ; n < ringLine-1; n++ {
		r.text[at+n] = ' '
	}
	r.text[at+n] = '\n'
	r.line = (r.line + 1) % ringLines
}

func (r *ringFile) close() {
	if r.text != nil {
		_ = unix.Munmap(r.text)
		r.text = nil
	}
}

func typeName(m Message) string { return wire.TypeOf(m).String() }
