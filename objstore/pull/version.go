package pull

// takes notes bytes that came. If they are of another value than those before them, what is in place is neither: the fetch ends, and begins anew in other
// memory, since agents may be reading this one.
func (c *Core) takes(f *fetch, s span, version uint32) {
	switch {
	case f.version == 0:
		f.version = version
	case version != 0 && version != f.version:
		f.anew = f.anew || !f.over
		c.fail(f, "its value was made anew while it came", true)
		return
	}
	f.came = with(f.came, s)
}
