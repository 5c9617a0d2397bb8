"""A library of 500 embeddings of another model, whose texts are found with one checkpoint of full size.

Run as `python -m benchmarks.restoring CHECKPOINT FOLDER`; prints JSON. Seven of ten files are texts; the others
are sums of two texts, trained vectors, and rows of the checkpoint itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

import numpy

from benchmarks.processes import BenchmarkError
from benchmarks.sources import Sources
from lib_embedmerge import open_checkpoint
from lib_embedmerge.actions.restoring_folders import RestoreRequest, restore
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.tokenizer import clip_tokenizer

EMBEDDINGS = 500
_SEED = 11
_MOST = 75
_NEAREST, _FARTHEST = 0.1, 0.5
"""How far the rows of the other model are from those of the checkpoint, in lengths of a row."""

_KINDS = ("text",) * 14 + ("sum",) * 3 + ("trained",) * 2 + ("own",)
"""Of twenty files."""

Tables = dict[str, numpy.ndarray]


def measure(checkpoint: Path, folder: Path) -> dict[str, float]:
    """Seconds in which all texts are found, and how many of them are right."""
    library = folder / "old"
    texts = _fill(library, open_checkpoint(checkpoint))
    begun = perf_counter()
    found = list(restore(RestoreRequest([library], [checkpoint], dry_run=True)))
    seconds = perf_counter() - begun
    right = sum(one["text"] == texts.get(Path(one["source"]).stem) for one in found)
    if len(found) != EMBEDDINGS or right < 0.97 * EMBEDDINGS:
        raise BenchmarkError(f"Only {right} of {len(found)} texts are those that were planted.")
    return {"seconds": seconds, "right": right}


def _fill(library: Path, model: CheckpointModel) -> dict[str, str]:
    """Write the embeddings, and return the texts of those that have one, by name."""
    library.mkdir()
    chance = numpy.random.default_rng(_SEED)
    words = Sources(_SEED, rare=True)
    every = range(clip_tokenizer().vocabulary_size)
    own = {encoder.key: to_numpy(encoder.vectors(every)) for encoder in model.encoders}
    other = {key: _drift(rows, chance) for key, rows in own.items()}
    texts = {}
    for number in range(EMBEDDINGS):
        name, kind = f"style{number:03}x", _KINDS[number % len(_KINDS)]
        first, second = (words.words(int(chance.integers(2, _MOST + 1))) for _ in range(2))
        if kind == "sum":
            second = " ".join(second.split()[: len(first.split())])
            vectors = _add(_rows(other, first), _rows(other, second), 0.5)
            texts[name] = f"'{first}' + '{second}'*0.5"
        elif kind == "trained":
            vectors = {key: _turn(rows, chance) for key, rows in _rows(other, first).items()}
        else:
            vectors = _rows(other if kind == "text" else own, first)
            texts[name] = f"'{first}'"
        Embedding(name, vectors, {}).save(library, dtype="float16")
    return texts


def _rows(tables: Tables, text: str) -> Tables:
    ids = clip_tokenizer().encode(text)
    return {key: rows[ids] for key, rows in tables.items()}


def _add(first: Tables, second: Tables, weight: float) -> Tables:
    """The sum of two texts, the second times a weight."""
    result = {key: rows.copy() for key, rows in first.items()}
    for key, rows in second.items():
        result[key][: len(rows)] += rows * numpy.float32(weight)
    return result


def _drift(rows: numpy.ndarray, chance: numpy.random.Generator) -> numpy.ndarray:
    """The rows of another model: each turned, so that it is some distance away from the row here."""
    distance = chance.uniform(_NEAREST, _FARTHEST, (len(rows), 1)).astype(numpy.float32)
    lengths = numpy.linalg.norm(rows, axis=1, keepdims=True)
    cosine = 1 - distance**2 / 2
    turned: numpy.ndarray = cosine * rows + numpy.sqrt(1 - cosine**2) * _turn(rows, chance)
    turned *= lengths / numpy.linalg.norm(turned, axis=1, keepdims=True)
    return turned


def _turn(rows: numpy.ndarray, chance: numpy.random.Generator) -> numpy.ndarray:
    """Random directions, at the lengths of the rows."""
    random = chance.standard_normal(rows.shape, dtype=numpy.float32)
    turned: numpy.ndarray = random * (
        numpy.linalg.norm(rows, axis=1, keepdims=True) / numpy.linalg.norm(random, axis=1, keepdims=True)
    )
    return turned


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]))))
