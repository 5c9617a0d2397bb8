"""A program for test_rebuild.py: rebuilds that are killed at random moments, and what each of them leaves.

It loads torch once and forks, so that a rebuild takes a fraction of a second; each fork is the whole rebuild.

    python killed_rebuilds.py FOLDER KILLS SEED     # prints what it found, as JSON; fails where something was not right
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from killing import exit_code
from models import encoders, with_rows_scaled, write_sdxl

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.recipes.listing import list_embeddings
from lib_embedmerge.recipes.rebuild import rebuild
from lib_embedmerge.tokenizer import clip_tokenizer

RECIPES, VECTORS = 6, 75
CAT = 2368
DATE = datetime(2026, 11, 23, tzinfo=timezone.utc)
TEMPORARY = ".embedmerge-*.tmp"
ATTEMPTS = 10
"""How often to try for each kill that is to hit the middle: a moment can also lie before the first file or after the
last one, more so where other programs use the disk now and then."""


@dataclass(frozen=True)
class Rebuild:
    """All recipes for all checkpoints, into one folder."""

    sources: Sequence[Path]
    checkpoints: Sequence[Path]

    def run(self, folder: Path) -> None:
        for checkpoint in self.checkpoints:
            for _ in rebuild(self.sources, open_checkpoint(checkpoint), folder, DATE):
                pass

    def forked(self, folder: Path) -> int:
        """The same in a process of its own; its id."""
        child = os.fork()
        if child == 0:
            self.run(folder)
            os._exit(0)
        return child

    def whole(self, folder: Path) -> dict[str, bytes]:
        """A run that nothing disturbs, and the files that are there then."""
        assert exit_code(self.forked(folder), 300) == 0, "a rebuild failed"
        return files(folder)


def prepare(folder: Path) -> Rebuild:
    """Recipes of many vectors, so that writing takes a while, and two checkpoints with other rows for them."""
    base = encoders()
    model = open_checkpoint(write_sdxl(folder / "base.safetensors", base))
    checkpoints = [
        write_sdxl(folder / f"{name}.safetensors", with_rows_scaled(base, [CAT], factor))
        for name, factor in (("pony", 2.0), ("noob", 3.0))
    ]
    text = " ".join(["cat"] * VECTORS)
    sources = [
        build_embedding(model, f"'{text}'*{number + 1}", f"killed{number:02}x").save(folder / "sources")
        for number in range(RECIPES)
    ]
    return Rebuild(sources, checkpoints)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def check(folder: Path, right: dict[str, bytes]) -> int:
    """Every file that is there is whole and right, and nothing else is taken for an embedding; how many are there."""
    found = files(folder)
    for name, content in found.items():
        assert content == right[name], f"{name} is not as an undisturbed run writes it"
        assert load_embedding(folder / name).count == VECTORS
    library = EmbeddingFolder(folder, clip_tokenizer())
    assert {path.name for path in library.files()} == {entry.path.name for entry in list_embeddings(library)}
    assert {path.name for path in library.files()} == set(found)
    assert all(path.match(TEMPORARY) for path in folder.iterdir() if path.name not in found)
    return len(found)


def kill(job: Rebuild, folder: Path, moment: float) -> None:
    """Run it, and kill it after so many seconds."""
    child = job.forked(folder)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    assert exit_code(child) in (0, -signal.SIGKILL), "a rebuild failed by itself"


def kill_often(job: Rebuild, folder: Path, right: dict[str, bytes], kills: int, chance: random.Random) -> int:
    """Kill runs at random moments until so many kills have come in the middle, after the first file and before the
    last; how many it took."""
    begun = time.monotonic()
    job.whole(folder)
    takes = time.monotonic() - begun
    middle = attempts = 0
    while middle < kills:
        assert attempts < ATTEMPTS * kills, f"only {middle} kills came in the middle"
        attempts += 1
        # Each run finds something else there: some of what the ones before it have written.
        for name in files(folder):
            if chance.random() < 0.5:
                (folder / name).unlink()
        before = len(files(folder))
        kill(job, folder, chance.uniform(0, takes))
        after = check(folder, right)
        middle += before < after < len(right)
        # The disk is quick at one time and slow at another.
        takes *= 1.1 if after == before < len(right) else 0.9 if after == len(right) else 1
    return attempts


def main(folder: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)  # threads do not outlive a fork
    job, output = prepare(folder), folder / "output"
    right = job.whole(folder / "undisturbed")
    assert len(right) == len(job.sources) * len(job.checkpoints)
    attempts = kill_often(job, output, right, kills, random.Random(seed))
    left = list(output.glob(TEMPORARY))
    assert job.whole(output) == right, "the next run does not make what is missing"
    for path in left:
        os.utime(path, (1, 1))  # as if more time had gone by than any save takes
    job.whole(output)
    assert {path.name for path in output.iterdir()} == set(right), "what killed saves left is not swept"
    print(json.dumps({"middle": kills, "attempts": attempts, "temporaries": len(left)}))  # noqa: T201 -- to the test


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
