// Package proto writes and reads Hadoop's protobuf messages as Go structs whose fields carry their number in
// a tag. There is no generated code and no runtime to depend on: Hadoop's messages use a small part of
// protobuf, and a struct with numbers beside its fields can be read next to Hadoop's own .proto files.
//
// The nouns: a message is a struct; a field of it takes part when it has the tag `pb:"N"`, with options after
// the number: required (written even when it is zero, as proto2 demands), zigzag (sint32), default=N (what a
// missing one stands for). An integer, bool, float32, string or []byte is a scalar; a struct or a pointer to one
// a message; a time.Time milliseconds since 1970 (the zero time is 0); a slice is a repeated field; a
// map Hadoop's list of {1 key, 2 value}.
//
// It holds no state but the plans of the types that it met, and starts no goroutine.
//
// Guarantees:
//
//	PROTO-1: Unmarshal never panics on what it is given, and takes memory in proportion to it: at most
//	         maxElements elements of lists and maps, at most maxDepth messages in each other.
//	PROTO-2: what Marshal wrote, Unmarshal reads as the same value; fields that a type does not know are skipped.
//	PROTO-3: equal values give equal bytes: maps are written in the order of their keys.
//
// Limits: no groups, extensions, oneofs, doubles, fixed64, and no sfixed. A tag that makes no sense panics when its
// type is first met: it is a mistake in the source.
package proto
