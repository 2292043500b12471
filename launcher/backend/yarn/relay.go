package yarn

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	helloTime = 10 * time.Second
	sendTime  = 3 * time.Second // for a line to a node, whose station reads all the time
	maxLine   = 16 << 20
	logPoll   = 100 * time.Millisecond
	// lastTime is how long followers of the output have to take its end, once the application is over.
	lastTime = 5 * time.Second
)

// hello is the first line of whoever connects: a node or a client.
type hello struct {
	Node string `json:"node,omitempty"`
	In   string `json:"in,omitempty"`   // the node's container
	Want string `json:"want,omitempty"` // head, log
	From int64  `json:"from,omitempty"` // log: byte to begin at
	Go   bool   `json:"go_on,omitempty"`
	Err  bool   `json:"stderr,omitempty"`
}

// where answers a client that wants the head.
type where struct {
	Addresses []string `json:"addresses"`
	Waits     string   `json:"waits,omitempty"` // for what the application waits
}

// relay is the master's port. It owns a goroutine that accepts and one for each connection; Close ends all of them.
type relay struct {
	listener net.Listener
	node     ed25519.PublicKey
	joined   func(name, container string, c *link) // of a node; called in the connection's goroutine, which then reads its lines
	head     func() where
	logs     [2]string // files of the application's output and messages

	ending chan struct{} // closed when the output is complete
	once   sync.Once
	all    sync.WaitGroup
	mu     sync.Mutex
	open   map[net.Conn]bool
	tails  sync.WaitGroup // clients that read the output
}

// link is a node's connection. It owns a goroutine that says now and then that this side lives; close ends it.
type link struct {
	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Scanner
	once sync.Once
	over chan struct{}
	idle atomic.Bool // nothing of the program runs, as it waits to be placed
}

// ping is what a master says that has nothing to say.
type ping struct {
	Ping bool `json:"ping"`
	Idle bool `json:"idle,omitempty"`
}

func newLink(conn net.Conn, in *bufio.Scanner) *link {
	l := &link{conn: conn, in: in, over: make(chan struct{})}
	go func() {
		beat := time.NewTicker(pingTime)
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				line, _ := json.Marshal(ping{true, l.idle.Load()})
				if l.send(line) != nil {
					l.close()
				}
			case <-l.over:
				return
			}
		}
	}()
	return l
}

// send writes a line for the keeper. One that does not read for a while is cut off.
func (l *link) send(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(sendTime))
	_, err := l.conn.Write(append(append([]byte(nil), line...), '\n'))
	return err
}

// end has the node end by a line for its keeper, and closes the connection.
func (l *link) end(line []byte) {
	_ = l.send(line) // one that does not get it comes back, and is told then
	l.close()
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.over)
		_ = l.conn.Close()
	})
}

// listen opens the relay on all interfaces.
func listen(cluster string, secret []byte, logs [2]string) (*relay, error) {
	var keys [3]ed25519.PrivateKey
	for i, party := range []string{partyMaster, partyNode, partyClient} {
		var err error
		if keys[i], err = keyOf(cluster, secret, party); err != nil {
			return nil, err
		}
	}
	node, client := keys[1].Public().(ed25519.PublicKey), keys[2].Public().(ed25519.PublicKey)
	cfg, err := config(keys[0], node, client)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		return nil, fmt.Errorf("yarn: the master's port: %w", err)
	}
	return &relay{listener: tls.NewListener(l, cfg), node: node, logs: logs, ending: make(chan struct{}), open: map[net.Conn]bool{}}, nil
}

func (r *relay) port() int { return r.listener.Addr().(*net.TCPAddr).Port }

// serve begins to accept.
func (r *relay) serve() {
	r.all.Go(func() {
		for {
			conn, err := r.listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(logPoll) // out of descriptors, as a rule
				continue
			}
			r.mu.Lock()
			r.open[conn] = true
			r.mu.Unlock()
			r.all.Go(func() {
				defer func() {
					_ = conn.Close()
					r.mu.Lock()
					delete(r.open, conn)
					r.mu.Unlock()
				}()
				r.answer(conn.(*tls.Conn))
			})
		}
	})
}

// answer serves one connection.
func (r *relay) answer(conn *tls.Conn) {
	_ = conn.SetDeadline(time.Now().Add(helloTime))
	in := bufio.NewScanner(conn)
	in.Buffer(make([]byte, 0, 4096), maxLine)
	if conn.Handshake() != nil || !in.Scan() {
		return
	}
	var h hello
	if json.Unmarshal(in.Bytes(), &h) != nil {
		return
	}
	_ = conn.SetDeadline(time.Time{})
	switch isNode := r.node.Equal(peerKey(conn.ConnectionState())); {
	case isNode && h.Node != "":
		l := newLink(conn, in)
		defer l.close()
		r.joined(h.Node, h.In, l)
	case !isNode && h.Want == "head":
		_ = json.NewEncoder(conn).Encode(r.head()) // a client that is gone needs none
	case !isNode && h.Want == "log":
		if r.counts() {
			defer r.tails.Done()
		}
		r.tail(conn, h)
	}
}

// counts adds one to those whom the end waits for; false: it has begun to.
func (r *relay) counts() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.ending:
		return false
	default:
		r.tails.Add(1)
		return true
	}
}

// tail sends a file of the output, and what comes to it if the client goes on: in HTTP's chunks, the last of which says that
// this was all. A connection that breaks, or is cut off since its client does not read, brings none.
func (r *relay) tail(conn net.Conn, h hello) {
	path := r.logs[0]
	if h.Err {
		path = r.logs[1]
	}
	if path == "" { // it prints where its master was started, and nothing is kept
		if h.Go {
			<-r.ending
		}
		_ = httputil.NewChunkedWriter(conn).Close() // who does not get it asks again
		return
	}
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	if _, err := f.Seek(h.From, io.SeekStart); err != nil {
		return
	}
	out := httputil.NewChunkedWriter(conn)
	tick := time.NewTicker(logPoll)
	defer tick.Stop()
	for {
		over := !h.Go
		select {
		case <-r.ending:
			over = true
		default:
		}
		if _, err := io.Copy(out, f); err != nil {
			return
		}
		if over {
			_ = out.Close() // who does not get it knows that something is missing
			return
		}
		select {
		case <-tick.C:
		case <-r.ending:
		}
	}
}

// end lets those who follow the output have the rest of it, and closes the port.
func (r *relay) end() {
	r.once.Do(func() {
		r.mu.Lock()
		close(r.ending)
		r.mu.Unlock()
		read := make(chan struct{})
		go func() { // ends with the tails, which end with their connections
			r.tails.Wait()
			close(read)
		}()
		late := time.NewTimer(lastTime)
		defer late.Stop()
		select {
		case <-read:
		case <-late.C:
		}
		_ = r.listener.Close()
		r.mu.Lock()
		for conn := range r.open {
			_ = conn.Close()
		}
		r.mu.Unlock()
	})
	r.all.Wait()
}

// dial connects to the first address of a relay that answers, and says h.
func dial(ctx context.Context, addresses []string, cfg *tls.Config, h hello) (*tls.Conn, error) {
	err := errors.New("yarn: the master has no address")
	for _, address := range addresses {
		var nc net.Conn
		d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: helloTime}, Config: cfg}
		if nc, err = d.DialContext(ctx, "tcp", address); err != nil {
			err = fmt.Errorf("yarn: the master at %s: %w", address, err)
			continue
		}
		line, _ := json.Marshal(h)
		if _, err = nc.Write(append(line, '\n')); err == nil {
			return nc.(*tls.Conn), nil
		}
		_ = nc.Close()
	}
	return nil, err
}

// dialAsClient connects with a client's access.
func (a *Access) dial(ctx context.Context, address string, h hello) (*tls.Conn, error) {
	if len(a.Seed) != ed25519.SeedSize || len(a.Master) != ed25519.PublicKeySize {
		return nil, errors.New("yarn: the access to the master is damaged")
	}
	cfg, err := config(ed25519.NewKeyFromSeed(a.Seed), ed25519.PublicKey(a.Master))
	if err != nil {
		return nil, err
	}
	return dial(ctx, []string{address}, cfg, h)
}

// Head asks the master where the head is, and for what the application waits.
func (a *Access) Head(ctx context.Context, address string) (addresses []string, waits string, err error) {
	conn, err := a.dial(ctx, address, hello{Want: "head"})
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var w where
	if err := json.NewDecoder(conn).Decode(&w); err != nil {
		return nil, "", fmt.Errorf("yarn: the master at %s: %w", address, err)
	}
	return w.Addresses, w.Waits, nil
}

// Log copies the application's output (or its messages) from a byte on, and says how many came. Without an error that was all
// of it: what there is now, or, with goOn, up to the application's end; goOn is called once the master has answered.
func (a *Access) Log(ctx context.Context, address string, messages bool, from int64, goOn func(), to io.Writer) (int64, error) {
	conn, err := a.dial(ctx, address, hello{Want: "log", From: from, Go: goOn != nil, Err: messages})
	if err != nil {
		return 0, err
	}
	if goOn != nil {
		goOn()
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	n, err := io.Copy(to, httputil.NewChunkedReader(conn))
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("yarn: the master at %s: %w", address, err)
	}
	return n, err
}
