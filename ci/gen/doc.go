// Command gen makes what is generated in this tree from the schema of the wire.
//
//	go run ./ci/gen                write everything anew (make generate)
//	go run ./ci/gen -check         exit 1 if what is checked in is not current
//	go run ./ci/gen -check -flatc  the same, and run flatc again to compare its output byte by byte
//
// Inputs are transport/wire/wire.fbs (messages; read by flatc and by the parser here) and
// transport/wire/frame.fbs (header, classes, limits; read here only). Outputs are package
// transport/wire/fb by flatc's object API, and from our own small parser the verifier, the
// registry, access to structs without allocation, views of frames (transport/work), and the
// templates for C and Python, the latter with a codec for tables (codec.py here, word for word).
//
// What is made here is compared whole by -check. What flatc makes is guarded by two hashes in
// fb/doc.go: of its inputs and of its output. flatc itself is built from the Go module that go.mod
// pins, so generator and runtime can't differ, and lies in the user's cache folder.
//
// Limits: of flatbuffers' schema language the parser knows what our schema uses, and refuses the
// rest by name: unions, includes, attributes, vectors of bool, int8 and structs, and structs with hidden
// padding.
package main
