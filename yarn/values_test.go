package yarn

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
)

func TestIDs(t *testing.T) {
	app := ApplicationID{7, 1700000000000}
	for want, id := range map[string]fmt.Stringer{
		"application_1700000000000_0007":               app,
		"application_1700000000000_123456":             ApplicationID{123456, 1700000000000},
		"appattempt_1700000000000_0007_000002":         AttemptID{app, 2},
		"container_1700000000000_0007_02_000031":       ContainerID{AttemptID{app, 2}, 31},
		"container_e17_1700000000000_0007_02_1000000":  ContainerID{AttemptID{app, 2}, 17<<40 | 1000000},
		"container_e170_1700000000000_0007_102_000001": ContainerID{AttemptID{app, 102}, 170<<40 | 1},
	} {
		if id.String() != want {
			t.Errorf("%s, want %s", id, want)
		}
		switch id := id.(type) {
		case ApplicationID:
			if got, err := ParseApplicationID(want); err != nil || got != id {
				t.Error(got, err)
			}
		case ContainerID:
			if got, err := ParseContainerID(want); err != nil || got != id {
				t.Error(got, err)
			}
		}
	}
	for _, bad := range []string{"", "application_", "application_1", "application_1_2_3", "application_x_1", "application_1_-1", "application_1_+1", "application_1_2147483648", "container_1_2_3_4"} {
		if id, err := ParseApplicationID(bad); err == nil {
			t.Errorf("%q is %s", bad, id)
		}
	}
	for _, bad := range []string{"", "container_1_2_3", "container_e_1_2_3_4", "container_e1", "container_e-1_1_2_3_4", "container_e9999999999_1_2_3_4", "container_1_2_3_1099511627776"} {
		if id, err := ParseContainerID(bad); err == nil {
			t.Errorf("%q is %s", bad, id)
		}
	}
}

func TestResource(t *testing.T) {
	r := Resource{MemoryMB: 1024, VCores: 2}.With(GPU, 3).With("fpga", 1).With(GPU, 4)
	if r.String() != "<memory:1024, vCores:2, fpga: 1, yarn.io/gpu: 4>" || r.Of(GPU) != 4 || r.Of("memory-mb") != 1024 || r.Of("vcores") != 2 || r.Of("none") != 0 {
		t.Error(r)
	}
}

func TestURL(t *testing.T) {
	for _, s := range []string{"hdfs://nn:8020/user/a b/x", "file:///x/y", "hdfs://nameservice/x", "hdfs://nn/t/hour=00%3A00/100%/a?b#c"} {
		if u, err := ParseURL(s); err != nil || u.String() != s {
			t.Error(s, u, err)
		}
	}
	for _, s := range []string{"", "/x", "hdfs://nn:99999/x", "hdfs://nn", "::"} {
		if u, err := ParseURL(s); err == nil {
			t.Errorf("%q is %+v", s, u)
		}
	}
}

func sampleCredentials() Credentials {
	return Credentials{
		Tokens: map[string]Token{
			"":               {Identifier: []byte{1, 2}, Password: []byte("twenty bytes of pass"), Kind: KindAMRM},
			"127.0.0.1:8020": {Identifier: bytes.Repeat([]byte{7}, 200), Password: []byte("pw"), Kind: KindHDFS, Service: "127.0.0.1:8020"},
		},
		Secrets: map[string][]byte{"maniple": []byte("s3cret"), "long": bytes.Repeat([]byte("x"), 70_000)},
	}
}

func TestCredentials(t *testing.T) {
	want := sampleCredentials()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, want.Marshal(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadCredentials(path)
	if err != nil || !reflect.DeepEqual(got.Secrets, want.Secrets) {
		t.Fatal(err)
	}
	if a, ok := got.Find(KindAMRM, ""); !ok || string(a.Password) != "twenty bytes of pass" {
		t.Error(a, ok)
	}
	if h, ok := got.Find(KindHDFS, "127.0.0.1:8020"); !ok || len(h.Identifier) != 200 {
		t.Error(h, ok)
	}
	if _, ok := got.Find(KindHDFS, "other:1"); ok {
		t.Error("a token of another service was found")
	}
	if !bytes.Equal(got.Marshal(), want.Marshal()) {
		t.Error("written again it is other")
	}
}

// The file of an ApplicationMaster, byte by byte as Hadoop 3.4 writes it.
func TestCredentialsBytes(t *testing.T) {
	file := "HDTS\x00" + "\x01" + "\x00" + "\x02\x0a\x0b" + "\x03pwd" + "\x10YARN_AM_RM_TOKEN" + "\x00" + "\x00"
	c, err := ParseCredentials([]byte(file))
	if err != nil || string(c.Tokens[""].Password) != "pwd" || string(c.Marshal()) != file {
		t.Error(c, err)
	}
	for n, want := range map[int64]string{127: "\x7f", -112: "\x90", 128: "\x8f\x80", 256: "\x8e\x01\x00", -113: "\x87\x70", 1 << 40: "\x8a\x01\x00\x00\x00\x00\x00"} {
		if got := string(appendVint(nil, n)); got != want {
			t.Errorf("%d is %x, want %x", n, got, want)
		}
		r := writable{b: []byte(want)}
		if got := r.vint(); got != n || r.bad {
			t.Errorf("%x is %d", want, got)
		}
	}
}

// The newer format, which Hadoop reads too.
func TestCredentialsAsProtobuf(t *testing.T) {
	want := sampleCredentials()
	var m credentialsMessage
	for alias, k := range want.Tokens {
		m.Tokens = append(m.Tokens, credentialsEntry{Alias: alias, Token: &k})
	}
	for name, s := range want.Secrets {
		m.Secrets = append(m.Secrets, credentialsEntry{Alias: name, Secret: s})
	}
	got, err := ParseCredentials(proto.AppendDelimited([]byte("HDTS\x01"), m))
	if err != nil || !bytes.Equal(got.Marshal(), want.Marshal()) {
		t.Error(err)
	}
}

// YARN-6.
func TestDamagedCredentials(t *testing.T) {
	whole := sampleCredentials().Marshal()
	for n := range 300 {
		if c, err := ParseCredentials(whole[:n]); err == nil {
			t.Fatalf("%d bytes of %d gave %d tokens", n, len(whole), len(c.Tokens))
		}
	}
	for _, bad := range []string{"HDTS\x02\x00\x00", "HDTX\x00\x00\x00", "HDTS\x00\x88\x7f\xff\xff\xff\xff\xff\xff\xff", "HDTS\x00\x01\x88\x7f\xff\xff\xff\xff\xff\xff\xff", "HDTS\x01\xff"} {
		if _, err := ParseCredentials([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add(sampleCredentials().Marshal()[:400])
	f.Add([]byte("HDTS\x01\x0a\x0a\x08\x0a\x01a\x12\x03\x1a\x01k"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCredentials(b)
		if err != nil {
			return
		}
		again, err := ParseCredentials(c.Marshal())
		if err != nil || !bytes.Equal(again.Marshal(), c.Marshal()) {
			t.Fatal(err)
		}
	})
}

func FuzzIDs(f *testing.F) {
	f.Add("container_e17_1700000000000_0007_02_000031")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseContainerID(s); err == nil {
			if again, err := ParseContainerID(id.String()); err != nil || again != id {
				t.Fatal(s, id, again, err)
			}
		}
	})
}

// YARN-5.
// A token is found by the name that Hadoop's own libraries look for, whether the site has names or addresses in it.
func TestTokenService(t *testing.T) {
	for _, tt := range []struct {
		service string
		useIP   bool
		want    string
	}{
		{"10.1.2.3:8020", true, "10.1.2.3:8020"}, {"10.1.2.3:8020", false, "10.1.2.3:8020"},
		{"localhost:8020", true, "127.0.0.1:8020"}, {"NameNode.Example.com:8020", false, "namenode.example.com:8020"},
		{"ha-hdfs:research", true, "ha-hdfs:research"}, {"ha-hdfs:Research", false, "ha-hdfs:Research"},
	} {
		if got := TokenService(t.Context(), tt.service, tt.useIP); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	k := Token{Identifier: []byte("who"), Password: []byte("hidden"), Kind: "K", Service: "s:1"}
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v", k, k), fmt.Sprintf("%+v", sampleCredentials())} {
		if strings.Contains(s, "hidden") || strings.Contains(s, fmt.Sprint([]byte("hidden"))) || strings.Contains(s, "s3cret") || strings.Contains(s, fmt.Sprint([]byte("s3cret"))) {
			t.Error(s)
		}
	}
}

// YARN-1: what each failure is, and that it says what to do.
func TestErrors(t *testing.T) {
	remote := func(class string) error {
		return fmt.Errorf("m at h:1: %w", &rpc.RemoteError{Class: "org.apache.hadoop.x." + class, Message: "why"})
	}
	for _, c := range []struct {
		err  error
		kind error
		text string
	}{
		{remote("ApplicationNotFoundException"), ErrNotFound, "yarn: op: why; `yarn application -list"},
		{remote("AccessControlException"), ErrNotYours, "access control list"},
		{remote("NeverHeardOfException"), ErrRefused, "NeverHeardOfException: why"},
		{fmt.Errorf("%w: %w", rpc.ErrLogin, &rpc.RemoteError{Class: "x.AccessControlException", Message: "SIMPLE authentication is not enabled.  Available:[TOKEN, KERBEROS]"}), ErrCredentials, "kinit"},
		{fmt.Errorf("%w: EOF", rpc.ErrUnreachable), ErrUnreachable, "is the service up"},
		{rpc.ErrSilent, ErrTooSlow, "whether it acted"},
		{fmt.Errorf("%w: %w", rpc.ErrUnreachable, rpc.ErrNotHadoop), ErrProtocol, "not Hadoop"},
	} {
		err := ErrorOf("op", c.err)
		var e *Error
		if !errors.Is(err, c.kind) || !errors.As(err, &e) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v is %v", c.err, err)
		}
		if ErrorOf("other", err) != err {
			t.Error("an error is wrapped twice")
		}
	}
}

// A token for HDFS says when its life is over; one that says anything else does not.
func TestTokenEnds(t *testing.T) {
	identifier := []byte{0}
	for _, part := range []string{"alice@EXAMPLE.ORG", "rm", ""} {
		identifier = append(appendVint(identifier, int64(len(part))), part...)
	}
	identifier = appendVint(appendVint(identifier, 1700000000000), 1700000060000)
	cut := Token{Kind: KindHDFS, Identifier: identifier[:len(identifier)-1]}
	other := Token{Kind: KindAMRM, Identifier: identifier}
	if at, ok := (Token{Kind: KindHDFS, Identifier: append(identifier, 1, 2)}).Ends(); !ok || at.UnixMilli() != 1700000060000 {
		t.Error(at, ok)
	}
	for _, token := range []Token{cut, other, {Kind: KindHDFS}} {
		if at, ok := token.Ends(); ok {
			t.Error(token, at)
		}
	}
}
