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
