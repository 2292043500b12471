package agent

import (
	"fmt"
	"os"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
)

// ringFile holds the last events as lines of equal length, for whoever looks into a crash: the next
// line to be written is the one after the newest. Output and input are left out.
type ringFile struct {
	f    *os.File
	line int
}

const (
	ringLines = 1024
	ringLine  = 128
)

func openRing(path string) *ringFile {
	_ = os.Rename(path, path+".1") // that of the agent before this one
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return &ringFile{} // a full disk is no reason not to run
	}
	return &ringFile{f: f}
}

func (r *ringFile) note(now int64, ev Event) {
	if r == nil || r.f == nil {
		return
	}
	text := ""
	switch ev := ev.(type) {
	case Output, InputWritten, Tick, OutputEOF, ToAgent:
		return
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
		return
	}
	line := make([]byte, 0, ringLine)
	line = time.Unix(0, now).UTC().AppendFormat(line, "2006-01-02T15:04:05.000000Z ")
	line = append(line, text...)
	if len(line) >= ringLine {
		line = line[:ringLine-1]
	}
	for len(line) < ringLine-1 {
		line = append(line, ' ')
	}
	line = append(line, '\n')
	_, _ = r.f.WriteAt(line, int64(r.line*ringLine)) // best effort
	r.line = (r.line + 1) % ringLines
}

func (r *ringFile) close() {
	if r.f != nil {
		_ = r.f.Close()
	}
}

func typeName(m Message) string { return wire.TypeOf(m).String() }
