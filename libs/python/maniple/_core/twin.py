"""Which of two makes of the lowest layer this process uses: the C extension, or Python alone.

Both behave alike, and all tests run on both. The extension is used where it is built and fits; MANIPLE_PURE=1, for
those who look for a fault, leaves it alone. Its interface is in ``_fast.pyi``, what stands before it in ``native``.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Any, Callable, Dict, NamedTuple

INTERFACE = 12  # of the extension: one that another version left here is not used

fast: Any = None
if not os.environ.get("MANIPLE_PURE"):
    try:
        from maniple._core import _fast

        fast = _fast if getattr(_fast, "INTERFACE", 0) == INTERFACE else None
    except ImportError:  # not built, or this Python can't load it
        pass

_following = count(1).__next__  # of all sessions: another cluster may give this process the same number again

# What parts imports: a template does so before it forks.
MODULES = ("maniple._core.native",) if fast is not None else ("maniple._core.connection", "maniple._core.credits", "maniple._core.references", "maniple._core.table")


class Parts(NamedTuple):
    """What a session is made of. link: None in Python alone."""

    link: Any
    table: Any
    held: Any
    credits: Any
    connection: Any
    mint: Callable[[], bytes]


def parts(sock: Any, attached: Dict[str, Any], worker: bool, batch: Callable[[Any], None], closed: Callable[[str], None], before: Callable[[], None]) -> Parts:
    """The parts for a connection over sock, which they own. attached: the agent's answer. For the rest see Connection."""
    if fast is not None:
        from maniple._core import native

        return native.parts(sock, attached, worker, batch, closed, before)
    from struct import Struct

    from maniple._core.connection import Connection
    from maniple._core.credits import Credits
    from maniple._core.references import Held
    from maniple._core.table import Table

    prefix, pack = Struct("<II").pack(attached["agent"], attached["process"]), Struct("<Q").pack
    credits = Credits(attached.get("credit_bytes") or 0, attached.get("credit_records") or 0)
    return Parts(None, Table(), Held(), credits, Connection(sock, batch, closed, before), lambda: prefix + pack(_following()))
