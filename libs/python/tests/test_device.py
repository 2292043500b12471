"""Device objects: what can be said without torch, and the tests of torch_device.py."""

import pytest

import maniple
from test_tensors import run_with_torch


def test_with_torch():
    run_with_torch("torch_device.py")


def test_without_the_extension():
    run_with_torch("torch_device.py", "-k", "brought or group_takes", MANIPLE_PURE="1")


def test_options():
    with pytest.raises(ValueError, match="'gloo', 'nccl', 'cuda_ipc', 'object_store' or None, not 'nixl'"):
        maniple.method(tensor_transport="nixl")
    with pytest.raises(ValueError, match="tensor_transport is no option of remote functions"):
        maniple.remote(tensor_transport="gloo")(test_options)


@pytest.mark.parametrize("size", range(2, 12))
def test_members_meet_in_an_order_that_ends(size):
    from maniple.experimental.collective import partners

    left = {rank: partners(rank, size) for rank in range(size)}
    assert all(sorted(others) == [r for r in range(size) if r != rank] for rank, others in left.items())
    while any(left.values()):  # two that are each other's next can go on
        ready = [rank for rank, others in left.items() if others and left[others[0]][0] == rank]
        assert ready, left
        for rank in ready:
            left[rank].pop(0)
