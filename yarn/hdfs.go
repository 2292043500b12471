package yarn

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

const nameNodeProtocol = "org.apache.hadoop.hdfs.protocol.ClientProtocol"

// OpNameNode is what an *Error of a connection to NameNodes says that was asked.
const OpNameNode = "NameNode"

// notYet are the exceptions of a NameNode that has started and does not know yet where blocks are: it has done nothing.
var notYet = []string{"SafeModeException", "NotReplicatedYetException"}

const (
	nameNodeAgain  = 200 * time.Millisecond // after the first round over the NameNodes; doubled for each later one
	nameNodeRarely = 2 * time.Second
	nameNodeLogin  = 10 * time.Second // for a connection
)

// HDFS is how a client that knows nothing of security reaches an HDFS: DialNameNode and DialDataNode are what it dials with. Their connections are logged in,
// and wrapped or encrypted as the site wants it. It may be used by several goroutines.
type HDFS struct {
	nameNodes rpc.Config
	transfer  []sasl.QOP // what is good enough between us and DataNodes; nil: they are not asked to prove anything
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	login     time.Duration // so long may one at a DataNode last
	broken    *Broken

	mu      sync.Mutex
	last    []dataNode // of the block that was given or looked up last for writing
	encrypt bool       // the NameNode says that data is encrypted
	key     *dataKey   // with this; nil: it is asked for when it is needed
	ends    []complete // of files, the latest last
}

// complete is the request to close a file.
type complete struct {
	Name string `pb:"1"`
	Last []byte `pb:"3"` // its last block
	File uint64 `pb:"4"`
}

// maxEnds is of how many files a way knows the last blocks.
const maxEnds = 1000

// NewHDFS gives the way to the file system behind NameNodes, as the site's configuration says it is to be reached. Of cfg User, Token, Kerberos, Dial, Timeout,
// RetryFor, RetryInterval (0: 200 ms, growing to 2 s), Waits, Active and Broken count, for NameNodes in the place of ResourceManagers; of the token it is the NameNode's.
func NewHDFS(c *conf.Conf, cfg Config, addresses []string) (*HDFS, error) {
	h := &HDFS{dial: cfg.Dial, login: transferLogin, broken: cfg.Broken}
	if h.broken == nil {
		h.broken = new(Broken)
	}
	if h.dial == nil {
		h.dial = (&net.Dialer{}).DialContext
	}
	if c.Secure() {
		cfg.Principal = c.Get("dfs.namenode.kerberos.principal")
		if c.Source("hadoop.rpc.protection") != "" {
			cfg.Protection = c.Strings("hadoop.rpc.protection")
		}
		var err error
		if h.transfer, err = sasl.Protections(c.Strings("dfs.data.transfer.protection")); err != nil {
			return nil, fmt.Errorf("yarn: dfs.data.transfer.protection: %w", err)
		}
	}
	auth, err := cfg.auth()
	if err != nil {
		return nil, err
	}
	if cfg.Active == nil {
		cfg.Active = new(atomic.Int32)
	}
	var waits func(error)
	if cfg.Waits != nil {
		waits = func(err error) { cfg.Waits(ErrorOf(OpNameNode, err)) }
	}
	h.nameNodes = rpc.Config{
		Addresses: addresses, Protocol: nameNodeProtocol, Dial: cfg.Dial, Timeout: cfg.Timeout, Connect: nameNodeLogin, Active: cfg.Active,
		Auth: func() (rpc.Auth, error) { return auth, nil },
		Retry: rpc.Retry{
			For: cmp.Or(cfg.RetryFor, time.Minute), Interval: cmp.Or(cfg.RetryInterval, nameNodeAgain), MaxInterval: nameNodeRarely, Passing: notYet,
			Waits: waits,
		},
	}
	return h, nil
}

// DialNameNode gives a connection to the active one of the NameNodes, whichever is named. It is made and logged in with the first call, and lives until it is
// closed: a call that no NameNode answered is made again elsewhere, by the same numbers, for RetryFor; then Read gives an *Error (OpNameNode), and later calls go on. So a file
// that is being written outlives a NameNode that is started anew or followed by another one. The renewal of leases, which clients repeat themselves, is not repeated.
// Whether data is to be encrypted is heard, and kept from the client: it is DialDataNode that does it. New blocks go to no DataNode that Break has found, unless the
// NameNode knows no others.
func (h *HDFS) DialNameNode(context.Context, string, string) (net.Conn, error) {
	c, err := rpc.New(h.nameNodes)
	if err != nil {
		return nil, fmt.Errorf("yarn: %w; name the NameNodes", err)
	}
	return rpc.Tunnel(c, rpc.Relay{
		Heed: map[string]func([]byte){"getServerDefaults": h.heard, "addBlock": h.given, "append": h.given}, Once: []string{"renewLease"},
		Add:   map[string]func([]byte) []byte{"addBlock": h.broken.excluded, "complete": h.completes},
		Error: func(err error) error { return ErrorOf(OpNameNode, err) },
	}), nil
}

// heard looks at the NameNode's defaults, {1 {... 6 encrypt}}.
func (h *HDFS) heard(defaults []byte) {
	encrypt := proto.Find(defaults, 1, 6)
	h.mu.Lock()
	h.encrypt = len(encrypt) == 1 && encrypt[0] != 0
	h.mu.Unlock()
	if len(encrypt) == 1 {
		encrypt[0] = 0
	}
}

// completes names a file's last block with each request to close it. Who waits until the block is where it is to be asks again and again, and may name it with
// the first request alone; but a NameNode that was started anew meanwhile knows no more that the block is written, and waits for that for ever.
func (h *HDFS) completes(request []byte) []byte {
	var r complete
	if proto.Unmarshal(request, &r) != nil { // the NameNode says what is wrong with it
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.ends, func(e complete) bool { return e.Name == r.Name && e.File == r.File })
	switch {
	case len(r.Last) > 0:
		if i >= 0 {
			h.ends = slices.Delete(h.ends, i, i+1)
		}
		r.Last = slices.Clone(r.Last)
		h.ends = append(h.ends[max(0, len(h.ends)+1-maxEnds):], r)
	case i >= 0:
		return proto.Marshal(complete{Last: h.ends[i].Last})
	}
	return nil
}

// ask calls the active NameNode.
func (h *HDFS) ask(ctx context.Context, op, method string, request, reply any) error {
	c, err := rpc.New(h.nameNodes)
	if err != nil {
		return fmt.Errorf("yarn: %w; name the NameNodes", err)
	}
	defer c.Close()
	return ErrorOf(op, c.Call(ctx, method, request, reply))
}

// Token asks for a token with which a process without a ticket can log in to HDFS, from the active one of its
// NameNodes. renewer is the ResourceManager's principal for what an application carries. service is what the token will be
// looked for by: see TokenService.
func (h *HDFS) Token(ctx context.Context, service, renewer string) (Token, error) {
	const op = "HDFS delegation token"
	var r struct {
		Token *Token `pb:"1"`
	}
	err := h.ask(ctx, op, "getDelegationToken", struct {
		Renewer string `pb:"1,required"`
	}{renewer}, &r)
	if err != nil {
		return Token{}, err
	}
	if r.Token == nil {
		return Token{}, &Error{Op: op, Text: "the NameNode gave none", Do: "a cluster without Kerberos needs none", Kind: ErrRefused}
	}
	r.Token.Service = service
	return *r.Token, nil
}

// TokenService is what Hadoop calls a token for a service at host:port: by its address, unless useIP, which is
// hadoop.security.token.service.use_ip, is false. The logical name of a file system with several NameNodes, ha-hdfs:NAME, stays.
func TokenService(ctx context.Context, service string, useIP bool) string {
	host, port, err := net.SplitHostPort(service)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || net.ParseIP(host) != nil {
		return service
	}
	if !useIP {
		return net.JoinHostPort(strings.ToLower(host), port)
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip4", host)
	if err != nil || len(ips) == 0 {
		return service
	}
	return net.JoinHostPort(ips[0].String(), port)
}
