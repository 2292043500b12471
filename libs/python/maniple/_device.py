"""Device objects: tensors that stay in the memory of the actor that made them (docs/adr/0042).

A value of a method with a tensor_transport is sent without its tensors: where one was, its number stands, and an Origin, which says which
actor has them and under what token. Whoever reads the value has them brought by the best way that both ends know, each a name and what
the reader says of itself:

    ipc     both processes see the same GPU: memory is opened there, and copied on the device
    group   both are in a collective group (maniple.experimental.collective): torch.distributed
    store   the node's shared memory, and from node to node as any value; this one always goes

The token is an object that the actor puts. The agent says when nobody else has it any more; then the tensors go.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from maniple import exceptions
from maniple._core import session as _session
from maniple._core import tensors, values, wire
from maniple._core.context import running
from maniple._core.references import ObjectRef
from maniple.actor import TENSORS

_STORE = "store"
COUNTS: "Counter[str]" = Counter()  # how many values came here, by the way that they took
_by_store: "ContextVar[bool]" = ContextVar("maniple_by_store", default=False)


@contextmanager
def by_the_store() -> Iterator[None]:
    """What is read meanwhile comes by the object store alone."""
    before = _by_store.set(True)
    try:
        yield
    finally:
        _by_store.reset(before)


class Keeper:
    """The tensors that this process keeps for others, by token. Any thread may call."""

    def __init__(self) -> None:
        self._kept: Dict[bytes, Tuple[ObjectRef, List[Any]]] = {}
        self._new: Dict[bytes, List[bytes]] = {}  # tokens of a job that are on their way, by its task
        self._freed = threading.Condition()

    def encode(self, session: Any, task: bytes, value: Any, transport: Optional[str]) -> values.Encoded:
        """The bytes of what a task gives, without the tensors that stay. Raises TypeError if it can't be pickled."""
        torch = sys.modules.get("torch")
        if torch is None or transport is None:
            return values.encode(value)
        origin, found = Origin(None, None, transport), []  # type: ignore[var-annotated]

        def apart(tensor: Any) -> Any:
            if not _stays(torch, tensor, transport):
                return tensor.__reduce_ex__(5)
            if origin.token is None:
                from maniple._execute import own_handle

                origin.token, origin.actor = session.put(b""), own_handle(session)
            found.append(tensor)
            return _tensor, (origin, len(found) - 1)

        def table() -> Dict[Any, Any]:
            found.clear()
            return {**(tensors.dispatch_table() or {}), torch.Tensor: apart}

        encoded = values.encode(value, table)
        if found:
            key = origin.token.binary()
            with self._freed:
                self._kept[key] = origin.token, list(found)
                self._new.setdefault(task, []).append(key)
        return encoded

    def sent(self, session: Any, task: bytes) -> None:
        """What a task gave is sent, or never will be: from now on the agent is to say when nobody else has it."""
        with self._freed:
            keys = self._new.pop(task, ())
        for key in keys:
            session.send(wire.GET.pack(0, 0, key, 0, wire.WANT_ALONE))

    def get(self, key: bytes) -> Optional[List[Any]]:
        """The tensors of a token, None if they are not here."""
        kept = self._kept.get(key)
        return None if kept is None else kept[1]

    def free(self, key: bytes) -> None:
        """Lets tensors go: nobody else can ask for them any more."""
        with self._freed:
            self._kept.pop(key, None)
            self._freed.notify_all()

    def wait(self, tensor: Any, timeout: Optional[float]) -> bool:
        """Waits until nothing that is kept has memory of this tensor. False: the time is over."""
        with self._freed:
            return self._freed.wait_for(lambda: not any(_memory(t) == _memory(tensor) for _, kept in self._kept.values() for t in kept), timeout)


keeper = Keeper()


def _memory(tensor: Any) -> Tuple[Any, int]:
    return tensor.device, tensor.untyped_storage().data_ptr()


def _stays(torch: Any, tensor: Any, transport: str) -> bool:
    """A plain tensor, on a device that the transport is for."""
    kinds = ("cpu", "cuda") if transport == "gloo" else ("cuda",)
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested and tensor.device.type in kinds


# Whoever reads.


class Origin:
    """Where the tensors of one value are. token: an object that the actor has put."""

    __slots__ = ("token", "actor", "transport", "_brought")

    def __init__(self, token: Any, actor: Any, transport: str):
        self.token, self.actor, self.transport = token, actor, transport
        self._brought: Optional[Sequence[Any]] = None

    def __reduce__(self) -> Any:
        return Origin, (self.token, self.actor, self.transport)

    def tensors(self) -> Sequence[Any]:
        """The tensors themselves in the process that made them, copies elsewhere. Raises ObjectLostError if that is gone."""
        if self._brought is None:
            self._brought = keeper.get(self.token.binary()) or self._bring()
        return self._brought

    def _bring(self) -> Sequence[Any]:
        import torch

        ways = [] if _by_store.get() else _ways(torch, self)
        while True:
            way, what = self._ask(ways)
            try:
                came: List[Any] = _TAKE[way](torch, what)
            except Exception as e:
                if way == _STORE:
                    raise
                _note(f"tensors of {self.actor!r} could not be had by way of {way}, and come by the object store: {type(e).__name__}: {e}")
                ways = []
            else:
                COUNTS[way] += 1
                return came

    def _ask(self, ways: "List[Any]") -> Any:
        """Has the actor give them, by one of these ways."""
        session = _session.current()
        ref = getattr(self.actor, TENSORS).options(max_task_retries=-1).remote(self.token.binary(), ways)  # who asks again loses nothing
        before = running.set(None)  # what is read may be an argument: the task has not begun, and lends its CPU to nobody
        try:
            return session.get([ref])[0]
        except exceptions.ActorDiedError as e:
            raise exceptions.ObjectLostError(f"the tensors of {self.token.hex()} were in the memory of {self.actor!r}, and are lost with it: {e}") from e
        except BaseException:
            if any(way == "group" for way, *_ in ways):  # the actor begins to send all the same, and the group would end over what nobody takes
                session.future(ref).add_done_callback(_discard)
            raise
        finally:
            running.reset(before)


def _tensor(origin: Origin, number: int) -> Any:
    return origin.tensors()[number]


def _discard(answer: Any) -> None:
    """Takes in what a group brings to a reader that was cancelled."""
    from maniple.experimental import collective

    if answer.exception() is None and answer.result()[0] == "group":
        collective.discard(*_about(answer.result()[1]))


def _about(what: Any) -> "Tuple[str, int, int, List[Tuple[Any, Any]]]":
    """What a group needs to receive."""
    group, rank, tag, about = what
    return group, rank, tag, [(shape, dtype) for shape, dtype, _, _ in about]


def _ways(torch: Any, origin: Origin) -> "List[Any]":
    from maniple.experimental import collective

    ways: List[Any] = []
    if torch.cuda.is_available():
        ways.append(("ipc", _host(), list(_gpus(torch))))
    return ways + [("group", *way) for way in collective.ways(origin.actor._actor_id, origin.transport)]


def _gpus(torch: Any) -> "Dict[str, int]":
    """The GPUs that this process sees: their identity, and their number here."""
    return {str(torch.cuda.get_device_properties(i).uuid): i for i in range(torch.cuda.device_count())}


def _host() -> str:
    with open("/proc/sys/kernel/random/boot_id") as f:
        return f.read().strip()


def _settled(torch: Any, tensor: Any, device: str, requires_grad: bool) -> Any:
    """A tensor that has come, where one of its kind belongs here."""
    if device == "cuda" and not tensor.is_cuda and torch.cuda.is_available():
        tensor = tensor.cuda()
    return tensor.requires_grad_(requires_grad)


# Each way, from both ends. What gives None can't be gone here.


def give(key: bytes, ways: "List[Any]") -> Any:
    """Gives the tensors of a token: the way, and what its other end needs. An actor's own method: see _execute."""
    import torch

    kept = keeper.get(key)
    if kept is None:
        raise exceptions.ObjectLostError(f"the tensors of {key.hex()} were in the memory of a process of this actor that is gone; it has been made anew since, without them")
    for way, *reader in ways:
        try:
            what = _GIVE[way](torch, kept, *reader)
        except Exception as e:
            _note(f"tensors can't be given by way of {way}: {type(e).__name__}: {e}")
            continue
        if what is not None:
            return way, what
    return _STORE, [(t.detach().cpu(), t.device.type, t.requires_grad) for t in kept]


def _take_from_store(torch: Any, what: Any) -> "List[Any]":
    return [_settled(torch, *each) for each in what]


def _give_memory(torch: Any, kept: "List[Any]", host: str, gpus: "List[str]") -> Any:
    from torch.multiprocessing.reductions import reduce_tensor

    if host != _host() or not all(t.is_cuda for t in kept):
        return None
    mine = {number: uuid for uuid, number in _gpus(torch).items()}
    if not all(mine[t.device.index] in gpus for t in kept):
        return None
    for number in {t.device.index for t in kept}:
        torch.cuda.synchronize(number)
    return [(mine[t.device.index], reduce_tensor(t.detach())[1], t.requires_grad) for t in kept]


_DEVICE = 6  # place of the device's number, which is the giver's, among what torch's rebuild_cuda_tensor takes


def _take_memory(torch: Any, what: Any) -> "List[Any]":
    from torch.multiprocessing.reductions import rebuild_cuda_tensor

    gpus, out = _gpus(torch), []
    for uuid, how, requires_grad in what:
        how = [*how[:_DEVICE], gpus[uuid], *how[_DEVICE + 1 :]]
        out.append(rebuild_cuda_tensor(*how).clone().requires_grad_(requires_grad))
    for number in {t.device.index for t in out}:
        torch.cuda.synchronize(number)  # by now nothing reads the giver's memory
    return out


def _give_to_group(torch: Any, kept: "List[Any]", group: str, rank: int, tag: int) -> Any:
    from maniple.experimental import collective

    return collective.send(group, rank, tag, kept)


def _take_from_group(torch: Any, what: Any) -> "List[Any]":
    from maniple.experimental import collective

    came = collective.receive(*_about(what))
    return [_settled(torch, tensor, device, requires_grad) for tensor, (_, _, device, requires_grad) in zip(came, what[3])]


_GIVE: "Dict[str, Callable[..., Any]]" = {"ipc": _give_memory, "group": _give_to_group}
_TAKE: "Dict[str, Callable[..., Any]]" = {"ipc": _take_memory, "group": _take_from_group, _STORE: _take_from_store}


def _note(text: str) -> None:
    from maniple._execute import note
    from maniple.util.debug import log_once

    if log_once(text):
        note(text)
