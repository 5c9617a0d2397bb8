"""Many different sources built one after the other in one process, as a web UI or a script does it.

Run as `python -m benchmarks.builds CHECKPOINT FOLDER COUNT`; prints JSON. FOLDER is where embeddings are saved.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, process_time

from benchmarks.sources import Sources
from lib_embedmerge import open_checkpoint
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.files.atomic_file import flush_folder

_WARM_UP = 300
_FEW = 4
"""Tokens of the longest text that people usually blend."""
_SAME = 200
"""Words that somebody who looks for the right blend comes back to."""


def measure(checkpoint: Path, folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Milliseconds for each build: a few words out of 200, a few of any, texts of any length, those of rare words, and
    saved to a file.

    For all but the last also `processor`, the mean time of all threads, and `loop`, for the speed of the machine.
    """
    model = open_checkpoint(checkpoint)
    model.fingerprints()
    found = {}
    kinds = {
        "same": Sources(2, most=_FEW, among=_SAME),
        "short": Sources(2, most=_FEW),
        "long": Sources(2),
        "rare": Sources(2, rare=True),
    }
    for name, kind in kinds.items():
        sources = iter(kind)
        _build(model, sources, _WARM_UP)
        found[name] = _build(model, sources, count)
    sources = iter(Sources(seed=3))
    _save(model, sources, folder / "warm-up", 20)
    found.update(_save(model, sources, folder, count))
    return found


def _build(model: CheckpointModel, sources: Iterator[str], count: int) -> dict[str, float]:
    times, processor, loops = [], 0.0, []
    for number, source in enumerate(islice(sources, count)):
        begun, started = perf_counter(), process_time()
        model.build(source, name=f"b{number}")
        times.append(perf_counter() - begun)
        processor += process_time() - started
        if number % 20 == 0:
            loops.append(_loop())
    return {**_figures(times), "processor": processor / count * 1000, "loop": median(loops) * 1000}


def _loop() -> float:
    """Seconds that Python takes for 100,000 additions: how fast this machine is just now."""
    begun, total = perf_counter(), 0
    for number in range(100_000):
        total += number
    return perf_counter() - begun


def _save(model: CheckpointModel, sources: Iterator[str], folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Building and saving, and in turn with it writing the same bytes to a file in the plainest durable way."""
    folder.mkdir(parents=True, exist_ok=True)
    saved, plain = [], []
    for number, source in enumerate(islice(sources, count)):
        begun = perf_counter()
        path = model.build(source, name=f"b{number}").save(folder)
        saved.append(perf_counter() - begun)
        data = path.read_bytes()
        begun = perf_counter()
        _write_plainly(path.with_suffix(".bin"), data)
        plain.append(perf_counter() - begun)
        path.with_suffix(".bin").unlink()
        path.unlink()
    return {"saved": _figures(saved), "plain": _figures(plain)}


def _write_plainly(path: Path, data: bytes) -> None:
    """A file flushed to the disk that then takes its name, which the flushed folder keeps in a power failure."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    flush_folder(path.parent)


def _figures(seconds: Sequence[float]) -> dict[str, float]:
    """In milliseconds: the median, and what 95 of 100 stay under."""
    return {"median": median(seconds) * 1000, "p95": quantiles(seconds, n=20)[-1] * 1000}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
