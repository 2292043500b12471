package agent

import (
	"net"
	"testing"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Values go unencrypted between addresses of one network that was named, and between no others.
func TestOneNetwork(t *testing.T) {
	networks, err := bootdoc.Networks([]string{"10.1.0.7/16", "10.2.0.0/16", "fd00:1::/32"})
	if err != nil {
		t.Fatal(err)
	}
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 5} }
	for _, x := range []struct {
		a, b net.Addr
		want bool
	}{
		{at("10.1.0.1"), at("10.1.255.2"), true},
		{at("10.2.0.1"), at("10.2.0.1"), true},
		{at("10.1.0.1"), at("10.2.0.1"), false},
		{at("10.1.0.1"), at("10.3.0.1"), false},
		{at("10.1.0.1").(*net.TCPAddr), &net.TCPAddr{IP: net.IPv4(10, 1, 0, 9).To4()}, true},
		{at("fd00:1::1"), &net.TCPAddr{IP: net.ParseIP("fd00:1:2::1"), Zone: "eth0"}, true},
		{at("fd00:1::1"), at("fd00:2::1"), false},
		{at("10.1.0.1"), &net.UnixAddr{Name: "x"}, false},
		{&net.UnixAddr{}, &net.UnixAddr{}, false},
	} {
		if got := oneNetwork(networks, x.a, x.b); got != x.want {
			t.Errorf("%v and %v: %t", x.a, x.b, got)
		}
	}
	if oneNetwork(nil, at("10.1.0.1"), at("10.1.0.1")) {
		t.Error("no network was named, and one was found")
	}
}
