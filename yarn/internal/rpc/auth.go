package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// Auth is how a client logs in: with its token where it has one and the server takes tokens, else with its
// ticket where the server takes tickets, else, if it has neither, as User on its word.
type Auth struct {
	User      string // for simple authentication; with a ticket, whom to act for (a proxy user) or ""
	Token     *Token
	Tickets   Tickets
	Principal string     // what the service must be, as rm/_HOST@REALM; "": whatever it says it is
	Allowed   []sasl.QOP // qualities of protection; nil: all
}

// Token is the part of a delegation token that a login needs.
type Token struct {
	Identifier, Password []byte
}

// Tickets begins GSSAPI exchanges with services.
type Tickets interface {
	// Mechanism begins an exchange with the service principal (name/host, without a realm).
	Mechanism(ctx context.Context, service string, allowed []sasl.QOP) (sasl.Mechanism, error)
}

// Greetings: magic, version, service class, and the kind of authentication.
const (
	greetSimple = "hrpc\x09\x00\x00"
	greetSASL   = "hrpc\x09\x00\xdf"
)

// login speaks the beginning of a connection up to and without the connection context, and gives the
// layer that follows and the user whom the context names.
func (a Auth) login(ctx context.Context, nc net.Conn, r io.Reader) (sasl.Layer, *userInfo, error) {
	if a.Token == nil && a.Tickets == nil {
		_, err := io.WriteString(nc, greetSimple)
		return nil, &userInfo{Effective: a.User}, err
	}
	hello := append([]byte(greetSASL), saslFrame(saslMessage{State: saslNegotiate})...)
	if _, err := nc.Write(hello); err != nil {
		return nil, nil, err
	}
	offer, err := readSASL(r)
	if err != nil {
		return nil, nil, refused(err)
	}
	if offer.State != saslNegotiate {
		return nil, nil, fmt.Errorf("%w: the server wants no authentication, and a token or ticket is not shown to such a one; set hadoop.security.authentication to what the cluster has", ErrLogin)
	}
	chosen, mechanism, err := a.choose(ctx, nc, offer.Auths)
	if err != nil {
		return nil, nil, err
	}
	if err := a.exchange(nc, r, chosen, mechanism); err != nil {
		return nil, nil, err
	}
	var user *userInfo
	if chosen.Method == "KERBEROS" && a.User != "" {
		user = &userInfo{Effective: a.User}
	}
	return mechanism.Layer(), user, nil
}

// exchange plays challenges and responses until both sides are satisfied.
func (a Auth) exchange(nc net.Conn, r io.Reader, chosen saslAuth, mechanism sasl.Mechanism) error {
	challenge := chosen.Challenge
	chosen.Challenge = nil
	out := saslMessage{State: saslInitiate, Auths: []saslAuth{chosen}}
	for {
		token, done, err := mechanism.Step(challenge)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrLogin, err)
		}
		out.Token = append([]byte{}, token...) // there, even if empty
		if _, err := nc.Write(saslFrame(out)); err != nil {
			return err
		}
		in, err := readSASL(r)
		if err != nil {
			return refused(err)
		}
		switch {
		case in.State == saslSuccess && done:
			return nil
		case in.State == saslSuccess: // its last word is its proof
			if _, done, err := mechanism.Step(in.Token); err != nil || !done {
				return fmt.Errorf("%w: %w", ErrLogin, errors.Join(sasl.ErrServer, err))
			}
			return nil
		case in.State != saslChallenge || done:
			return fmt.Errorf("%w: %w: SASL state %d in the middle of an exchange", ErrLogin, ErrNotHadoop, in.State)
		}
		challenge, out = in.Token, saslMessage{State: saslResponse}
	}
}

// choose takes the way to log in that we have and the server offers.
func (a Auth) choose(ctx context.Context, nc net.Conn, offers []saslAuth) (saslAuth, sasl.Mechanism, error) {
	var names []string
	for _, o := range offers {
		names = append(names, o.Method)
		if a.Token != nil && o.Method == "TOKEN" && o.Mechanism == "DIGEST-MD5" {
			return o, sasl.TokenDigest(a.Token.Identifier, a.Token.Password, o.Protocol, o.ServerID, a.Allowed), nil
		}
	}
	for _, o := range offers {
		if a.Tickets == nil || o.Method != "KERBEROS" || o.Mechanism != "GSSAPI" {
			continue
		}
		if err := a.trust(ctx, nc.RemoteAddr(), o.Protocol, o.ServerID); err != nil {
			return o, nil, err
		}
		m, err := a.Tickets.Mechanism(ctx, o.Protocol+"/"+o.ServerID, a.Allowed)
		if err != nil {
			return o, nil, fmt.Errorf("%w: %w", ErrLogin, err)
		}
		return o, m, nil
	}
	have := "a token"
	if a.Token == nil {
		have = "a Kerberos ticket"
	} else if a.Tickets != nil {
		have += " and a Kerberos ticket"
	}
	return saslAuth{}, nil, fmt.Errorf("%w: the server takes %s, and there is %s", ErrLogin, strings.Join(names, " or "), have)
}

// trust compares the principal that a server claims to be with the configured one. Without one it is
// believed: whoever holds a key of the realm could then pose as the service.
func (a Auth) trust(ctx context.Context, addr net.Addr, name, host string) error {
	if a.Principal == "" {
		return nil
	}
	want, _, _ := strings.Cut(a.Principal, "@")
	service, instance, _ := strings.Cut(want, "/")
	if service == name && instance != "_HOST" && strings.EqualFold(instance, host) {
		return nil
	}
	if service == name && instance == "_HOST" && host != "" {
		ip, _, err := net.SplitHostPort(addr.String())
		if err == nil && ip == host {
			return nil
		}
		ips, _ := net.DefaultResolver.LookupHost(ctx, host)
		for _, other := range ips {
			if other == ip {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: the server says that it is %s/%s, the configuration wants %s; check the ...kerberos.principal setting", ErrLogin, name, host, a.Principal)
}

// refused marks a server's refusal as a failed login; what broke on the way stays what it is.
func refused(err error) error {
	var r *RemoteError
	if errors.As(err, &r) && r.Class != classStandby && r.Class != classRetriable {
		hint := ""
		if strings.Contains(r.Message, "GSS initiate failed") {
			hint = " (the server does not say why: a clock that is minutes off, or another keytab at the service)"
		}
		return fmt.Errorf("%w: %w%s", ErrLogin, err, hint)
	}
	return err
}
