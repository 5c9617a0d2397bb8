"""Two SDXL checkpoints of full size with random numbers in all that the meter reads: the text encoders, the keys and
values of the 70 cross-attentions, and what reads the pooled vector. All else is holes on the disk. 2 x 2.5 GB.

Run as `python -m benchmarks.meter_pair FOLDER`; writes a.safetensors and b.safetensors there.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy

from benchmarks.sdxl import CLIP_G, CLIP_L, POSITION_IDS, TABLES, UNET, Size, sdxl_shapes

NAMES = ("a.safetensors", "b.safetensors")
_SPREAD = 0.014
"""Standard deviation of the random numbers, about that of SDXL's token tables."""

_BLOCK = 1 << 22
"""Random numbers that are made; tensors take them in turn, each from another place on."""


def make_pair(folder: Path, size: Size | None = None) -> None:
    """Write both files. size: a smaller one for tests."""
    for seed, name in enumerate(NAMES):
        _write(folder / name, seed, size)


def _write(path: Path, seed: int, size: Size | None) -> None:
    shapes = sdxl_shapes(size)
    names = sorted(shapes, key=lambda name: (name != POSITION_IDS, name))  # the widest numbers first
    header: dict[str, object] = {}
    places: dict[str, int] = {}
    offset = 0
    for name in names:
        dtype, width = ("I64", 8) if name == POSITION_IDS else ("F16", 2)
        places[name], end = offset, offset + width * math.prod(shapes[name])
        header[name] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)
    generator = numpy.random.default_rng(seed)
    numbers = (generator.standard_normal(_BLOCK, dtype=numpy.float32) * numpy.float32(_SPREAD)).astype("<f2")
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + offset)
        for number, name in enumerate(filter(_is_read, names)):
            file.seek(8 + len(encoded) + places[name])
            count = math.prod(shapes[name])
            if _is_scale(name):
                file.write(numpy.ones(count, "<f2").tobytes())
                continue
            turned = numpy.roll(numbers, 9973 * number)
            for first in range(0, count, _BLOCK):
                file.write(turned[: min(_BLOCK, count - first)].tobytes())


def _is_read(name: str) -> bool:
    """Whether the meter reads a tensor."""
    if name == POSITION_IDS:
        return False
    is_of_unet = name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight", "label_emb.0.0.weight"))
    return name.startswith((CLIP_L, CLIP_G)) or name in TABLES or (name.startswith(UNET) and is_of_unet)


def _is_scale(name: str) -> bool:
    """Whether a tensor is the scale of a layer norm, which is 1 before training."""
    return name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "ln_1.weight", "ln_2.weight", "final.weight"))


if __name__ == "__main__":
    make_pair(Path(sys.argv[1]))
