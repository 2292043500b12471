// Package value turns Go values into the bytes that travel, and back.
//
// What a value becomes is settled by its type: []byte is raw; what has encoding.BinaryMarshaler and its reverse is
// raw by that; all else is plain, which is CBOR (RFC 8949) in an envelope, and is read by other languages too. References
// are found on the way: a struct whose first field is a *session.Hold is one; it writes itself as Tag and the ID.
//
//	VAL-1: what can't be read back whole is an error when it is sent, with the path to it: functions, channels,
//	       complex numbers, interfaces with methods, and structs with unexported fields that say nothing of how
//	       they are to be written.
//	VAL-2: every reference inside of a value is named beside it, once.
//	VAL-3: no bytes make Decode fail otherwise than by an error.
//
// Limits: nil and empty []byte are the same. A value that contains itself is an error, beyond a depth of 1,000.
package value
