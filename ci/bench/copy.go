package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bareCopy is a plain copy between two processes, to stand beside what goes from node to node: from memory that is mapped over connections of
// crypto/tls, and to memory that is mapped. It runs as `bench copy BYTES STREAMS`, copies as often as each line of its input says, and answers with a line:
// how long the fastest took, and how much of all processors one took in both processes, in seconds.
const bareCopy = "copy"

// copyPiece is what is written at once.
const copyPiece = 4 << 20

// copies is the sender, which starts the receiver.
func copies(args []string, asked io.Reader, said io.Writer) error {
	size, streams, err := copyArgs(args)
	if err != nil {
		return err
	}
	memory, err := pages(size)
	if err != nil {
		return err
	}
	config, err := selfSigned()
	if err != nil {
		return err
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	defer ln.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	receiver := exec.Command(self, append([]string{bareCopy, ln.Addr().String()}, args...)...)
	receiver.Stderr = os.Stderr
	if err := receiver.Start(); err != nil {
		return err
	}
	defer receiver.Process.Kill()
	conns := make([]net.Conn, streams)
	for i := range conns {
		if conns[i], err = ln.Accept(); err != nil {
			return err
		}
		defer conns[i].Close()
		if err := conns[i].(*tls.Conn).Handshake(); err != nil {
			return err
		}
	}
	theirs, err := heard(conns)
	if err != nil {
		return err
	}
	out := json.NewEncoder(said)
	for lines := bufio.NewScanner(asked); lines.Scan(); {
		times, err := strconv.Atoi(lines.Text())
		if err != nil || times < 1 {
			return fmt.Errorf("%q is no number of copies", lines.Text())
		}
		best, before, cpu := time.Duration(0), theirs, -spending()
		for range times {
			began := time.Now()
			if err := onEach(conns, memory, sends); err != nil {
				return err
			}
			if theirs, err = heard(conns); err != nil { // it has all
				return err
			}
			if took := time.Since(began); best == 0 || took < best {
				best = took
			}
		}
		cpu += spending() + theirs - before
		if err := out.Encode(map[string]float64{"seconds": best.Seconds(), "cpu": cpu.Seconds() / float64(times)}); err != nil {
			return err
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
	return receiver.Wait()
}

func sends(c net.Conn, part []byte) error {
	for len(part) > 0 {
		n := min(copyPiece, len(part))
		if _, err := c.Write(part[:n]); err != nil {
			return err
		}
		part = part[n:]
	}
	return nil
}

// heard waits until the receiver is ready on each connection, and gives what it has had of all processors.
func heard(conns []net.Conn) (had time.Duration, err error) {
	for _, c := range conns {
		b := make([]byte, 8)
		if _, err := io.ReadFull(c, b); err != nil {
			return 0, err
		}
		had = max(had, time.Duration(binary.LittleEndian.Uint64(b)))
	}
	return had, nil
}

// spending is what this process has had of all processors.
func spending() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it does not fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// receives is the other process: it says on each connection that it is ready, each time, and ends with them.
func receives(address string, args []string) error {
	size, streams, err := copyArgs(args)
	if err != nil {
		return err
	}
	memory, err := pages(size)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, streams)
	for i := range conns {
		if conns[i], err = tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}); err != nil {
			return err
		}
		defer conns[i].Close()
	}
	for {
		ready := binary.LittleEndian.AppendUint64(nil, uint64(spending()))
		err := onEach(conns, memory, func(c net.Conn, part []byte) error {
			if _, err := c.Write(ready); err != nil {
				return err
			}
			_, err := io.ReadFull(c, part)
			return err
		})
		if errors.Is(err, io.EOF) { // before a copy has begun
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func copyArgs(args []string) (size int64, streams int, err error) {
	if len(args) != 2 {
		return 0, 0, fmt.Errorf("usage: bench %s BYTES STREAMS", bareCopy)
	}
	size, err = strconv.ParseInt(args[0], 10, 64)
	if err == nil {
		streams, err = strconv.Atoi(args[1])
	}
	if err == nil && (size < 1 || streams < 1) {
		err = fmt.Errorf("%d bytes by %d connections are no copy", size, streams)
	}
	return size, streams, err
}

// pages is shared memory all of which is there.
func pages(size int64) ([]byte, error) {
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return filled(fd, size)
}

// onEach does something with each connection and its part of the memory, at once.
func onEach(conns []net.Conn, memory []byte, do func(net.Conn, []byte) error) error {
	var wait sync.WaitGroup
	errs := make([]error, len(conns))
	step := len(memory) / len(conns)
	for i, c := range conns {
		part := memory[i*step : (i+1)*step]
		wait.Go(func() { errs[i] = do(c, part) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}, nil
}

// isCopy runs a plain copy if that is what the arguments want.
func isCopy(args []string) (is bool, err error) {
	switch {
	case len(args) == 0 || args[0] != bareCopy:
		return false, nil
	case len(args) > 1 && strings.Contains(args[1], ":"):
		return true, receives(args[1], args[2:])
	}
	return true, copies(args[1:], os.Stdin, os.Stdout)
}
