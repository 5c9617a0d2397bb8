"""Flaws of embeddings, and copies without them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from action_hosts import MODEL
from models import StandardModels
from safetensors.numpy import save_file

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.actions.fixing import fix_name
from lib_embedmerge.actions.inspecting import inspect_file, inspect_name, inspect_place
from lib_embedmerge.cli import main
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.hosts.memory_host import MemoryEncoder, MemoryHost, MemoryModel
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.doctor import find_flaws, fix

Rows = dict[str, numpy.ndarray]


@pytest.fixture(scope="module")
def model(standard: StandardModels) -> CheckpointModel:
    return open_checkpoint(standard.base)


def rows_of(model: CheckpointModel, source: str) -> Rows:
    return {key: to_numpy(rows) for key, rows in evaluate(parse(source), model).items()}


def kinds(vectors: Rows, model: CheckpointModel | None = None) -> list[str]:
    return [flaw.kind for flaw in find_flaws(Embedding("x", vectors), model)]


def test_a_text_has_no_flaws(model: CheckpointModel) -> None:
    assert kinds(rows_of(model, "'a red cat'"), model) == []


def test_vectors_far_longer_than_words(model: CheckpointModel) -> None:
    vectors = rows_of(model, "'a red cat'")
    for rows in vectors.values():
        rows[1] *= 50
    (flaw,) = find_flaws(Embedding("x", vectors), model)
    assert (flaw.kind, flaw.indices) == ("long", (1,))
    fixed = fix(Embedding("x", vectors), "y", model)
    for key, rows in fixed.vectors.items():
        band = next(encoder for encoder in model.encoders if encoder.key == key).length_band()
        assert numpy.linalg.norm(rows[1]) == pytest.approx(band.high, rel=1e-5)
        assert rows[1] @ vectors[key][1] == pytest.approx(
            numpy.linalg.norm(rows[1]) * numpy.linalg.norm(vectors[key][1]), rel=1e-5
        )
        assert (rows[[0, 2]] == vectors[key][[0, 2]]).all()
    assert find_flaws(fixed, model) == []


def test_zero_and_broken_vectors_and_a_half_of_zeros(model: CheckpointModel) -> None:
    vectors = rows_of(model, "'a red cat'")
    vectors["clip_l"][0] = vectors["clip_g"][0] = 0
    vectors["clip_g"][2, 5] = numpy.nan
    assert kinds(vectors) == ["broken", "empty"]
    assert fix(Embedding("x", vectors), "y").count == 1
    vectors["clip_g"][2, 5] = numpy.inf
    assert kinds(vectors) == ["broken", "empty"]
    half = rows_of(model, "L('a red cat')")
    (flaw,) = find_flaws(Embedding("x", half))
    assert (flaw.kind, flaw.can_be_fixed) == ("half", False)
    with pytest.raises(StorageError, match="No vector of x would be left"):
        fix(Embedding("x", {key: rows * numpy.nan for key, rows in half.items()}), "y")


def test_halves_of_unequal_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No program can use such a file. It can be looked at, and a copy of it is filled up with zero vectors."""
    file = tmp_path / "uneven.safetensors"
    halves = {"clip_l": numpy.full((3, 768), 0.01, "f4"), "clip_g": numpy.full((2, 1280), 0.01, "f4")}
    save_file(halves, file)
    before = file.read_bytes()
    sentence = "It has 3 vectors for clip_l and 2 vectors for clip_g."
    with pytest.raises(StorageError, match=sentence):
        load_embedding(file)
    assert main(["show", str(file), "--json"]) == 1
    assert sentence in json.loads(capsys.readouterr().out)["error"]["message"]
    assert main(["show", str(file), "--fix", "--json"]) == 0
    flaw, saved = json.loads(capsys.readouterr().out)["notes"]
    assert flaw == f"{sentence} Web UIs would shift or cut the prompt after it."
    assert str(tmp_path / "uneven-fixed.safetensors") in saved
    fixed = load_embedding(tmp_path / "uneven-fixed.safetensors")
    for key, rows in halves.items():
        assert (fixed.vectors[key][: len(rows)] == rows).all()
        assert not fixed.vectors[key][len(rows) :].any()
        assert len(fixed.vectors[key]) == 3
    assert find_flaws(fixed) == []
    assert file.read_bytes() == before


def test_uneven_halves_are_inspected_and_fixed_in_the_tab(tmp_path: Path) -> None:
    save_file(
        {"clip_l": numpy.full((3, 768), 0.01, "f4"), "clip_g": numpy.full((2, 1280), 0.01, "f4")},
        tmp_path / "uneven.safetensors",
    )
    host = MemoryHost(MODEL, tmp_path)
    for inspection in (
        inspect_name(host, "uneven"),
        inspect_place(host, "uneven.safetensors"),
        inspect_file(host, tmp_path / "uneven.safetensors", "uneven.safetensors"),
    ):
        assert [flaw.kind for flaw in inspection.flaws] == ["uneven"]
        assert inspection.fixed_name == "uneven-fixed"
    (saved,) = fix_name(host, "uneven").files
    assert saved.path == tmp_path / "uneven-fixed.safetensors"
    assert host.library().load("uneven-fixed").count == 3


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = numpy.random.default_rng(0)
    vectors = {
        key: (20 / width**0.5 * chance.standard_normal((2, width))).astype(numpy.float32)
        for key, width in (("clip_l", 768), ("clip_g", 1280))
    }
    file = tmp_path / "trained.safetensors"
    save_file(vectors, file)
    before = file.read_bytes()
    assert main(["show", str(file), "--check", "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note.startswith("2 vectors are up to ")
    assert note.endswith("times as long as those of words, and drown out the rest of the prompt.")
    assert main(["show", str(file), "--fix", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert notes[-1] == f"A copy without this was saved as {tmp_path / 'trained-fixed.safetensors'}."
    assert file.read_bytes() == before
    fixed = load_embedding(tmp_path / "trained-fixed.safetensors")
    assert numpy.linalg.norm(fixed.vectors["clip_l"], axis=1) == pytest.approx([0.48, 0.48], rel=1e-5)
    assert main(["show", str(file), "--fix", "--json"]) == 1


def test_start_end_and_padding_rows() -> None:
    """A table of a few rows, whose special tokens are among them."""
    chance = numpy.random.default_rng(1)
    encoders = []
    for key, width, padding in (("clip_l", 768, 2), ("clip_g", 1280, 0)):
        tokenizer: Any = SimpleNamespace(start_id=1, end_id=2, vocabulary_size=20)
        table = (chance.standard_normal((20, width)) * 0.4 / width**0.5).astype(numpy.float32)
        encoder = MemoryEncoder(key, table, tokenizer)
        encoder.padding_id = padding
        encoders.append(encoder)
    model = MemoryModel(encoders)
    stored = {encoder.key: to_numpy(encoder.vectors([1, 7, 8, 2, 2])) for encoder in encoders}
    (flaw,) = find_flaws(Embedding("x", stored), model)
    assert (flaw.kind, flaw.indices) == ("special", (0, 3, 4))
    assert flaw.sentence == "3 vectors are the start, end or padding of a prompt."
    fixed = fix(Embedding("x", stored), "y", model)
    for encoder in encoders:
        assert (fixed.vectors[encoder.key] == encoder.vectors([7, 8])).all()
