package yarn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
)

// Token is a Hadoop token: what a process shows instead of a Kerberos ticket.
type Token struct {
	Identifier []byte `pb:"1,required"`
	Password   []byte `pb:"2,required"`
	Kind       string `pb:"3,required"` // YARN_AM_RM_TOKEN, HDFS_DELEGATION_TOKEN, ...
	Service    string `pb:"4,required"` // where it counts: ip:port or a logical name; "" for the ResourceManager's scheduler
}

// String tells which token it is, without its secret.
func (t Token) String() string { return fmt.Sprintf("Kind: %s, Service: %s", t.Kind, t.Service) }

// Ends is when nobody can renew a token for HDFS any more, as it says itself.
func (t Token) Ends() (time.Time, bool) {
	r := writable{b: t.Identifier}
	if t.Kind != KindHDFS || r.vint() != 0 { // the version of what follows
		return time.Time{}, false
	}
	for range 3 { // whose it is, who renews it, for whom it was got
		r.part()
	}
	r.vint() // when it was made
	ends := time.UnixMilli(r.vint())
	return ends, !r.bad
}

// Kinds of tokens.
const (
	KindAMRM         = "YARN_AM_RM_TOKEN"      // of an ApplicationMaster, for the scheduler
	KindNM           = "NMToken"               // of an ApplicationMaster, for one NodeManager
	KindRMDelegation = "RM_DELEGATION_TOKEN"   // of a client, for the ResourceManager
	KindHDFS         = "HDFS_DELEGATION_TOKEN" // of a client, for the NameNode
)

// Credentials are the tokens and secrets that a process carries: the file at HADOOP_TOKEN_FILE_LOCATION, and
// what a LaunchContext hands to a container.
type Credentials struct {
	Tokens  map[string]Token  // by alias
	Secrets map[string][]byte // by name
}

// Find gives the first token of a kind, in the order of the aliases; a service of "" fits any.
func (c Credentials) Find(kind, service string) (Token, bool) {
	for _, alias := range slices.Sorted(maps.Keys(c.Tokens)) {
		if t := c.Tokens[alias]; t.Kind == kind && (service == "" || t.Service == service) {
			return t, true
		}
	}
	return Token{}, false
}

// ForHDFS gives the token for a file system: the one for its service, else the first of the kind, which is called by another of its names.
func (c Credentials) ForHDFS(service string) (Token, bool) {
	if t, ok := c.Find(KindHDFS, service); ok {
		return t, true
	}
	return c.Find(KindHDFS, "")
}

const (
	credentialsMagic    = "HDTS"
	credentialsWritable = 0 // what Hadoop writes
	credentialsProto    = 1
)

type credentialsMessage struct {
	Tokens  []credentialsEntry `pb:"1"`
	Secrets []credentialsEntry `pb:"2"`
}

type credentialsEntry struct {
	Alias  string `pb:"1,required"`
	Token  *Token `pb:"2"`
	Secret []byte `pb:"3"`
}

// Marshal writes the format of a token file, as Hadoop itself writes it. Equal credentials give equal bytes.
func (c Credentials) Marshal() []byte {
	b := append([]byte(credentialsMagic), credentialsWritable)
	b = appendVint(b, int64(len(c.Tokens)))
	for _, alias := range slices.Sorted(maps.Keys(c.Tokens)) {
		t := c.Tokens[alias]
		for _, part := range []string{alias, string(t.Identifier), string(t.Password), t.Kind, t.Service} {
			b = append(appendVint(b, int64(len(part))), part...)
		}
	}
	b = appendVint(b, int64(len(c.Secrets)))
	for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
		b = append(appendVint(b, int64(len(name))), name...)
		b = append(appendVint(b, int64(len(c.Secrets[name]))), c.Secrets[name]...)
	}
	return b
}

// ReadCredentials reads a token file. The error never shows what is in it.
func ReadCredentials(path string) (Credentials, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Credentials{}, fmt.Errorf("yarn: read the token file: %w", err)
	}
	return ParseCredentials(b)
}

// ParseCredentials reads the content of a token file, in either of its formats.
func ParseCredentials(b []byte) (Credentials, error) {
	c := Credentials{Tokens: map[string]Token{}, Secrets: map[string][]byte{}}
	if len(b) < 5 || string(b[:4]) != credentialsMagic {
		return c, errors.New("yarn: not a token file: it does not begin with " + credentialsMagic)
	}
	var err error
	switch b[4] {
	case credentialsWritable:
		err = c.readWritable(b[5:])
	case credentialsProto:
		err = c.readProto(b[5:])
	default:
		err = fmt.Errorf("format %d is not known", b[4])
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("yarn: token file: %w", err)
	}
	return c, nil
}

func (c *Credentials) readProto(b []byte) error {
	body, _, err := proto.CutDelimited(b)
	var m credentialsMessage
	if err == nil {
		err = proto.Unmarshal(body, &m)
	}
	if err != nil {
		return err
	}
	for _, e := range m.Tokens {
		if e.Token != nil {
			c.Tokens[e.Alias] = *e.Token
		}
	}
	for _, e := range m.Secrets {
		c.Secrets[e.Alias] = e.Secret
	}
	return nil
}

func (c *Credentials) readWritable(b []byte) error {
	r := writable{b: b}
	for range r.count() {
		alias := r.part()
		t := Token{Identifier: r.part(), Password: r.part(), Kind: string(r.part()), Service: string(r.part())}
		if r.bad {
			break
		}
		c.Tokens[string(alias)] = t
	}
	for range r.count() {
		name, secret := r.part(), r.part()
		if r.bad {
			break
		}
		c.Secrets[string(name)] = secret
	}
	if r.bad {
		return errors.New("it is cut short, or damaged")
	}
	return nil
}

// writable reads Hadoop's own old encoding. After something that can't be read bad is set, and all is empty.
type writable struct {
	b   []byte
	bad bool
}

// vint is one byte from -112 to 127 by itself, or the count of the bytes that follow, big endian.
func (r *writable) vint() int64 {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	first := int8(r.b[0])
	r.b = r.b[1:]
	if first >= -112 {
		return int64(first)
	}
	n, negative := int(-112-int(first)), false
	if first < -120 {
		n, negative = int(-120-int(first)), true
	}
	if n > len(r.b) {
		r.bad = true
		return 0
	}
	var full [8]byte
	copy(full[8-n:], r.b[:n])
	r.b = r.b[n:]
	v := int64(binary.BigEndian.Uint64(full[:]))
	if negative {
		v = ^v
	}
	return v
}

// count is a number of things that follow, each of which takes a byte at least.
func (r *writable) count() int {
	n := r.vint()
	if n < 0 || n > int64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *writable) part() []byte {
	n := r.vint()
	if n < 0 || n > int64(len(r.b)) {
		r.bad = true
	}
	if r.bad {
		return nil
	}
	part := slices.Clone(r.b[:n:n])
	r.b = r.b[n:]
	return part
}

func appendVint(b []byte, v int64) []byte {
	if v >= -112 && v <= 127 {
		return append(b, byte(v))
	}
	first := -112
	if v < 0 {
		v, first = ^v, -120
	}
	full := binary.BigEndian.AppendUint64(nil, uint64(v))
	for len(full) > 1 && full[0] == 0 {
		full = full[1:]
	}
	return append(append(b, byte(int8(first-len(full)))), full...)
}

// String tells what is there, without a secret.
func (c Credentials) String() string {
	return fmt.Sprintf("%d tokens, %d secrets", len(c.Tokens), len(c.Secrets))
}
