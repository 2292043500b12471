"""Values as bytes: the envelope, and what pickles into it.

    u32 length of meta | u32 number of buffers | u64 length of each | meta | zeros to a multiple of 64
    | buffers, each at a multiple of 64

meta is pickle protocol 5; buffers are what it hands over uncopied (arrays). cloudpickle is asked only where
pickle fails, or where the pickle names __main__, which is another module in a worker. References inside are
persistent IDs ("ref", i); an argument that is itself a reference is ("dep", i).
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections import ChainMap
from struct import Struct
from typing import Any, Callable, List, Optional, Sequence

from maniple._core import frames, tensors, wire
from maniple._core.references import HasReference, ObjectRef

_HEAD = Struct("<II")
_ALIGN = 64
_MAIN = b"__main__"
# Room for headers and keys beside the value in one message.
MAX_VALUE = frames.MAX_MESSAGE - (1 << 20)


class Dep:
    """Takes the place of an argument that is a reference."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index


class Encoded:
    """A value's bytes. refs: in the order of their numbers; they are to be kept until the frame is sent.

    parts, one behind the other, are the value; payload joins them, and size is how long that is.
    """

    __slots__ = ("format", "refs", "parts", "size", "_payload")

    def __init__(self, format: int, refs: Sequence[ObjectRef], payload: Any = None, parts: Sequence[Any] = ()):
        self.format, self.refs, self._payload = format, refs, payload
        self.parts = parts or (payload,)
        self.size = len(payload) if payload is not None else sum(memoryview(p).nbytes for p in parts)

    @property
    def payload(self) -> Any:
        if self._payload is None:
            if self.size > MAX_VALUE:
                raise ValueError(f"maniple: a value of {self.size >> 20} MiB is more than the {MAX_VALUE >> 20} MiB of one message: divide it, or write it to a file")
            self._payload = b"".join(self.parts)
        return self._payload


class _Persistent:
    """Numbers the references that a pickler meets."""

    numbers: "dict[ObjectRef, int]"

    def persistent_id(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is ObjectRef:
            return ("ref", self.numbers.setdefault(obj, len(self.numbers)))
        if kind is Dep:
            return ("dep", obj.index)
        return None


class _Pickler(_Persistent, pickle.Pickler):
    pass


_cloud: Any = None


def cloud_pickler() -> Any:
    """cloudpickle's Pickler that knows references. Raises ImportError with what to do."""
    global _cloud
    if _cloud is None:
        try:
            import cloudpickle
        except ImportError as e:
            raise ImportError("maniple: functions, and values of a script's own classes, need cloudpickle: pip install cloudpickle") from e

        class _CloudPickler(_Persistent, cloudpickle.Pickler):  # type: ignore[name-defined,misc]
            pass

        _cloud = _CloudPickler
    return _cloud


def _dump(pickler: Callable[..., Any], value: Any, storages: "Optional[dict[Any, Any]]" = None) -> "tuple[bytes, list[Any], list[ObjectRef]]":
    file, buffers = io.BytesIO(), []  # type: ignore[var-annotated]
    if storages is not None and pickler is not _Pickler:  # it has a table of its own, which it reads when it is made
        pickler = type("_WithTensors", (pickler,), {"dispatch_table": ChainMap(storages, pickler.dispatch_table)})  # type: ignore[arg-type,attr-defined]
    p = pickler(file, protocol=5, buffer_callback=buffers.append)
    p.numbers = {}
    if storages is not None and pickler is _Pickler:
        p.dispatch_table = ChainMap(storages, copyreg.dispatch_table)
    p.dump(value)
    return file.getvalue(), buffers, list(p.numbers)


def encode(value: Any, placeholders: bool = False) -> Encoded:
    """The bytes of a value. placeholders: it has Deps inside.

    Raises TypeError if it can't be pickled; its payload raises ValueError if it is too large for a message.
    """
    if type(value) is bytes:
        return Encoded(wire.RAW, (), value) if len(value) <= MAX_VALUE else Encoded(wire.RAW, (), None, (value,))
    refs: List[ObjectRef] = []
    first: Optional[BaseException] = None
    storages = tensors.dispatch_table() if "torch" in sys.modules else None
    meta = b""
    buffers: List[Any] = []
    try:
        if not placeholders and storages is None:
            try:
                meta = pickle.dumps(value, 5, buffer_callback=buffers.append)
            except HasReference:
                placeholders, buffers = True, []
        if placeholders or storages is not None:
            meta, buffers, refs = _dump(_Pickler, value, storages)
    except Exception as e:  # whatever a class raises in __reduce__
        first = e
    if first is not None or _MAIN in meta:
        try:
            meta, buffers, refs = _dump(cloud_pickler(), value, storages)
        except ImportError as e:
            raise (first or e) from e
        except Exception as e:
            raise TypeError(f"maniple: a {type(value).__qualname__} can't be sent: {e}") from e
    head = _HEAD.pack(len(meta), len(buffers))
    if not buffers and len(meta) <= MAX_VALUE:
        return Encoded(wire.PICKLE, refs, head + meta)
    return Encoded(wire.PICKLE, refs, None, _parts(head, meta, buffers))


def _parts(head: bytes, meta: bytes, buffers: "list[Any]") -> "list[Any]":
    """The envelope in pieces."""
    raws = [b.raw() for b in buffers]
    parts: List[Any] = [head, Struct(f"<{len(raws)}Q").pack(*[r.nbytes for r in raws]), meta]
    at = _HEAD.size + 8 * len(raws) + len(meta)
    for raw in raws:
        parts.append(bytes(-at % _ALIGN))
        at += -at % _ALIGN
        parts.append(raw)
        at += raw.nbytes
    return parts


def open_envelope(payload: Any) -> "tuple[Any, list[memoryview]]":
    """meta and buffers. Raises ProtocolError where lengths do not fit."""
    view = memoryview(payload)
    if len(view) < _HEAD.size:
        raise wire.ProtocolError(f"an envelope of {len(view)} bytes")
    size, count = _HEAD.unpack_from(view)
    at = _HEAD.size + 8 * count
    if at + size > len(view):
        raise wire.ProtocolError(f"an envelope of {len(view)} bytes with {count} buffers and {size} bytes of meta")
    if not count:
        return view[at : at + size], []
    lengths = Struct(f"<{count}Q").unpack_from(view, _HEAD.size)
    meta, buffers = view[at : at + size], []
    at += size
    for length in lengths:
        at += -at % _ALIGN
        if at + length > len(view):
            raise wire.ProtocolError("an envelope whose buffers reach beyond it")
        buffers.append(view[at : at + length].toreadonly())
        at += length
    return meta, buffers


class _Unpickler(pickle.Unpickler):
    refs: Sequence[Any] = ()
    deps: Sequence[Any] = ()

    def persistent_load(self, pid: Any) -> Any:
        kind, i = pid
        if kind == "dep":
            return self.deps[i]
        if kind == "ref":
            return self.refs[i]
        raise pickle.UnpicklingError(f"a persistent ID of kind {kind!r}")


def load_pickle(payload: Any, refs: Sequence[Any] = (), deps: Sequence[Any] = ()) -> Any:
    """The value in an envelope of format pickle5."""
    meta, buffers = open_envelope(payload)
    if not refs and not deps:
        return pickle.loads(meta, buffers=buffers)
    unpickler = _Unpickler(io.BytesIO(meta), buffers=buffers)
    unpickler.refs, unpickler.deps = refs, deps
    return unpickler.load()


NONE = encode(None)  # what most tasks give back
EMPTY = encode(((), {})).payload  # arguments of a call without any


def decode(format: int, payload: Any, refs: Sequence[Any] = ()) -> Any:
    """The value of these bytes; format FAILURE is not for here. Arrays in it are read-only views of payload."""
    if format == wire.PICKLE:
        if payload == NONE.payload:
            return None
        return load_pickle(payload, refs)
    if format == wire.RAW:
        return bytes(payload)
    if format == wire.PLAIN:
        from maniple._core import cbor

        return cbor.loads(open_envelope(payload)[0])
    if format == wire.ARROW:
        import pyarrow

        meta, buffers = open_envelope(payload)
        return pyarrow.ipc.open_stream(pyarrow.py_buffer(buffers[0] if buffers else meta)).read_all()
    raise wire.ProtocolError(f"a value of format {format}")
