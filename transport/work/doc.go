// Package work moves tasks, calls and objects between a process and its node's agent: whole frames in
// batches, over a unix socket, with neither sessions nor acknowledgements.
//
// A Frame is a header of 32 bytes, a body and a payload, in one piece. A Batch is frames one behind the
// other as they came. A Conn has both directions: its reader cuts what the socket has after the last
// whole frame and hands it over; Append puts frames behind those that wait, and Flush writes all of them at
// once, or has the writer do so if the socket is full. At load batches grow by themselves; when idle a batch is
// one frame and waits for nobody. Submit, Result and the other hot types are views of a frame's bytes, whose fields are read
// and written where they lie.
//
// A connection begins as all do: transport.Answer on the agent's side, with a hello of purpose Work, then
// Attaching and New on the same connection. Attach is the process's side of that.
//
//	BATCH-1: frames come out whole, in the order in which they went in, and nothing follows what could not be read.
//	BATCH-2: a frame of a batch has the body that its type wants and all objects that it counts, whatever the peer sent.
//	BATCH-3: memory is bounded: two batches in, of 64 KiB or one frame that is larger; Config.MaxUnsent and
//	        one frame out. Of what a frame claims to have, more than 256 KiB is allocated only as it comes.
//	BATCH-4: neither direction allocates for a frame, once its buffers have grown.
//	BATCH-5: Append and Flush never wait for the peer.
//	BATCH-6: a descriptor comes out with the frame that it went in with, close-on-exec; none leaks.
//	BATCH-7: Finish and Close send what was appended before, unless the peer does not read it in time.
//	CHAIN-1: a chain is work that passes from process to process one at a time, and ends with the first word that does not.
//	CHAIN-2: in a chain, and only there, the thread that polls keeps to a processor that it may use anyway, and frames name it.
//
// Ownership: a Conn has a writer goroutine, which ends with it, and a reader: a goroutine of its own, or a Poll, which
// reads many on one (docs/adr/0010). Append, Flush, Finish and Cut may be
// called from any goroutine; Close not from the one that Config.OnBatch runs in or waits for. The bytes
// of a batch belong to whoever got it until Release, and may be changed in place. A Poll is closed after its connections.
//
// Limits: Linux, by epoll; order is that of one stream, so a cancel waits behind a large
// argument; an idle connection holds up to 128 KiB, for reading.
package work
