// Package sasl is the client's side of the two ways in which Hadoop authenticates: DIGEST-MD5 with a token's
// identifier and password, and GSSAPI with a Kerberos ticket. It turns challenges into responses and wraps what
// is said afterwards; who carries them is the business of package rpc.
//
// The nouns: a Mechanism is one exchange, a Layer what it leaves behind for integrity or privacy, a QOP one
// of Hadoop's three qualities of protection.
//
// A Mechanism and a Layer belong to one connection. A Layer's Wrap and Unwrap may run at the same time, each by
// one goroutine at a time. Nothing here reads a file, a clock or a socket, but for the random nonce and the
// time inside of a Kerberos authenticator.
//
// Guarantees:
//
//	SASL-1: no challenge makes a Mechanism panic; a malformed one is an error.
//	SASL-2: a Mechanism that is done has seen the server prove that it knows the secret: the token's
//	        password (rspauth), or the service's key (AP-REP).
//	SASL-3: a Layer refuses what was changed, repeated, left out or put in another order.
//	SASL-4: of the offered qualities the strongest that is allowed is taken, never one that is not allowed.
//
// Limits: of DIGEST-MD5's ciphers the three of RC4, which every Hadoop offers beside (3)DES. Hadoop's
// own privacy is no better than that with tokens: RC4 and MD5 keep a listener away for a while. AES types 17 to
// 20 of Kerberos; no RC4 there. No channel binding, no delegation of credentials.
package sasl
