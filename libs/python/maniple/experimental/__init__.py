"""What Ray has under this name, of device objects: results of actors' methods whose tensors stay where they were made.

    @maniple.remote
    class Source:
        @maniple.method(tensor_transport="nccl")  # or "gloo", "cuda_ipc"
        def weights(self):
            return torch.ones(1000, device="cuda")

The reference is passed as any other; who reads it has the tensors brought: see docs/guide/python.md.
"""

from __future__ import annotations

from typing import Any, Optional

__all__ = ["wait_tensor_freed"]


def wait_tensor_freed(tensor: Any, timeout: Optional[float] = None) -> None:
    """Waits, in the actor that returned it, until nobody can ask for a tensor's memory any more: then it may be written to.

    timeout: seconds (default: no end). Raises GetTimeoutError, a TimeoutError, when that is over.
    """
    from maniple import exceptions
    from maniple._device import keeper

    if not keeper.wait(tensor, timeout):
        raise exceptions.GetTimeoutError(f"after {timeout} s references to what has this tensor are held still")
