"""Make the demo checkpoint: a small SDXL checkpoint of random numbers, to try EmbedMerge without a download.

It has the real layout and 0.3 GB: full token tables (49,408 rows), text encoders of two layers in place of 12 and 32,
and one tensor of the UNet, by which loaders recognise the architecture. It cannot make pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L, VOCABULARY_SIZE, WIDTHS
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.files.atomic_file import make_folder, write_atomically
from lib_embedmerge.files.cache import DEMO_CHECKPOINT, demo_folder
from lib_embedmerge.files.safetensors_file import encode_safetensors

DEMO_SOURCE = "'cat'+'dog'*0.5"
DEMO_NAME = "catdog-demo"

_SEED = 20231123
_SPREAD = 0.014
"""Standard deviation of the numbers: about the same as in SDXL's own token tables, so that lengths look familiar."""

_LAYERS = 2
_POSITIONS = 77
_L = "conditioner.embedders.0.transformer.text_model."
_G = "conditioner.embedders.1.model."


def make_demo_checkpoint(progress: Progress | None = None) -> Path:
    """The path of the demo checkpoint, which is made from a fixed seed if it does not exist yet.

    progress: called with the number of tensors that are done.  StorageError if the file cannot be written.
    """
    path = demo_folder() / DEMO_CHECKPOINT
    if path.exists():
        return path
    generator = torch.Generator().manual_seed(_SEED)
    shapes = dict(_list_shapes())
    tensors = {}
    for done, (name, shape) in enumerate(shapes.items()):
        if progress:
            progress(done, len(shapes))
        tensors[name] = (torch.randn(shape, generator=generator) * _SPREAD).half()
    make_folder(path.parent)
    data = encode_safetensors(tensors, {"modelspec.title": "EmbedMerge demo"})
    write_atomically(path, data, overwrite=True)
    return path


def _list_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """(tensor name, shape) for each tensor of the demo checkpoint, in the layout of SDXL's single files."""
    yield "model.diffusion_model.input_blocks.0.0.weight", (320, 4, 3, 3)
    yield from _list_clip_l_shapes(WIDTHS[CLIP_L])
    yield from _list_clip_g_shapes(WIDTHS[CLIP_G])


def _list_clip_l_shapes(width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{_L}embeddings.token_embedding.weight", (VOCABULARY_SIZE, width)
    yield f"{_L}embeddings.position_embedding.weight", (_POSITIONS, width)
    for layer in range(_LAYERS):
        prefix = f"{_L}encoder.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _list_linear_shapes(f"{prefix}self_attn.{name}", width, width)
        yield from _list_linear_shapes(f"{prefix}mlp.fc1", 4 * width, width)
        yield from _list_linear_shapes(f"{prefix}mlp.fc2", width, 4 * width)
        yield from _list_norm_shapes(f"{prefix}layer_norm1", width)
        yield from _list_norm_shapes(f"{prefix}layer_norm2", width)
    yield from _list_norm_shapes(f"{_L}final_layer_norm", width)


def _list_clip_g_shapes(width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{_G}token_embedding.weight", (VOCABULARY_SIZE, width)
    yield f"{_G}positional_embedding", (_POSITIONS, width)
    yield f"{_G}text_projection", (width, width)
    yield f"{_G}logit_scale", ()
    for layer in range(_LAYERS):
        prefix = f"{_G}transformer.resblocks.{layer}."
        yield f"{prefix}attn.in_proj_weight", (3 * width, width)
        yield f"{prefix}attn.in_proj_bias", (3 * width,)
        yield from _list_linear_shapes(f"{prefix}attn.out_proj", width, width)
        yield from _list_linear_shapes(f"{prefix}mlp.c_fc", 4 * width, width)
        yield from _list_linear_shapes(f"{prefix}mlp.c_proj", width, 4 * width)
        yield from _list_norm_shapes(f"{prefix}ln_1", width)
        yield from _list_norm_shapes(f"{prefix}ln_2", width)
    yield from _list_norm_shapes(f"{_G}ln_final", width)


def _list_linear_shapes(name: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _list_norm_shapes(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
