"""Arrays of numpy: what pickle makes of one, but for its bytes, is the same for all of its type and shape, and kept."""

from __future__ import annotations

import copyreg
import pickle
import sys
from struct import Struct
from typing import Any, Dict, List, Optional, Sequence, Tuple

_NUMBERS = "biufc"  # kinds of elements whose bytes are all that there is of them
ALIGN = 64  # of a buffer in an envelope
_MOST = 256  # types and shapes that are kept

_fronts: Dict[Tuple[Any, Tuple[int, ...]], bytes] = {}


def front(meta: bytes, lengths: Sequence[int]) -> bytes:
    """What an envelope (values) has before its first buffer."""
    head = Struct(f"<II{len(lengths)}Q").pack(len(meta), len(lengths), *lengths) + meta
    return head + bytes(-len(head) % ALIGN) if lengths else head


def apart(value: Any) -> Optional[Tuple[bytes, memoryview]]:
    """The envelope of an array before its bytes, and these; None for anything else, and for arrays that are not one piece of numbers."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not getattr(numpy, "ndarray", None) or not value.flags.c_contiguous or type(value) in copyreg.dispatch_table:
        return None
    dtype = value.dtype
    if dtype.kind not in _NUMBERS or dtype.metadata is not None:
        return None
    key = dtype, value.shape
    known = _fronts.get(key)
    if known is None:
        buffers: List[Any] = []
        meta = pickle.dumps(value, 5, buffer_callback=buffers.append)
        if len(buffers) != 1:  # some kinds of numbers that others add give no buffer
            return None
        if len(_fronts) >= _MOST:
            _fronts.clear()
        known = _fronts[key] = front(meta, [value.nbytes])
    return known, pickle.PickleBuffer(value).raw()
