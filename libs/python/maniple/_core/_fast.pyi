"""The C extension: a connection without the interpreter. See _fast.h for how it works, native for who uses it."""

import mmap
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

INTERFACE: int

def setup(reference: type, descriptor: type, value: type, pending: Any, there: Tuple[Any, ...], loads: Any, dumps: Any, none: bytes, threads: Any) -> None:
    """Tells the types of a reference, of a descriptor that came, of a value; the states of a result that is awaited, and of what is there without
    its value, the last one at this node; pickle's loads and dumps; and the envelope of None. Once, before all else."""

def heads(refs: Iterable["Ref"]) -> bytes:
    """As references.heads."""

def layouts(tables: Dict[str, str], parts: Dict[str, Any]) -> None:
    """Tells frames.TABLES and frames.PARTS. Raises ValueError for a type of fields that is not known. Once, before the two below."""

def unpack(name: str, body: bytes) -> Optional[Dict[str, Any]]:
    """As frames.unpack. None: that is to say what is wrong with it."""

def pack(name: str, value: Any) -> Optional[bytes]:
    """As frames.pack. None: that is to do it, or to say why it can't be done."""

def copy(to: Any, source: Any, two: bool, stream: bool) -> None:
    """Copies one buffer into another in one of the ways in which large values are copied: with two threads, past the caches."""

def ways() -> List[float]:
    """How fast each way was, in bytes a second of CPU, for values below 8 MiB, 16 MiB, 64 MiB and 512 MiB, and larger ones: through the caches and past them, for each; 0: it
    was not tried."""

class Slab:
    """As slabs.Mapping."""

    def __init__(self, fd: int, offset: int, size: int) -> None: ...
    def fill(self, at: int, parts: Sequence[Any]) -> None: ...
    def close(self) -> None: ...

class Shared(mmap.mmap):
    """A mapping of shared memory that fades, once it is noted."""

    def note(self) -> None: ...

def most(size: int) -> None:
    """As arenas.bound."""

def fade(least: int) -> None:
    """As arenas.fade."""

def huge(start: int, end: int) -> bool:
    """Has the kernel put what of its own memory this process has between these addresses into huge pages. False: not all of it, or it can't."""

def forks(count: int) -> Union[List[int], int]:
    """As _template._forks. What is to be done before a fork and after it in this process is done once, and nothing of Python runs between them."""

class Link:
    """One connection. A fork's child has an inert one, on which nothing does anything."""

    why: str  # it ended
    closed: bool

    def __init__(self, fd: int, agent: int, process: int, credit_bytes: int, credit_records: int, inline_limit: int, worker: bool) -> None: ...
    def start(self) -> None:
        """Starts the threads. Raises OSError."""
    def close(self, wait: float = 0.0) -> None:
        """Ends the connection; waits for the threads, so many seconds at most."""
    def forget(self) -> None:
        """In a fork's child: closes its copy of the socket."""
    def fate(self, on: bool) -> None:
        """The process ends a second after the connection, whatever the interpreter does."""
    def send(self, frame: bytes) -> None: ...
    def enqueue(self, frame: bytes) -> None: ...
    def flush(self) -> None:
        """Writes all that was sent. Interruptible."""
    def mint(self) -> bytes: ...
    def submit(self, frame: bytes, payload: bytes) -> Any:
        """Sends a Submit with one result, whose ID and length it writes. Gives the reference; None without credit."""
    def call(self, frame: bytes, payload: bytes, incarnation: int, numbers: Iterator[int]) -> Any:
        """The same with a Call, which gets the next number."""
    def expect(self, task: bytes, count: int) -> List[Ref]:
        """The references to the results of a task that has several."""
    def spend(self, size: int) -> int:
        """0: it is spent, or the connection is closed; else what credited() takes."""
    def credited(self, was: int, timeout: Optional[float] = None) -> bool:
        """Waits until there is other credit than there was. Interruptible."""
    def grant(self, size: int, records: int) -> None: ...
    def result(self, task: bytes, index: int, attempt: int, flags: int, format: int, payload: bytes, peak: int, spent: Tuple[int, int, int, int]) -> None:
        """Sends a Result without references, and before the last one how the task went. spent: see _execute.Spent."""
    def results(self, task: bytes, attempt: int, values: Tuple[Any, ...]) -> bool:
        """Sends all but the last of several values, if they are plain and small. False: they are not, and none was sent."""
    def append(self, key: bytes) -> None:
        """Drops a reference (20 bytes) or a stream (16)."""
    def dropped(self) -> List[bytes]:
        """What was dropped and is for Python to release, oldest first."""
    def take(self, timeout: Optional[float] = None) -> Optional[List[Tuple[int, int, bytes, Any]]]:
        """Frames for Python: type, corr, body, payload or descriptor. Until the next call all that comes goes behind
        them. Empty after timeout seconds, and when many references were dropped; None at the end."""
    def put(self, work: Any) -> None: ...
    def get(self) -> Any:
        """The next of the inbox: what was put, or a Job. Interruptible."""
    def empty(self) -> bool: ...
    def begun(self, task: bytes) -> None: ...
    def ended(self, task: bytes) -> bool: ...
    def withdraw(self, task: bytes) -> "Optional[Job]":
        """Takes work out of the inbox before its turn."""

class Ref:
    """A key; when it goes, its link is told."""

    _key: bytes

    def __init__(self, key: bytes, drop: Optional[Link] = None) -> None: ...

class Job:
    """As _execute.Job, of a Submit or Call without references; frame is itself."""

class Gate:
    """As table.Gate."""

    missing: int
    want: int

    def __init__(self, missing: int, want: int = ..., early: bool = False) -> None: ...
    def arrived(self, key: bytes, failed: bool) -> None: ...
    def open(self) -> None: ...
    def wait(self, timeout: Optional[float] = None) -> bool: ...
    def direct(self) -> bool:
        """Waits for the result of the call that was just made, by the direct line to its actor. False: there is none, or the agent has the call now."""

class Entries:
    """What is known of objects, by key: a dict, but for the results of one's own tasks, which the link settles."""

    def __init__(self, link: Link) -> None: ...
    def get(self, key: bytes, default: Any = None) -> Any: ...
    def pop(self, key: bytes, default: Any) -> Any: ...
    def setdefault(self, key: bytes, value: Any) -> Any: ...
    def __getitem__(self, key: bytes) -> Any: ...
    def __setitem__(self, key: bytes, value: Any) -> None: ...
    def __delitem__(self, key: bytes) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def adopt(self, key: bytes) -> Optional[Gate]:
        """From here on the dict has it. Gives the gate that waits for it."""
    def foreign(self, refs: Sequence[Ref], strict: bool) -> Optional[Ref]:
        """As references.Held.foreign."""
    def fetch(self, refs: Sequence[Ref]) -> Union[List[Any], Gate, None]:
        """See table.Table.fetch."""
    def register(self, gate: Gate, keys: List[bytes]) -> List[bytes]:
        """Lets the gate wait; gives the keys that it knows nothing of, or that another gate waits for."""
    def unregister(self, gate: Any, keys: Sequence[Any]) -> None: ...
    def close(self) -> None:
        """Opens all gates."""
    def awaited(self, task: bytes, count: int) -> List[bytes]:
        """See table.Table.awaited_locked."""
    def readiness(self, refs: Sequence[Any], here: bool) -> Optional[bytes]:
        """A byte for each reference, 1: its object is there, or, here, at this node; None if they are not all references, known, and different."""
    def delivered(self, payload: bytes, count: int, deliveries: Dict[bytes, int], remote: Any) -> List[Optional[Ref]]:
        """See table.Table.delivered_locked. remote: the entry of what nobody has asked for."""
    def release(self, keys: List[bytes], more: Dict[bytes, int], deliveries: Dict[bytes, int], promises: Dict[bytes, Any], seen: Dict[bytes, Any], sequences: Dict[bytes, Any]) -> List[bytes]:
        """Forgets keys that none of the dicts but deliveries has, and says so; gives the others. See references.Held."""
