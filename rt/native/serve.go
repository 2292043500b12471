package native

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// socketFD is where the agent left the socket.
const socketFD = 3

// Serve answers the questions that come on descriptor 3, one after another, until the agent is gone, and gives the exit status. args
// are the program's: the wire's version, which has to be the same at both ends.
func Serve(args []string, answer func(what, id string) ([]byte, error)) int {
	if len(args) != 1 || args[0] != strconv.Itoa(wire.Version) {
		fmt.Fprintf(os.Stderr, "%s: it speaks wire version %d and was started as %q: an agent of the same release starts it\n", Name, wire.Version, args)
		return 64
	}
	// The step's signals reach every process of it; the agent says when it is over.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	conn, err := uds.NewFDConn(os.NewFile(socketFD, "agent"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: no agent on descriptor %d: %v\n", Name, socketFD, err)
		return 64
	}
	type question struct {
		*fb.StateQueryT
		corr uint64
	}
	questions := make(chan question, 64)
	go func() { // ends with the process
		for q := range questions {
			reply := &fb.StateReplyT{}
			payload, err := answer(q.What, q.Id)
			if err != nil {
				reply.Error, payload = err.Error(), nil
			}
			if err := conn.Send(reply, q.corr, payload); err != nil {
				return // and so does Recv
			}
		}
	}()
	for {
		m, files, err := conn.Recv()
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			return 0 // NATIVE-2: whatever the other goroutine is at
		}
		q, ok := m.M.(*fb.StateQueryT)
		if !ok {
			fmt.Fprintf(os.Stderr, "%s: the agent said %s\n", Name, wire.TypeOf(m.M))
			return 70
		}
		questions <- question{q, m.Corr}
	}
}
