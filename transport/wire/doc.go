// Package wire says what bytes mean: the one schema of Maniple, its frames, and how they are read
// when nobody on the other side is to be trusted.
//
// A message is one value of the object API in package fb (fb.GroupCreateT, fb.SubmitT and so on);
// its Type is the number that stands for it in a Header. On a connection a message is one or more
// frames: a Header of 32 bytes, a part of the body (a flatbuffer table, or a struct of fixed
// length for the hot frames) and a part of the payload, raw bytes that are never copied into the
// flatbuffer. docs/spec/wire.md is the normative text; wire.fbs is the schema; package fb, the
// verifier, the registry and the templates for C (frames.h) and Python (frames.py in libs/python) are
// made from it by "make generate".
//
// Everything here is a pure function of its arguments: no state, no goroutine, no I/O. Values are
// owned by the caller; Unmarshal copies what it keeps, so the bytes may be used again at once.
//
//	WIRE-1: no input makes a decoder panic or read outside the slice that it was given.
//	WIRE-2: whatever Unmarshal accepts, it has unpacked whole; struct fields (a TaskID) and
//	        elements of vectors are never nil in it, tables that were absent are.
//	WIRE-3: unpacking a body allocates at most a constant times its length: what a body holds may
//	        not be reached twice, and it holds at most MaxTables tables.
//	WIRE-4: Marshal gives bytes that Unmarshal accepts, or an error.
//	WIRE-5: a struct's bytes are the same whether Go, C or Python wrote them.
//
// Limits: unions, nested flatbuffers, 64-bit offsets and vectors of structs are not part of the
// schema's language, and ci/gen refuses them.
package wire
