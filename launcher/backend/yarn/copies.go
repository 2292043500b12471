package yarn

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"
)

const (
	copyTime = 2 * time.Second // a node that takes longer to take a piece of the journal is cut off
	maxCopy  = 8 << 20         // of a larger journal there are no copies
	oursTime = 50 * time.Millisecond
	// maxTrust is for how long YARN's last answer is good when a node has gone: far less than the ten minutes after which YARN takes a master
	// that says nothing for dead, and more than a ResourceManager needs to start again.
	maxTrust = time.Minute
)

// piece is a line to a node: what the head wrote into its journal. Seq counts pieces, in one row for all masters of an application.
type piece struct {
	Seq   uint64 `json:"seq"`
	Data  []byte `json:"journal"`
	Whole bool   `json:"whole,omitempty"` // instead of all before
}

// kept is a node's answer: it has all pieces up to this one.
type kept struct {
	Seq uint64 `json:"kept"`
}

// copies are those of the head's journal that the nodes have. The head waits until all nodes that are there have each piece of it: so a
// master that comes after this one finds all that the head has ever said in any of them.
//
// A node that goes may have gone to such a master. So once one has gone nothing more is said to be kept unless YARN has answered since that
// this one is the master, or did so a moment ago: YARN starts no other one before it has heard nothing of this one for much longer.
type copies struct {
	answered func() time.Time // of when the last word to YARN was that it has answered; nil: it always has
	trust    time.Duration

	mu    sync.Mutex
	more  *sync.Cond
	data  []byte
	seq   uint64
	links map[*link]uint64 // the last piece that each has
	lost  time.Time        // when a node went last; zero: none did
	over  bool
}

func newCopies(data []byte, seq uint64) *copies {
	c := &copies{data: data, seq: seq, links: map[*link]uint64{}}
	c.more = sync.NewCond(&c.mu)
	return c
}

// keep has all nodes keep a piece, and returns when they do.
func (c *copies) keep(data []byte, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if whole {
		c.data = nil
	}
	c.data = append(c.data, data...)
	c.seq++
	seq := c.seq
	p := piece{seq, data, whole}
	if len(c.data) > maxCopy {
		p = piece{seq, nil, true}
	}
	for l := range c.links {
		c.send(l, p)
	}
	late := time.AfterFunc(copyTime, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for l, has := range c.links {
			if has < seq {
				l.close()
				c.drop(l)
			}
		}
		c.more.Broadcast()
	})
	defer late.Stop()
	for c.missing(seq) {
		c.more.Wait()
	}
	for !c.over && !c.ours() {
		c.mu.Unlock()
		time.Sleep(oursTime)
		c.mu.Lock()
	}
}

// ours tells whether this is the application's master for certain.
func (c *copies) ours() bool {
	if c.lost.IsZero() || c.answered == nil {
		return true
	}
	at := c.answered()
	return at.After(c.lost) || time.Since(at) < c.trust
}

// drop forgets a node that went.
func (c *copies) drop(l *link) {
	if _, ok := c.links[l]; ok {
		delete(c.links, l)
		c.lost = time.Now()
	}
}

// close has nobody wait for YARN any more, which was told of the end.
func (c *copies) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

func (c *copies) missing(seq uint64) bool {
	for _, has := range c.links {
		if has < seq {
			return true
		}
	}
	return false
}

// send sends a piece; a node that can't be sent anything is not waited for.
func (c *copies) send(l *link, p piece) {
	line, _ := json.Marshal(p)
	if l.send(line) != nil {
		l.close()
		c.drop(l)
	}
}

// add gives a node that came the whole journal.
func (c *copies) add(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.links[l] = 0
	p := piece{c.seq, c.data, true}
	if len(c.data) > maxCopy {
		p.Data = nil
	}
	c.send(l, p)
}

func (c *copies) remove(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(l)
	c.more.Broadcast()
}

// takes takes in a node's line, if it is one about copies.
func (c *copies) takes(l *link, line []byte) bool {
	if !bytes.HasPrefix(line, []byte(`{"kept":`)) {
		return false
	}
	var k kept
	if json.Unmarshal(line, &k) != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.links[l]; ok {
		c.links[l] = max(c.links[l], k.Seq)
		c.more.Broadcast()
	}
	return true
}
