"""A CUDA device for machines without one: tensors that lie in main memory, say `cuda:0`, and refuse to mix with others.

torch's FakeTensorMode refuses to mix devices too, but its tensors have no values, which every search needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

CUDA = torch.device("cuda:0")


class MixedDevicesError(AssertionError):
    """An operation got tensors of two devices, as CUDA refuses too."""


class PretendedTensor(Tensor):
    """A tensor on the pretended device. kept: its values, in main memory."""

    kept: Tensor

    @staticmethod
    def __new__(cls, kept: Tensor) -> PretendedTensor:
        made: PretendedTensor = Tensor._make_wrapper_subclass(
            cls, kept.shape, strides=kept.stride(), dtype=kept.dtype, device=CUDA
        )
        made.kept = kept
        return made

    # These ask CUDA's own code for the device, which a build without CUDA lacks.

    def __getitem__(self, index: Any) -> Any:
        return PretendedTensor(self.kept[_unwrap(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(value, PretendedTensor):
            raise MixedDevicesError("an assignment got tensors of two devices")
        self.kept[_unwrap(index)] = value.kept

    def __iter__(self) -> Iterator[Any]:
        return map(PretendedTensor, self.kept)

    def __float__(self) -> float:
        return float(self.kept)

    def __bool__(self) -> bool:
        return bool(self.kept)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares it without its first argument
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return dispatch(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Also sees what has no tensor of the pretended device among its arguments: moving one there, and making one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


def _unwrap(index: Any) -> Any:
    """An index with tensors in main memory in place of pretended ones."""
    return tree_map(lambda value: value.kept if isinstance(value, PretendedTensor) else value, index)


@contextlib.contextmanager
def pretend_cuda(patch: Any) -> Iterator[None]:
    """In this block, `tensor.to("cuda")` works. patch: pytest's monkeypatch."""
    patch.setattr(torch.cuda, "_lazy_init", lambda: None)
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # as FakeTensorMode does: torch.tensor makes its tensor, then moves it
    try:
        with _Mode():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


_MOVES = ("aten._to_copy.default", "aten.copy_.default", "aten.lift_fresh.default")


def dispatch(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the values in main memory, on the device of its tensors or the one that it names."""
    given: list[Tensor] = []
    tree_map(lambda value: given.append(value) if isinstance(value, Tensor) else None, (args, kwargs))
    pretended = [isinstance(tensor, PretendedTensor) for tensor in given]
    plain = [tensor for tensor, is_on_device in zip(given, pretended, strict=True) if not is_on_device]
    # Numbers of torch, without a dimension, may lie anywhere.
    if any(pretended) and any(tensor.dim() for tensor in plain) and str(function) not in _MOVES:
        raise MixedDevicesError(f"{function} got tensors of two devices")
    named = kwargs.get("device")
    is_on_device = any(pretended) if named is None else torch.device(named).type == "cuda"
    if named is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    unwrapped = _unwrap((args, kwargs))
    result = function(*unwrapped[0], **unwrapped[1])
    if not is_on_device:
        return result
    return tree_map(lambda value: PretendedTensor(value) if isinstance(value, Tensor) else value, result)
