"""What the tests of device objects run."""

import os

import torch

import maniple
from maniple.experimental import wait_tensor_freed


class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))


@maniple.remote
class Source:
    def __init__(self):
        self.made = {}

    @maniple.method(tensor_transport="gloo")
    def make(self, name="x", n=4):
        self.made[name] = torch.arange(n, dtype=torch.float32)
        return self.made[name]

    @maniple.method(tensor_transport="gloo")
    def nested(self):
        whole = torch.arange(12).reshape(3, 4)
        return {"a": [whole, {"b": whole.t()}], "again": whole, "n": 7, "bool": torch.tensor([True, False]), "none": torch.empty(0, 3), "one": torch.tensor(2.5, dtype=torch.bfloat16),
                "own": Own(), "sparse": torch.sparse_coo_tensor([[0]], [1.0], (2,)), "conj": torch.tensor([1 + 2j]).conj(), "grad": torch.ones(2, requires_grad=True)}  # fmt: skip

    @maniple.method(tensor_transport="gloo", num_returns=2)
    def pair(self):
        return torch.ones(2), {"no": "tensor"}

    @maniple.method(tensor_transport="gloo")
    def stream(self, n):
        for i in range(n):
            yield torch.full((3,), i)

    @maniple.method(tensor_transport="gloo")
    def not_to_be_sent(self):
        import threading

        return torch.ones(1), threading.Lock()

    def plain(self):
        return torch.ones(2)

    def same(self, tensor, name="x"):
        return tensor is self.made[name]

    def write(self, tensor, value):
        tensor[0] = value

    def first(self, name="x"):
        return float(self.made[name][0])

    def ask(self, other, ref):
        """Waits for one that wants a tensor of this actor, which does one call at a time."""
        return maniple.get(other.total.remote(ref), timeout=60)

    def wait(self, name, timeout):
        wait_tensor_freed(self.made[name], timeout)

    def kept(self):
        from maniple._device import keeper

        return len(keeper._kept), len(keeper._new)

    def pid(self):
        return os.getpid()

    def waits(self, seconds):
        """Transfers from here take so long at most."""
        from maniple.experimental import collective

        collective._TRANSFER = seconds


@maniple.remote
class Sink:
    def total(self, tensor):
        return float(tensor.sum())

    def inside(self, box):
        return float(maniple.get(box["ref"]).sum())

    def cancelled(self, box):
        """Is cancelled while it waits for tensors that were asked for, and may have been sent."""
        from maniple import _device

        class Session:
            def __getattr__(self, name):
                return getattr(real.current(), name)

            def get(self, refs):
                raise KeyboardInterrupt

            def current(self):
                return self

        real, _device._session = _device._session, Session()
        try:
            maniple.get(box["ref"])
        except KeyboardInterrupt:
            return True
        finally:
            _device._session = real

    def by_store(self, box):
        return float(maniple.get(box["ref"], _use_object_store=True).sum())

    def fields(self, value):
        return sorted(value), value["a"][0].tolist(), value["own"].weight.tolist()

    def ways(self):
        """How many tensors came by which way."""
        from maniple import _device

        return dict(_device.COUNTS)


@maniple.remote
def total(tensor):
    return float(tensor.sum())


@maniple.remote
class Loop:
    @maniple.method(tensor_transport="gloo")
    async def make(self, n):
        return torch.ones(n)

    async def total(self, tensor):
        return float(tensor.sum())
