package yarn_test

import (
	"context"
	"errors"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
)

// located is a block, as a NameNode says where it lies.
type located struct {
	Block struct {
		Nodes []dataNodeInfo `pb:"3"`
	} `pb:"1"`
}

type dataNodeInfo struct {
	ID struct {
		IP   string `pb:"1"`
		Port uint32 `pb:"4"`
	} `pb:"1"`
	Location string `pb:"8"`
}

func infoOf(address net.Addr) (n dataNodeInfo) {
	n.ID.IP, n.ID.Port, n.Location = "127.0.0.1", uint32(address.(*net.TCPAddr).Port), "/rack"
	return n
}

type addBlock struct {
	File     string         `pb:"1"`
	Excluded []dataNodeInfo `pb:"4"`
}

// names is a NameNode, and a way to it with what goes by it.
func names(t *testing.T, broken *yarn.Broken, handle func(rpc.Request) (any, error)) (*yarn.HDFS, *rpc.Client) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rpc.Server{Handle: handle}
	s.Serve(l)
	t.Cleanup(func() { s.Close() })
	h, err := yarn.NewHDFS(conf.New(), yarn.Config{User: "alice", Broken: broken}, []string{l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := rpc.New(rpc.Config{Addresses: []string{l.Addr().String()}, Protocol: "p", Dial: h.DialNameNode, Retry: rpc.Retry{For: -1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return h, c
}

// A NameNode hears with each request to close a file which its last block is, as one that was started anew has to, though the library says so only once.
func TestLastBlockIsNamedAgain(t *testing.T) {
	type ending struct {
		Name string `pb:"1"`
		Last []byte `pb:"3"`
		File uint64 `pb:"4"`
	}
	var seen []ending
	_, c := names(t, new(yarn.Broken), func(r rpc.Request) (any, error) {
		var e ending
		err := r.Read(&e)
		seen = append(seen, e)
		return struct {
			Result bool `pb:"1"`
		}{}, err
	})
	for _, tc := range []struct{ asks, want ending }{
		{ending{"empty", nil, 1}, ending{"empty", nil, 1}},
		{ending{"f", []byte("one"), 2}, ending{"f", []byte("one"), 2}},
		{ending{"f", nil, 2}, ending{"f", []byte("one"), 2}},
		{ending{"f", nil, 3}, ending{"f", nil, 3}}, // another file of that name
		{ending{"f", []byte("two"), 2}, ending{"f", []byte("two"), 2}},
		{ending{"f", nil, 2}, ending{"f", []byte("two"), 2}},
	} {
		seen = nil
		if err := c.Call(t.Context(), "complete", tc.asks, nil); err != nil || len(seen) != 1 || !reflect.DeepEqual(seen[0], tc.want) {
			t.Errorf("%+v: %+v, %v", tc.asks, seen, err)
		}
	}
}

// What broke gets no new blocks, by whichever way: those that take no connection, or, where all do, all. A NameNode that knows no others is not kept from them.
func TestBrokenDataNodesGetNoBlocks(t *testing.T) {
	var nodes []dataNodeInfo
	for range 4 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if nodes = append(nodes, infoOf(l.Addr())); len(nodes) == 1 {
			l.Close() // the first one is dead
			continue
		}
		defer l.Close()
	}
	var mu sync.Mutex
	var gives []dataNodeInfo
	var seen [][]dataNodeInfo
	var broken yarn.Broken
	handle := func(r rpc.Request) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		var a addBlock
		if err := r.Read(&a); err != nil || a.File != "f" {
			return nil, errors.New("a request that is not what was sent")
		}
		if seen = append(seen, a.Excluded); len(a.Excluded) > 2 {
			return nil, &rpc.RemoteError{Class: "java.io.IOException", Message: "could only be written to 0 of the 1 minReplication nodes"}
		}
		var l located
		l.Block.Nodes = gives
		return l, nil
	}
	one, first := names(t, &broken, handle)
	two, second := names(t, &broken, handle)
	asks := func(c *rpc.Client, gets []dataNodeInfo, want ...[]dataNodeInfo) {
		t.Helper()
		mu.Lock()
		gives, seen = gets, nil
		mu.Unlock()
		var l located
		if err := c.Call(t.Context(), "addBlock", addBlock{File: "f"}, &l); err != nil || len(l.Block.Nodes) != len(gets) {
			t.Fatal(l, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(seen) != len(want) {
			t.Fatalf("%d tries: %v", len(seen), seen)
		}
		for i, w := range want {
			if len(seen[i]) != len(w) {
				t.Errorf("%v are excluded, not %v", seen[i], w)
				continue
			}
			for j := range w {
				if seen[i][j] != w[j] {
					t.Errorf("%v are excluded, not %v", seen[i], w)
				}
			}
		}
	}
	two.Break(t.Context()) // nothing was written
	asks(first, nodes[:2], nil)
	one.Break(t.Context())
	one.Break(t.Context()) // once it is noted
	asks(second, nodes[1:2], nodes[:1])
	two.Break(t.Context())
	asks(first, nodes[2:], nodes[:2])
	one.Break(t.Context())
	asks(second, nodes[:1], nodes, nil)
}

// A file whose writer is gone is closed once its NameNode says so, however often it does not know yet.
func TestRecoverWaits(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	answers := []any{false, errors.New("none"), false, true}
	h, _ := names(t, nil, func(r rpc.Request) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		var request struct {
			Name   string `pb:"1"`
			Client string `pb:"2"`
		}
		if err := r.Read(&request); err != nil || (request.Client != "") != (r.Method == "recoverLease") {
			t.Errorf("%+v %v", request, err)
		}
		asked = append(asked, r.Method)
		switch request.Name {
		case "gone":
			return nil, &rpc.RemoteError{Class: "java.io.FileNotFoundException", Message: "no such file"}
		case "f":
			a := answers[len(asked)-1]
			if err, is := a.(error); is {
				return nil, &rpc.RemoteError{Class: "java.io.IOException", Message: err.Error()}
			}
			return struct {
				Yes bool `pb:"1"`
			}{a.(bool)}, nil
		}
		return struct{}{}, nil
	})
	err := h.Recover(t.Context(), "f")
	mu.Lock()
	if err != nil || len(asked) != 4 || asked[0] != "recoverLease" || asked[1] != "isFileClosed" {
		t.Error(err, asked)
	}
	mu.Unlock()
	if err := h.Recover(t.Context(), "gone"); !errors.Is(err, yarn.ErrRefused) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := h.Recover(ctx, "never"); !errors.Is(err, yarn.ErrRefused) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
