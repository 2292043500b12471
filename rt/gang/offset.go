package gang

// OffsetBase is the offset of the first byte of a stream in an incarnation. A mark of another
// incarnation can thereby never be taken for one of this. An end counts as one more byte: whoever has
// all of a stream and its end says end+1.
func OffsetBase(incarnation uint32) uint64 { return uint64(incarnation) << 44 }
