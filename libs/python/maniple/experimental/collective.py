"""Collective groups: actors that torch.distributed connects, so that tensors go between them without the object store.

The driver makes a group of actors; each joins in a method of its own, in its turn. From then on a device object (maniple.experimental)
that one member made with the group's backend as its tensor_transport goes to another member by the group.

A member's process has the group in `_members`. A transfer is asked for by its reader, which names it with a tag; the giver begins to
send before it answers, so that a reader who receives knows that something comes. With NCCL, which has no tags, transfers from lower ranks
to higher ones and those the other way have connections of their own, made as a member joins, and each process receives one after the other.
"""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

_BACKENDS = {"gloo": "gloo", "torch_gloo": "gloo", "nccl": "nccl"}
_TRANSFER = 60.0  # seconds that a transfer may take
_numbers = itertools.count(1).__next__
_tags = itertools.count(1).__next__


class CollectiveGroup:
    """A group that create_collective_group made: its actors, by rank, its backend and its name."""

    def __init__(self, actors: Sequence[Any], backend: str, name: str):
        self.actors, self.backend, self.name = tuple(actors), backend, name
        self._key = f"{name}-{uuid.uuid4().hex}"  # as its members know it: other drivers may have groups of that name

    def get_rank(self, actor: Any) -> int:
        """The actor's rank; -1: it is no member."""
        return self.actors.index(actor) if actor in self.actors else -1

    def __repr__(self) -> str:
        return f"CollectiveGroup({self.name}, {self.backend}, {len(self.actors)} actors)"


_made: Dict[str, CollectiveGroup] = {}  # by this process


def create_collective_group(actors: Sequence[Any], backend: str, name: Optional[str] = None, timeout: float = 60.0) -> CollectiveGroup:
    """Connects actors by torch.distributed: backend "gloo" (or "torch_gloo") or "nccl". An actor's rank is its place in the list.

    Waits until all have joined, which each does in its turn, behind the calls that it was sent before. timeout: seconds for connecting them.
    Raises ValueError for what is no group, and what an actor raised that could not join.
    """
    from maniple import _api
    from maniple.actor import CALL, ActorHandle

    kind = _BACKENDS.get(str(backend).lower())
    if kind is None:
        raise ValueError(f"the backend of a collective group is one of {', '.join(map(repr, _BACKENDS))}, not {backend!r}")
    if len(actors) < 2 or not all(isinstance(a, ActorHandle) for a in actors) or len(set(actors)) != len(actors):
        raise ValueError("a collective group needs a list of two or more actors, each once")
    name = name or f"group-{_numbers()}"
    if name in _made:
        raise ValueError(f"there is a collective group {name!r} already: destroy it, or take another name")
    group, ids = CollectiveGroup(actors, kind, name), [a._actor_id for a in actors]
    try:
        address = _api.get(getattr(actors[0], CALL).remote(_open, group._key, timeout))
        _api.get([getattr(a, CALL).remote(_join, group._key, kind, ids, rank, address, timeout) for rank, a in enumerate(actors)])
    except BaseException:
        _leave_all(group)
        raise
    _made[name] = group
    return group


def destroy_collective_group(group: Union[CollectiveGroup, str]) -> None:
    """Ends a group, by its handle or name; tensors go by the object store then. Raises ValueError if this process has made none such."""
    name = group.name if isinstance(group, CollectiveGroup) else group
    if name not in _made:
        raise ValueError(f"this process has made no collective group {name!r}")
    _leave_all(_made.pop(name))


def get_collective_groups(actors: Sequence[Any] = (), backend: Optional[str] = None) -> List[CollectiveGroup]:
    """The groups that this process has made, of those that have all these actors, and this backend."""
    return [g for g in _made.values() if all(a in g.actors for a in actors) and backend in (None, g.backend)]


def _leave_all(group: CollectiveGroup) -> None:
    from maniple.actor import CALL

    for actor in group.actors:  # of one that is dead nobody wants to know it
        getattr(actor, CALL).options(num_returns=0).remote(_leave, group._key)


# In the members' processes.


class _Member:
    """This process's part in a group. up, down: what connects it, for transfers to higher ranks and to lower ones. device: where they come to."""

    def __init__(self, backend: str, ranks: Dict[str, int], rank: int, up: Any, down: Any, device: str):
        from concurrent.futures import ThreadPoolExecutor

        self.backend, self.ranks, self.rank, self.up, self.down, self.device = backend, ranks, rank, up, down, device
        self.receiving, self.sending = ThreadPoolExecutor(1, "maniple-receive"), ThreadPoolExecutor(1, "maniple-send")


_members: Dict[str, _Member] = {}  # by the key of the group
_stores: Dict[str, Any] = {}  # of groups whose first member this process is, by which the others find each other


def _open(actor: Any, key: str, timeout: float) -> Tuple[str, int]:
    """In the first member: where the others find it."""
    import torch.distributed as dist

    from maniple.util import get_node_ip_address

    host = get_node_ip_address()
    _stores[key] = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout))
    return host, int(_stores[key].port)


def _join(actor: Any, key: str, backend: str, ids: List[str], rank: int, address: Tuple[str, int], timeout: float) -> None:
    import torch
    import torch.distributed as dist

    from maniple.util import get_node_ip_address

    store = _stores.get(key) or dist.TCPStore(*address, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=timeout))
    make = _gloo if backend == "gloo" else _nccl
    up, down = make(dist, store, rank, len(ids), get_node_ip_address(), timeout)
    device = "cpu" if backend == "gloo" else f"cuda:{torch.cuda.current_device()}"  # which is this thread's own
    if backend == "nccl":
        _connect(up, down, rank, len(ids), device, timeout)
    _members[key] = _Member(backend, {actor_id: i for i, actor_id in enumerate(ids)}, rank, up, down, device)


def _gloo(dist: Any, store: Any, rank: int, size: int, host: str, timeout: float) -> Tuple[Any, Any]:
    options = dist.ProcessGroupGloo._Options()
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=host)]
    options._timeout = timedelta(seconds=timeout)
    group = dist.ProcessGroupGloo(dist.PrefixStore("both", store), rank, size, options)
    return group, group


def _nccl(dist: Any, store: Any, rank: int, size: int, host: str, timeout: float) -> Tuple[Any, Any]:
    made = [dist.ProcessGroupNCCL(dist.PrefixStore(way, store), rank, size, timedelta(seconds=timeout)) for way in ("up", "down")]
    return made[0], made[1]


def partners(rank: int, size: int) -> "List[int]":
    """Each other rank once, in an order in which nobody waits in a circle: in the round of each place all pairs are apart."""
    even = size + size % 2
    met = []
    for turn in range(even - 1):
        if rank == even - 1:
            other = turn * (even // 2) % (even - 1)
        else:
            other = (turn - rank) % (even - 1)
            if other == rank:
                other = even - 1
        if other < size:
            met.append(other)
    return met


def _connect(up: Any, down: Any, rank: int, size: int, device: str, timeout: float) -> None:
    """Sends a byte to each other member and back. NCCL connects two at their first transfer, and who sends it waits there until the other one is there, too."""
    import torch

    byte = torch.zeros(1, dtype=torch.uint8, device=device)
    for other in partners(rank, size):
        for group, sends in ((up, rank < other), (down, rank > other)):
            transfer = group.send([byte], other, 0) if sends else group.recv([byte], other, 0)
            transfer.wait(timedelta(seconds=timeout))
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _leave(actor: Any, key: str) -> None:
    member = _members.pop(key, None)
    if member is not None:
        member.receiving.shutdown(wait=False)
        member.sending.shutdown(wait=False)
    _stores.pop(key, None)


def ways(actor: str, backend: str) -> "List[Tuple[str, int, int]]":
    """How tensors can come here from an actor: a group's key, this process's rank there, and a tag for the transfer."""
    return [(key, m.rank, _tags()) for key, m in list(_members.items()) if m.backend == backend and m.ranks.get(actor, m.rank) != m.rank]


def send(key: str, to: int, tag: int, tensors: Sequence[Any]) -> Any:
    """Begins to send tensors to a rank, and gives what receive needs; None: this process is no member."""
    import torch

    member = _members.get(key)
    if member is None:
        return None
    group = member.up if to > member.rank else member.down
    if member.backend == "nccl":
        torch.cuda.synchronize()  # what computes them may be in other streams
    flat = [_flat(t.detach() if member.backend == "nccl" else t.detach().cpu()) for t in tensors]
    member.sending.submit(_end, [group.send([f], to, tag) for f in flat if f.numel()], flat)
    return key, member.rank, tag, [(tuple(t.shape), t.dtype, t.device.type, t.requires_grad) for t in tensors]


def receive(key: str, source: int, tag: int, about: "Sequence[Tuple[Any, Any]]") -> List[Any]:
    """Tensors of these shapes and types that a rank has begun to send. Raises what torch raises when that is gone; the group is not used any more then."""
    received: "List[Any]" = _receiving(_members[key], key, source, tag, about).result()  # on another thread, since torch can't be interrupted
    return received


def discard(key: str, source: int, tag: int, about: "Sequence[Tuple[Any, Any]]") -> None:
    """Takes in what nobody wants any more, and does not wait for it."""
    member = _members.get(key)
    if member is not None:
        _receiving(member, key, source, tag, about)


def _receiving(member: _Member, key: str, source: int, tag: int, about: "Sequence[Tuple[Any, Any]]") -> Any:
    """The future of what comes."""
    import torch

    group = member.up if member.rank > source else member.down

    def run() -> List[Any]:
        made = [torch.empty(shape, dtype=dtype, device=member.device) for shape, dtype in about]
        try:
            _end([group.recv([_flat(t)], source, tag) for t in made if t.numel()])
        except RuntimeError:
            _leave(None, key)
            raise
        return made

    return member.receiving.submit(run)


def _flat(tensor: Any) -> Any:
    """The bytes of a tensor: transports know them all."""
    import torch

    return tensor.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def _end(transfers: "List[Any]", kept: Any = None) -> None:
    """Waits for transfers. kept: what they read meanwhile."""
    for transfer in transfers:
        transfer.wait(timedelta(seconds=_TRANSFER))
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
