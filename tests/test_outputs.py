"""The encoders run from their files give what transformers' plain models give, whatever the layout."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from arrays import assert_close, equal
from checkpoint_files import WIDTHS, Tensors, make_encoder, scaled_fp8, to_open_clip
from runnable_encoders import reference, runnable_encoder

from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.checkpoints.layouts import find_encoders
from lib_embedmerge.checkpoints.outputs import (
    EncoderOutput,
    compare_outputs,
    run_encoder,
)
from lib_embedmerge.checkpoints.weights import make_memory_weights
from lib_embedmerge.core.architecture import ARCHITECTURES, takes_penultimate
from lib_embedmerge.core.differences import OutputDifference
from lib_embedmerge.errors import CheckpointError

CAT = [320, 2368]
POSITION = "text_model.embeddings.position_embedding.weight"
FC1 = "text_model.encoder.layers.1.mlp.fc1.weight"


@pytest.fixture(scope="module")
def encoders() -> dict[str, Tensors]:
    return {key: runnable_encoder(key) for key in WIDTHS}


@pytest.fixture(scope="module")
def references(encoders: dict[str, Tensors]) -> dict[str, Tensors]:
    return {key: reference(encoders[key], key, CAT) for key in WIDTHS}


def in_memory(tensors: Tensors) -> CheckpointEncoder:
    (source,) = find_encoders(make_memory_weights(tensors)).values()
    return CheckpointEncoder(source, "cpu", lambda _: 0.0)


def run(tensors: Tensors, *, penultimate: bool = True) -> EncoderOutput:
    encoder = in_memory(tensors)
    (found,) = run_encoder(encoder, [encoder.vectors(CAT)], lambda _: None, penultimate=penultimate)
    return found


@pytest.mark.parametrize("penultimate", [True, False], ids=["penultimate", "last"])
@pytest.mark.parametrize("change", [dict, to_open_clip], ids=["Hugging Face", "open_clip"])
@pytest.mark.parametrize("key", WIDTHS)
def test_outputs_are_those_of_the_plain_model(
    encoders: dict[str, Tensors],
    references: dict[str, Tensors],
    key: str,
    change: Callable[[Tensors], Tensors],
    penultimate: bool,
) -> None:
    found = run(change(encoders[key]), penultimate=penultimate)
    assert_close(found.hidden, references[key]["penultimate" if penultimate else "last"], rtol=0, atol=1e-5)
    assert found.hidden.shape == (3, WIDTHS[key])
    if key == "clip_g":
        assert found.pooled is not None
        assert_close(found.pooled, references[key]["pooled"], rtol=0, atol=1e-5)
    else:
        assert found.pooled is None


def test_fp8_is_run_with_its_scale(encoders: dict[str, Tensors]) -> None:
    stored = scaled_fp8(encoders["clip_l"], 0.5)
    true = {
        name: tensor.float() * 0.5 if tensor.dtype == torch.float8_e4m3fn else tensor
        for name, tensor in stored.items()
        if name in encoders["clip_l"]
    }
    wanted = reference(true, "clip_l", CAT)["penultimate"]
    assert_close(run(stored).hidden, wanted, rtol=0, atol=1e-5)


def test_a_web_uis_unused_last_layer_may_be_broken(
    encoders: dict[str, Tensors], references: dict[str, Tensors]
) -> None:
    broken = {**encoders["clip_l"], FC1: encoders["clip_l"][FC1] * torch.nan}
    assert_close(run(broken).hidden, references["clip_l"]["penultimate"], rtol=0, atol=1e-5)


def test_several_runs_and_the_progress(encoders: dict[str, Tensors]) -> None:
    tensors = encoders["clip_l"]
    encoder = in_memory(tensors)
    read: list[int] = []
    runs = [encoder.vectors(CAT), encoder.vectors([]), encoder.vectors([2368] * 75)]
    found = run_encoder(encoder, runs, read.append, penultimate=True)
    assert [len(output.hidden) for output in found] == [3, 1, 76]
    assert equal(found[0].hidden, run(tensors).hidden)
    assert sum(read) == sum(tensor.numel() for name, tensor in tensors.items() if "token_embedding" not in name)


def test_a_progress_that_raises_ends_it(encoders: dict[str, Tensors]) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    encoder = in_memory(encoders["clip_l"])
    with pytest.raises(KeyboardInterrupt):
        run_encoder(encoder, [encoder.vectors(CAT)], stop, penultimate=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({FC1: None}, "CLIP-L of 'the loaded model' is incomplete"),
        ({FC1: torch.zeros(47, 768)}, f"its {FC1} is 47 x 768"),
        ({POSITION: torch.zeros(768)}, f"its {POSITION} is 768"),
        ({POSITION: torch.zeros(())}, f"its {POSITION} is a single value"),
        ({POSITION: torch.zeros(3, 768)}, "reads 3 tokens at a time; the text has 4"),
        ({FC1: torch.zeros(48, 768, dtype=torch.int32)}, "stored as I32"),
    ],
    ids=["missing", "other size", "too flat", "no size", "too short", "no values"],
)
def test_what_cannot_be_run(encoders: dict[str, Tensors], change: dict[str, torch.Tensor | None], message: str) -> None:
    changed = {**encoders["clip_l"], **change}
    with pytest.raises(CheckpointError, match=message):
        run({name: tensor for name, tensor in changed.items() if tensor is not None})


def test_thin_layers_below_a_wide_table_cannot_be_run() -> None:
    encoder = in_memory(make_encoder("clip_l"))
    with pytest.raises(CheckpointError, match=r"CLIP-L .* cannot be run: its text_model.* is 4"):
        run_encoder(encoder, [], lambda _: None, penultimate=True)


def test_encoders_run_without_transformers(encoders: dict[str, Tensors], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert run(encoders["clip_l"]).hidden.shape == (3, 768)


def test_what_each_architecture_takes() -> None:
    assert {one.name: takes_penultimate(one) for one in ARCHITECTURES} == {
        "sdxl": True,
        "sdxl-refiner": True,
        "sd1": False,
        "sd2": False,
    }


ONES = torch.ones(2, 4)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((ONES, None), (ONES, None), OutputDifference(0.0, 1.0)),
        ((ONES, None), (ONES * 3, None), OutputDifference(1.0, 1.0)),
        ((ONES, ONES[0]), (-ONES, -ONES[0]), OutputDifference(2.0, -1.0, -1.0)),
        ((ONES, ONES[0]), (torch.ones(3, 4), ONES[0]), OutputDifference(None, None, 1.0)),
        ((ONES, ONES[0]), (ONES * torch.nan, ONES[0] * torch.inf), OutputDifference(None, None, None)),
        ((ONES * 0, None), (ONES * 0, None), OutputDifference(0.0, 1.0)),
        ((ONES * 0, None), (ONES, None), OutputDifference(2.0, 0.0)),
    ],
    ids=["same", "three times", "opposite", "other counts", "not finite", "zeros", "one of them zero"],
)
def test_differences_of_outputs(
    a: tuple[torch.Tensor, torch.Tensor | None],
    b: tuple[torch.Tensor, torch.Tensor | None],
    expected: OutputDifference,
) -> None:
    found = compare_outputs(EncoderOutput(*a), EncoderOutput(*b))
    assert found.relative_l2 == (None if expected.relative_l2 is None else pytest.approx(expected.relative_l2))
    assert found.cosine == (None if expected.cosine is None else pytest.approx(expected.cosine))
    assert found.pooled_cosine == (None if expected.pooled_cosine is None else pytest.approx(expected.pooled_cosine))
