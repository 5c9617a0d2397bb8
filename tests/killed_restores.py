"""A program for test_restoring.py: restores that are killed at random moments, and what each of them leaves.

It forks, so that each restore takes a fraction of a second; each fork is the whole run.

    python killed_restores.py FOLDER KILLS SEED     # prints what it found, as JSON; fails where something was not right
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import torch
from killing import exit_code
from planted_files import PLANTED_ROWS, as_stored, write_planted_sdxl, write_sd1_embedding, write_sdxl_embedding
from planted_tables import WIDTHS, choose_text, drift, plant, unit, vectors_of, words

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.actions.restoring_folders import RestoreRequest, restore
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.tokenizer import clip_tokenizer

FILES = 300


def fill(folder: Path, checkpoint: Path, planted: Any) -> dict[str, str]:
    """Mixed files: texts for SDXL and SD1 of another model, ours, trained ones, damaged ones, duplicates.

    Returns name -> text of those that are text.
    """
    folder.mkdir()
    chance = numpy.random.default_rng(0)
    pool = words(PLANTED_ROWS)
    other = drift(planted, 0.08, 0.45)
    model = open_checkpoint(checkpoint)
    texts: dict[str, str] = {}
    for number in range(FILES):
        name = f"file{number:03}"
        ids = choose_text(chance, pool, int(chance.integers(1, 12)))
        kind = number % 10
        if kind == 6:
            (folder / f"{name}.safetensors").write_bytes(b"torn" * number)
            continue
        if kind == 7:
            noise = {
                key: (0.4 * unit(chance.standard_normal((2, width)))).astype("f4") for key, width in WIDTHS.items()
            }
            write_sdxl_embedding(folder / f"{name}.safetensors", noise)
            continue
        if kind == 8:
            shutil.copy(folder / f"file{number - 8:03}.safetensors", folder / f"{name}.safetensors")
            texts[name] = texts[f"file{number - 8:03}"]
            continue
        texts[name] = f"'{clip_tokenizer().spell(ids)}'"
        if kind == 4:
            write_sd1_embedding(folder / f"{name}.pt", other["clip_l"][ids])
        elif kind == 5:
            build_embedding(model, texts[name], name).save(folder)
        elif kind == 9:
            write_sdxl_embedding(folder / f"{name}.safetensors", vectors_of(planted.tables, ids))
        else:
            write_sdxl_embedding(folder / f"{name}.safetensors", vectors_of(other, ids))
    return texts


def run(library: Path, checkpoint: Path, report: Path | None = None) -> None:
    answers = list(restore(RestoreRequest([library], [checkpoint])))
    if report:
        report.write_text(json.dumps(answers), encoding="utf-8")


def forked(library: Path, checkpoint: Path, report: Path | None = None) -> int:
    child = os.fork()
    if child == 0:
        run(library, checkpoint, report)
        os._exit(0)
    return child


def check(library: Path, before: dict[str, bytes], vectors: dict[str, Any], texts: dict[str, str]) -> int:
    """No file is lost, no vector changed, and no file has a text that is not its own; how many have one."""
    done = 0
    for name, content in before.items():
        path = library / name
        assert path.is_file(), f"{name} is lost"
        if path.stem not in vectors:
            assert path.read_bytes() == content, f"{name} was changed"
            continue
        found = load_embedding(path)
        assert all((found.vectors[key] == rows).all() for key, rows in vectors[path.stem].items()), (
            f"{name} was changed"
        )
        assert found.recipe in {None, texts.get(path.stem)}, f"{name} has another text"
    for path in library.glob("*.safetensors"):
        if path.name not in before:
            made = load_embedding(path)
            original = made.tag.variant_of if made.tag and made.tag.variant_of else made.name
            assert made.recipe == texts[original], f"{path.name} has another text"
            done += 1
    return done


def main(folder: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)  # threads do not outlive a fork
    planted = as_stored(plant(PLANTED_ROWS))
    checkpoint = write_planted_sdxl(folder / "base.safetensors", planted.tables)
    library, whole = folder / "library", folder / "whole"
    texts = fill(library, checkpoint, planted)
    shutil.copytree(library, whole)
    before = {path.name: path.read_bytes() for path in library.iterdir()}
    vectors = {path.stem: dict(load_embedding(path).vectors) for path in library.iterdir() if path.stem in texts}
    begun = time.monotonic()
    assert exit_code(forked(whole, checkpoint), 300) == 0, "a restore failed"
    takes = time.monotonic() - begun
    right = check(whole, before, vectors, texts)
    chance = random.Random(seed)
    middle = attempts = 0
    while middle < kills:
        attempts += 1
        assert attempts <= 6 * kills, f"only {middle} kills came in the middle"
        for path in library.iterdir():
            if path.name not in before and not path.name.startswith(".") and chance.random() < 0.7:
                path.unlink()
        for name in chance.sample(sorted(before), len(before) // 2):
            (library / name).write_bytes(before[name])
        child = forked(library, checkpoint)
        # The first part of a run only reads.
        time.sleep(chance.uniform(0.3 * takes, takes))
        os.kill(child, signal.SIGKILL)
        code = exit_code(child)
        assert code in (0, -signal.SIGKILL), "a restore failed by itself"
        done = check(library, before, vectors, texts)
        middle += code != 0
        takes *= 1.02 if code != 0 and done < right // 4 else 0.9 if code == 0 else 1
    report = folder / "report.json"
    assert exit_code(forked(library, checkpoint, report), 300) == 0, "a restore failed"
    assert check(library, before, vectors, texts) == right, "the last run does not make what is missing"
    answers = json.loads(report.read_text(encoding="utf-8"))
    for answer in answers:
        name = Path(answer["source"]).stem
        assert answer["text"] == texts.get(name), f"the report is wrong about {name}"
        assert (answer["status"] in {"written", "up to date"}) == (name in texts)
        assert all(Path(file).is_file() for file in answer["written"])
    print(json.dumps({"kills": middle, "attempts": attempts, "files": len(answers)}))  # noqa: T201 -- to the test


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
