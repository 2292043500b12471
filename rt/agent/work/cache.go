package work

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// The node's cache has values under keys that those who use them chose, and that can be made again (docs/adr/0055). Who asks first for one makes it, as an object of this
// agent's own; who asks meanwhile gets a reference to that object and waits for it as for any other. As long as anybody holds it it is one. Then it rests: only its key
// and its place are known here, and the Store drops it when memory is wanted.

const (
	maxCacheKey = 256  // bytes of a key
	maxMaking   = 1024 // that one process makes
)

// cache is all that is cached.
type cache struct {
	byKey    map[string]*cached
	byObject map[id.Object]*cached
	oldest   *cached // of those that rest, the one that nobody has used for longest
	newest   *cached
	resting  int
	minted   uint64 // objects, so far
}

// cached is a value of the cache, or what is to be one.
type cached struct {
	key    string
	object id.Object
	maker  *process // nil: it is made
	task   id.Task  // of the maker, that makes it; zero: none
	value  []byte   // while it rests, its Result frame
	older  *cached  // while it rests
	newer  *cached
}

// onCacheWanted gives a process a reference to what is cached under a key. If that is there its value comes, too; if there is nothing it is this process's to make.
func (c *Core) onCacheWanted(p *process, m *fb.CacheWantedT, corr uint64) {
	if c.cfg.Store == nil || len(m.Key) == 0 || len(m.Key) > maxCacheKey {
		c.refuse(p, fmt.Sprintf("asked for a cached value by a key of %d bytes, of 1 to %d, or where there is no memory for values", len(m.Key), maxCacheKey))
		return
	}
	x := c.cache.byKey[string(m.Key)]
	there := x != nil && c.usable(x)
	if !there && p.making == maxMaking {
		c.refuse(p, fmt.Sprintf("is to make %d cached values, and asked for another one", maxMaking))
		return
	}
	if !there {
		x = c.beginCached(string(m.Key), p, taskOf(m.Task))
	}
	o := c.lookup(x.object)
	c.table(p, &fb.CachedT{Object: taskT(x.object.Task), Make: !there, There: o.here()}, corr, nil)
	c.deliver(p, x.object)
	if o.here() {
		c.sendValue(p, o) // if that lies in a file, a Get brings it
	}
}

// usable has a value be an object; false: it is gone.
func (c *Core) usable(x *cached) bool {
	if x.value != nil {
		return c.rouse(x)
	}
	o := c.lookup(x.object)
	if x.maker != nil || o.state == objectThere && o.placed {
		return true
	}
	c.uncache(x) // it lay in a file that can't be read
	return false
}

// beginCached makes the object that a process is to give a value.
func (c *Core) beginCached(key string, p *process, task id.Task) *cached {
	x := &cached{key: key, maker: p, task: task}
	for first := true; first || c.entries[x.object.Task] != nil; first = false { // another agent may have named what never was
		c.cache.minted++
		x.object.Task = id.Task{Agent: c.cfg.Agent, Counter: c.cache.minted}
	}
	p.making++
	c.newObject(c.newEntry(x.object.Task), 0).set(markCached, true)
	c.cache.byKey[key], c.cache.byObject[x.object] = x, x
	return x
}

// makes tells whether an object is one that a process is to give a value for the cache.
func (c *Core) makes(p *process, name id.Object) bool {
	x := c.cache.byObject[name]
	return x != nil && x.maker == p
}

// cachedMade gives what was to be made its value.
func (c *Core) cachedMade(name id.Object, value []byte) {
	x := c.cache.byObject[name]
	x.maker.making--
	x.maker = nil
	c.settle(c.lookup(name), value)
}

// onCacheUnmade: a process does not make what it was to.
func (c *Core) onCacheUnmade(p *process, m *fb.CacheUnmadeT) {
	if name := (id.Object{Task: taskOf(m.Object)}); c.makes(p, name) {
		c.unmade(name, "gave up")
		return
	}
	c.strays++
}

// unmade ends the making of a value. Those who wait for it are told so, and ask again: the first of them makes it.
func (c *Core) unmade(name id.Object, how string) {
	x, o := c.cache.byObject[name], c.lookup(name)
	p := x.maker
	p.making--
	c.uncache(x)
	c.lose(o, codeNotMade, fmt.Sprintf("process %d (pid %d), which was to make cached value %s, %s", p.id, p.pid, x.title(), how))
}

// rests has an object that nobody needs any more rest; false: it can't, and goes.
func (c *Core) rests(o *object) bool {
	x := c.cache.byObject[o.id()]
	if o.kin > 0 || o.state != objectThere || !o.placed || o.has(markComing) || !c.cfg.Store.Rest(x.object) {
		c.uncache(x)
		return false
	}
	x.value, o.value, o.placed = o.value, nil, false
	c.free(o)
	x.older = c.cache.newest
	if x.older != nil {
		x.older.newer = x
	} else {
		c.cache.oldest = x
	}
	c.cache.newest = x
	if c.cache.resting++; c.cache.resting > c.cfg.Resting {
		old := c.cache.oldest
		if c.cfg.Store.Reuse(old.object) {
			c.cfg.Store.Free(old.object)
		}
		c.uncache(old)
	}
	return true
}

// rouse makes an object again of what rests; false: the Store has dropped it.
func (c *Core) rouse(x *cached) bool {
	there := c.cfg.Store.Reuse(x.object)
	if taken := c.entries[x.object.Task] != nil; !there || taken {
		if there {
			c.cfg.Store.Free(x.object)
		}
		c.uncache(x)
		return false
	}
	value := x.value
	c.unrest(x)
	o := c.newObject(c.newEntry(x.object.Task), 0)
	o.value, o.state, o.placed = value, objectThere, true
	o.set(markCached, true)
	return true
}

// unrest takes a value out of the list of those that rest.
func (c *Core) unrest(x *cached) {
	if x.older != nil {
		x.older.newer = x.newer
	} else {
		c.cache.oldest = x.newer
	}
	if x.newer != nil {
		x.newer.older = x.older
	} else {
		c.cache.newest = x.older
	}
	x.older, x.newer, x.value = nil, nil, nil
	c.cache.resting--
}

// uncache forgets a value. If it is an object, that is one like others from now on.
func (c *Core) uncache(x *cached) {
	delete(c.cache.byKey, x.key)
	delete(c.cache.byObject, x.object)
	if x.value != nil {
		c.memory.give(x.value)
		c.unrest(x)
	} else if o := c.lookup(x.object); o != nil {
		o.set(markCached, false)
	}
}

// title is a key as people read it.
func (x *cached) title() string {
	if utf8.ValidString(x.key) {
		return strconv.Quote(x.key)
	}
	return "0x" + hex.EncodeToString([]byte(x.key))
}

// explainCached says what a value that is being made waits for; "": it is not.
func (c *Core) explainCached(name id.Object) string {
	x := c.cache.byObject[name]
	if x == nil || x.maker == nil {
		return ""
	}
	return fmt.Sprintf("cached value %s, which process %d (pid %d) makes", x.title(), x.maker.id, x.maker.pid)
}

// waitsForMaker: what is to be cached comes when the task goes on that makes it.
func (c *Core) waitsForMaker(k *stop) bool {
	x := c.cache.byObject[k.what]
	if x.maker == nil {
		return false
	}
	t := c.running(x.maker.worker, x.task)
	if t == nil { // a driver, of which nobody knows what it waits for
		return false
	}
	k.name, k.to = "cached value "+x.title(), []spot{c.spotOf(t)}
	return true
}

// listCached lists what rests, behind objects that processes hold.
func (c *Core) listCached(out []jsonObject, n int) ([]jsonObject, int) {
	for x := c.cache.oldest; x != nil; x = x.newer {
		if n++; n <= listLimit {
			m, _ := c.readResult(x.value)
			out = append(out, jsonObject{ID: objectName(x.object), State: "there", Size: m.Size, Shared: true, Cached: x.title()})
		}
	}
	return out, n
}
