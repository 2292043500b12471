package keeper_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/keeper"
	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// The test binary is also the keeper, and the daemons that a keeper starts: those pass every frame on
// to the test and back, so that the test is the agent and a kill of the process is an agent's crash.

func init() {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		runtime.LockOSThread()
	}
}

const relayVariable = "KEEPER_TEST_RELAY"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "keeper":
			os.Exit(keeper.Main(os.Args[2:]))
		case "agent", "head":
			os.Exit(relay(os.Args[1]))
		case "fds":
			os.Exit(printFDs())
		case "knock":
			os.Exit(knock(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

// relay connects descriptor 3 with the test.
func relay(role string) int {
	switch os.Getenv("KEEPER_TEST_" + strings.ToUpper(role)) {
	case "crash":
		fmt.Fprintln(os.Stderr, "panic: out of ideas")
		return 2
	case "sweep": // as an agent does when its keeper is gone
		up, err := uds.NewFDConn(os.NewFile(3, "keeper"))
		if err != nil {
			return 3
		}
		msg, _, err := up.Recv()
		if err != nil {
			return 3
		}
		config := msg.M.(*fb.KeeperConfigT)
		up.Send(&fb.KeeperReadyT{Role: config.Role, Agent: 1}, 0, nil)
		var known []sweep.Process
		launch, err := os.ReadFile(os.Getenv("KEEPER_TEST_LAUNCH"))
		if err == nil {
			m, err := wire.Unmarshal(fb.FrameTypeProgramLaunch, launch)
			if err != nil {
				return 4
			}
			up.Send(m, 0, nil)
		}
		for {
			msg, _, err := up.Recv()
			if err != nil {
				break
			}
			if s, ok := msg.M.(*fb.ProgramStateT); ok {
				known = append(known, sweep.Process{PID: int(s.Pid), Started: s.Started})
			}
		}
		n, err := sweep.Sweep(config.NodeKey, config.NodeDir, known...)
		os.WriteFile(os.Getenv("KEEPER_TEST_SWEPT"), fmt.Appendf(nil, "%d %v", n, err), 0o600)
		return 0
	}
	up, err := uds.NewFDConn(os.NewFile(3, "keeper"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	c, err := net.Dial("unix", os.Getenv(relayVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	f, err := c.(*net.UnixConn).File()
	c.Close()
	if err != nil {
		return 3
	}
	down, err := uds.NewFDConn(f)
	if err != nil {
		return 3
	}
	go func() {
		for {
			msg, _, err := down.Recv()
			if err != nil {
				os.Exit(0)
			}
			if up.Send(msg.M, 0, nil) != nil {
				os.Exit(0)
			}
		}
	}()
	for {
		msg, files, err := up.Recv()
		if err != nil {
			return 0
		}
		_ = down.Send(msg.M, 0, nil, files...) // the test may have closed its end; what it said must still arrive
		for _, f := range files {
			f.Close()
		}
	}
}

func printFDs() int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 1
	}
	for _, n := range names {
		if to, err := os.Readlink("/proc/self/fd/" + n.Name()); err == nil {
			fmt.Println(n.Name(), to)
		}
	}
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "SigIgn") || strings.HasPrefix(line, "SigBlk") || strings.HasPrefix(line, "Cpus_allowed_list") {
			fmt.Println(line)
		}
	}
	adj, _ := os.ReadFile("/proc/self/oom_score_adj")
	fmt.Printf("oom %s", adj)
	return 0
}

// knock connects to a unix socket and waits for it to be closed.
func knock(path string) int {
	c, err := net.Dial("unix", path)
	if err != nil {
		fmt.Print(err)
		return 1
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		fmt.Printf("served: %d bytes, %v", n, err)
		return 1
	}
	fmt.Print("dropped")
	return 0
}
