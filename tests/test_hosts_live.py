"""Token tables in a web UI's memory: every dtype, rounding, and tables that go away."""

from __future__ import annotations

import gc
import math
from pathlib import Path

import numpy
import pytest
import torch
from arrays import equal
from checkpoint_files import TABLE, make_encoders, save, sgm_tensors

from lib_embedmerge.core.arrays import find_device
from lib_embedmerge.errors import HostError
from lib_embedmerge.facade import CheckpointModel, open_checkpoint
from lib_embedmerge.hosts.live_fingerprints import LiveFingerprints
from lib_embedmerge.hosts.live_tables import LiveEncoder, LiveTable
from lib_embedmerge.hosts.memory_tables import find_compute_device

ROWS = 5000
"""More than the table is gone through at once."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> CheckpointModel:
    return open_checkpoint(save(tmp_path_factory.mktemp("live") / "x.safetensors", sgm_tensors(make_encoders(ROWS))))


@pytest.fixture(scope="module")
def values() -> dict[str, torch.Tensor]:
    """The tables of `file`, float16."""
    return {key: tensors[TABLE] for key, tensors in make_encoders(ROWS).items()}


def layer_of(table: torch.Tensor) -> torch.nn.Embedding:
    return torch.nn.Embedding(table.shape[0], table.shape[1], _weight=table, _freeze=not table.is_floating_point())


def encoder_of(layer: torch.nn.Module, key: str = "clip_l") -> LiveEncoder:
    table = LiveTable(layer)
    return LiveEncoder(key, table, LiveFingerprints({key: table}, None).mean_length)


DTYPES = [torch.float16, torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_of_any_dtype(values: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    table = values["clip_l"].to(dtype)
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(table)  # trainable, as Forge leaves it
    encoder = encoder_of(layer)
    rows = encoder.vectors([7, 4999, 7])
    assert isinstance(rows, numpy.ndarray) and rows.dtype == numpy.float32
    expected = table.float()
    assert equal(rows, expected[[7, 4999, 7]])
    assert encoder.table.precision == f"{str(dtype).removeprefix('torch.')} on cpu"
    pieces = list(encoder.table.pieces())
    assert [first for first, _ in pieces] == [0, 1024, 2048, 3072, 4096]
    assert equal(numpy.concatenate([piece for _, piece in pieces]), expected)
    assert encoder.nearest(rows)[1][0].id == 4999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_a_coarser_copy_of_the_file_has_the_files_fingerprint(
    file: CheckpointModel, values: dict[str, torch.Tensor], dtype: torch.dtype
) -> None:
    layers = {key: layer_of(values[key].to(dtype)) for key in ("clip_l", "clip_g")}
    prints = LiveFingerprints({key: LiveTable(layer) for key, layer in layers.items()}, file)
    assert dict(prints.measure()) == dict(file.fingerprints())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_a_changed_table_has_its_own_fingerprint(
    file: CheckpointModel, values: dict[str, torch.Tensor], dtype: torch.dtype
) -> None:
    changed = {key: values[key].to(dtype) for key in ("clip_l", "clip_g")}
    changed["clip_l"][4998] *= 2
    layers = {key: layer_of(table) for key, table in changed.items()}
    found = LiveFingerprints({key: LiveTable(layer) for key, layer in layers.items()}, file).measure()
    of_file = file.fingerprints()
    assert found["clip_g"] == of_file["clip_g"]
    assert found["clip_l"].token_table != of_file["clip_l"].token_table
    assert found["clip_l"].text_encoder is None


def test_a_coarse_table_of_more_rows_than_the_files(file: CheckpointModel, values: dict[str, torch.Tensor]) -> None:
    longer = torch.cat([values["clip_l"], torch.ones(1, 768)]).to(torch.bfloat16)
    layer = layer_of(longer)
    found = LiveFingerprints({"clip_l": LiveTable(layer)}, file).measure()
    assert found["clip_l"] != file.fingerprints()["clip_l"]


def test_no_file_at_all(values: dict[str, torch.Tensor]) -> None:
    layer = layer_of(values["clip_l"])
    prints = LiveFingerprints({"clip_l": LiveTable(layer)}, None)
    found = prints.measure()["clip_l"]
    assert found.text_encoder is None
    assert found.mean_length == prints.mean_length("clip_l")
    lengths = values["clip_l"].double().norm(dim=1).tolist()
    assert found.mean_length == pytest.approx(math.fsum(lengths) / len(lengths), rel=1e-6)


def test_a_file_that_goes_away_before_it_is_measured(
    tmp_path: Path, values: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path / "cache"))
    path = save(tmp_path / "y.safetensors", sgm_tensors(make_encoders(ROWS)))
    model = open_checkpoint(path)
    path.unlink()
    layer = layer_of(values["clip_l"])
    assert LiveFingerprints({"clip_l": LiveTable(layer)}, model).measure()["clip_l"].text_encoder is None


def test_measured_once(values: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(values["clip_l"].clone())
    prints = LiveFingerprints({"clip_l": LiveTable(layer)}, None)
    first = prints.measure()
    monkeypatch.setattr(LiveTable, "pieces", None)
    assert prints.measure() == first
    assert prints.mean_length("clip_l") == first["clip_l"].mean_length


def test_a_table_that_is_gone(values: dict[str, torch.Tensor]) -> None:
    layer = layer_of(values["clip_l"].clone())
    encoder = encoder_of(layer)
    del layer
    gc.collect()
    with pytest.raises(HostError, match="unloaded") as caught:
        encoder.vectors([1])
    assert caught.value.hint


def test_a_table_that_a_web_ui_has_thrown_away(values: dict[str, torch.Tensor]) -> None:
    """A1111 moves old models to torch's meta device."""
    layer = layer_of(values["clip_l"].clone())
    encoder = encoder_of(layer)
    layer.to("meta")
    with pytest.raises(HostError, match="unloaded"):
        encoder.vectors([1])


def test_a_table_with_added_rows_has_numbers_for_their_tokens(values: dict[str, torch.Tensor]) -> None:
    table = torch.zeros(49409, 768, dtype=torch.float16)
    table[:ROWS] = values["clip_l"]
    table[49408] = 3.0
    layer = layer_of(table)
    encoder = encoder_of(layer)
    assert encoder.nearest(torch.ones(1, 768))[0][0].token == "#49408"
    assert encoder.find_equal_rows(torch.full((1, 768), 3.0)) == [49408]


def test_tables_are_known_again(values: dict[str, torch.Tensor]) -> None:
    layer, other = layer_of(values["clip_l"]), layer_of(values["clip_l"])
    table = LiveTable(layer)
    assert table.is_table_of(layer)
    assert not table.is_table_of(other)


@pytest.mark.parametrize(("key", "padding"), [("clip_l", 49407), ("clip_g", 0), ("clip_h", 0)])
def test_padding(values: dict[str, torch.Tensor], key: str, padding: int) -> None:
    layer = layer_of(values[key])
    assert encoder_of(layer, key).padding_id == padding


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_table_on_a_gpu(values: dict[str, torch.Tensor]) -> None:
    layer = layer_of(values["clip_l"].cuda())
    encoder = encoder_of(layer)
    assert find_device(encoder.vectors([5])) == "cuda:0"
    assert encoder.nearest(values["clip_l"][[5]].float())[0][0].id == 5
    assert encoder.find_equal_rows(encoder.vectors([5])) == [5]
    layer.cpu()  # as with --medvram, between two uses
    assert encoder.nearest(values["clip_l"][[5]].float())[0][0].id == 5


def test_a_device_without_float64_is_computed_for_on_the_cpu(
    values: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layer_of(values["clip_l"])
    table = LiveTable(layer)
    assert find_compute_device(table.weight()) == "cpu"
    for type_, expected in (("mps", "cpu"), ("privateuseone", "cpu"), ("cuda", "cuda")):
        lying = type("Lying", (), {"device": torch.device(type_)})
        monkeypatch.setattr(table, "weight", lambda lying=lying: lying)
        assert find_compute_device(table.weight()) == expected
