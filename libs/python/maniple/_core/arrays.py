"""Arrays of numpy: what pickle makes of one, but for its bytes, is the same for all of its type and shape, and kept."""

from __future__ import annotations

import copyreg
import pickle
import sys
from typing import Any, Dict, List, Optional, Tuple

_NUMBERS = "biufc"  # kinds of elements whose bytes are all that there is of them
_MOST = 256  # types and shapes that are kept

_metas: Dict[Tuple[Any, Tuple[int, ...]], bytes] = {}


def apart(value: Any) -> Optional[Tuple[bytes, pickle.PickleBuffer]]:
    """The pickle of an array, and its bytes; None for anything else, and for arrays that are not one piece of numbers."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not getattr(numpy, "ndarray", None) or not value.flags.c_contiguous or type(value) in copyreg.dispatch_table:
        return None
    dtype = value.dtype
    if dtype.kind not in _NUMBERS or dtype.metadata is not None:
        return None
    key = dtype, value.shape
    meta = _metas.get(key)
    if meta is None:
        buffers: List[Any] = []
        meta = pickle.dumps(value, 5, buffer_callback=buffers.append)
        if len(buffers) != 1:  # some kinds of numbers that others add give no buffer
            return None
        if len(_metas) >= _MOST:
            _metas.clear()
        _metas[key] = meta
    return meta, pickle.PickleBuffer(value)
