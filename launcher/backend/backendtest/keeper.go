// Package backendtest is a keeper that does as it is told: tests of backends and of booting start it by
// running their own program again. What it does is in the boot document, label "script" of its node:
//
//	(none)   comes up, and ends when it is drained or its input does (owner stdin)
//	silent   reads its document and never says a word
//	error    says that it can't, and exits 73
//	crash    writes to standard error and exits 2 without an end
//	stubborn comes up and ignores every drain
package backendtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
)

// Main runs the keeper if this process was started as one; call it first in TestMain.
func Main() {
	if len(os.Args) < 2 || os.Args[1] != "keeper" {
		return
	}
	os.Exit(keeper(strings.Contains(strings.Join(os.Args[2:], " "), "--head=yes")))
}

func keeper(head bool) int {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	if !in.Scan() {
		return 2
	}
	doc, err := bootdoc.Parse(in.Bytes())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	say := func(v map[string]any) {
		v["node"] = doc.Node.Name
		line, _ := json.Marshal(v)
		fmt.Println(string(line))
	}
	switch doc.Node.Labels["script"] {
	case "silent":
		for in.Scan() {
		}
		return 0
	case "error":
		say(map[string]any{"event": "error", "code": "DIR", "text": "the node's directory: no space left on device"})
		return 73
	case "crash":
		fmt.Fprintln(os.Stderr, "panic: out of ideas")
		return 2
	case "stubborn":
		unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) // a test that fails must not leave it
	}
	dir, err := doc.NodeDir(os.Getenv, doc.Node.Name)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer os.Remove(filepath.Dir(dir))
	defer os.RemoveAll(dir)
	self, _ := sweep.Read(os.Getpid())
	record, _ := json.Marshal(sweep.Keeper{PID: self.PID, Started: self.Started, NodeKey: "test"})
	os.WriteFile(filepath.Join(dir, bootdoc.KeeperName), record, 0o600)
	socket := filepath.Join(dir, bootdoc.SocketName)
	os.WriteFile(socket, nil, 0o600)
	ready := func() {
		say(map[string]any{"event": "ready", "agent": 1, "dir": dir, "socket": socket})
	}
	if head {
		say(map[string]any{"event": "head", "addresses": []string{"127.0.0.1:1"}})
	}
	for in.Scan() {
		var line struct {
			Head  []string         `json:"head"`
			Drain *json.RawMessage `json:"drain"`
		}
		json.Unmarshal(in.Bytes(), &line)
		switch {
		case len(line.Head) > 0:
			ready()
		case line.Drain != nil && doc.Node.Labels["script"] != "stubborn":
			say(map[string]any{"event": "end", "code": 0, "reason": "drained"})
			return 0
		}
	}
	if doc.Owner == "stdin" && doc.Node.Labels["script"] != "stubborn" {
		say(map[string]any{"event": "end", "code": 0, "reason": "its owner is gone"})
		return 0
	}
	for { // it lives on; a bare select would be a deadlock, which ends the process
		time.Sleep(time.Hour)
	}
}
