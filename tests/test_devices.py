"""Tables on a GPU: the same results as on the CPU, and no operation that mixes devices.

Everywhere on a pretended device (pretended_cuda.py); with the marker `gpu` also on CUDA, where there is one:
`python -m pytest -m gpu`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import torch
from arrays import assert_close, equal
from hypothesis import event, given, settings
from memory_model import MemoryEncoder, MemoryModel, random_model
from models import StandardModels
from pretended_cuda import CUDA, pretend_cuda
from strategies import expressions, words
from test_evaluate import FORMS
from test_golden import DATA, SAME, check_same_vectors, make_model

from lib_embedmerge.core.arrays import find_device, to_numpy, to_tensor
from lib_embedmerge.core.evaluate import Vectors, evaluate
from lib_embedmerge.core.inline import ExpressionReplacer
from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.facade import open_checkpoint
from lib_embedmerge.hosts.live_tables import LiveEncoder, LiveTable
from lib_embedmerge.hosts.webui.temporary_embeddings import TemporaryEmbedding
from lib_embedmerge.lang.printer import print_expression
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.recipes.fit import FitStatus, measure_fit
from lib_embedmerge.recipes.recovery.recover import recover

SOURCES = [source for source, _ in FORMS]
IN_FLOAT64 = ("slerp", "norm", "orth")
"""Functions whose result may differ in the last place, because sums are added up in another order."""


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    if request.param == "pretended":
        with pretend_cuda(monkeypatch):
            yield CUDA
    elif torch.cuda.is_available():
        yield torch.device("cuda", torch.cuda.current_device())
    else:
        pytest.skip("there is no CUDA device")


ON_CPU = random_model()
OF_TORCH = MemoryModel([MemoryEncoder(one.key, to_tensor(one.table)) for one in ON_CPU.encoders])
TABLE = to_numpy(ON_CPU.encoders[0].table)[:6000]


def model_on(device: torch.device) -> MemoryModel:
    tables = [(encoder.key, encoder.table) for encoder in ON_CPU.encoders]
    return MemoryModel([MemoryEncoder(key, to_tensor(table, str(device))) for key, table in tables])


def check_devices(vectors: Vectors, device: torch.device) -> None:
    assert {find_device(rows) for rows in vectors.values()} == {str(device)}


def test_every_form(device: torch.device) -> None:
    model = model_on(device)
    for source in SOURCES:
        vectors, expected = (evaluate(parse(source), which, limit=None) for which in (model, ON_CPU))
        check_devices(vectors, device)
        for key, rows in expected.items():
            if any(name in source for name in IN_FLOAT64):
                assert_close(to_numpy(vectors[key]), rows, rtol=1e-6, atol=1e-9)
            else:
                assert to_numpy(vectors[key]).tobytes() == to_numpy(rows).tobytes(), source


def test_the_golden_set(device: torch.device) -> None:
    with numpy.load(DATA / "em_golden.npz") as loaded:
        arrays = {name: torch.from_numpy(loaded[name]) for name in loaded.files}
    model = make_model(arrays, lambda table: table.to(device))
    for case in SAME:
        check_same_vectors(case, model, arrays)


def test_searches(device: torch.device) -> None:
    model = model_on(device)
    for here, there in zip(model.encoders, ON_CPU.encoders, strict=True):
        asked = to_numpy(there.vectors([320, 2368, 1929])) * numpy.float32(1.5)
        asked[2] += to_numpy(there.vectors([5]))[0]
        assert here.nearest(asked, 5) == there.nearest(asked, 5) == here.nearest(to_tensor(asked, str(device)), 5)
        rows = here.vectors([7, 4999, 320])
        assert find_device(rows) == str(device)
        assert here.find_equal_rows(rows) == [7, 4999, 320]
        assert here.length_band() == there.length_band()
        assert here.fingerprint == there.fingerprint


def test_saving_and_fitting(device: torch.device, tmp_path: Path) -> None:
    source = "'cat'+'dog'*0.5"
    made, expected = (build_embedding(model, source, "c-1") for model in (model_on(device), ON_CPU))
    path = made.save(tmp_path)
    assert all(isinstance(rows, numpy.ndarray) for rows in made.vectors.values())
    for key, rows in load_embedding(path).vectors.items():
        assert rows.tobytes() == expected.vectors[key].tobytes()
    assert measure_fit(load_embedding(path), model_on(device)).status is FitStatus.MADE_FOR_THIS_MODEL


def test_recovery(device: torch.device) -> None:
    embedding = build_embedding(ON_CPU, "'photo of a cat'*0.5+'dog'", "c-1")
    found, expected = (recover(embedding, model) for model in (model_on(device), ON_CPU))
    assert found.expression == expected.expression
    assert found.is_source


def test_expressions_in_prompts(device: torch.device) -> None:
    prompts = ["a <'cat'+'dog'*0.5> b", "<norm('cat')>, <'x'*2>"]
    (here, temporaries), (there, expected) = (
        ExpressionReplacer().replace(prompts, model, lambda error, _: pytest.fail(error.message))
        for model in (model_on(device), ON_CPU)
    )
    assert here[0] == there[0]  # no function of float64 is in it, so the vectors and their names are equal
    for temporary in temporaries.values():
        check_devices(dict(temporary.vectors), device)
        given = TemporaryEmbedding(temporary.name, temporary.vectors, device)
        assert {rows.device for rows in given.vec.values()} == {device}
    for temporary in expected.values():  # the table was offloaded; web UIs want the vectors on their device
        assert {rows.device for rows in TemporaryEmbedding("x", temporary.vectors, device).vec.values()} == {device}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_a_table_of_a_web_ui_is_offloaded_in_between(device: torch.device, dtype: torch.dtype) -> None:
    stored = to_tensor(TABLE).to(dtype)
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(stored.to(device), requires_grad=False)
    encoder = LiveEncoder("clip_l", LiveTable(layer), lambda _: 1.0)
    ids = [7, 4999, 7]
    on_gpu = encoder.vectors(ids)
    assert find_device(on_gpu) == str(device)
    nearest = encoder.nearest(on_gpu, 3)
    layer.weight = torch.nn.Parameter(stored, requires_grad=False)  # as with --medvram
    on_cpu = encoder.vectors(ids)
    assert isinstance(on_cpu, numpy.ndarray)
    assert equal(on_cpu, to_numpy(on_gpu)) and equal(on_cpu, stored.float()[ids])
    assert encoder.nearest(on_cpu, 3) == nearest == encoder.nearest(on_gpu, 3)
    assert encoder.find_equal_rows(on_gpu) == encoder.find_equal_rows(on_cpu)


def test_a_checkpoint_file_for_the_gpu(
    device: torch.device, standard: StandardModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    here, there = open_checkpoint(standard.base, device="cuda"), open_checkpoint(standard.base)
    assert here.device == "cuda:0"
    source = parse("near('cat'*3+'dog'*0.1)+'a photo'")
    vectors = evaluate(source, here)
    check_devices(vectors, device)
    for key, rows in evaluate(source, there).items():
        assert to_numpy(vectors[key]).tobytes() == to_numpy(rows).tobytes()
    tensors = here.build("'cat'", name="x").tensors(str(device))
    assert {rows.device for rows in tensors.values()} == {device}


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("EMBEDMERGE_RANDOM_SOURCES", "1000")))
@given(expressions(words).map(print_expression))
def test_numpy_and_torch_agree_on_random_sources(text: str) -> None:
    """To the last bit; with a function of float64, to a millionth of the largest value in its vectors."""
    try:
        expected = evaluate(parse(text), ON_CPU)
    except EmbedMergeError as error:
        with pytest.raises(type(error)):
            evaluate(parse(text), OF_TORCH)
        return
    for key, rows in evaluate(parse(text), OF_TORCH).items():
        ours, theirs = to_numpy(expected[key]), to_numpy(rows)
        if ours.tobytes() == theirs.tobytes():
            event("equal to the last bit")
            continue
        event("differs in the last places")
        assert any(name in text for name in IN_FLOAT64)
        assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * float(numpy.abs(ours).max()))
