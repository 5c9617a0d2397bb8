"""Small checkpoints that can be run and have what reads text in a U-Net, for the tests of effects.

path = write_model(folder / "a.safetensors")                     # Stable Diffusion 1
path = write_model(folder / "b.safetensors", unet_share=0.1)     # the same with a U-Net that was trained on
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from checkpoint_files import TABLE, WIDTHS, Tensors, prefixed, save, text_unet, to_open_clip
from runnable_encoders import runnable_encoder

PREFIXES = {"clip_l": "conditioner.embedders.0.transformer.", "clip_g": "conditioner.embedders.1.model."}
SD1_PREFIX = "cond_stage_model.transformer."


@cache
def make_encoder(key: str) -> Tensors:
    """An encoder with random rows for every token; do not change its tensors."""
    tensors = runnable_encoder(key)
    generator = torch.Generator().manual_seed(WIDTHS[key])
    rows = torch.randn(tensors[TABLE].shape, generator=generator) * 0.03
    return {**tensors, TABLE: rows.half()}


def drift(tensors: Tensors, share: float, seed: int) -> Tensors:
    """Every weight moved by a share of its usual size, as training does. The token table stays."""
    if not share:
        return tensors
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor
        if name == TABLE
        else (tensor.float() + share * tensor.float().std() * torch.randn(tensor.shape, generator=generator)).half()
        for name, tensor in tensors.items()
    }


def make_tensors(
    architecture: str = "sd1", *, unet_share: float = 0, encoder_share: float = 0, seed: int = 1
) -> Tensors:
    """The tensors of a checkpoint. unet_share, encoder_share: how far they are from those of the first model."""
    unet = drift(text_unet(architecture, inner=64), unet_share, seed)
    keys = {"sd1": ("clip_l",), "sdxl": ("clip_l", "clip_g")}[architecture]
    encoders = {key: drift(make_encoder(key), encoder_share, seed + 100) for key in keys}
    if architecture == "sd1":
        return unet | prefixed(SD1_PREFIX, encoders["clip_l"])
    named = {"clip_l": encoders["clip_l"], "clip_g": to_open_clip(encoders["clip_g"])}
    return {**unet, **{name: value for key in keys for name, value in prefixed(PREFIXES[key], named[key]).items()}}


def write_model(path: Path, architecture: str = "sd1", **shares: float) -> Path:
    """A checkpoint file with these tensors."""
    return save(path, make_tensors(architecture, **shares))  # type: ignore[arg-type] # keywords of several types
