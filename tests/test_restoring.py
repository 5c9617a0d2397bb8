"""A library made over: texts found, tags written, variants made, and a report that is true."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
from planted_files import PLANTED_ROWS, as_stored, write_planted_sdxl, write_sd1_embedding, write_sdxl_embedding
from planted_tables import Planted, Tables, choose_text, drift, plant, unit, vectors_of, words

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.cli import main
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.tokenizer import clip_tokenizer

POOL = words(PLANTED_ROWS)
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Shelf:
    """Two checkpoints, and the table of a model that is not at hand."""

    base: Path
    pony: Path
    planted: Planted
    other: Tables


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder = tmp_path_factory.mktemp("models")
    planted = as_stored(plant(PLANTED_ROWS))
    pony = {key: rows.astype(numpy.float16).astype(numpy.float32) for key, rows in drift(planted, 0.3, 0.5).items()}
    return Shelf(
        write_planted_sdxl(folder / "base.safetensors", planted.tables),
        write_planted_sdxl(folder / "pony.safetensors", pony),
        planted,
        drift(planted, 0.08, 0.45, seed=9),
    )


def fill(folder: Path, shelf: Shelf, seed: int = 1) -> dict[str, str]:
    """Files of all kinds; name -> the text of those that are text."""
    folder.mkdir()
    chance = numpy.random.default_rng(seed)
    texts = {}

    def text(name: str, count: int) -> list[int]:
        ids = choose_text(chance, POOL, count)
        texts[name] = f"'{clip_tokenizer().spell(ids)}'"
        return ids

    write_sdxl_embedding(folder / "Pony-a.safetensors", vectors_of(shelf.other, text("Pony-a", 9)))
    first = vectors_of(shelf.other, text("SDXL-b", 5))
    shared = vectors_of(shelf.other, clip_tokenizer().encode("night"))
    for name in ("SDXL-b", "SDXL-d"):
        joined = {key: numpy.concatenate([rows, shared[key]]) for key, rows in first.items()}
        write_sdxl_embedding(folder / f"{name}.safetensors", joined)
        texts[name] = texts["SDXL-b"].removesuffix("'") + (" night'" if name == "SDXL-b" else "'")
    texts["SDXL-d"] = texts["SDXL-b"]
    pony = load_embedding(folder / "Pony-a.safetensors").vectors
    both = {key: numpy.concatenate([rows, shared[key]]) for key, rows in pony.items()}
    write_sdxl_embedding(folder / "Pony-a.safetensors", both)
    texts["Pony-a"] = texts["Pony-a"].removesuffix("'") + " night'"
    write_sd1_embedding(folder / "old.pt", shelf.other["clip_l"][text("old", 12)])
    write_sdxl_embedding(folder / "here.safetensors", vectors_of(shelf.planted.tables, text("here", 4)))
    build_embedding(open_checkpoint(shelf.base), "'a red car'", "ours").save(folder)
    texts["ours"] = "'a red car'"
    noise = {
        key: (0.4 * unit(chance.standard_normal((3, width)))).astype("f4")
        for key, width in (("clip_l", 768), ("clip_g", 1280))
    }
    write_sdxl_embedding(folder / "trained.safetensors", noise)
    (folder / "torn.safetensors").write_bytes(b"torn")
    return texts


def restore(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["restore", *map(str, arguments), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    return {Path(answer["source"]).stem: answer for answer in answers}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_dry_run_tells_everything_and_writes_nothing(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = fill(tmp_path / "library", shelf)
    before = contents(tmp_path / "library")
    found = restore(capsys, tmp_path / "library", "--checkpoint", shelf.base, shelf.pony, "--dry-run")
    assert contents(tmp_path / "library") == before
    assert {name: answer["text"] for name, answer in found.items() if answer["text"]} == texts
    assert all(answer["written"] == [] for answer in found.values())
    verdicts = {name: answer["verdict"] for name, answer in found.items()}
    assert verdicts == {
        "Pony-a": "text", "SDXL-b": "text", "SDXL-d": "text", "old": "text", "here": "exact", "ours": "exact",
        "trained": "not_text", "torn": None,
    }  # fmt: skip
    assert {Path(file).name for file in found["Pony-a"]["planned"]} == {
        "Pony-a.safetensors", "Pony-a-base.safetensors", "Pony-a-pony.safetensors",
    }  # fmt: skip
    assert [Path(file).name for file in found["ours"]["planned"]] == ["ours-pony.safetensors"]
    assert found["old"]["checkpoint"] == str(shelf.base)
    assert {name: answer["status"] for name, answer in found.items()} == {
        name: "planned" if name in texts else "skipped" for name in found
    }
    assert found["trained"]["reason"] == "Its vectors were trained: they match the words of none of the checkpoints."
    assert "torn.safetensors" in found["torn"]["reason"]
    # One model made these three, whatever two of them are called.
    assert found["Pony-a"]["group"] == found["SDXL-b"]["group"] == found["SDXL-d"]["group"] == 1
    assert found["here"]["group"] is None
    assert "It is called Pony, but its vectors were made with the same model as those of SDXL-b" in str(
        found["Pony-a"]["warnings"]
    )
    assert "It has the same vectors as 'SDXL-b.safetensors'." in found["SDXL-d"]["warnings"]


def test_the_real_run_writes_what_was_planned(shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = tmp_path / "library"
    texts = fill(library, shelf)
    before = contents(library)
    vectors = {name: load_embedding(next(library.glob(f"{name}.*"))).vectors for name in texts}
    planned = restore(capsys, library, "--checkpoint", shelf.base, shelf.pony, "--dry-run")
    found = restore(capsys, library, "--checkpoint", shelf.base, shelf.pony, "--report", tmp_path / "report.html")
    for name in texts:
        assert found[name]["status"] == "written", found[name]
        assert found[name]["written"] == planned[name]["planned"]
    # What cannot be restored is as it was, and no bit of a vector has changed.
    for name in ("torn.safetensors", "trained.safetensors", "old.pt"):
        assert (library / name).read_bytes() == before[name]
    for name, rows in vectors.items():
        file = library / f"{name}.safetensors"
        stored = load_embedding(file)
        assert stored.recipe == texts[name]
        assert all((stored.vectors[key] == rows[key]).all() for key in rows)
    for checkpoint in (shelf.base, shelf.pony):
        model = open_checkpoint(checkpoint)
        variant = load_embedding(library / f"old-{checkpoint.stem}.safetensors")
        assert variant.recipe == texts["old"]
        assert variant.fit(model).status == "made for this model"
    # The file with the base's own rows is said to be made for it; a text of another model is not.
    assert load_embedding(library / "here.safetensors").fit(open_checkpoint(shelf.base)).status == "made for this model"
    assert load_embedding(library / "Pony-a.safetensors").fit(open_checkpoint(shelf.base)).status == "differs"
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(name in report for name in found)
    # A second run finds everything done.
    after = contents(library)
    again = restore(capsys, library, "--checkpoint", shelf.base, shelf.pony)
    assert contents(library) == after
    assert {again[name]["status"] for name in texts} == {"up to date"}


def test_another_folder_leaves_the_library_alone(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, output = tmp_path / "library", tmp_path / "new"
    texts = fill(library, shelf)
    before = contents(library)
    found = restore(capsys, library, "--checkpoint", shelf.base, shelf.pony, "--output", output)
    assert contents(library) == before
    written = {Path(file).name for answer in found.values() for file in answer["written"]}
    assert written == {path.name for path in output.glob("*.safetensors")}
    missing = {f"{name}-pony.safetensors" for name in texts} - written
    assert not missing, {name: (answer["reason"], answer["warnings"]) for name, answer in found.items()}
    assert {name for name, answer in found.items() if answer["status"] == "written"} == set(texts)


def test_only_what_is_sure(shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = tmp_path / "library"
    fill(library, shelf)
    found = restore(capsys, library, "--checkpoint", shelf.base, "--sure")
    for answer in found.values():
        if answer["status"] == "written":
            assert answer["certainty"]["likely"] == 0
        elif answer["certainty"]["likely"] and answer["text"]:
            assert (answer["status"], answer["reason"]) == ("skipped", "Some of its words are not certain.")


def test_texts_of_files_are_escaped_in_the_report() -> None:
    from lib_embedmerge.actions.restore_report import make_report

    name = "<script>alert(1)"
    answer: Any = {
        "source": f"/x/{name}.safetensors", "verdict": "text", "text": f"'{name}'", "group": 1, "written": [],
        "certainty": {"exact": 0, "sure": 1, "likely": 0, "not_text": 0}, "status": "planned", "reason": None,
        "planned": [f"/x/{name}.safetensors"], "checkpoint": None, "drift": {}, "warnings": [name],
    }  # fmt: skip
    assert "<script" not in make_report([answer])
    assert make_report([answer]).count("&lt;script&gt;") >= 4


def test_an_unreadable_checkpoint_stops_before_anything_is_written(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "library"
    fill(library, shelf)
    before = contents(library)
    torn = shutil.copy(library / "torn.safetensors", tmp_path / "model.safetensors")
    assert main(["restore", str(library), "--checkpoint", str(shelf.base), str(torn), "--json"]) == 1
    assert "model.safetensors" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert contents(library) == before


@pytest.mark.crash
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each kill needs a process that has numpy already")
def test_killed_in_the_middle_50_times(tmp_path: Path) -> None:
    """300 mixed files: nothing is lost, no vector changes, and the report of the last run is true."""
    program = [sys.executable, str(ROOT / "tests" / "killed_restores.py"), str(tmp_path), "50", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, check=False, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] == 50
