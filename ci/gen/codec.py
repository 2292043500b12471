

class WireError(ValueError):
    """Bytes that no honest peer sends, or a value that the schema has no place for."""


def pack(name, value):
    """The body of table name. value maps fields to values; what it leaves out, or is None, is absent.

    Strings are str (what is not UTF-8 as os.fsdecode gives it) or bytes, vectors of bytes are
    bytes-like, structs are tuples, tables dicts, other vectors sequences.
    """
    w = _Writer()
    w.link(0, w.table(name, value))
    if len(w.out) > MAX_MESSAGE:
        raise WireError(f"{name}: {len(w.out)} bytes are more than {MAX_MESSAGE}; send less at once")
    return bytes(w.out)


def unpack(name, body):
    """The fields of a table, every one of them, from bytes that nobody vouches for.

    What is absent is as Go has it: the default of a number, an empty string or vector, a struct of
    zeros, None for a table. It accepts what docs/spec/wire.md says, and allocates in proportion to it.
    """
    if not 8 <= len(body) <= MAX_MESSAGE:
        raise WireError(f"{name}: {len(body)} bytes are no table")
    r = _Reader(bytes(body))
    return r.table(_U32.unpack_from(r.body)[0], name, 1)


_U16, _U32, _I32 = Struct("<H"), Struct("<I"), Struct("<i")


class _Field:
    """kind: number, struct, string, bytes, table, or one of the last four's vectors: numbers, strings, tables."""

    def __init__(self, text):
        self.name, _, typ = text.partition(":")
        typ, _, default = typ.partition("=")
        self.size = self.align = 4
        self.of, self.make, vector = typ.strip("[]"), None, typ[0] == "["
        if self.of in PARTS:
            self.kind, (self.tuple, self.struct, self.align) = "struct", PARTS[self.of]
            self.size = self.struct.size
            self.make = lambda: self.tuple(*[0] * len(self.tuple._fields))
        elif len(self.of) == 1 and vector:
            self.kind, self.each, self.make = "numbers", Struct("<" + self.of).size, list
        elif len(self.of) == 1:
            self.kind, self.struct = "number", Struct("<" + self.of)
            self.size = self.align = self.struct.size
            self.default = int(default or 0) if self.of != "?" else default == "1"
            self.make = lambda: self.default
        elif self.of == "string":
            self.kind, self.make = ("strings", list) if vector else ("string", str)
        elif self.of == "bytes":
            self.kind, self.make = "bytes", bytes
        else:
            self.kind, self.make = ("tables", list) if vector else ("table", lambda: None)


@lru_cache(maxsize=None)
def _fields(name):
    if name not in TABLES:
        raise WireError(f"{name!r} is no table of the schema")
    return [_Field(text) for text in TABLES[name].split()]


class _Writer:
    """Writes front to back: vtable, table, then what it points to."""

    def __init__(self):
        self.out, self.tables = bytearray(4), 0

    def pad(self, behind, size, rest=0):
        """Zeros until len(out) + behind is rest, modulo size."""
        self.out += bytes((rest - len(self.out) - behind) % size)

    def link(self, place, to):
        _U32.pack_into(self.out, place, to - place)

    def table(self, name, value):
        fields = _fields(name)
        try:
            unknown = set(value) - {f.name for f in fields}
            have = [(i, f, value[f.name]) for i, f in enumerate(fields) if value.get(f.name) is not None]
        except (TypeError, AttributeError) as e:
            raise WireError(f"{name}: {type(value).__name__} is no dict") from e
        if unknown:
            raise WireError(f"{name} has no field {sorted(map(str, unknown))[0]}; it has {', '.join(f.name for f in fields)}")
        self.tables += 1
        if self.tables > MAX_TABLES:
            raise WireError(f"{name}: more than {MAX_TABLES} tables")
        slots = [0] * (have[-1][0] + 1 if have else 0)
        at, places = 4, []
        for i, f, v in sorted(have, key=lambda h: -h[1].align):
            slots[i] = at
            places.append((f, v, at))
            at += f.size
        vtable = 4 + 2 * len(slots)
        self.pad(vtable, 8, 4)  # so that 4 bytes into the table is a multiple of 8
        self.out += Struct(f"<HH{len(slots)}H").pack(vtable, at, *slots)
        pos = len(self.out)
        self.out += _I32.pack(vtable) + bytes(at - 4)
        for f, v, at in places:
            try:
                self.field(f, v, pos + at)
            except WireError:
                raise
            except (TypeError, ValueError, OverflowError, StructError) as e:
                raise WireError(f"{name}.{f.name}: {e}") from e
        return pos

    def field(self, f, v, place):
        if f.kind == "number":
            f.struct.pack_into(self.out, place, v)
        elif f.kind == "struct":
            f.struct.pack_into(self.out, place, *v)
        elif f.kind == "string":
            self.string(v, place)
        elif f.kind == "table":
            self.link(place, self.table(f.of, v))
        elif f.kind == "bytes":
            self.vector(place, len(memoryview(v).cast("B")))
            self.out += v
        elif f.kind == "numbers":
            v = list(v)
            self.vector(place, len(v), f.each)
            self.out += Struct(f"<{len(v)}{f.of}").pack(*v)
        else:
            if isinstance(v, (str, bytes)):
                raise TypeError(f"{type(v).__name__} where a sequence belongs")
            v = list(v)
            at = self.vector(place, len(v))
            self.out += bytes(4 * len(v))
            for i, each in enumerate(v):
                if f.kind == "strings":
                    self.string(each, at + 4 * i)
                else:
                    self.link(at + 4 * i, self.table(f.of, each))

    def vector(self, place, n, align=4):
        self.pad(4, max(align, 4))
        self.link(place, len(self.out))
        self.out += _U32.pack(n)
        return len(self.out)

    def string(self, v, place):
        b = v.encode("utf-8", "surrogateescape") if isinstance(v, str) else bytes(memoryview(v))
        self.vector(place, len(b))
        self.out += b + b"\0"


class _Reader:
    """Checks before it reads; left is what may still be reached, so nothing counts twice."""

    def __init__(self, body):
        self.body, self.left, self.tables = body, len(body) - 4, 0

    def u32(self, at):
        return _U32.unpack_from(self.body, at)[0]

    def need(self, ok, where, why):
        if not ok:
            raise WireError(f"{where}: {why}")

    def spend(self, n, where):
        self.left -= n
        self.need(self.left >= 0, where, "more is reached than the body holds")

    def table(self, at, name, depth):
        size, outside = len(self.body), "out of bounds or unaligned"
        self.need(at % 4 == 0 and at <= size - 4, name, outside)
        vt = at - _I32.unpack_from(self.body, at)[0]
        self.need(0 <= vt <= size - 4 and vt % 2 == 0, name, "vtable " + outside)
        slots = _U16.unpack_from(self.body, vt)[0]
        self.need(4 <= slots <= size - vt and slots % 2 == 0, name, f"vtable of {slots} bytes")
        self.tables += 1
        self.need(depth <= MAX_DEPTH and self.tables <= MAX_TABLES, name, "too many tables")
        self.spend(4, name)
        out = {}
        for i, f in enumerate(_fields(name)):
            slot, where = 4 + 2 * i, f"{name}.{f.name}"
            off = _U16.unpack_from(self.body, vt + slot)[0] if slot < slots else 0
            if off == 0:
                out[f.name] = f.make()
                continue
            place = at + off
            self.need(off >= 4 and place <= size - f.size and place % f.align == 0, where, outside)
            self.spend(f.size, where)
            out[f.name] = self.field(f, place, where, depth)
        return out

    def field(self, f, place, where, depth):
        if f.kind == "number":
            return f.struct.unpack_from(self.body, place)[0]
        if f.kind == "struct":
            return f.tuple._make(f.struct.unpack_from(self.body, place))
        if f.kind == "string":
            return self.string(place, where)
        if f.kind == "table":
            return self.table(self.follow(place, where), f.of, depth + 1)
        each = getattr(f, "each", 1 if f.kind == "bytes" else 4)
        at = self.follow(place, where)
        n, at = self.u32(at), at + 4
        self.need(n <= (len(self.body) - at) // each and at % each == 0, where, f"vector of {n}")
        self.spend(4 + n * each, where)
        if f.kind == "bytes":
            return self.body[at : at + n]
        if f.kind == "numbers":
            return list(Struct(f"<{n}{f.of}").unpack_from(self.body, at))
        places = range(at, at + 4 * n, 4)
        if f.kind == "strings":
            return [self.string(p, where) for p in places]
        return [self.table(self.follow(p, where), f.of, depth + 1) for p in places]

    def follow(self, place, where):
        off = self.u32(place)
        to = place + off
        self.need(off and to % 4 == 0 and to <= len(self.body) - 4, where, "offset out of bounds or unaligned")
        return to

    def string(self, place, where):
        at = self.follow(place, where)
        n = self.u32(at)
        self.need(n <= len(self.body) - at - 5 and self.body[at + 4 + n] == 0, where, f"string of {n} bytes")
        self.spend(n + 5, where)
        return self.body[at + 4 : at + 4 + n].decode("utf-8", "surrogateescape")
