"""Compressing, porting and repairing on a small model: what must hold of any model, and planted facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from checkpoint_files import Tensors, save
from effect_models import make_tensors

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.actions import optimising
from lib_embedmerge.actions.background_jobs import CancelledError
from lib_embedmerge.actions.optimised_files import Target
from lib_embedmerge.actions.optimising import CompressRequest, PortRequest, RepairRequest
from lib_embedmerge.checkpoints import state_maps
from lib_embedmerge.checkpoints.attention_probes import AttentionProbes
from lib_embedmerge.checkpoints.cross_attention import open_text_reader
from lib_embedmerge.cli import main
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.recipes.fit import measure_fit
from lib_embedmerge.tokenizer import clip_tokenizer

PROMPT = "a photo of a cat and a dog, in the garden with red flowers"
STEPS = 12


def turn(table: torch.Tensor) -> torch.Tensor:
    """A table or vectors with every row moved by half its length, all in the same way."""
    return table + 0.5 * table.roll(1, 1)


def turn_tables(tensors: Tensors) -> Tensors:
    return {
        name: turn(tensor.float()).to(tensor.dtype) if "token_embedding" in name else tensor
        for name, tensor in tensors.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models a and b: b has other layers and another U-Net, and its rows are turned."""
    models = tmp_path_factory.mktemp("models")
    save(models / "a.safetensors", make_tensors("sdxl"))
    save(models / "b.safetensors", turn_tables(make_tensors("sdxl", unet_share=0.2, encoder_share=0.1)))
    return models


@pytest.fixture(scope="module")
def a(folder: Path) -> CheckpointModel:
    return open_checkpoint(folder / "a.safetensors")


@pytest.fixture(scope="module")
def b(folder: Path) -> CheckpointModel:
    return open_checkpoint(folder / "b.safetensors")


def rows(model: CheckpointModel, text: str) -> dict[str, numpy.ndarray]:
    ids = clip_tokenizer().encode(text)
    return {encoder.key: numpy.asarray(encoder.vectors(ids)) for encoder in model.encoders}


def lengths(vectors: numpy.ndarray) -> numpy.ndarray:
    measured: numpy.ndarray = numpy.linalg.norm(vectors, axis=1)
    return measured


def noise(seed: int, model: CheckpointModel, count: int, length: float = 1.0) -> dict[str, numpy.ndarray]:
    """Vectors that are no rows, `length` times as long as rows."""
    chance = numpy.random.default_rng(seed)
    made = {}
    for encoder in model.encoders:
        vectors = chance.standard_normal((count, encoder.width))
        scale = length * encoder.length_band().mean / numpy.linalg.norm(vectors, axis=1, keepdims=True)
        made[encoder.key] = (vectors * scale).astype(numpy.float32)
    return made


def test_probes_read_what_attention_reads(folder: Path) -> None:
    reader = open_text_reader(folder / "a.safetensors")
    probes = AttentionProbes(reader, 3, "cpu")
    states = torch.randn(9, reader.context, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(3 * ((1 << 20) + 1) + 5)
    for layer, read in zip(reader.layers, probes.read(states, 5), strict=True):
        query, key, value = (torch.from_numpy(matrix.read()) for matrix in (layer.query, layer.key, layer.value))
        asked = torch.randn(8, query.shape[1], generator=generator) @ query.T
        q, k, v = (
            part.reshape(len(part), layer.heads, -1).transpose(0, 1)
            for part in (asked, states @ key.T, states @ value.T)
        )
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        assert torch.allclose(read, expected.flatten(), rtol=1e-4, atol=1e-5)


def test_as_many_vectors_as_before_stay_the_same(a: CheckpointModel, tmp_path: Path) -> None:
    count = len(clip_tokenizer().encode(PROMPT))
    answer = optimising.compress(a, CompressRequest(Target(tmp_path, "same"), count, PROMPT))
    assert answer["held_out"] == {"ours": 0.0, "baselines": {"cut": 0.0, "pruned": 0.0, "averaged": 0.0}}
    made = load_embedding(answer["file"])
    for key, vectors in rows(a, PROMPT).items():
        assert numpy.array_equal(made.vectors[key], vectors)


def test_compressed_vectors_do_more_than_the_simple_ways_and_keep_lengths(a: CheckpointModel, tmp_path: Path) -> None:
    request = CompressRequest(Target(tmp_path, "short"), 4, PROMPT, steps=40)
    answer = optimising.compress(a, request)
    ours, baselines = answer["held_out"]["ours"], answer["held_out"]["baselines"]
    assert ours is not None
    assert ours < min(value for value in baselines.values() if value is not None) < 1.2
    assert answer["vectors"] == 4
    made = load_embedding(answer["file"])
    for encoder in a.encoders:
        band = encoder.length_band()
        source = lengths(rows(a, PROMPT)[encoder.key])
        low, high = min(band.low, source.min()), max(band.high, source.max())
        measured = lengths(made.vectors[encoder.key])
        assert (measured >= low * (1 - 1e-5)).all() and (measured <= high * (1 + 1e-5)).all()
    again = optimising.compress(a, CompressRequest(Target(tmp_path, "again"), 4, PROMPT, steps=40))
    for key, vectors in load_embedding(again["file"]).vectors.items():
        assert numpy.array_equal(vectors, made.vectors[key])
    other = optimising.compress(a, CompressRequest(Target(tmp_path, "other"), 4, PROMPT, steps=2, seed=1))
    assert not numpy.array_equal(load_embedding(other["file"]).vectors["clip_l"], made.vectors["clip_l"])


def test_where_pruning_is_as_good_its_text_is_saved(a: CheckpointModel, tmp_path: Path) -> None:
    answer = optimising.compress(a, CompressRequest(Target(tmp_path, "pruned"), 4, PROMPT, steps=0))
    made = load_embedding(answer["file"])
    assert "text was saved" in answer["notes"][0]
    assert answer["held_out"]["ours"] == answer["held_out"]["baselines"]["pruned"]
    assert made.recipe is not None
    assert made.tag is not None and made.tag.method is None
    assert measure_fit(made, a).status == FitStatus.MADE_FOR_THIS_MODEL


def test_a_long_text_takes_several_chunks(a: CheckpointModel, tmp_path: Path) -> None:
    source = ", ".join(["cat", "dog", "red flowers"] * 20)
    answer = optimising.compress(a, CompressRequest(Target(tmp_path, "long"), 3, source, steps=2))
    assert answer["vectors"] == 3
    with pytest.raises(StorageError, match="1 to 75 vectors"):
        optimising.compress(a, CompressRequest(Target(tmp_path, "none"), 76, source))


def test_a_cancelled_search_leaves_nothing(a: CheckpointModel, tmp_path: Path) -> None:
    reports: list[int] = []

    def cancel(done: int, total: int) -> None:
        reports.append(done)
        if done > total * 0.9:
            raise CancelledError

    with pytest.raises(CancelledError):
        optimising.compress(a, CompressRequest(Target(tmp_path, "cut"), 4, PROMPT, steps=STEPS), cancel)
    assert reports == sorted(reports)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_in_the_way_before_any_work(a: CheckpointModel, tmp_path: Path) -> None:
    (tmp_path / "taken.safetensors").write_bytes(b"mine")
    with pytest.raises(StorageError, match="already exists"):
        optimising.compress(
            a, CompressRequest(Target(tmp_path, "taken"), 4, PROMPT), lambda *_: pytest.fail("it began to work")
        )


def test_a_text_of_one_model_is_ported_exactly(a: CheckpointModel, b: CheckpointModel, tmp_path: Path) -> None:
    file = Embedding("cat", rows(a, "a red cat")).save(tmp_path)
    answer = optimising.port(a, b, PortRequest(Target(tmp_path), file))
    made = load_embedding(answer["file"])
    assert made.name == "cat-b"
    assert made.recipe == "'a red cat'"
    for key, vectors in rows(b, "a red cat").items():
        assert numpy.array_equal(made.vectors[key], vectors)


@pytest.mark.slow
def test_vectors_that_are_no_text_are_ported_beside_words(
    a: CheckpointModel, b: CheckpointModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_maps, "ROUNDS", 1)
    words, trained = rows(a, "red cat"), noise(1, a, 1)
    mixed = {key: numpy.concatenate((words[key], trained[key])) for key in words}
    file = Embedding("mixed", mixed, {"embedmerge.notes": "mine"}).save(tmp_path)
    answer = optimising.port(a, b, PortRequest(Target(tmp_path, "ported"), file, steps=STEPS))
    ours, baselines = answer["held_out"]["ours"], answer["held_out"]["baselines"]
    assert ours is not None and baselines["identity"] is not None and ours < baselines["identity"]
    assert "R²" in answer["notes"][0]
    made = load_embedding(answer["file"])
    for key, vectors in rows(b, "red cat").items():
        assert numpy.array_equal(made.vectors[key][:2], vectors)
        wanted = turn(torch.from_numpy(trained[key])).numpy()
        assert lengths(made.vectors[key][2:] - wanted) < 0.5 * lengths(trained[key] - wanted)
    assert made.recipe is None
    assert made.tag is not None
    assert (made.tag.method, made.tag.notes) == ("port", "mine")
    stated = json.loads(made.metadata["embedmerge.made_by"])
    assert (stated["of"], stated["vectors"], stated["held_out"]["ours"]) == ("mixed", 3, ours)
    assert measure_fit(made, b).status == FitStatus.MADE_FOR_THIS_MODEL
    elsewhere = measure_fit(made, a)
    assert elsewhere.status == FitStatus.UNKNOWN_ORIGIN
    assert elsewhere.detail.startswith("It was optimised on b (port), so it has no recipe.")
    assert elsewhere.advice == "Port it to this model, or use it with the model that it was made for."


def test_models_whose_difference_nothing_predicts_share_the_vectors(
    a: CheckpointModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_maps, "WORDS", 200)
    generator = torch.Generator().manual_seed(9)
    tensors = {
        name: (tensor.float() + 0.02 * torch.randn(tensor.shape, generator=generator)).to(tensor.dtype)
        if "token_embedding" in name
        else tensor
        for name, tensor in make_tensors("sdxl").items()
    }
    random = open_checkpoint(save(tmp_path / "random.safetensors", tensors))
    trained = noise(1, a, 1)
    file = Embedding("style", trained).save(tmp_path)
    answer = optimising.port(a, random, PortRequest(Target(tmp_path, "same"), file, steps=STEPS))
    assert answer["notes"][0].startswith("No map of the rows of common words holds for other words")
    assert answer["held_out"]["ours"] == answer["held_out"]["baselines"]["identity"]
    for key, vectors in load_embedding(answer["file"]).vectors.items():
        assert numpy.array_equal(vectors, trained[key])


def test_a_vector_that_drowns_its_prompt_is_brought_back(a: CheckpointModel, tmp_path: Path) -> None:
    loud = noise(2, a, 2, length=25.0)
    file = Embedding("loud", loud).save(tmp_path)
    answer = optimising.repair(a, RepairRequest(Target(tmp_path), file, steps=STEPS))
    made = load_embedding(answer["file"])
    assert made.name == "loud-repaired"
    baselines = answer["held_out"]["baselines"]
    assert baselines["unchanged"] is not None and baselines["unchanged"] > 1.5
    assert answer["held_out"]["ours"] is not None and answer["held_out"]["ours"] < baselines["unchanged"]
    for encoder in a.encoders:
        band, measured = encoder.length_band(), lengths(made.vectors[encoder.key])
        assert (measured <= band.high * (1 + 1e-5)).all()
        cosines = (made.vectors[encoder.key] * loud[encoder.key]).sum(1) / measured / lengths(loud[encoder.key])
        assert (cosines > 0.7).all()


def test_a_usual_word_needs_no_repair(a: CheckpointModel, tmp_path: Path) -> None:
    file = Embedding("cat", rows(a, "cat")).save(tmp_path)
    answer = optimising.repair(a, RepairRequest(Target(tmp_path), file, steps=2))
    assert answer["notes"][0] == "It hardly drowns its prompts, so there was little to repair."


def test_a_checkpoint_without_a_unet_is_refused(tmp_path: Path, folder: Path) -> None:
    tensors = {name: value for name, value in make_tensors("sdxl").items() if "attn2" not in name}
    model = open_checkpoint(save(tmp_path / "encoders.safetensors", tensors))
    with pytest.raises(CheckpointError, match="no U-Net with cross-attentions"):
        optimising.compress(model, CompressRequest(Target(tmp_path, "none"), 4, PROMPT))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


@pytest.mark.slow
def test_the_commands(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_maps, "WORDS", 200)
    model, other = folder / "a.safetensors", folder / "b.safetensors"
    fields = {"file", "vectors", "objective", "held_out", "seconds", "notes"}
    target = ("--checkpoint", model, "--name", "five", "--output", tmp_path)
    compressed = run(capsys, "compress", PROMPT, "--vectors", 5, *target, "--steps", 2)
    assert set(compressed) == fields
    assert set(compressed["held_out"]["baselines"]) == {"cut", "pruned", "averaged"}
    file = Path(compressed["file"])
    shorter = run(capsys, "compress", file, "--vectors", 2, "--checkpoint", model, "--steps", 2)
    assert Path(shorter["file"]) == tmp_path / "five-2.safetensors"
    ported = run(capsys, "port", file, "--from", model, "--to", other, "--steps", 2)
    assert set(ported) == fields
    repaired = run(capsys, "repair", file, "--checkpoint", model, "--steps", 2)
    assert set(repaired["held_out"]["baselines"]) == {"unchanged", "shortened"}
    assert main(["repair", str(file), "--checkpoint", str(model), "--steps", "2", "--force"]) == 0
    assert "shortened" in capsys.readouterr().out
