"""Make the demo checkpoint: a small SDXL checkpoint of random numbers, to try EmbedMerge without a download.

It has the real layout and 0.3 GB: full token tables (49,408 rows), text encoders of two layers in place of 12 and 32,
and one tensor of the UNet, by which loaders recognise the architecture. It cannot make pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L, VOCABULARY_SIZE, WIDTHS
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.atomic_file import make_folder, write_atomically
from lib_embedmerge.files.cache import DEMO_CHECKPOINT, demo_folder
from lib_embedmerge.files.safetensors_file import encode_safetensors, read_header
from lib_embedmerge.files.stored_values import store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEMO_SOURCE = "'cat'+'dog'*0.5"
DEMO_NAME = "catdog-demo"

_SEED = 20231123
_SPREAD = 0.014
"""Standard deviation of the numbers: about the same as in SDXL's own token tables, so that lengths look familiar."""

_CHUNK = 1 << 20
"""Numbers that are made at once."""

_LAYERS = 2
_POSITIONS = 77
_L = "conditioner.embedders.0.transformer.text_model."
_G = "conditioner.embedders.1.model."


def make_demo_checkpoint(progress: Progress | None = None) -> Path:
    """The path of the demo checkpoint, which is made from a fixed seed if it does not exist yet.

    progress: called with (numbers that are done, numbers in all).  StorageError if the file cannot be written.
    """
    path = demo_folder() / DEMO_CHECKPOINT
    if _is_whole(path):
        return path
    import numpy as np

    generator = np.random.PCG64(_SEED)
    shapes = dict(_list_shapes())
    total, done = sum(map(math.prod, shapes.values())), 0
    tensors = {}
    for name, shape in shapes.items():
        values = np.empty(math.prod(shape), np.float16)
        for start in range(0, len(values), _CHUNK):
            if progress:
                progress(done, total)
            part = values[start : start + _CHUNK]
            part[:] = _make_numbers(generator, len(part))
            done += len(part)
        tensors[name] = store(values.reshape(shape))
    make_folder(path.parent)
    data = encode_safetensors(tensors, {"modelspec.title": "EmbedMerge demo"})
    # Not flushed, which would take longer than making it; a file that a power failure cut off is made again.
    write_atomically(path, data, overwrite=True, durable=False)
    return path


def _is_whole(path: Path) -> bool:
    """Whether the demo checkpoint exists, and no part of it is missing."""
    try:
        read_header(path)
    except StorageError:
        return False
    return True


def _make_numbers(generator: np.random.PCG64, count: int) -> npt.NDArray[np.float32]:
    """Random numbers with the standard deviation _SPREAD, nearly normally distributed: each is the sum of four.

    numpy keeps the bits of a generator the same in all versions, but not the normal distribution that it makes of them.
    """
    import numpy as np

    parts = np.asarray(generator.random_raw(count), np.uint64).view(np.uint16)
    sums = parts[0::4].astype(np.int32)
    for place in (1, 2, 3):
        sums += parts[place::4]
    of_one = math.sqrt(4 * (65536**2 - 1) / 12)
    numbers = (sums - 2 * 65535).astype(np.float32)
    numbers *= _SPREAD / of_one
    return numbers


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
