package yarn_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// greeting is a message of a login at a DataNode.
type greeting struct {
	Status  int32    `pb:"1,required"`
	Payload []byte   `pb:"2"`
	Message string   `pb:"3"`
	Ciphers []agreed `pb:"4"`
}

type agreed struct {
	Suite  int32  `pb:"1,required"`
	InKey  []byte `pb:"2"`
	InIV   []byte `pb:"3"`
	OutKey []byte `pb:"4"`
	OutIV  []byte `pb:"5"`
}

// defaults are a NameNode's, as far as they are of interest.
type defaults struct {
	Server struct {
		BlockSize int64  `pb:"1"`
		Encrypt   bool   `pb:"6,required"`
		After     string `pb:"9"`
	} `pb:"1"`
}

type key struct {
	Key struct {
		ID      uint32    `pb:"1"`
		Pool    string    `pb:"2"`
		Nonce   []byte    `pb:"3"`
		Key     []byte    `pb:"4"`
		Expires time.Time `pb:"5"`
	} `pb:"1"`
}

// dfs is an HDFS of one NameNode and one DataNode that says back what it is told.
type dfs struct {
	t        *testing.T
	offer    []sasl.QOP // of the DataNode; nil: it wants no login
	aes      bool
	encrypt  bool
	name     rpc.Server
	nameAt   string
	data     net.Listener
	mu       sync.Mutex
	keys     int    // that were given
	seen     []byte // of what came from the network at the DataNode
	lifetime time.Duration
	refuses  string // "": the DataNode lets in
	shut     bool   // the NameNode lets nobody in
}

func (d *dfs) start() *dfs {
	names, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		d.data, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.nameAt = names.Addr().String()
	d.name.Offer = []sasl.QOP{sasl.Privacy}
	d.name.Password = func(id []byte) ([]byte, bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		return []byte("pw"), string(id) == "id" && !d.shut
	}
	d.name.Handle = func(r rpc.Request) (any, error) {
		switch r.Method {
		case "getServerDefaults":
			var a defaults
			a.Server.BlockSize, a.Server.Encrypt, a.Server.After = 1<<27, d.encrypt, "after"
			return a, nil
		case "getDataEncryptionKey":
			d.mu.Lock()
			defer d.mu.Unlock()
			d.keys++
			var a key
			a.Key.ID, a.Key.Pool, a.Key.Nonce, a.Key.Key, a.Key.Expires = 1<<32-5, "BP-1", []byte("nonce"), fmt.Append(nil, "key", d.keys), time.Now().Add(d.lifetime)
			return a, nil
		}
		return nil, errors.New(r.Method)
	}
	d.name.Serve(names)
	var running sync.WaitGroup
	data := d.data
	running.Go(func() {
		for {
			c, err := data.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				if err := d.serve(c); err != nil && !errors.Is(err, io.EOF) {
					d.t.Log(err)
				}
			})
		}
	})
	d.t.Cleanup(func() { data.Close(); d.name.Close(); running.Wait() })
	return d
}

// tapped is what comes at the DataNode, kept to be looked at.
func (d *dfs) tapped(r io.Reader) io.Reader {
	return io.TeeReader(r, tap(func(b []byte) {
		d.mu.Lock()
		d.seen = append(d.seen, b...)
		d.mu.Unlock()
	}))
}

type tap func([]byte)

func (t tap) Write(b []byte) (int, error) { t(b); return len(b), nil }

func (d *dfs) serve(c net.Conn) error {
	r := bufio.NewReader(d.tapped(c))
	in, out := io.Reader(r), io.Writer(c)
	if d.offer != nil {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil || binary.BigEndian.Uint32(head[:]) != 0xdeadbeef {
			return fmt.Errorf("%x %w", head, err)
		}
		if _, err := next(r); err != nil {
			return err
		}
		s := &sasl.DigestServer{Protocol: "hdfs", ServerID: "0", Offer: d.offer, Named: d.encrypt}
		c.Write(proto.AppendDelimited(nil, greeting{Payload: s.Challenge()}))
		answer, err := next(r)
		if err != nil {
			return err
		}
		_, proof, err := s.Check(answer.Payload, func(id []byte) ([]byte, bool) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.encrypt {
				return fmt.Append(nil, "key", d.keys), string(id) == "-5 BP-1 bm9uY2U="
			}
			return []byte("block's"), string(id) == "block"
		})
		if err == nil && d.refuses != "" {
			err = errors.New(d.refuses)
		}
		if err != nil {
			status := int32(2)
			if d.encrypt {
				status = 1
			}
			c.Write(proto.AppendDelimited(nil, greeting{Status: status, Message: err.Error()}))
			return nil
		}
		last := greeting{Payload: proof}
		layer := s.Layer()
		if d.aes && len(answer.Ciphers) > 0 {
			one, iv := bytes.Repeat([]byte{7}, 16), bytes.Repeat([]byte{9}, 16)
			a, _ := layer.Wrap(one)
			b, _ := layer.Wrap(iv)
			last.Ciphers = []agreed{{Suite: 2, InKey: a, InIV: iv, OutKey: b, OutIV: one}}
			first, _ := aes.NewCipher(one)
			second, _ := aes.NewCipher(iv)
			in, out = cipher.StreamReader{S: cipher.NewCTR(first, iv), R: r}, cipher.StreamWriter{S: cipher.NewCTR(second, one), W: c}
		} else if layer != nil {
			in, out = &opened{r, layer, nil}, tap(func(b []byte) {
				for len(b) > 0 { // in pieces, as DataNodes do
					n := min(len(b), 1000)
					token, _ := layer.Wrap(b[:n])
					c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...))
					b = b[n:]
				}
			})
		}
		c.Write(proto.AppendDelimited(nil, last))
	}
	_, err := io.Copy(struct{ io.Writer }{out}, in)
	return err
}

// opened reads what is wrapped.
type opened struct {
	r     io.Reader
	layer sasl.Layer
	rest  []byte
}

func (o *opened) Read(b []byte) (int, error) {
	if len(o.rest) == 0 {
		var head [4]byte
		if _, err := io.ReadFull(o.r, head[:]); err != nil {
			return 0, err
		}
		token := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(o.r, token); err != nil {
			return 0, err
		}
		var err error
		if o.rest, err = o.layer.Unwrap(token); err != nil {
			return 0, err
		}
	}
	n := copy(b, o.rest)
	o.rest = o.rest[n:]
	return n, nil
}

func next(r *bufio.Reader) (m greeting, err error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return m, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return m, err
	}
	return m, proto.Unmarshal(b, &m)
}

// reach gives the way there, and what a client that knows no security hears of the NameNode's defaults.
func (d *dfs) reach(protection string) (*yarn.HDFS, defaults) {
	d.t.Helper()
	c := conf.New()
	c.Set("hadoop.security.authentication", "kerberos")
	c.Set("dfs.data.transfer.protection", protection)
	h, err := yarn.NewHDFS(c, yarn.Config{Token: &yarn.Token{Identifier: []byte("id"), Password: []byte("pw")}}, []string{d.nameAt})
	if err != nil {
		d.t.Fatal(err)
	}
	client, err := rpc.New(rpc.Config{
		Addresses: []string{d.nameAt}, Protocol: "p", Dial: h.DialNameNode, Retry: rpc.Retry{For: -1}, Auth: func() (rpc.Auth, error) { return rpc.Auth{User: "whoever"}, nil },
	})
	if err != nil {
		d.t.Fatal(err)
	}
	defer client.Close()
	var got defaults
	for range 2 {
		if err := client.Call(d.t.Context(), "getServerDefaults", struct{}{}, &got); err != nil || got.Server.BlockSize != 1<<27 || got.Server.After != "after" || got.Server.Encrypt {
			d.t.Errorf("the NameNode's defaults: %+v %v", got, err)
		}
	}
	return h, got
}

// request is a DataNode's, of a block with its token.
func request() []byte {
	type base struct {
		Token yarn.Token `pb:"2"`
	}
	type header struct {
		Base base `pb:"1"`
	}
	m := struct {
		Header header `pb:"1"`
		Offset int64  `pb:"2"`
	}{header{base{yarn.Token{Identifier: []byte("block"), Password: []byte("block's"), Kind: "HDFS_BLOCK_TOKEN"}}}, 17}
	return proto.AppendDelimited([]byte{0, 28, 0x51}, m)
}

// talk sends a request, piece by piece, and much behind it, and wants all of it back.
func (d *dfs) talk(h *yarn.HDFS) error {
	c, err := h.DialDataNode(context.Background(), "tcp", d.data.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	all := append(request(), []byte(strings.Repeat("a block's plain bytes", 10_000))...)
	for at, piece := 0, 5; at < len(all); at, piece = at+piece, 3*piece {
		piece = min(piece, len(all)-at)
		if n, err := c.Write(all[at : at+piece]); err != nil || n != piece {
			return fmt.Errorf("%d of %d: %w", n, piece, err)
		}
	}
	back := make([]byte, len(all))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if !bytes.Equal(back, all) {
		return errors.New("it came back as something else")
	}
	return nil
}

// YARN-7.
func TestDataIsProtectedAsTheSiteWants(t *testing.T) {
	for _, tc := range []struct {
		what       string
		offer      []sasl.QOP
		aes        bool
		encrypt    bool
		protection string
		plain      bool
		want       string
	}{
		{"nothing", nil, false, false, "", true, ""},
		{"login", []sasl.QOP{sasl.Auth}, false, false, "authentication", true, ""},
		{"integrity", []sasl.QOP{sasl.Auth, sasl.Integrity}, false, false, "integrity,authentication", true, ""},
		{"privacy", []sasl.QOP{sasl.Privacy}, false, false, "privacy", false, ""},
		{"the strongest of both", []sasl.QOP{sasl.Auth, sasl.Integrity, sasl.Privacy}, true, false, "authentication,privacy", false, ""},
		{"privacy by a cipher", []sasl.QOP{sasl.Privacy}, true, false, "privacy", false, ""},
		{"encrypted", []sasl.QOP{sasl.Privacy}, false, true, "", false, ""},
		{"encrypted by a cipher", []sasl.QOP{sasl.Privacy}, true, true, "integrity", false, ""},
		{"less than is wanted", []sasl.QOP{sasl.Integrity}, false, false, "privacy", false, "no common quality of protection"},
		{"less than the NameNode says", []sasl.QOP{sasl.Auth}, false, true, "authentication", false, "no common quality of protection"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			d := (&dfs{t: t, offer: tc.offer, aes: tc.aes, encrypt: tc.encrypt, lifetime: time.Hour}).start()
			h, _ := d.reach(tc.protection)
			for range 2 {
				err := d.talk(h)
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || !errors.Is(err, yarn.ErrCredentials)) {
					t.Error(err)
				}
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if tc.want == "" && bytes.Contains(d.seen, []byte("plain bytes")) != tc.plain {
				t.Errorf("what was on the network could be read: %v", !tc.plain)
			}
			if tc.want == "" && !tc.plain && bytes.Contains(d.seen, []byte("block's")) {
				t.Error("the block token's password was on the network")
			}
			if tc.encrypt && tc.want == "" && d.keys != 1 {
				t.Errorf("%d keys were asked for", d.keys)
			}
		})
	}
}

// A key that is known no more, as after the NameNode's restart, is asked for anew, and so is one that is too old.
func TestDataKeysAreReplaced(t *testing.T) {
	d := (&dfs{t: t, offer: []sasl.QOP{sasl.Privacy}, encrypt: true, lifetime: time.Hour}).start()
	h, _ := d.reach("")
	if err := d.talk(h); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.keys, d.lifetime = 7, 0
	d.mu.Unlock()
	for want := 8; want < 10; want++ {
		err := d.talk(h)
		d.mu.Lock()
		if err != nil || d.keys != want {
			t.Error(err, d.keys)
		}
		d.mu.Unlock()
	}
}

// What is not one of HDFS's DataNodes says something else, and nothing takes more memory than there are bytes.
func TestHostileDataNodes(t *testing.T) {
	for want, says := range map[string][]byte{
		"EOF":                 nil,
		"a message of":        binary.AppendUvarint(nil, 1<<40),
		"sasl: DIGEST-MD5":    proto.AppendDelimited(nil, greeting{Payload: []byte("HTTP/1.1 400")}),
		"no such block":       proto.AppendDelimited(nil, greeting{Status: 2, Message: "no such block"}),
		"not a message of":    {3, 0xff, 0xff, 0xff},
		"connection's end":    append([]byte{100}, "half"...),
		"no nonce":            proto.AppendDelimited(nil, greeting{Payload: []byte(`realm="0"`)}),
		"the server offers [": proto.AppendDelimited(nil, greeting{Payload: []byte(`nonce="x",qop="auth",algorithm=md5-sess`)}),
	} {
		d := (&dfs{t: t, offer: []sasl.QOP{sasl.Privacy}, lifetime: time.Hour}).start()
		h, _ := d.reach("privacy")
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		d.data.Close()
		d.data = l
		go func() {
			c, err := l.Accept()
			if err == nil {
				c.Write(says)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
				c.Close()
			}
		}()
		if err := d.talk(h); err == nil || want != "connection's end" && !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "block's") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A DataNode whose process is stopped takes connections and says nothing: a login is not waited for for ever, nor is the one with a new key.
func TestSilentDataNodes(t *testing.T) {
	for _, says := range [][]byte{nil, proto.AppendDelimited(nil, greeting{Status: 1, Message: "which key?"})} {
		d := (&dfs{t: t, offer: []sasl.QOP{sasl.Privacy}, encrypt: true, lifetime: time.Hour}).start()
		h, _ := d.reach("")
		h.LimitLogin(200 * time.Millisecond)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var taken sync.WaitGroup
		taken.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Write(says)
				says = nil
				taken.Go(func() {
					defer c.Close()
					c.SetReadDeadline(time.Now().Add(10 * time.Second))
					io.Copy(io.Discard, c)
				})
			}
		})
		c, err := h.DialDataNode(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetWriteDeadline(time.Now().Add(20 * time.Second)) // as who writes does
		if _, err := c.Write(request()); !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), l.Addr().String()) {
			t.Error(err)
		}
		c.Close()
		l.Close()
		taken.Wait()
	}
}

// What a DataNode refuses may be granted with new tokens of the blocks; what the NameNode refuses stays refused.
func TestRefusedByWhom(t *testing.T) {
	d := (&dfs{t: t, offer: []sasl.QOP{sasl.Privacy}, lifetime: time.Hour, refuses: "Block token is expired"}).start()
	h, _ := d.reach("privacy")
	if err := d.talk(h); err == nil || errors.Is(err, yarn.ErrCredentials) || !strings.Contains(err.Error(), d.data.Addr().String()) || !strings.Contains(err.Error(), d.refuses) {
		t.Error(err)
	}
	d = (&dfs{t: t, offer: []sasl.QOP{sasl.Privacy}, encrypt: true, lifetime: time.Hour}).start()
	h, _ = d.reach("")
	d.mu.Lock()
	d.shut = true
	d.mu.Unlock()
	if err := d.talk(h); !errors.Is(err, yarn.ErrCredentials) {
		t.Error(err)
	}
}
