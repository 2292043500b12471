package sasl

import (
	"errors"
	"fmt"
	"slices"
)

// QOP is a quality of protection, by SASL's name. Hadoop's names for them, in hadoop.rpc.protection, are
// authentication, integrity and privacy.
type QOP string

// The qualities.
const (
	Auth      QOP = "auth"      // only the beginning is protected
	Integrity QOP = "auth-int"  // what is said can't be changed
	Privacy   QOP = "auth-conf" // nor read
)

// strongest lists the qualities, the strongest first.
var strongest = []QOP{Privacy, Integrity, Auth}

// Protections translates a value of hadoop.rpc.protection: a list of Hadoop's names.
func Protections(names []string) ([]QOP, error) {
	var out []QOP
	for _, n := range names {
		switch n {
		case "authentication":
			out = append(out, Auth)
		case "integrity":
			out = append(out, Integrity)
		case "privacy":
			out = append(out, Privacy)
		default:
			return nil, fmt.Errorf("sasl: hadoop.rpc.protection %q is not known; it is authentication, integrity or privacy", n)
		}
	}
	return out, nil
}

// choose takes the strongest quality that is offered and allowed; an empty list allows all.
func choose(offered, allowed []QOP) (QOP, error) {
	for _, q := range strongest {
		if slices.Contains(offered, q) && (len(allowed) == 0 || slices.Contains(allowed, q)) {
			return q, nil
		}
	}
	return "", fmt.Errorf("%w: the server offers %v, allowed here is %v; compare hadoop.rpc.protection on both sides", ErrProtection, offered, allowed)
}

// Mechanism is one exchange with a server.
type Mechanism interface {
	// Step answers a challenge; GSSAPI's first has none. done says that the server has proved itself
	// and that the mechanism expects no more challenges.
	Step(challenge []byte) (response []byte, done bool, err error)

	// Layer is what wraps everything after the exchange; nil if nothing does.
	Layer() Layer
}

// Layer protects what is said after the exchange.
type Layer interface {
	Wrap(plain []byte) ([]byte, error)
	Unwrap(token []byte) ([]byte, error)
}

// What can be wrong, for errors.Is.
var (
	ErrProtection = errors.New("no common quality of protection")
	ErrServer     = errors.New("the server did not prove that it knows the secret")
	ErrForged     = errors.New("a message was changed, repeated or lost on the way")
	ErrChallenge  = errors.New("a challenge is malformed")
)
