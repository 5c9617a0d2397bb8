"""A library of 2,000 embeddings listed and measured against a model, and 1,000 recipes rebuilt for ten checkpoints.

Run as `python -m benchmarks.library CHECKPOINT FOLDER`; prints JSON with seconds. The ten checkpoints are one file of
full size under ten names.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from benchmarks.processes import BenchmarkError
from benchmarks.sources import Sources
from lib_embedmerge import open_checkpoint
from lib_embedmerge.actions.managing import FitCache, LibraryLister
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.recipes.rebuild import rebuild
from lib_embedmerge.recipes.variant_writing import WRITTEN

EMBEDDINGS, RECIPES, CHECKPOINTS = 2000, 1000, 10
_SEED = 7


def measure(checkpoint: Path, folder: Path) -> dict[str, float]:
    """Seconds of listing, of all fits, and of all rebuilds. Half of the embeddings were made for another model."""
    model = open_checkpoint(checkpoint)
    model.fingerprints()
    library = folder / "embeddings"
    sources = _fill(library, model)
    found = {}
    host = CheckpointHost(library, checkpoint=checkpoint)
    begun = perf_counter()
    listed = LibraryLister().list_entries(host)
    found["list"] = perf_counter() - begun
    begun = perf_counter()
    fits = FitCache().measure(host, list(listed.entries))
    found["fit"] = perf_counter() - begun
    statuses = [one.fit.status for one in fits.values() if one.fit]
    if (
        statuses.count(FitStatus.DIFFERS) != RECIPES
        or statuses.count(FitStatus.MADE_FOR_THIS_MODEL) != EMBEDDINGS - RECIPES
    ):
        raise BenchmarkError("The fits are not those that were planted.")
    begun = perf_counter()
    for number in range(CHECKPOINTS):
        other = checkpoint.with_name(f"model{number}.safetensors")
        if not other.exists():
            other.hardlink_to(checkpoint)
        made = list(rebuild(sources, open_checkpoint(other), folder / "variants"))
        if {one.status for one in made} != {WRITTEN}:
            raise BenchmarkError("Not every variant was written.")
    found["rebuild"] = perf_counter() - begun
    return found


def _fill(folder: Path, model: CheckpointModel) -> list[Path]:
    """Write the embeddings; gives the files of those that differ on the model."""
    words = Sources(_SEED)
    differing = []
    for number in range(EMBEDDINGS):
        made = model.build(f"'{words.words(1 + number % 4)}'+'{words.words(2)}'*0.5", name=f"style{number:04}x")
        if number % 2:
            made.save(folder)
            continue
        other = {key: "0" * 64 if key.startswith(keys.TOKEN_TABLE) else text for key, text in made.metadata.items()}
        vectors = {key: rows * 1.5 for key, rows in made.vectors.items()}
        differing.append(replace(made, vectors=vectors, metadata=other).save(folder))
    return differing


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]))))
