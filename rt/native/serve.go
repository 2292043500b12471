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

// Question is what the agent asks.
type Question struct {
	What, ID string
	Payload  []byte
	Files    []*os.File // which are whose who answers
}

// Serve passes on the questions that come on descriptor 3, in order, until the agent is gone, and gives the exit status. answer calls
// reply once, at once or later, from any goroutine. args are the program's: the wire's version, which has to be the same at both ends.
func Serve(args []string, answer func(q Question, reply func([]byte, error))) int {
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
		Question
		corr uint64
	}
	questions := make(chan question, 64)
	go func() { // ends with the process
		for q := range questions {
			answer(q.Question, func(payload []byte, err error) {
				reply := &fb.StateReplyT{}
				if err != nil {
					reply.Error, payload = err.Error(), nil
				}
				_ = conn.Send(reply, q.corr, payload) // Recv fails as well
			})
		}
	}()
	for {
		m, files, err := conn.Recv()
		if err != nil {
			return 0 // NATIVE-2: whatever the other goroutine is at
		}
		q, ok := m.M.(*fb.StateQueryT)
		if !ok {
			fmt.Fprintf(os.Stderr, "%s: the agent said %s\n", Name, wire.TypeOf(m.M))
			return 70
		}
		questions <- question{Question{q.What, q.Id, m.Payload, files}, m.Corr}
	}
}
