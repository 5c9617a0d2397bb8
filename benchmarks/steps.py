"""What a build is made of: reading the source, tokens, vectors; for a few sources of different kinds, all warm.

Run as `python -m benchmarks.steps CHECKPOINT REPEATS`; prints JSON with microseconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

from benchmarks.sources import Sources
from lib_embedmerge import open_checkpoint, parse
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.texts import NoEmbeddings, TextReader
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.lang.source import read_prompt
from lib_embedmerge.tokenizer import clip_tokenizer

_NESTED = (
    "lerp(norm(mean('red cat', 'blue dog'), 1.1), "
    "slerp('oil painting'+'sketch'*0.5, orth('stormy sea', 'water'), 0.3), 0.25)*1.2"
)
_SEED = 5
_COLD = 200


def forms() -> dict[str, str]:
    """Name -> source."""
    words = Sources(_SEED).words
    return {
        "2 words": "'cat'+'dog'*0.5",
        "75 tokens": f"'{words(75)}'",
        "nested functions": _NESTED,
        "prompt with an expression": f"{words(30)}, <'cat'+'dog'*0.5>, {words(30)}",
    }


def measure(checkpoint: Path, repeats: int) -> dict[str, object]:
    """Microseconds: of each step of each form, of tokenizing 75 words, of a token counter for each key that is
    pressed, and of near(), which searches the vocabulary."""
    model = open_checkpoint(checkpoint)
    model.fingerprints()
    return {
        "forms": {name: _steps(model, source, repeats) for name, source in forms().items()},
        "tokenizer": _tokenizer(repeats),
        "keystrokes": _keystrokes(forms()["prompt with an expression"]),
        "near": _in_turn({"near": lambda: model.build("near('cat'+'dog')", name="x")}, min(repeats, 20))["near"],
    }


def _steps(model: CheckpointModel, source: str, repeats: int) -> dict[str, float]:
    read = parse(source)
    return _in_turn(
        {
            "parse": lambda: parse(source),
            "evaluate": lambda: evaluate(read, model),
            "build": lambda: model.build(source, name="x"),
        },
        repeats,
    )


def _tokenizer(repeats: int) -> dict[str, float]:
    """A text of 75 words whose words were seen before, and texts of 75 words that were mostly not."""
    tokenizer = clip_tokenizer()
    known = Sources(_SEED).words(75)
    others = iter([Sources(seed, rare=True).words(75) for seed in range(_COLD + 1)])
    seen = _in_turn({"seen": lambda: tokenizer.encode(known)}, repeats)
    return seen | _in_turn({"new": lambda: tokenizer.encode(next(others))}, _COLD)


def _keystrokes(prompt: str) -> dict[str, float]:
    """Vectors counted after each character of a prompt, as it is typed, everything read again."""
    times = []
    for end in range(1, len(prompt) + 1):
        typed = prompt[:end]
        begun = perf_counter()
        outliner = Outliner(TextReader(clip_tokenizer(), NoEmbeddings()))
        sum(len(outliner.part(typed, part)) for part in read_prompt(typed))
        times.append(perf_counter() - begun)
    return {"median": median(times) * 1e6, "p95": quantiles(times, n=20)[-1] * 1e6, "count": float(len(times))}


def _in_turn(actions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median microseconds of each action, done in turn with the others, once before that for warmth."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(repeats + 1):
        for name, action in actions.items():
            begun = perf_counter()
            action()
            if turn:
                times[name].append(perf_counter() - begun)
    return {name: median(seconds) * 1e6 for name, seconds in times.items()}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
