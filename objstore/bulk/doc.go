// Package bulk carries ranges of objects over a connection that carries nothing else, straight between the connection and the memory
// in which they lie.
//
// The nouns. A [Range] is what is asked for: bytes of an object. A [Stream] is the side that asks; it has several ranges under
// way, and their bytes go to where its owner wants them. [Serve] is the other side; a [Piece] is what it sends of an object, or why
// it does not.
//
//	BULK-1: ranges are answered in the order in which they were asked for; each ends once, as come, refused or broken.
//	BULK-2: when a stream breaks its owner learns how many bytes of the oldest range are in place; of the others none are. Of bytes that are in place it learns
//	        which value of their object's name they are of, as far as the other side tells.
//	BULK-3: no byte is written beyond the range, whatever the other side sends, and after Done none at all.
//	BULK-4: each Piece is let go of once, when its bytes are sent or taken, or nobody wants them.
//	BULK-5: on a unix socket a Piece that lies in shared memory is handed over by a descriptor, and copied by the side that asks. What is
//	        copied counts only once the other side has been told so, which keeps the bytes until then, or until the connection is closed.
//	BULK-6: where bytes lie in a fabric is told only to who asks for that, and Ahead at most are told at a time. They are let go of as those of
//	        BULK-5 are, when the other side has read them; a read that fails breaks the stream with nothing of the range in place.
//	BULK-7: on a connection that is not encrypted a range is in place only once its checksum, of what was asked for and of what came, is that of what was
//	        sent; any other one breaks the stream. Nothing is told there of where bytes lie in a fabric.
//
// Ownership. A Stream is its owner's; what it tells it tells from a goroutine of its own, which ends with the connection. The memory
// that Ask is given is the stream's until that range has ended.
//
// Limits. Who reads slowly is not hurried: that is TCP's business, and its end the session's.
package bulk
