// Package local is the backend of one machine: one keeper process for each node, which is this machine
// itself or a fake node with declared resources.
//
// Ownership. Each keeper is a session leader of its own, so that a terminal's Ctrl-C reaches the command
// and not the cluster. The Session owns a goroutine per keeper that reads its lines and one that waits
// for it; both are over when Events is closed.
//
// Guarantees.
//
//	LOCAL-1: Start returns an error only when no keeper is left running.
//	LOCAL-2: a keeper holds no descriptor that this process opened but its standard streams.
//
// Limits. A keeper's standard error is an unlinked file of which the last 4 KiB are told when it fails.
package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Backend starts keepers on this machine. The zero value works.
type Backend struct {
	// Silent names nodes whose keeper is never started: a node that never joins, for tests of waiting.
	Silent []string
}

// Name is "local".
func (*Backend) Name() string { return "local" }

// Start brings up a keeper for each node of the request; without nodes, one for this machine.
func (b *Backend) Start(ctx context.Context, req backend.Request) (backend.Session, error) {
	nodes := req.Nodes
	if len(nodes) == 0 {
		nodes = []bootdoc.Node{req.Doc.Node}
	}
	binary := req.Binary
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("local: cannot find my own program: %w", err)
		}
	}
	s := &session{events: make(chan backend.Event, 16), done: make(chan struct{})}
	for i, node := range nodes {
		if node.Name == "" {
			node.Name = HostName()
		}
		s.names = append(s.names, node.Name)
		if slices.Contains(b.Silent, node.Name) {
			continue
		}
		k, err := start(binary, req, node, req.Head && i == 0)
		if err != nil {
			s.kill()
			s.run()
			for range s.events { // until all are reaped
			}
			return nil, err
		}
		s.keepers = append(s.keepers, k)
	}
	s.run()
	return s, nil
}

// HostName is the machine's name up to the first dot.
func HostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	name, _, _ = strings.Cut(name, ".")
	return name
}

// keeper is one process and this side of its streams.
type keeper struct {
	node   string
	cmd    *exec.Cmd
	mu     sync.Mutex // guards stdin
	stdin  *os.File   // nil once closed
	stdout *os.File
	stderr *os.File
	ended  bool // said "end" or "error"; touched by its reader alone
}

func start(binary string, req backend.Request, node bootdoc.Node, head bool) (*keeper, error) {
	doc := *req.Doc
	doc.Node = node
	line, err := json.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("local: boot document: %w", err)
	}
	errFile, err := scratch()
	if err != nil {
		return nil, fmt.Errorf("local: a file for what the keeper of %s prints: %w", node.Name, err)
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		inR.Close()
		inW.Close()
		return nil, fmt.Errorf("local: %w", err)
	}
	mode := "no"
	if head {
		mode = "yes"
	}
	cmd := exec.Command(binary, "keeper", "--head="+mode)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, outW, errFile
	cmd.Env = req.Env
	cmd.Dir = "/" // a cluster must not keep the user's directory busy
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	inR.Close()
	outW.Close()
	k := &keeper{node: node.Name, cmd: cmd, stdin: inW, stdout: outR, stderr: errFile}
	if err != nil {
		k.close()
		return nil, fmt.Errorf("local: start the keeper of %s: %w", node.Name, err)
	}
	if err := k.send(line); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		k.close()
		return nil, fmt.Errorf("local: the keeper of %s does not read its boot document: %w", node.Name, err)
	}
	return k, nil
}

// scratch is a file without a name. Not a pipe: a keeper that outlives us may still write to it.
func scratch() (*os.File, error) {
	if fd, err := unix.MemfdCreate("keeper-stderr", unix.MFD_CLOEXEC); err == nil {
		return os.NewFile(uintptr(fd), "keeper-stderr"), nil
	}
	f, err := os.CreateTemp("", "maniple-keeper-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(filepath.Clean(f.Name()))
}

func (k *keeper) send(line []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stdin == nil {
		return os.ErrClosed
	}
	_, err := k.stdin.Write(append(slices.Clip(line), '\n'))
	return err
}

func (k *keeper) closeInput() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stdin != nil {
		k.stdin.Close()
		k.stdin = nil
	}
}

func (k *keeper) close() {
	k.closeInput()
	k.stdout.Close()
	k.stderr.Close()
}

// said is the end of what the keeper printed on standard error.
func (k *keeper) said() string {
	const most = 4096
	info, err := k.stderr.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, min(info.Size(), most))
	n, _ := k.stderr.ReadAt(buf, 0)
	if bytes.Contains(buf[:n], []byte("failed to create new OS thread")) { // and then pages of stacks: Go's runtime
		return "there may be no more processes and threads; raise ulimit -u, or the cgroup's pids.max, or end other programs"
	}
	n, _ = k.stderr.ReadAt(buf, info.Size()-int64(len(buf)))
	return strings.TrimSpace(string(buf[:n]))
}
