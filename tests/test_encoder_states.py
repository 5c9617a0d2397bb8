"""The states of whole chunks are those that transformers' plain models give for the padded tokens."""

from __future__ import annotations

import pytest
import torch
from arrays import assert_close
from checkpoint_files import Tensors
from runnable_encoders import reference, runnable_encoder

from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.checkpoints.encoder_states import StateMaker
from lib_embedmerge.checkpoints.layouts import find_encoders
from lib_embedmerge.checkpoints.outputs import POSITIONS
from lib_embedmerge.checkpoints.weights import make_memory_weights
from lib_embedmerge.core.architecture import SD1, SD2, SDXL, SDXL_REFINER, Architecture
from lib_embedmerge.errors import CheckpointError

CAT = [320, 2368]
KEYS = ("clip_l", "clip_g", "clip_h")


@pytest.fixture(scope="module")
def encoders() -> dict[str, Tensors]:
    return {key: runnable_encoder(key) for key in KEYS}


@pytest.fixture(scope="module")
def references(encoders: dict[str, Tensors]) -> dict[str, Tensors]:
    return {key: reference(encoders[key], key, CAT) for key in KEYS}


def open_encoders(encoders: dict[str, Tensors], architecture: Architecture) -> list[CheckpointEncoder]:
    opened = []
    for key in architecture.encoders:
        (source,) = find_encoders(make_memory_weights(encoders[key])).values()
        opened.append(CheckpointEncoder(source, "cpu", lambda _: 0.0))
    return opened


def read(opened: list[CheckpointEncoder], ids: list[int]) -> dict[str, torch.Tensor]:
    return {encoder.key: torch.as_tensor(encoder.vectors(ids)) for encoder in opened}


@pytest.mark.parametrize(
    ("architecture", "clip_skip", "layer"),
    [
        (SDXL, None, 1),
        (SDXL, 1, 2),
        (SDXL, 2, 1),
        (SDXL_REFINER, None, 1),
        (SD1, None, 2),
        (SD1, 1, 2),
        (SD1, 2, 1),
        (SD2, None, 2),
    ],
)
def test_states_are_those_of_the_plain_models(
    encoders: dict[str, Tensors],
    references: dict[str, Tensors],
    architecture: Architecture,
    clip_skip: int | None,
    layer: int,
) -> None:
    opened = open_encoders(encoders, architecture)
    states = StateMaker(opened, architecture, clip_skip).compute([read(opened, CAT), read(opened, [])])
    wanted = []
    for key in architecture.encoders:
        found = references[key]["all"][layer]
        if architecture in {SD1, SD2}:  # which have the final norm
            weight, bias = (encoders[key][f"text_model.final_layer_norm.{kind}"].float() for kind in ("weight", "bias"))
            found = torch.nn.functional.layer_norm(found, found.shape[-1:], weight, bias, 1e-5)
        wanted.append(found)
    assert states.hidden.shape == (2, POSITIONS, sum(part.shape[-1] for part in wanted))
    assert_close(states.hidden[0], torch.cat(wanted, dim=-1), rtol=0, atol=2e-5)
    if "clip_g" in architecture.encoders:
        assert states.pooled is not None
        assert_close(states.pooled[0], references["clip_g"]["pooled"], rtol=0, atol=1e-5)
    else:
        assert states.pooled is None


def test_keeping_the_weights_changes_nothing_and_reads_once(encoders: dict[str, Tensors]) -> None:
    opened = open_encoders(encoders, SDXL)
    counts: list[int] = []
    kept = StateMaker(opened, SDXL, keep=True, report=counts.append)
    chunk = [read(opened, CAT)]
    first = kept.compute(chunk)
    assert sum(counts) == kept.values
    again = kept.compute(chunk)
    fresh = StateMaker(opened, SDXL).compute(chunk)
    for states in (again, fresh):
        assert torch.equal(states.hidden, first.hidden)
    counts.clear()
    kept.compute(chunk)
    assert sum(counts) < kept.values / 2  # what no layer needs is only counted


def test_many_chunks_are_the_same_as_one_at_a_time(encoders: dict[str, Tensors]) -> None:
    opened = open_encoders(encoders, SD1)
    maker = StateMaker(opened, SD1)
    texts = [read(opened, [320] * count) for count in range(0, 75, 3)]
    together = maker.compute(texts)
    for index in (0, 7, 24):
        assert_close(maker.compute([texts[index]]).hidden[0], together.hidden[index], rtol=0, atol=1e-5)


@pytest.mark.parametrize("keep", [True, False], ids=["weights kept", "weights read again"])
def test_gradients_are_those_of_small_steps(encoders: dict[str, Tensors], keep: bool) -> None:
    opened = open_encoders(encoders, SDXL)
    maker = StateMaker(opened, SDXL, keep=keep)
    vectors = {key: rows.clone().requires_grad_() for key, rows in read(opened, CAT).items()}
    probe = torch.randn(POSITIONS, 2048, generator=torch.Generator().manual_seed(1))

    def look(at: dict[str, torch.Tensor]) -> torch.Tensor:
        states = maker.run([at])
        assert states.pooled is not None
        return (states.hidden[0] * probe).sum() + states.pooled.square().sum()

    look(vectors).backward()
    for key, rows in vectors.items():
        assert rows.grad is not None
        step = torch.zeros_like(rows)
        step[1] = rows.grad[1] / rows.grad[1].norm() * 1e-2
        with torch.no_grad():
            up = look({**vectors, key: rows + step}).double()
            down = look({**vectors, key: rows - step}).double()
        assert ((up - down) / 2e-2).item() == pytest.approx(rows.grad[1].norm().item(), rel=0.02)


@pytest.mark.parametrize(
    ("clip_skip", "message"), [(0, "A clip skip of 0 is not possible"), (3, "has 2 layers, so the last 2 cannot")]
)
def test_a_clip_skip_that_is_not_possible(encoders: dict[str, Tensors], clip_skip: int, message: str) -> None:
    opened = open_encoders(encoders, SD1)
    with pytest.raises(CheckpointError, match=message):
        StateMaker(opened, SD1, clip_skip).compute([read(opened, CAT)])
