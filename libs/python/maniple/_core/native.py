"""What Python adds to the C extension, so that it stands where the modules of the same names stand."""

from __future__ import annotations

import _thread
import pickle
from typing import Any, Callable, Dict, Iterable, List, Sequence

from maniple._core import table, twin, values
from maniple._core.arenas import Descriptor
from maniple._core.connection import LOOK_AFTER
from maniple._core.references import Held, ObjectRef
from maniple._core.table import State
from maniple._core.wire import ProtocolError

_fast = twin.fast
_fast.setup(ObjectRef, Descriptor, table.Value, table.PENDING, table._THERE, pickle.loads, pickle.dumps, values.NONE.payload, getattr(_thread, "_count", int))


class Connection:
    """As connection.Connection. Two native threads read and write; one of Python takes what is not for C."""

    def __init__(self, link: Any, batch: Callable[[List[Any]], None], closed: Callable[[str], None], before: Callable[[], None]):
        self._link, self._batch, self._on_closed, self._before = link, batch, closed, before
        self.send, self.enqueue = link.send, link.enqueue
        self._left: List[Any] = []  # that came early
        self._taker, self._takes = 0, _thread.allocate_lock()  # its ident; held while it runs

    @property
    def closed(self) -> bool:
        return bool(self._link.closed)

    def early(self, may: Callable[[int, bytes], bool]) -> None:
        """Takes what has come before it is started, up to the first frame that may not be: that is the first to be taken then."""
        self._link.early()
        frames = self._link.take(0.0)
        count = next((i for i, (kind, _, body, _) in enumerate(frames) if not may(kind, body)), len(frames))
        self._batch(frames[:count])
        self._left = frames[count:]

    def start(self) -> None:
        self._link.start()
        self._takes.acquire()
        self._taker = _thread.start_new_thread(self._take, ())  # threading's own waits until it runs, which each new worker would pay for

    def mine(self) -> bool:
        return _thread.get_ident() == self._taker

    def flush(self) -> None:
        self._link.flush()

    def _take(self) -> None:
        try:
            self._take_all()
        finally:
            self._takes.release()

    def _take_all(self) -> None:
        take, batch, before, why = self._link.take, self._batch, self._before, ""
        try:
            if self._left:
                batch(self._left)
                self._left = []
            while True:
                got = take(LOOK_AFTER)
                if got is None:
                    break
                if got:
                    batch(got)
                before()
        except ProtocolError as e:
            why = f"the agent sent what can't be read: {e}"
        except Exception as e:  # PY-5
            why = f"a frame of the agent could not be handled: {type(e).__name__}: {e}"
        self._link.close(0.0)
        self._on_closed(why or self._link.why)

    def close(self, wait: float = 1.0) -> None:
        self._link.close(wait)
        if self._taker not in (0, _thread.get_ident()) and self._takes.acquire(timeout=wait):
            self._takes.release()

    def forget(self) -> None:
        self._link.forget()


class _Grant:
    """Stands for a lock that is free once credit came."""

    __slots__ = ("_link", "_was")

    def __init__(self, link: Any, was: int):
        self._link, self._was = link, was

    def acquire(self, timeout: float) -> bool:
        return bool(self._link.credited(self._was, timeout))


class Credits:
    """As credits.Credits."""

    def __init__(self, link: Any):
        self._link, self.grant = link, link.grant

    def spend(self, size: int, wait: Callable[[Any], None]) -> None:
        while True:
            was = self._link.spend(size)
            if not was:
                return
            wait(_Grant(self._link, was))

    def close(self) -> None:
        pass  # the link lets everybody go on when it closes


class Table(table.Table):
    """The results of one's own tasks are the extension's, until Python claims them to do more than to read them."""

    def __init__(self, link: Any):
        super().__init__()
        self.entries = _fast.Entries(link)
        self.fetch, self.readiness, self.awaited_locked = self.entries.fetch, self.entries.readiness, self.entries.awaited

    def delivered_locked(self, payload: Any, count: int, held: Any) -> List[Any]:
        return self.entries.delivered(payload, count, held._delivered, table.REMOTE)  # type: ignore[no-any-return]

    def release_locked(self, keys: List[bytes], held: Any, promises: Any, seen: Any, sequences: Any) -> List[bytes]:
        return self.entries.release(keys, held._more, held._delivered, promises, seen, sequences)  # type: ignore[no-any-return]

    def claim_locked(self, key: bytes) -> None:
        gate = self.entries.adopt(key)
        if gate is not None:
            self._waiting.setdefault(key, []).append(gate)

    def settle_locked(self, key: bytes, entry: Any) -> None:
        self.claim_locked(key)
        super().settle_locked(key, entry)

    def there_locked(self, key: bytes, entry: State, here: bool = False) -> int:
        self.claim_locked(key)
        return super().there_locked(key, entry, here)

    def register_locked(self, gate: Any, keys: Iterable[bytes]) -> None:
        if type(gate) is _fast.Gate:
            keys = self.entries.register(gate, list(keys))
        for key in keys:
            self.claim_locked(key)
        super().register_locked(gate, keys)

    def unregister(self, gate: Any, keys: Sequence[Any]) -> None:
        self.entries.unregister(gate, keys)
        if self._waiting:
            super().unregister(gate, [key if type(key) is bytes else key._key for key in keys])

    def close(self, why: BaseException) -> None:
        super().close(why)
        self.entries.close()


def parts(sock: Any, attached: Dict[str, Any], worker: bool, batch: Any, closed: Any, before: Any) -> "twin.Parts":
    limit = attached.get("inline_limit") or 100 << 10
    link = _fast.Link(sock.detach(), attached["agent"], attached["process"], attached.get("credit_bytes") or 0, attached.get("credit_records") or 0, limit, worker)
    entries = Table(link)
    return twin.Parts(link, entries, Held(link, entries.claim_locked, entries.entries.foreign), Credits(link), Connection(link, batch, closed, before), link.mint)
