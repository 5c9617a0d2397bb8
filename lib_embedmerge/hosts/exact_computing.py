"""Compute vectors exactly while a program generates, which changes how torch computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def compute_exactly() -> Iterator[None]:
    """In this block, compute as outside a generation, and make normal tensors.

    Web UIs generate with autocast, which rounds products. They and ComfyUI generate in inference mode, which makes
    special tensors.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        if torch.is_autocast_enabled():
            with torch.autocast("cuda", enabled=False):  # vectors are computed there or on the CPU
                yield
        else:
            yield
