package cli_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
)

// pokeTime is how long a stranger may hold a connection open: the keeper's 5 s for a preamble, and some.
const pokeTime = 8 * time.Second

// poke connects to the port of the script's default cluster as a stranger would, checks that it is sent away without
// an answer, and prints what it got: poke silent|noise|http|clear|tls|foreign|self|garbage|oversize.
func poke(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: poke HOW")
	}
	files, _ := filepath.Glob(filepath.Join(ts.Getenv("HOME"), ".local/state/maniple/jobs/local/*/endpoint.json"))
	if len(files) != 1 {
		ts.Fatalf("%d endpoint files", len(files))
	}
	data, err := os.ReadFile(files[0])
	var ep boot.Endpoint
	if err == nil {
		err = json.Unmarshal(data, &ep)
	}
	if err != nil {
		ts.Fatalf("%v", err)
	}
	got, err := stranger(args[0], &ep)
	if err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	fmt.Fprintln(ts.Stdout(), got)
}

func stranger(how string, ep *boot.Endpoint) (got string, err error) {
	addr := ep.Addresses[0]
	switch how {
	case "garbage", "oversize": // one who was admitted, and then misbehaves
		pair, err := tls.X509KeyPair([]byte(ep.Cert), []byte(ep.Key))
		if err != nil {
			return "", err
		}
		raw, err := net.Dial("tcp", addr)
		if err != nil {
			return "", err
		}
		preamble(raw, wantAgent)
		conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
		if err := conn.Handshake(); err != nil {
			return "", fmt.Errorf("the endpoint's own credential is refused: %w", err)
		}
		frame := make([]byte, 4096)
		rand.Read(frame)
		if how == "oversize" { // a length of 4 GiB
			copy(frame, []byte{255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 1, 0})
		} else {
			copy(frame, []byte{0, 16, 0, 0, 0, 16, 0, 0, 1, 0, 1, 0})
		}
		conn.Write(frame)
		return closed(conn)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	switch how {
	case "silent":
	case "noise":
		noise := make([]byte, 1<<16)
		rand.Read(noise)
		conn.Write(noise)
	case "http":
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	case "clear": // our preamble, then a frame without TLS
		preamble(conn, wantHead)
		conn.Write(make([]byte, 64))
	case "tls": // without a certificate
		preamble(conn, wantHead)
		return refusedTLS(tls.Client(conn, &tls.Config{InsecureSkipVerify: true}))
	case "foreign": // with one of another cluster's authority, of the same cluster ID
		secret := make([]byte, 32)
		rand.Read(secret)
		_, cert, key, err := gang.ClientCredential(ep.Cluster, secret)
		if err != nil {
			return "", err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return "", err
		}
		preamble(conn, wantHead)
		return refusedTLS(tls.Client(conn, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}))
	case "self": // with one that it made itself
		pair, err := selfSigned()
		if err != nil {
			return "", err
		}
		preamble(conn, wantAgent)
		return refusedTLS(tls.Client(conn, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}))
	default:
		return "", fmt.Errorf("no such way")
	}
	return closed(conn)
}

// The eight bytes in clear that come before TLS (docs/spec/wire.md): who is wanted.
const wantHead, wantAgent = 1, 2

func preamble(conn net.Conn, role byte) {
	conn.Write([]byte{'M', 'N', 'P', 'L', 1, role, 0, 0})
}

// closed reads until the other side ends the connection; an answer is none of a stranger's business,
// but for a TLS alert (record type 21).
func closed(conn net.Conn) (got string, err error) {
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(pokeTime))
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<16))
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "", errors.New("the connection is still open")
	case len(answer) == 7 && answer[0] == 21:
		return "closed: " + tls.AlertError(answer[6]).Error(), nil
	case len(answer) > 0:
		return "", fmt.Errorf("it was answered: %s", strings.TrimSpace(hex.Dump(answer[:min(len(answer), 64)])))
	}
	return "closed without a word", nil
}

// refusedTLS wants the handshake, or the first read after it, to fail: in TLS 1.3 the client's side is
// over before the server has looked at the client's certificate.
func refusedTLS(conn *tls.Conn) (got string, err error) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(pokeTime))
	n := 0
	if err = conn.Handshake(); err == nil {
		n, err = conn.Read(make([]byte, 1))
	}
	var timeout net.Error
	if n > 0 || errors.As(err, &timeout) && timeout.Timeout() {
		return "", errors.New("a certificate of another authority was taken")
	}
	return "closed: " + strings.TrimPrefix(err.Error(), "remote error: "), nil
}

func selfSigned() (tls.Certificate, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
