"""Embeddings made again for other models: which pairs need it, what is written, what stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import equal
from models import StandardModels, encoders, with_rows_scaled, write_sdxl
from safetensors.torch import load_file, save_file

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.cli import main
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.embeddings.editing import edit_metadata
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.build import BuildOptions, build_embedding
from lib_embedmerge.recipes.rebuild import make_variant_name, rebuild, rebuild_for_each
from lib_embedmerge.recipes.variant_writing import SAME_VECTORS, SKIPPED, UP_TO_DATE, WRITTEN, RebuildResult

BASE = encoders()
CAT = 2368
ROOT = Path(__file__).parents[1]
DATE = datetime(2026, 11, 23, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def checkpoints(standard: StandardModels) -> dict[str, Path]:
    """`base`, and `pony`, which has other rows for `cat`."""
    return {"base": standard.base, "pony": standard.pony}


@pytest.fixture
def base(checkpoints: dict[str, Path]) -> CheckpointModel:
    return open_checkpoint(checkpoints["base"])


@pytest.fixture
def pony(checkpoints: dict[str, Path]) -> CheckpointModel:
    return open_checkpoint(checkpoints["pony"])


def built(model: CheckpointModel, folder: Path, source: str = "'cat'+'dog'", name: str = "mix1") -> Path:
    wishes = BuildOptions(notes="soft", negative=True)
    return build_embedding(model, source, name, wishes).save(folder)


def run(sources: Sequence[Path], model: CheckpointModel, folder: Path | None = None) -> list[RebuildResult]:
    return list(rebuild(sources, model, folder, DATE))


def test_a_recipe_whose_rows_changed_is_written(base: CheckpointModel, pony: CheckpointModel, tmp_path: Path) -> None:
    source = built(base, tmp_path)
    before = source.read_bytes()
    (one,) = run([source], pony)
    assert (one.status, one.file, one.reason) == (WRITTEN, tmp_path / "mix1-pony-v6.safetensors", None)
    variant = load_embedding(tmp_path / "mix1-pony-v6.safetensors")
    for key, rows in evaluate(parse("'cat'+'dog'"), pony).items():
        assert equal(variant.vectors[key], rows)
    tag = variant.tag
    assert tag is not None
    assert (tag.recipe, tag.notes, tag.negative, tag.variant_of) == ("'cat'+'dog'", "soft", True, "mix1")
    assert (tag.made_for, tag.date) == ("pony v6", DATE.isoformat(timespec="seconds"))
    assert variant.fit(pony).status == "made for this model"
    assert source.read_bytes() == before


def test_a_recipe_whose_rows_did_not_change_needs_none(
    base: CheckpointModel, pony: CheckpointModel, tmp_path: Path
) -> None:
    sources = [built(base, tmp_path, "'dog'*2", "dog1"), built(base, tmp_path)]
    assert [one.status for one in run(sources, pony)] == [SAME_VECTORS, WRITTEN]
    assert [one.status for one in run(sources, base)] == [SAME_VECTORS, SAME_VECTORS]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dog1.safetensors", "mix1-pony-v6.safetensors", "mix1.safetensors",
    ]  # fmt: skip


def test_a_second_run_does_nothing(base: CheckpointModel, pony: CheckpointModel, tmp_path: Path) -> None:
    source = built(base, tmp_path)
    (first,) = run([source], pony)
    assert first.file is not None
    written = first.file.stat().st_mtime_ns
    (second,) = run([source], pony)
    assert (second.status, second.file) == (UP_TO_DATE, first.file)
    assert first.file.stat().st_mtime_ns == written
    (of_variant,) = run([first.file], base)
    assert (of_variant.status, of_variant.reason) == (
        SKIPPED,
        "It is the version of mix1 for another model; mix1 is rebuilt instead.",
    )


def test_a_variant_of_an_older_recipe_is_replaced(base: CheckpointModel, pony: CheckpointModel, tmp_path: Path) -> None:
    source = built(base, tmp_path)
    run([source], pony)
    build_embedding(base, "'cat'*3", "mix1").save(tmp_path, overwrite=True)
    (one,) = run([source], pony)
    assert one.status == WRITTEN
    assert load_embedding(tmp_path / "mix1-pony-v6.safetensors").recipe == "'cat'*3"


def test_a_file_of_somebody_else_stays(base: CheckpointModel, pony: CheckpointModel, tmp_path: Path) -> None:
    source = built(base, tmp_path)
    foreign = tmp_path / "mix1-pony-v6.safetensors"
    for content in (b"no embedding", build_embedding(base, "'a'", "x").save(tmp_path).read_bytes()):
        foreign.write_bytes(content)
        (one,) = run([source], pony)
        assert one.status == SKIPPED
        assert one.reason == "mix1-pony-v6.safetensors already exists and is not a version of mix1."
        assert foreign.read_bytes() == content


@pytest.mark.parametrize("kind", ["no recipe", "sd1", "damaged", "gone", "a recipe of another model"])
def test_what_is_skipped(base: CheckpointModel, pony: CheckpointModel, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "one1.safetensors"
    expected = {
        "no recipe": "It has no recipe.",
        "sd1": "It was made for Stable Diffusion 1",
        "damaged": "one1.safetensors",
        "gone": "one1.safetensors",
        "a recipe of another model": "Its recipe does not work on this model: ",
    }[kind]
    if kind == "no recipe":
        save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, path)
    elif kind == "sd1":
        save_file({"emb_params": torch.ones(1, 768)}, path)
    elif kind == "damaged":
        path.write_bytes(b"\0" * 9)
    elif kind == "a recipe of another model":
        metadata = dict(load_embedding(built(base, tmp_path)).metadata) | {"embedmerge.recipe": "'cat"}
        save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, path, metadata)
    (one,) = run([path], pony)
    assert (one.status, one.file) == (SKIPPED, None)
    assert one.reason is not None and expected in one.reason


def test_float16_and_the_keys_of_others_stay(base: CheckpointModel, pony: CheckpointModel, tmp_path: Path) -> None:
    embedding = build_embedding(base, "'cat'", "half1")
    object.__setattr__(embedding, "metadata", {**embedding.metadata, "my.key": "mine", "ss_steps": "7"})
    source = embedding.save(tmp_path, dtype="float16")
    (one,) = run([source], pony, tmp_path / "new" / "folder")
    assert one.file == tmp_path / "new" / "folder" / "half1-pony-v6.safetensors"
    assert {tensor.dtype for tensor in load_file(one.file).values()} == {torch.float16}
    metadata = load_embedding(one.file).metadata
    assert (metadata["my.key"], metadata["ss_steps"]) == ("mine", "7")
    assert metadata["modelspec.merged_from"] == "pony v6"


def test_an_embedding_in_a_recipe_whose_file_is_gone(
    base: CheckpointModel, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    inner = built(base, tmp_path, "'cat'", "inner1")
    names = open_checkpoint(checkpoints["base"], embeddings=tmp_path)
    outer = built(names, tmp_path, "'inner1'+'dog'", "outer1")
    inner.unlink()
    (one,) = run([outer], open_checkpoint(checkpoints["pony"]))
    assert (one.status, one.reason) == (WRITTEN, None)
    expected = evaluate(parse("'cat'+'dog'"), open_checkpoint(checkpoints["pony"]))
    assert one.file is not None
    for key, rows in load_embedding(one.file).vectors.items():
        assert equal(rows, expected[key])


def test_what_killed_saves_left_is_swept(base: CheckpointModel, pony: CheckpointModel, tmp_path: Path) -> None:
    source = built(base, tmp_path)
    old, fresh = tmp_path / ".embedmerge-0123.tmp", tmp_path / ".embedmerge-4567.tmp"
    for left in (old, fresh):
        left.write_bytes(b"half")
    os.utime(old, (1, 1))
    run([source], pony)
    assert (old.exists(), fresh.exists()) == (False, True)


def test_another_file_takes_the_place_of_an_older_variant(
    base: CheckpointModel, pony: CheckpointModel, tmp_path: Path
) -> None:
    """What is there when it is written is looked at, not what was there before."""
    source = built(base, tmp_path)
    (first,) = run([source], pony)
    assert first.file is not None
    variant = first.file
    edit_metadata(variant, {"embedmerge.recipe": "'cat'"})  # so that it is an older one
    mine = built(base, tmp_path, "'dog'", "dog1").read_bytes()

    def take(_: Path) -> None:
        if not (tmp_path / "away1.safetensors").exists():
            variant.rename(tmp_path / "away1.safetensors")
            (tmp_path / "dog1.safetensors").rename(variant)

    (one,) = rebuild([source], pony, None, DATE, take)
    assert one.status == SKIPPED
    assert one.reason == "mix1-pony-v6.safetensors already exists and is not a version of mix1."
    assert variant.read_bytes() == mine
    assert load_embedding(tmp_path / "away1.safetensors").tag is not None


def test_a_variant_that_is_changed_again_and_again(
    base: CheckpointModel, pony: CheckpointModel, tmp_path: Path
) -> None:
    source = built(base, tmp_path)
    (first,) = run([source], pony)
    assert first.file is not None
    edit_metadata(first.file, {"embedmerge.recipe": "'cat'"})
    times = iter(range(1, 1000))
    (one,) = rebuild([source], pony, None, DATE, lambda path: os.utime(path, (1, next(times))))
    assert (one.status, one.reason) == (
        SKIPPED, "mix1-pony-v6.safetensors was changed by another program again and again.",
    )  # fmt: skip


def test_names_of_variants(base: CheckpointModel, pony: CheckpointModel) -> None:
    assert make_variant_name("style", pony) == "style-pony-v6"
    assert make_variant_name("x" * 100, pony) == "x" * 92 + "-pony-v6"
    assert make_variant_name("x" * 100, base) == "x" * 95 + "-base"


def test_two_embeddings_of_one_name(base: CheckpointModel, pony: CheckpointModel, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    sources = [built(base, tmp_path), built(base, tmp_path / "other", "'cat'*3")]
    for status in (WRITTEN, UP_TO_DATE):
        first, second = run(sources, pony, tmp_path / "out")
        assert (first.status, second.status) == (status, SKIPPED)
        assert "another embedding or for another model of the same name" in (second.reason or "")
    assert load_embedding(tmp_path / "out" / "mix1-pony-v6.safetensors").recipe == "'cat'+'dog'"


@pytest.mark.parametrize("at_once", [True, False], ids=["in one run", "one after the other"])
def test_two_models_of_one_name(
    base: CheckpointModel, checkpoints: dict[str, Path], tmp_path: Path, at_once: bool
) -> None:
    source = built(base, tmp_path)
    other = write_sdxl(tmp_path / "pony-v6.safetensors", with_rows_scaled(BASE, [CAT], 3.0))
    both = [checkpoints["pony"], other]
    for status in (WRITTEN, UP_TO_DATE):
        runs = [both] if at_once else [[one] for one in both]
        found = [one for some in runs for _, one in rebuild_for_each([source], some, open_checkpoint)]
        assert [one.status for one in found] == [status, SKIPPED]
        assert found[1].reason and "another model" in found[1].reason
    assert load_embedding(tmp_path / "mix1-pony-v6.safetensors").fit(open_checkpoint(both[0])).status == (
        FitStatus.MADE_FOR_THIS_MODEL
    )


def test_a_model_that_was_replaced_gets_its_variants_anew(base: CheckpointModel, tmp_path: Path) -> None:
    source = built(base, tmp_path)
    path = tmp_path / "models" / "mine.safetensors"
    path.parent.mkdir()
    for scale in (2.0, 3.0):
        write_sdxl(path, with_rows_scaled(BASE, [CAT], scale))
        model = open_checkpoint(path)
        (one,) = run([source], model)
        assert (one.status, one.reason) == (WRITTEN, None)
        assert one.file and load_embedding(one.file).fit(model).status == FitStatus.MADE_FOR_THIS_MODEL


def test_a_file_that_appears_meanwhile_stays(
    base: CheckpointModel, pony: CheckpointModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, place = built(base, tmp_path), tmp_path / "mix1-pony-v6.safetensors"
    saved = Embedding.save

    def later(self: Embedding, folder: Path, **options: Any) -> Path:
        place.write_bytes(b"of somebody else")
        return saved(self, folder, **options)

    monkeypatch.setattr(Embedding, "save", later)
    (one,) = run([source], pony)
    assert (one.status, place.read_bytes()) == (SKIPPED, b"of somebody else")
    assert "already exists" in (one.reason or "")


def test_the_command(
    base: CheckpointModel, checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    mix, dog = built(base, tmp_path), built(base, tmp_path / "sub", "'dog'", "dog1")
    arguments = ["rebuild", str(tmp_path), str(mix)]
    for checkpoint in checkpoints.values():
        arguments += ["--checkpoint", str(checkpoint)]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(Path(one["source"]), Path(one["checkpoint"]).stem, one["status"]) for one in found] == [
        (mix, "base", SAME_VECTORS),
        (dog, "base", SAME_VECTORS),
        (mix, "pony v6", WRITTEN),
        (dog, "pony v6", SAME_VECTORS),
    ]
    assert set(found[0]) == {"source", "checkpoint", "file", "status", "reason"}
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "6 pairs" in shown  # the variant is one of the folder's files now
    assert "3 same vectors" in shown and "2 skipped" in shown and "1 up to date" in shown
    assert main(["rebuild", str(tmp_path / "nothing"), "--checkpoint", str(checkpoints["base"])]) == 1
    assert "There is no file or folder" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_read_leaves_the_others(
    base: CheckpointModel, checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, torn = built(base, tmp_path), tmp_path / "torn.safetensors"
    torn.write_bytes(b"torn")
    paths = [str(checkpoints["base"]), str(torn), str(checkpoints["pony"])]
    assert main(["rebuild", str(source), "--checkpoint", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["checkpoint"], one["status"]) for one in found] == list(
        zip(paths, [SAME_VECTORS, SKIPPED, WRITTEN], strict=True)
    )
    assert "torn.safetensors" in found[1]["reason"]


@pytest.mark.parametrize("given", ["the folder", "the file"])
def test_recipes_find_what_they_name_beside_them(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    """Also what was made by nobody knows what, and so can only be taken as it is."""
    save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, tmp_path / "down1.safetensors")
    outer = built(open_checkpoint(checkpoints["base"], embeddings=tmp_path), tmp_path, "'down1'+'cat'", "outer1")
    path = tmp_path if given == "the folder" else outer
    assert main(["rebuild", str(path), "--checkpoint", str(checkpoints["pony"]), "--json"]) == 0
    found = {Path(one["source"]).stem: one["status"] for one in json.loads(capsys.readouterr().out)}
    assert found["outer1"] == WRITTEN


def test_nothing_is_begun_where_a_checkpoint_is_not_there(
    base: CheckpointModel, checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = built(base, tmp_path)
    assert main(["rebuild", str(source), "--checkpoint", str(checkpoints["pony"]), "gone.safetensors"]) == 1
    assert "There is no checkpoint 'gone.safetensors'." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [source]


def test_ctrl_c_tells_what_was_done(
    base: CheckpointModel,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = [built(base, tmp_path), built(base, tmp_path, "'cat'", "cat1")]

    def load(path: Path) -> Embedding:
        if path == sources[1]:
            raise KeyboardInterrupt
        return load_embedding(path)

    monkeypatch.setattr("lib_embedmerge.recipes.rebuild.load_embedding", load)
    command = ["rebuild", *map(str, sources), "--checkpoint", str(checkpoints["pony"]), "--json"]
    assert main(command) == 130
    told = capsys.readouterr()
    assert told.err == "interrupted\n"
    assert [(one["source"], one["status"]) for one in json.loads(told.out)] == [(str(sources[0]), WRITTEN)]


@pytest.mark.crash
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each kill needs a process that has torch already")
def test_killed_in_the_middle_50_times(tmp_path: Path) -> None:
    """Whatever is there after each kill is whole and right, and in the end the next run makes the rest; 50 of the kills
    come after the first file that a run writes and before its last."""
    program = [sys.executable, str(ROOT / "tests" / "killed_rebuilds.py"), str(tmp_path), "50", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, check=False, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["middle"] == 50


@pytest.mark.crash
def test_a_command_that_is_killed(base: CheckpointModel, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """The same once with a whole program, as on Windows too."""
    count = 30
    for number in range(count):
        built(base, tmp_path, f"'cat'*{number + 1}", f"killed{number:03}x")
    output = tmp_path / "out"
    command = [sys.executable, "-m", "lib_embedmerge", "rebuild", str(tmp_path), "--output", str(output)]
    command += ["--checkpoint", str(checkpoints["pony"]), "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and not list(output.glob("*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
    assert 0 < len(list(output.glob("*.safetensors"))) <= count
    for path in output.glob("*.safetensors"):
        assert load_embedding(path).tag is not None
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, timeout=300)
    model = open_checkpoint(checkpoints["pony"])
    variants = sorted(output.glob("*.safetensors"))
    assert len(variants) == count
    assert all(load_embedding(path).fit(model).status == "made for this model" for path in variants)
