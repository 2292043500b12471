package yarn

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	pingTime   = 2 * time.Second  // between words of a master that has nothing to say
	silentTime = 10 * time.Second // after which a connection without one is broken
	// aloneTime is how long a node goes on of which nobody knows why it reaches no master: it may be cut off, and replaced. One whose
	// master's process is gone, as its machine says, waits for the next master.
	aloneTime   = 10 * time.Second
	orphanTime  = 10 * time.Minute
	redialTime  = 500 * time.Millisecond
	partTime    = time.Second // for the last line to a master that is over
	maxHeld     = 1000        // lines of the keeper that no master has taken
	meetingPlan = 8           // ports at which a node may wait for the next master
)

// takeover is the first line of a master that calls on a node of the one before it. At one of the ports at which a node may wait there may be another one.
type takeover struct {
	In      string   `json:"in"` // the container
	Attempt int32    `json:"attempt"`
	Master  []string `json:"master"` // addresses of its relay
}

// handover is a node's answer, with as many bytes of the journal behind it; then lines go both ways as in any connection to a relay.
type handover struct {
	Node    string `json:"node"`
	Life    uint32 `json:"life"`    // how often the program was begun anew
	Attempt int32  `json:"attempt"` // of the master that sent the newest piece of the journal; 0: none did
	Seq     uint64 `json:"seq"`
	Journal int    `json:"journal"`
}

// station is a container's side of the relay: the keeper's streams, the connection that they have at the moment, and a copy of the head's
// journal. Its goroutines end with the process.
type station struct {
	name       string
	container  string
	life       uint32
	last       bool   // no other master will come
	dir        string // the container's folder
	own        ed25519.PrivateKey
	masterKey  ed25519.PublicKey
	toKeeper   *os.File
	arrivals   chan arrival  // connections to serve
	keeperOver chan struct{} // closed when all that the keeper said was sent, or can't be

	mu      sync.Mutex
	master  []string // addresses
	attempt int32
	conn    net.Conn // nil: none
	ready   []byte   // the keeper's line
	held    [][]byte
	journal []byte
	seq     uint64
	wrote   int32 // the attempt whose master sent the newest piece
	over    bool  // there is nothing to wait for
}

// newStation is the station of a node, where the master that comes after its own one may call.
func newStation(b boot, container, dir string) (*station, error) {
	key, err := keyOf(b.Doc.Cluster, b.Doc.Secret, partyNode)
	if err != nil {
		return nil, err
	}
	master, err := keyOf(b.Doc.Cluster, b.Doc.Secret, partyMaster)
	if err != nil {
		return nil, err
	}
	s := &station{
		name: b.Doc.Node.Name, container: container, life: b.Doc.Epoch, last: b.Last, dir: dir, own: key, masterKey: master.Public().(ed25519.PublicKey), master: b.Master, attempt: b.Attempt,
		arrivals: make(chan arrival, 1), keeperOver: make(chan struct{}),
	}
	if b.Last {
		return s, nil
	}
	if err := s.await(meeting(b.Doc.Cluster, container)); err != nil {
		fmt.Fprintln(os.Stderr, "maniple:", err)
	}
	return s, nil
}

// arrival is a connection, what reads it, and which attempt's master is at its other end.
type arrival struct {
	conn    net.Conn
	in      *bufio.Reader
	attempt int32
}

// taken is a node's last line to a master whose node it is no more, or never will be.
type taken struct {
	By int32 `json:"taken"` // the attempt
}

// meeting are the ports at which the node in a container waits for a master: as both can tell, and nobody has to note.
func meeting(cluster, container string) (ports []int) {
	for i := range meetingPlan {
		sum := sha256.Sum256([]byte(cluster + " " + container + " " + strconv.Itoa(i)))
		ports = append(ports, 20000+int(binary.BigEndian.Uint32(sum[:]))%10000)
	}
	return ports
}

// await listens for masters that come after the one that started this node. Where none of its ports is free the node ends with its master.
func (s *station) await(ports []int) error {
	cfg, err := config(s.own, s.masterKey)
	if err != nil {
		return err
	}
	for _, port := range ports {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		go func() {
			for {
				conn, err := tls.NewListener(l, cfg).Accept()
				if err != nil {
					time.Sleep(redialTime) // out of descriptors, as a rule
					continue
				}
				go s.handOver(conn)
			}
		}()
		return nil
	}
	return fmt.Errorf("yarn: none of the ports %v is free: this node ends with its master", ports)
}

// handOver answers a master that calls.
func (s *station) handOver(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(helloTime))
	in := bufio.NewReader(conn)
	line, err := in.ReadBytes('\n')
	var t takeover
	if err != nil || json.Unmarshal(line, &t) != nil || t.In != s.container {
		_ = conn.Close()
		return
	}
	s.mu.Lock()
	if t.Attempt < s.attempt || len(t.Master) == 0 {
		no, _ := json.Marshal(taken{s.attempt})
		s.mu.Unlock()
		_, _ = conn.Write(append(no, '\n')) // who does not hear it asks again
		_ = conn.Close()
		return
	}
	h, journal := handover{s.name, s.life, s.wrote, s.seq, len(s.journal)}, s.journal
	s.attempt, s.master = t.Attempt, t.Master
	if s.conn != nil { // of a master that is no more, whatever it thinks; or one that had no answer, and calls again
		last, _ := json.Marshal(taken{t.Attempt})
		_ = s.write(append(last, '\n'), partTime) // one that does not hear it is told by YARN
		_ = s.conn.Close()
	}
	s.mu.Unlock()
	answer, _ := json.Marshal(h)
	if _, err := conn.Write(append(append(answer, '\n'), journal...)); err != nil {
		_ = conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{})
	s.arrivals <- arrival{conn, in, t.Attempt}
}

// fromKeeper hands on what the keeper says, or keeps it for the next connection.
func (s *station) fromKeeper(out io.Reader) {
	defer close(s.keeperOver)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		line := append(bytes.Clone(lines.Bytes()), '\n')
		s.mu.Lock()
		if bytes.Contains(line, []byte(`"event":"ready"`)) {
			s.ready = line
		}
		if s.conn == nil || s.write(line, helloTime) != nil {
			s.held = append(s.held, line)
			s.held = s.held[max(0, len(s.held)-maxHeld):]
		}
		s.mu.Unlock()
	}
}

// write sends to the connection that there is, which may take some time.
func (s *station) write(line []byte, within time.Duration) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(within))
	_, err := s.conn.Write(line)
	return err
}

// run serves one connection after the other until there will be no more. Its end is that of the keeper's input.
func (s *station) run(first arrival) {
	defer s.toKeeper.Close()
	for next, ok := first, true; ok; next, ok = s.next(aloneTime) {
		s.serve(next)
	}
}

// by are the addresses on the machine that a connection leads to: what others of them say, which may mean another machine here, is no
// sign of the master's death.
func by(remote net.Addr, addresses []string) (list []string) {
	host, _, _ := net.SplitHostPort(remote.String())
	for _, a := range addresses {
		if h, _, _ := net.SplitHostPort(a); h == host {
			list = append(list, a)
		}
	}
	if list == nil {
		return addresses
	}
	return list
}

// serve carries a connection's lines until it breaks.
func (s *station) serve(a arrival) {
	s.mu.Lock()
	if a.attempt < s.attempt { // the next master has called meanwhile
		s.mu.Unlock()
		_ = a.conn.Close()
		return
	}
	s.conn = a.conn
	s.master = by(a.conn.RemoteAddr(), s.master)
	lines := s.held
	if s.ready != nil && !slices.ContainsFunc(lines, func(l []byte) bool { return bytes.Equal(l, s.ready) }) {
		lines = append([][]byte{s.ready}, lines...)
	}
	s.held = nil
	for i, line := range lines {
		if s.write(line, helloTime) != nil {
			s.held = lines[i:]
			break
		}
	}
	s.mu.Unlock()
	in := bufio.NewScanner(a.in)
	in.Buffer(nil, 2*maxLine)
	for a.conn.SetReadDeadline(time.Now().Add(silentTime)) == nil && in.Scan() {
		s.heard(in.Bytes(), a.attempt)
	}
	_ = a.conn.Close()
	s.mu.Lock()
	if s.conn == a.conn {
		s.conn = nil
	}
	s.mu.Unlock()
}

// heard takes in a line of an attempt's master: a piece of the journal, a sign of life, or what is the keeper's.
func (s *station) heard(line []byte, attempt int32) {
	var m struct {
		piece
		ping
	}
	if json.Unmarshal(line, &m) != nil {
		return
	}
	switch {
	case m.Ping:
		if m.Idle && removed(s.dir) {
			s.forgotten()
		}
	case m.Seq == 0:
		_, _ = s.toKeeper.Write(append(bytes.Clone(line), '\n')) // one that has ended reads nothing
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		if m.Whole {
			s.journal = nil
		}
		s.journal, s.seq, s.wrote = append(s.journal, m.Data...), m.Seq, attempt
		if s.conn != nil {
			answer, _ := json.Marshal(kept{m.Seq})
			_ = s.write(append(answer, '\n'), helloTime) // a connection that is broken is found by who reads it
		}
	}
}

// forgotten ends the node, of whose container its NodeManager knows nothing, now that nothing runs here that YARN's word could end: in a folder that is gone nothing could
// start, and YARN gives what it takes for free to others.
func (s *station) forgotten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

// next waits for a connection: with the same master, or of one that comes after it.
func (s *station) next(patience time.Duration) (arrival, bool) {
	for lost := time.Now(); ; {
		s.mu.Lock()
		master, attempt, over := s.master, s.attempt, s.over
		s.mu.Unlock()
		if over {
			return arrival{}, false
		}
		conn, err := s.dial(master)
		if errors.Is(err, syscall.ECONNREFUSED) && !s.last {
			patience = max(patience, orphanTime)
		}
		select {
		case a := <-s.arrivals: // the newer one, if there are two
			if err == nil {
				_ = conn.Close()
			}
			return a, true
		default:
		}
		if err == nil {
			return arrival{conn, bufio.NewReader(conn), attempt}, true
		}
		if time.Since(lost) > patience || removed(s.dir) {
			return arrival{}, false
		}
		select {
		case a := <-s.arrivals:
			return a, true
		case <-time.After(redialTime):
		}
	}
}

// removed tells whether a container's folder is gone: its NodeManager was started anew and knows nothing of it, so that YARN gives the container up, if it has not yet. Who
// has a master goes on until then, or until the program is to start anew; no other one comes.
func removed(dir string) bool {
	_, err := os.Stat(dir)
	return errors.Is(err, os.ErrNotExist)
}

// dial connects to a master's relay.
func (s *station) dial(master []string) (net.Conn, error) {
	cfg, err := config(s.own, s.masterKey)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), helloTime)
	defer cancel()
	return dial(ctx, master, cfg, hello{Node: s.name, In: s.container})
}
