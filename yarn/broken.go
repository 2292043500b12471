package yarn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
)

// A NameNode gives blocks to a DataNode that is gone until it has not heard of it for ten minutes. So whoever writes notes which one broke what it was sent, and
// says so with each request for a block, as Hadoop's own clients do.
const (
	brokenFor  = 10 * time.Minute // one that takes no connection
	suspectFor = time.Minute      // one of several, of which nobody knows which it was
	knock      = 3 * time.Second  // for a connection
)

// Broken are DataNodes that get no new blocks for a while. The zero value is none. It may be used by several goroutines.
type Broken struct {
	mu    sync.Mutex
	nodes []dataNode
}

// dataNode is one, as a NameNode speaks of it.
type dataNode struct {
	address string
	info    []byte    // DatanodeInfoProto
	until   time.Time // it is broken
}

// located is what a NameNode answers to addBlock and append.
type located struct {
	Block struct {
		Nodes [][]byte `pb:"3"`
	} `pb:"1"`
}

// given notes where a block lies that is written next.
func (h *HDFS) given(answer []byte) {
	var l located
	var nodes []dataNode
	if proto.Unmarshal(answer, &l) != nil { // the client says what is wrong with it
		return
	}
	for _, info := range l.Block.Nodes {
		var n struct {
			ID struct {
				IP   string `pb:"1"`
				Port uint32 `pb:"4"`
			} `pb:"1"`
		}
		if proto.Unmarshal(info, &n) == nil {
			nodes = append(nodes, dataNode{address: net.JoinHostPort(n.ID.IP, strconv.Itoa(int(n.ID.Port))), info: slices.Clone(info)})
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = nodes
}

// Break says that the block which a client of this way wrote last broke: of its DataNodes those that take no connection get no new blocks for ten minutes, or, if all do, none of
// them for one.
func (h *HDFS) Break(ctx context.Context) {
	h.mu.Lock()
	nodes := slices.Clone(h.last)
	h.last = nil
	h.mu.Unlock()
	var gone []dataNode
	for _, n := range nodes {
		if !h.lives(ctx, n.address) {
			gone = append(gone, n)
		}
	}
	if now := time.Now(); len(gone) > 0 {
		h.broken.add(gone, now.Add(brokenFor))
	} else {
		h.broken.add(nodes, now.Add(suspectFor))
	}
}

// lives tells whether a DataNode takes a connection.
func (h *HDFS) lives(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, knock)
	defer cancel()
	c, err := h.dial(ctx, "tcp", address)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func (b *Broken) add(nodes []dataNode, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range nodes {
		b.nodes = slices.DeleteFunc(b.nodes, func(o dataNode) bool { return o.address == n.address })
		n.until = until
		b.nodes = append(b.nodes, n)
	}
}

// excluded are those that are broken now, as a request for a block has them.
func (b *Broken) excluded([]byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.nodes = slices.DeleteFunc(b.nodes, func(n dataNode) bool { return now.After(n.until) })
	var request struct {
		Excluded [][]byte `pb:"4"`
	}
	for _, n := range b.nodes {
		request.Excluded = append(request.Excluded, n.info)
	}
	return proto.Marshal(request)
}

const (
	closedYet    = 300 * time.Millisecond // between two looks at a file that is being closed
	recoverAgain = 15 * time.Second       // then the NameNode is asked anew
)

// Recover has a file closed whose writer is gone, where it is whole: what the DataNodes of its last block had said to have is in it, as long as one of them lives.
func (h *HDFS) Recover(ctx context.Context, name string) error {
	const op = "recovery of a file"
	var yes struct {
		Result bool `pb:"1"`
	}
	type file struct {
		Name   string `pb:"1,required"`
		Client string `pb:"2"`
	}
	c, err := rpc.New(h.nameNodes)
	if err != nil {
		return fmt.Errorf("yarn: %w; name the NameNodes", err)
	}
	defer c.Close()
	var last error
	for asked := (time.Time{}); ; {
		method, request := "isFileClosed", file{Name: name}
		if time.Since(asked) > recoverAgain {
			asked, method, request.Client = time.Now(), "recoverLease", "maniple-"+strconv.Itoa(os.Getpid())
		}
		yes.Result = false
		err := ErrorOf(op, c.Call(ctx, method, request, &yes))
		switch {
		case err == nil && yes.Result:
			return nil
		case errors.Is(err, ErrUnreachable), errors.Is(err, ErrTooSlow), errors.Is(err, ErrCredentials), errors.Is(err, ErrNotYours):
			return err
		case err != nil: // it is being done, or its blocks are not reported yet
			last = err
			var said *Error
			if errors.As(err, &said) && said.Class == "FileNotFoundException" {
				return err
			}
		}
		t := time.NewTimer(closedYet)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return &Error{Op: op, Text: fmt.Sprintf("no DataNode that had the end of %s has brought it to an end", name), Kind: ErrRefused, Err: errors.Join(context.Cause(ctx), last)}
		}
	}
}
