"""A checkpoint of full size that hardly takes room: holes on the disk but for the header and the two token tables.

Run as a program of its own, `python -m benchmarks.checkpoint PATH`, because the process that measures stays without
numpy: Linux counts a parent's memory towards its children's peak (processes.py).
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy

from benchmarks.sdxl import POSITION_IDS, TABLES, Shape, Size, sdxl_shapes

FILE_NAME = "sdxl-sparse.safetensors"
_SEED = 20231123
_SPREAD = 0.014
"""Standard deviation of the random numbers: about that of SDXL's own tables."""


def make_checkpoint(path: Path, size: Size | None = None) -> int:
    """Write the file and give its length in bytes. The same bytes everywhere; what is a hole reads as zeros."""
    shapes = sdxl_shapes(size)
    header: dict[str, object] = {}
    offset = 0
    # safetensors' own order: the widest numbers first, then by name.
    for name in sorted(shapes, key=lambda name: (name != POSITION_IDS, name)):
        dtype, width = ("I64", 8) if name == POSITION_IDS else ("F16", 2)
        end = offset + width * math.prod(shapes[name])
        header[name] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [offset, end]}
        offset = end
    starts = {name: entry["data_offsets"][0] for name, entry in header.items() if isinstance(entry, dict)}
    encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)
    payload = 8 + len(encoded)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(payload + offset)
        generator = numpy.random.default_rng(_SEED)
        for name in TABLES:
            file.seek(payload + starts[name])
            file.write(_random_table(generator, shapes[name]))
    return payload + offset


def _random_table(generator: numpy.random.Generator, shape: Shape) -> bytes:
    values = generator.standard_normal(shape, dtype=numpy.float32) * numpy.float32(_SPREAD)
    raw: bytes = values.astype("<f2").tobytes()
    return raw


if __name__ == "__main__":
    make_checkpoint(Path(sys.argv[1]))
