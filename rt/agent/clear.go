package agent

import (
	"net"
	"net/netip"
	"slices"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Values go unencrypted where whoever started the cluster has named a network that both addresses of the connection are in (docs/adr/0048). TLS proves both
// sides first, and by it they agree on that.

// wantsClear tells whether a connection for values may go on without encryption as far as this node is concerned.
func (l *loop) wantsClear(conn net.Conn) bool {
	return oneNetwork(l.core.cfg.Clear, conn.LocalAddr(), conn.RemoteAddr())
}

// oneNetwork tells whether one of the networks has both addresses.
func oneNetwork(networks []netip.Prefix, a, b net.Addr) bool {
	x, y := addressOf(a), addressOf(b)
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(x) && n.Contains(y) })
}

// addressOf gives an address that is in no network for what is none of TCP.
func addressOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// agreed makes of a connection that was admitted what both sides have agreed on.
func agreed(conn transport.Conn, h *fb.HelloT, w *fb.WelcomeT) (transport.Conn, error) {
	if !h.Clear || !w.Clear {
		return conn, nil
	}
	return tcp.Clear(conn)
}

// isClear tells whether what goes over a connection is not encrypted.
func isClear(conn net.Conn) bool {
	_, clear := conn.(transport.ClearConn)
	return clear
}
