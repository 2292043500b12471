package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
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
// crypto/tls, and to memory that is mapped. It runs as `bench copy BYTES STREAMS TIMES` and says how long the
// fastest took, and how much of all processors one took in both processes, in seconds.
const bareCopy = "copy"

// copyPiece is what is written at once.
const copyPiece = 4 << 20

// copies is the sender, which starts the receiver.
func copies(args []string) error {
	size, streams, times, err := copyArgs(args)
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
	var theirs strings.Builder
	receiver.Stdout, receiver.Stderr = &theirs, os.Stderr
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
	best, ours := time.Duration(0), spending()
	for range times {
		began := time.Now()
		err := onEach(conns, memory, func(c net.Conn, part []byte) error {
			for len(part) > 0 {
				n := min(copyPiece, len(part))
				if _, err := c.Write(part[:n]); err != nil {
					return err
				}
				part = part[n:]
			}
			_, err := io.ReadFull(c, make([]byte, 1)) // it has all
			return err
		})
		if err != nil {
			return err
		}
		if took := time.Since(began); best == 0 || took < best {
			best = took
		}
	}
	cpu := spending() - ours
	if err := receiver.Wait(); err != nil {
		return err
	}
	other, err := strconv.ParseFloat(strings.TrimSpace(theirs.String()), 64)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{"seconds": best.Seconds(), "cpu": (cpu.Seconds() + other) / float64(times)})
}

// spending is what this process has had of all processors.
func spending() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it does not fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// receives is the other process.
func receives(address string, args []string) error {
	size, streams, times, err := copyArgs(args)
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
	before := spending()
	for range times {
		err := onEach(conns, memory, func(c net.Conn, part []byte) error {
			if _, err := io.ReadFull(c, part); err != nil {
				return err
			}
			_, err := c.Write([]byte{1})
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err = fmt.Println((spending() - before).Seconds())
	return err
}

func copyArgs(args []string) (size int64, streams, times int, err error) {
	if len(args) != 3 {
		return 0, 0, 0, fmt.Errorf("usage: bench %s BYTES STREAMS TIMES", bareCopy)
	}
	size, err = strconv.ParseInt(args[0], 10, 64)
	if err == nil {
		streams, err = strconv.Atoi(args[1])
	}
	if err == nil {
		times, err = strconv.Atoi(args[2])
	}
	return size, streams, times, err
}

// pages is shared memory all of which is there.
func pages(size int64) ([]byte, error) {
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, size); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	for i := range memory {
		memory[i] = byte(i >> 12)
	}
	return memory, nil
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
	return true, copies(args[1:])
}
