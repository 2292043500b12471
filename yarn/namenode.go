package yarn

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
)

const nameNodeProtocol = "org.apache.hadoop.hdfs.protocol.ClientProtocol"

// DialNameNode gives what a client of HDFS that speaks Hadoop's simple authentication dials a NameNode with, on a
// cluster with Kerberos: the connection is logged in by the Config's Token or ticket, and wrapped as the NameNode wants
// it. Config's ResourceManagers are not used; Principal is the NameNode's.
func DialNameNode(cfg Config) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	auth, err := cfg.auth()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		c, err := rpc.Tunnel(ctx, rpc.Config{
			Protocol: nameNodeProtocol, Dial: cfg.Dial, Auth: func() (rpc.Auth, error) { return auth, nil },
		}, address)
		if err != nil {
			return nil, ErrorOf("NameNode "+address, err)
		}
		return c, nil
	}, nil
}

// NameNodeToken asks for a token with which a process without a ticket can log in to HDFS, from the active one of its
// NameNodes. renewer is the ResourceManager's principal for what an application carries. service is what the token will be
// looked for by: see TokenService.
func NameNodeToken(ctx context.Context, cfg Config, addresses []string, service, renewer string) (Token, error) {
	const op = "HDFS delegation token"
	auth, err := cfg.auth()
	if err != nil {
		return Token{}, err
	}
	c, err := rpc.New(rpc.Config{
		Addresses: addresses, Protocol: nameNodeProtocol, Dial: cfg.Dial, Timeout: cfg.Timeout,
		Auth: func() (rpc.Auth, error) { return auth, nil }, Retry: rpc.Retry{For: cfg.RetryFor, Interval: cfg.RetryInterval},
	})
	if err != nil {
		return Token{}, fmt.Errorf("yarn: %w; name the NameNodes", err)
	}
	defer c.Close()
	var r struct {
		Token *Token `pb:"1"`
	}
	err = c.Call(ctx, "getDelegationToken", struct {
		Renewer string `pb:"1,required"`
	}{renewer}, &r)
	if err != nil {
		return Token{}, ErrorOf(op, err)
	}
	if r.Token == nil {
		return Token{}, &Error{Op: op, Text: "the NameNode gave none", Do: "a cluster without Kerberos needs none", Kind: ErrRefused}
	}
	r.Token.Service = service
	return *r.Token, nil
}

// TokenService is what Hadoop calls a token for a service at host:port: by its address, unless useIP, which is
// hadoop.security.token.service.use_ip, is false. The logical name of a file system with several NameNodes, ha-hdfs:NAME, stays.
func TokenService(ctx context.Context, service string, useIP bool) string {
	host, port, err := net.SplitHostPort(service)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || net.ParseIP(host) != nil {
		return service
	}
	if !useIP {
		return net.JoinHostPort(strings.ToLower(host), port)
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip4", host)
	if err != nil || len(ips) == 0 {
		return service
	}
	return net.JoinHostPort(ips[0].String(), port)
}
