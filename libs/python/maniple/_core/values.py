"""Values as bytes: the envelope, and what pickles into it.

    u32 length of meta | u32 number of buffers | u64 length of each | meta | zeros to a multiple of 64
    | buffers, each at a multiple of 64

meta is pickle protocol 5; buffers are what it hands over uncopied (arrays). cloudpickle is asked only where
pickle fails, or where the pickle names __main__, which is another module in a worker. References inside are
persistent IDs: their numbers. Arguments are one pickle, see encode_arguments.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import types
from collections import ChainMap
from struct import Struct
from typing import Any, Callable, List, Optional, Sequence

from maniple import exceptions
from maniple._core import arrays, frames, tensors, wire
from maniple._core.references import HasReference, ObjectRef

_HEAD = Struct("<II")
_NO_BUFFERS = bytes(4)
_ALIGN = arrays.ALIGN
_PLAIN = {int, float, bool, str}
_MAIN = b"__main__"
# Room for headers and keys beside the value in one message.
MAX_VALUE = frames.MAX_MESSAGE - (1 << 20)


class Encoded:
    """A value's bytes. refs: in the order of their numbers; they are to be kept until the frame is sent.

    parts, one behind the other, are the value; payload joins them, and size is how long that is. room: shared memory where it is written already (slabs.Room).
    """

    __slots__ = ("format", "refs", "parts", "size", "room", "_payload")

    def __init__(self, format: int, refs: Sequence[ObjectRef], payload: Any = None, parts: Sequence[Any] = (), size: int = 0):
        self.format, self.refs, self._payload = format, refs, payload
        self.room: Any = None
        if payload is None:
            self.parts, self.size = parts, size
        else:
            self.parts, self.size = (payload,), len(payload)

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
        return self.numbers.setdefault(obj, len(self.numbers)) if type(obj) is ObjectRef else None


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

        reduce_code = cloudpickle.Pickler.dispatch_table[types.CodeType]

        def code(obj: types.CodeType) -> "tuple[Any, ...]":
            """With its file, of which tracebacks tell: cloudpickle 3.1.3 and later put another word in its place."""
            make, args = reduce_code(obj)
            return make, tuple(obj.co_filename if type(a) is str and a == "<dynamic-code>" else a for a in args)

        class _CloudPickler(_Persistent, cloudpickle.Pickler):  # type: ignore[name-defined,misc]
            dispatch_table = ChainMap({types.CodeType: code}, cloudpickle.Pickler.dispatch_table)

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


def encode(value: Any, table: "Optional[Callable[[], dict[Any, Any]]]" = None) -> Encoded:
    """The bytes of a value. table: gives how its tensors are pickled, for each attempt; without it their storages are.

    Raises TypeError if it can't be pickled; its payload raises ValueError if it is too large for a message.
    """
    if type(value) is bytes:
        return Encoded(wire.RAW, (), value) if len(value) <= MAX_VALUE else Encoded(wire.RAW, (), None, (value,), len(value))
    array = arrays.apart(value)
    if array is not None:
        front, raw = array
        return Encoded(wire.PICKLE, (), None, (front, raw), len(front) + raw.nbytes)
    if type(value) is Encoded:  # of a task that has written its result itself (concat)
        return value
    if type(value) in _PLAIN:  # which hold nothing else
        meta = pickle.dumps(value, 5)
        if len(meta) <= MAX_VALUE:
            return Encoded(wire.PICKLE, (), _HEAD.pack(len(meta), 0) + meta)
    refs: List[ObjectRef] = []
    first: Optional[BaseException] = None
    storages = table() if table else tensors.dispatch_table() if "torch" in sys.modules else None
    meta = b""
    buffers: List[Any] = []
    try:
        counted = storages is not None
        if not counted:
            try:
                meta = pickle.dumps(value, 5, buffer_callback=buffers.append)
            except HasReference:
                counted, buffers = True, []
        if counted:
            meta, buffers, refs = _dump(_Pickler, value, storages)
    except exceptions.TaskPlacementGroupRemoved:  # it is of another session
        raise
    except Exception as e:  # whatever a class raises in __reduce__
        first = e
    if first is not None or _MAIN in meta:
        try:
            meta, buffers, refs = _dump(cloud_pickler(), value, table() if table else storages)
        except ImportError as e:
            raise (first or e) from e
        except exceptions.TaskPlacementGroupRemoved:
            raise
        except Exception as e:
            raise TypeError(f"maniple: a {type(value).__qualname__} can't be sent: {e}") from e
    head = _HEAD.pack(len(meta), len(buffers))
    if not buffers and len(meta) <= MAX_VALUE:
        return Encoded(wire.PICKLE, refs, head + meta)
    return Encoded(wire.PICKLE, refs, None, *_parts(meta, buffers))


def _parts(meta: bytes, buffers: "list[Any]") -> "tuple[list[Any], int]":
    """The envelope in pieces, and its size."""
    raws = [b.raw() for b in buffers]
    parts: List[Any] = [arrays.front(meta, [r.nbytes for r in raws])]
    at = len(parts[0])
    for raw in raws:
        gap = -at % _ALIGN
        parts += bytes(gap), raw
        at += gap + raw.nbytes
    return parts, at


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


def load_pickle(payload: Any, refs: Sequence[Any] = ()) -> Any:
    """The value in an envelope of format pickle5."""
    meta, buffers = open_envelope(payload)
    if not refs:
        return pickle.loads(meta, buffers=buffers)
    unpickler = pickle.Unpickler(io.BytesIO(meta), buffers=buffers)
    unpickler.persistent_load = refs.__getitem__  # type: ignore[method-assign]
    return unpickler.load()


def encode_arguments(args: Sequence[Any], kwargs: "dict[str, Any]") -> "tuple[dict[ObjectRef, int], Encoded]":
    """Those arguments that are references, with their numbers, and the bytes of all: of (args, kwargs), or, if some are references, of
    (args, kwargs, numbers, names). Such have None in their place there; numbers has one for each of args, -1 for what is none, names those of kwargs."""
    deps: "dict[ObjectRef, int]" = {}
    if ObjectRef not in map(type, args) and ObjectRef not in map(type, kwargs.values()):
        return deps, encode((args, kwargs))
    numbers = [deps.setdefault(v, len(deps)) if type(v) is ObjectRef else -1 for v in args]
    names = {k: deps.setdefault(v, len(deps)) for k, v in kwargs.items() if type(v) is ObjectRef}
    rest = tuple([None if type(v) is ObjectRef else v for v in args])
    return deps, encode((rest, {k: None if k in names else v for k, v in kwargs.items()}, numbers, names))


def load_arguments(payload: Any, refs: Sequence[Any], deps: Sequence[Any]) -> "tuple[Sequence[Any], dict[str, Any]]":
    """The arguments in an envelope, with the values of those that are references."""
    args, kwargs, *rest = load_pickle(payload, refs)
    if rest:
        numbers, names = rest
        args = [arg if i < 0 else deps[i] for i, arg in zip(numbers, args)]
        kwargs.update({k: deps[i] for k, i in names.items()})
    return args, kwargs


NONE = encode(None)  # what most tasks give back
_NONE, _loads = NONE.payload, pickle.loads
EMPTY = encode(((), {})).payload  # arguments of a call without any


def decode(format: int, payload: Any, refs: Sequence[Any] = ()) -> Any:
    """The value of these bytes; format FAILURE is not for here. Arrays in it are read-only views of payload."""
    if format == wire.PICKLE:
        if type(payload) is bytes and payload[4:8] == _NO_BUFFERS and not refs:
            return None if payload == _NONE else _loads(payload[8:])
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
