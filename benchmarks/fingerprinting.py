"""A checkpoint fingerprinted for the first time, against reading the same bytes and taking their sha256.

Run as `python -m benchmarks.fingerprinting CHECKPOINT REPEATS`; prints JSON. The checkpoint is in memory, as far as it
has room there: a disk is no part of the comparison.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.sdxl import CLIP_G, CLIP_L

_BLOCK = 4 * 1024 * 1024
_HEADER_ENTRY = "__metadata__"


def encoder_bytes(path: Path) -> list[tuple[int, int]]:
    """(start, length) of each run of neighbouring bytes that the text encoders take in the file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    runs: list[tuple[int, int]] = []
    entries = [entry["data_offsets"] for name, entry in header.items() if name.startswith((CLIP_L, CLIP_G))]
    for start, end in sorted(entries):
        place = 8 + length + start
        if runs and sum(runs[-1]) == place:
            runs[-1] = (runs[-1][0], runs[-1][1] + end - start)
        else:
            runs.append((place, end - start))
    return runs


def read_and_hash(path: Path, runs: list[tuple[int, int]]) -> str:
    """sha256 hex over some bytes of a file, read in blocks one after the other."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for start, length in runs:
            file.seek(start)
            left = length
            while left and (block := file.read(min(_BLOCK, left))):
                digest.update(block)
                left -= len(block)
    return digest.hexdigest()


def fingerprint(path: Path) -> None:
    """All of a file's encoders, with nothing known of them."""
    from lib_embedmerge.checkpoints.measured import MeasuredEncoders
    from lib_embedmerge.checkpoints.sources import open_source
    from lib_embedmerge.files.cache import FileFacts

    with tempfile.TemporaryDirectory() as folder:
        encoders = list(open_source(path).encoders.values())
        MeasuredEncoders(encoders, FileFacts(Path(folder))).fingerprints()


def measure(path: Path, repeats: int) -> dict[str, float]:
    """Seconds of both, medians, and the bytes that the encoders take."""
    runs = encoder_bytes(path)
    seconds: dict[str, list[float]] = {"fingerprint": [], "plain": []}
    for turn in range(repeats + 1):
        started = perf_counter()
        read_and_hash(path, runs)
        between = perf_counter()
        fingerprint(path)
        ended = perf_counter()
        if turn:  # the first brings the bytes into memory
            seconds["plain"].append(between - started)
            seconds["fingerprint"].append(ended - between)
    medians = {name: median(values) for name, values in seconds.items()}
    return {**medians, "bytes": float(sum(length for _, length in runs))}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
