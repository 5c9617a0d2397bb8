"""Compute vectors exactly while a program generates, which changes how torch computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def compute_exactly() -> AbstractContextManager[None]:
    """A context in which one computes as outside a generation, and makes normal tensors without gradients.

    Web UIs generate with autocast, which rounds products. They and ComfyUI generate in inference mode, which makes
    special tensors.
    """
    if torch.is_grad_enabled() or torch.is_inference_mode_enabled() or torch.is_autocast_enabled():
        return _leave_modes()
    return nullcontext()  # as where AUTOMATIC1111 reads most prompts


@contextmanager
def _leave_modes() -> Iterator[None]:
    with torch.inference_mode(mode=False), torch.no_grad():
        if torch.is_autocast_enabled():
            with torch.autocast("cuda", enabled=False):  # vectors are computed there or on the CPU
                yield
        else:
            yield
