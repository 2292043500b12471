package sweep

import (
	"bytes"
	"strconv"
)

// The variables that make a Mark, and the site's that tells jobs apart.
const (
	EnvNodeKey     = "MANIPLE_NODE_KEY"
	EnvGroup       = "MANIPLE_GROUP"
	EnvIncarnation = "MANIPLE_INCARNATION"
	EnvRank        = "MANIPLE_RANK"
	envJob         = "SLURM_JOB_ID"
)

// Mark says whose program a process belongs to.
type Mark struct {
	NodeKey     string
	Group       string // as id.Task prints it
	Incarnation uint32
	Rank        uint32
	job         string
}

// maxEnviron is how much of an environment is read; the keeper puts its variables in front.
const maxEnviron = 256 << 10

// ReadMark reads the mark of a process. False: it has none, it is gone, or it can't be looked at.
func ReadMark(pid int) (Mark, bool) {
	return parseMark(readEnviron(pid))
}

// readEnviron reads a process's environment. One that is about to become another program has none for a
// moment.
func readEnviron(pid int) []byte {
	buf := make([]byte, 4096)
	for {
		n, err := readFile("/proc/"+strconv.Itoa(pid)+"/environ", buf)
		if err != nil {
			return nil
		}
		if n < len(buf) || len(buf) >= maxEnviron {
			return buf[:n]
		}
		buf = make([]byte, 8*len(buf))
	}
}

func parseMark(environ []byte) (Mark, bool) {
	var m Mark
	for len(environ) > 0 {
		var entry []byte
		entry, environ, _ = bytes.Cut(environ, []byte{0})
		key, value, _ := bytes.Cut(entry, []byte{'='})
		switch string(key) {
		case EnvNodeKey:
			m.NodeKey = string(value)
		case EnvGroup:
			m.Group = string(value)
		case EnvIncarnation:
			m.Incarnation = number(value)
		case EnvRank:
			m.Rank = number(value)
		case envJob:
			m.job = string(value)
		}
	}
	return m, m.NodeKey != ""
}

func number(value []byte) uint32 {
	n, _ := strconv.ParseUint(string(value), 10, 32)
	return uint32(n)
}

// Strings are the variables of a mark, to put in front of a program's environment.
func (m Mark) Strings() []string {
	return []string{
		EnvNodeKey + "=" + m.NodeKey,
		EnvGroup + "=" + m.Group,
		EnvIncarnation + "=" + strconv.FormatUint(uint64(m.Incarnation), 10),
		EnvRank + "=" + strconv.FormatUint(uint64(m.Rank), 10),
	}
}

// Marks tells whether entry (K=V) sets one of a mark's variables.
func Marks(entry string) bool {
	for _, key := range []string{EnvNodeKey, EnvGroup, EnvIncarnation, EnvRank} {
		if len(entry) > len(key) && entry[len(key)] == '=' && entry[:len(key)] == key {
			return true
		}
	}
	return false
}
