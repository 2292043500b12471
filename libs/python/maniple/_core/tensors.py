"""Tensors of torch as values: their storages go as buffers, uncopied, and are read where they lie.

Torch knows no memory that can't be written. So a process that has imported torch maps large values privately: what
is written to a tensor there is that process's own copy of those pages, and nobody else's.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from typing import Any, Dict, Optional

from maniple._core.arenas import Private

_torch: Any = None


def dispatch_table() -> Optional[Dict[Any, Any]]:
    """For one Pickler: how storages are pickled. None: torch is not imported here, or is one that we don't know."""
    global _torch
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if _torch is None:
        try:
            torch.storage.TypedStorage, torch.UntypedStorage, torch.frombuffer
            torch.empty(0).numpy()
        except (AttributeError, RuntimeError):  # half imported, too old, or without numpy
            return None
        _torch = torch
    storages: Dict[int, Any] = {}  # those that several tensors share are sent once

    def typed(storage: Any) -> Any:
        untyped = storage._untyped_storage
        if untyped.device.type != "cpu" or not untyped.nbytes():
            return storage.__reduce__()
        return _typed, (storages.setdefault(untyped.data_ptr(), untyped), storage.dtype)

    return {torch.storage.TypedStorage: typed, torch.UntypedStorage: _reduce}


def _reduce(untyped: Any) -> Any:
    if untyped.device.type != "cpu" or not untyped.nbytes():
        return untyped.__reduce_ex__(5)
    as_bytes = _torch.empty(0, dtype=_torch.uint8).set_(untyped)
    return _untyped, (pickle.PickleBuffer(as_bytes.numpy()),)


def _untyped(buffer: Any) -> Any:
    import torch

    view = memoryview(buffer)
    if not isinstance(view.obj, Private):
        view = memoryview(bytearray(view))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it can't be written: it can, see above
        return torch.frombuffer(view, dtype=torch.uint8).untyped_storage()


def _typed(untyped: Any, dtype: Any) -> Any:
    import torch

    return torch.storage.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)
