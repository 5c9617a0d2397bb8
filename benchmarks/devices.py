"""What takes how long on the CPU and on a GPU: `python -m benchmarks.devices CHECKPOINT [DEVICE…]`.

Prints one JSON object: device -> step -> milliseconds, the median of several runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

from lib_embedmerge import open_checkpoint, parse
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.recipes.recovery.recover import recover

_REPEATS = 9
_WORDS = " ".join(f"word{number}" for number in range(25))


def measure(checkpoint: Path, device: str) -> dict[str, float]:
    """Milliseconds of each step on a device."""
    model = open_checkpoint(checkpoint, device=device)
    model.fingerprints()
    short, long = parse("'cat'+'dog'*0.5"), parse(f"'{_WORDS}'*0.5+norm('{_WORDS}')")
    mixed = model.build("'photo of a cat'*0.5+'red dog'", name="x")

    def near() -> None:
        for encoder in model.encoders:
            encoder.nearest(next(queries)[encoder.key], 3)

    vectors = {key: to_numpy(rows) for key, rows in evaluate(long, model).items()}
    queries = ({key: rows * (1 + number) for key, rows in vectors.items()} for number in range(1000))
    return {
        "nearest tokens of 75 vectors, the first time": _time(near, 1),
        "nearest tokens of 75 vectors": _time(near),
        "an expression of two words": _time(lambda: evaluate(short, model)),
        "an expression of 150 tokens": _time(lambda: evaluate(long, model)),
        "recovering a sum of two texts": _time(lambda: recover(mixed, model), 3),
    }


def _time(step: Callable[[], object], repeats: int = _REPEATS) -> float:
    times = []
    for _ in range(repeats):
        begun = perf_counter()
        step()
        times.append((perf_counter() - begun) * 1000)
    return round(median(times), 3)


def main(arguments: Sequence[str]) -> None:
    """Measure the devices that are named, or the CPU."""
    checkpoint, *devices = arguments
    print(json.dumps({device: measure(Path(checkpoint), device) for device in devices or ["cpu"]}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
