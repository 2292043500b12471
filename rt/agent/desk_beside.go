package agent

import (
	"context"
	"net"
	"os"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Agents of one machine have their connections for values by unix sockets, on which a value is not sent: a descriptor of the memory in which it lies is
// (objstore/bulk).

// bootID names this start of this machine, whatever containers and networks there are on it; "": it can't be told.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// besideUs tells whether an agent is on this machine, and may be reached there as far as is known.
func (d *desk) besideUs(peer uint32, m *fb.BulkTicketsT) bool {
	return m.Boot != "" && m.Boot == d.l.core.cfg.Boot && m.Socket != "" && !d.store.bulk.apart[peer]
}

// dialBeside connects to an agent of this machine; nil: it can't be reached so, because they see other files, or are not of one user. Then
// that is not tried again while the session with it lasts.
func (d *desk) dialBeside(ctx context.Context, peer uint32, ticket uint64, socket string) net.Conn {
	conn, err := d.l.dialSocket(ctx, peer, ticket, socket)
	if err != nil {
		d.post(mail{do: func() { d.apartFrom(peer, err) }})
		return nil
	}
	return conn
}

// apartFrom notes that values of an agent of this machine have to come by the network.
func (d *desk) apartFrom(peer uint32, why error) {
	d.l.log.Info("values of another node of this machine come by the network", "agent", peer, "why", why)
	d.store.bulk.apart[peer] = true
}

// dialSocket connects to another agent by its unix socket. The kernel says that it is of this user, and the ticket tells it who we are.
func (l *loop) dialSocket(ctx context.Context, peer uint32, ticket uint64, socket string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, bulkDial)
	defer cancel()
	conn, err := uds.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(greetTimeout))
	h := l.hello(fb.PurposeBulk)
	h.To, h.Ticket = peer, ticket
	if _, err := transport.Greet(conn, h); err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}
