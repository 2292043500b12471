"""Tensors of torch in values. test_tensors.py has these tests run, by a Python that has torch."""

import gc
import os
import pickle

import pytest
import torch

from maniple._core import arenas, values, wire

SIZE = 4 << 20


def _keep(place):
    place.mapping += 1
    return lambda: None


def through_memory(value):
    """The value as another process reads it, and how its bytes were said."""
    encoded = values.encode(value)
    fd = os.memfd_create("arena")
    os.pwrite(fd, b"".join(encoded.parts), 64)
    place = arenas.Place(arenas.Descriptor(os.dup(fd)), 64, encoded.size, _keep)
    return values.decode(encoded.format, place.view()), encoded, fd


def test_a_tensor_is_read_where_it_lies():
    tensor = torch.arange(SIZE // 8)
    got, encoded, fd = through_memory({"nested": [tensor]})
    got = got["nested"][0]
    assert torch.equal(got, tensor) and len(encoded.parts[0]) < 1000  # meta has none of it
    os.pwrite(fd, b"\x77", 64 + encoded.size - 8)
    assert got[-1] & 0xFF == 0x77  # no copy
    before = os.pread(fd, 64 + encoded.size, 0)
    got[0] = 99  # nobody else sees it
    assert os.pread(fd, 64 + encoded.size, 0) == before and got[0] == 99
    part = got[5:9]
    del got
    gc.collect()
    assert part.tolist() == [5, 6, 7, 8]


def test_what_tensors_share_they_share_again():
    whole = torch.zeros(1000, 100)
    got, encoded, _ = through_memory((whole, whole.t(), whole[3], torch.nn.Parameter(whole)))
    assert encoded.size < 2 * whole.nbytes
    got[0][3, 4] = 5.0
    assert got[1][4, 3] == 5.0 and got[2][4] == 5.0 and got[3][3, 4] == 5.0
    assert got[1].stride() == whole.t().stride() and type(got[3]) is torch.nn.Parameter


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int8, torch.bool, torch.complex64])
def test_types(dtype):
    tensor = torch.ones(7, 3).to(dtype)
    for value in (values.decode(wire.PICKLE, values.encode(tensor).payload), through_memory(tensor)[0]):
        assert value.dtype == dtype and torch.equal(value, tensor)
        value[0, 0] = 0  # as any tensor


def test_none_of_it_and_none_of_ours():
    for tensor in (torch.empty(0), torch.tensor(3.0, requires_grad=True), torch.sparse_coo_tensor([[0]], [1.0], (2,))):
        got = values.decode(wire.PICKLE, values.encode(tensor).payload)
        assert torch.equal(got.to_dense() if got.is_sparse else got, tensor.to_dense() if tensor.is_sparse else tensor)
        assert got.requires_grad == tensor.requires_grad
    beside = values.encode((lambda: 0, torch.zeros(100_000)))  # cloudpickle's
    assert len(beside.parts) > 1 and len(beside.parts[0]) < 10_000
    assert b"maniple" not in pickle.dumps(torch.ones(3))  # pickling elsewhere is as it was
    assert values.decode(wire.PICKLE, values.encode(lambda: torch.ones(2)).payload)().sum() == 2
