"""The meter's metric against its definition, and its promises as properties."""

from __future__ import annotations

from functools import cache

import numpy
import pytest
import torch
from checkpoint_files import Tensors, text_unet
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_embedmerge.checkpoints.cross_attention import TextReader, find_text_reader
from lib_embedmerge.checkpoints.text_metric import PairMetric, make_metric
from lib_embedmerge.checkpoints.weights import make_memory_weights
from lib_embedmerge.errors import CheckpointError

ROWS = 5


def in_memory(tensors: Tensors) -> TextReader:
    return find_text_reader(make_memory_weights(tensors))


def changed(tensors: Tensors, share: float, seed: int = 9) -> Tensors:
    """Every matrix moved by a share of its length."""
    generator = torch.Generator().manual_seed(seed)
    moved = {}
    for name, tensor in tensors.items():
        noise = torch.randn(tensor.shape, generator=generator) * (tensor.float().std() if tensor.numel() > 1 else 0)
        moved[name] = tensor.float() + share * noise
    return moved


def draw(seed: int, width: int, scale: float = 1.0) -> numpy.ndarray:
    return (numpy.random.default_rng(seed).standard_normal((ROWS, width)) * scale).astype(numpy.float32)


def measure_plainly(a: TextReader, b: TextReader, x: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
    """The definition: a loop over the layers in float64."""
    total = numpy.zeros(len(x))
    for ours, theirs in zip(a.layers, b.layers, strict=True):
        for of_a, of_b in ((ours.key, theirs.key), (ours.value, theirs.value)):
            left, right = of_a.read().astype(float), of_b.read().astype(float)
            gap = x.astype(float) @ left.T - y.astype(float) @ right.T
            total += (gap**2).sum(axis=1) / (((left**2).sum() + (right**2).sum()) / 2)
    return total


@pytest.fixture(scope="module")
def readers() -> tuple[TextReader, TextReader]:
    tensors = text_unet("sd1", naming="diffusers")
    return in_memory(tensors), in_memory(changed(tensors, 0.05))


@pytest.fixture(scope="module")
def metric(readers: tuple[TextReader, TextReader]) -> PairMetric:
    return make_metric(*readers)


@pytest.mark.parametrize(
    ("architecture", "share", "distance"),
    [
        *(("sd1", share, distance) for share in (0.0, 1e-4, 0.05, 2.0) for distance in (0.0, 1e-3, 1.0)),
        *((architecture, 0.05, 0.1) for architecture in ("sdxl", "sdxl-refiner", "sd2")),
    ],
)
def test_it_is_what_a_loop_over_the_layers_gives(architecture: str, share: float, distance: float) -> None:
    tensors = text_unet(architecture, naming="diffusers", inner=32)
    a, b = in_memory(tensors), in_memory(changed(tensors, share))
    x = draw(1, a.context, 3.0)
    y = x + draw(2, a.context, distance)
    found = make_metric(a, b).states.measure(x, y)
    assert found == pytest.approx(measure_plainly(a, b, x, y), rel=1e-5, abs=0)


def test_within_each_model(readers: tuple[TextReader, TextReader], metric: PairMetric) -> None:
    a, b = readers
    x, y = draw(1, a.context), draw(2, a.context)
    left, right = metric.states.measure_within(x, y)
    assert left == pytest.approx(measure_plainly(a, a, x, y), rel=0.01)  # each is divided by the mean of both models
    assert right == pytest.approx(measure_plainly(b, b, x, y), rel=0.01)
    assert left + right == pytest.approx(2 * metric.states.measure_within(x, y)[0], rel=0.02)


def test_the_trace_of_one_model_is_the_number_of_matrices() -> None:
    reader = in_memory(text_unet("sdxl", naming="diffusers", inner=32))
    metric = make_metric(reader)
    assert metric.states.cross is None
    assert numpy.trace(metric.states.mean) == pytest.approx(2 * len(reader.layers), rel=1e-5)
    assert metric.pooled is not None
    assert numpy.trace(metric.pooled.mean) == pytest.approx(1, rel=1e-5)
    assert metric.pooled.mean.shape == (1280, 1280)


def test_equal_unets_and_equal_states_read_nothing() -> None:
    tensors = text_unet("sdxl", naming="diffusers", inner=32)
    metric = make_metric(in_memory(tensors), in_memory(text_unet("sdxl", naming="sgm:unet.", inner=32)))
    x = draw(1, 2048)
    assert metric.states.gap is None
    assert (metric.states.measure(x, x) == 0).all()
    assert metric.pooled is not None
    assert (metric.pooled.measure(x[:, :1280], x[:, :1280]) == 0).all()


def test_a_changed_unet_is_seen_under_equal_states(metric: PairMetric) -> None:
    x = draw(1, 768)
    assert (metric.states.measure(x, x) > 0).all()


def test_keys_that_are_only_longer_are_seen() -> None:
    tensors = text_unet("sd1", naming="diffusers")
    metric = make_metric(in_memory(tensors), in_memory({name: 2 * tensor for name, tensor in tensors.items()}))
    assert (metric.states.measure(draw(1, 768), draw(1, 768)) > 0).all()


def test_a_direction_that_no_layer_reads_changes_nothing() -> None:
    tensors = text_unet("sd1", naming="diffusers")
    blind = torch.zeros(768)
    blind[5], blind[300] = 0.6, -0.8
    for name, tensor in tensors.items():
        if name.endswith(("to_k.weight", "to_v.weight")):
            tensors[name] = tensor.float() - (tensor.float() @ blind)[:, None] * blind[None]
    metric = make_metric(in_memory(tensors))
    x = draw(1, 768)
    shift = 10 * blind.numpy()
    length = metric.states.measure(x, x + draw(2, 768, 10 / 768**0.5))
    assert (metric.states.measure(x, x + shift) < 1e-6 * length).all()
    row = make_metric(in_memory(text_unet("sd1", naming="diffusers"))).states
    assert (row.measure(x, x + shift) > 0.1 * length).all()  # other layers do read it


@settings(max_examples=12, deadline=None)
@given(first=st.integers(0, 10**6), second=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_it_is_symmetric(first: int, second: int, scale: float) -> None:
    metric = _make_small()
    x, y = draw(first, 768, scale), draw(second, 768, scale)
    there = metric.states.measure(x, y)
    assert there == pytest.approx(metric.swap().states.measure(y, x), rel=1e-6)
    assert there == pytest.approx(_make_swapped().states.measure(y, x), rel=1e-4)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(1e-2, 1e2))
def test_it_is_quadratic_and_adds_up(seed: int, size: float) -> None:
    metric = _make_small()
    x, y = draw(seed, 768), draw(seed + 1, 768)
    once = metric.states.measure(x, y)
    assert metric.states.measure(x * numpy.float32(size), y * numpy.float32(size)) == pytest.approx(
        once * size**2, rel=1e-4
    )
    assert metric.states.measure(numpy.concatenate((x, y)), numpy.concatenate((y, x))).sum() == pytest.approx(
        once.sum() + metric.states.measure(y, x).sum(), rel=1e-6
    )


def test_layers_add_up() -> None:
    tensors = text_unet("sd1", naming="diffusers")
    names = [name for name in tensors if "mid_block" in name]
    part = {name: tensors[name] for name in names}
    rest = {name: value for name, value in tensors.items() if name not in part}
    x, y = draw(1, 768), draw(2, 768)
    sums = [make_metric(in_memory(some)).states.measure(x, y) for some in (part, rest, tensors)]
    assert sums[0] + sums[1] == pytest.approx(sums[2], rel=1e-5)


@cache
def _small_readers() -> tuple[TextReader, TextReader]:
    tensors = text_unet("sd1", naming="diffusers", inner=8)
    return in_memory(tensors), in_memory(changed(tensors, 0.3))


@cache
def _make_small() -> PairMetric:
    return make_metric(*_small_readers())


@cache
def _make_swapped() -> PairMetric:
    return make_metric(*_small_readers()[::-1])


def test_unets_of_other_shapes_have_no_metric() -> None:
    a, b = in_memory(text_unet("sd1", naming="diffusers")), in_memory(text_unet("sdxl", naming="diffusers"))
    with pytest.raises(
        CheckpointError, match="built differently: 5 and 5 cross-attentions, for states of 768 and 2048"
    ):
        make_metric(a, b)


def test_broken_numbers() -> None:
    tensors = text_unet("sd1", naming="diffusers")
    name = next(iter(tensors))
    tensors[name][0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        make_metric(in_memory(tensors))


def test_the_progress_counts_every_value(readers: tuple[TextReader, TextReader]) -> None:
    counts: list[int] = []
    make_metric(*readers, report=counts.append)
    assert sum(counts) == 2 * readers[0].count_values()
