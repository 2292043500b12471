"""Results as they come, for loops over many tasks."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, List, Optional, Sequence

from maniple import _api


def as_completed(refs: Sequence[Any], *, chunk_size: int = 10, yield_obj_refs: bool = False) -> Iterator[Any]:
    """The values of references as they come, in no order.

    chunk_size: how many are looked at together when they are there. yield_obj_refs: gives references (default: values, which raises what a task raised).
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is at least 1, not {chunk_size}")
    rest = list(refs)
    while rest:
        ready, rest = _some(rest, chunk_size)
        yield from ready if yield_obj_refs else _api.get(ready)


def map_unordered(fn: Any, items: Iterable[Any], *, backpressure_size: Optional[int] = 100, chunk_size: int = 10, yield_obj_refs: bool = False) -> Iterator[Any]:
    """The results of fn.remote(item) for each item as they come, in no order.

    fn: a remote function or an actor's method. backpressure_size: so many are under way at most (None: all at once). The rest as as_completed.
    """
    if chunk_size < 1 or (backpressure_size is not None and backpressure_size < chunk_size):
        raise ValueError(f"chunk_size is at least 1, and backpressure_size (None: no bound) at least as large, not {chunk_size} and {backpressure_size}")
    bound = backpressure_size or float("inf")
    rest: List[Any] = []
    for item in items:
        if len(rest) >= bound:
            ready, rest = _some(rest, chunk_size)
            yield from ready if yield_obj_refs else _api.get(ready)
        rest.append(fn.remote(item))
    yield from as_completed(rest, chunk_size=chunk_size, yield_obj_refs=yield_obj_refs)


def _some(refs: List[Any], count: int) -> Any:
    """Waits for one, and takes those that are there with it, count at most; gives them and the others."""
    ready, rest = _api.wait(refs, num_returns=1)
    if count > 1 and rest:
        more, rest = _api.wait(rest, num_returns=min(count - 1, len(rest)), timeout=0)
        ready += more
    return ready, rest
