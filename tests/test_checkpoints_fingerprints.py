"""Fingerprints: the same for every layout and precision of the same encoders, measured once for a file."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from checkpoint_files import (
    LAYOUTS,
    SDXL_LAYOUTS,
    TABLE,
    Encoders,
    Tensors,
    make_encoder,
    make_encoders,
    record_reads,
    save,
    scaled_fp8,
    sgm_tensors,
    to_open_clip,
    write_layout,
)

from lib_embedmerge import open_checkpoint
from lib_embedmerge.actions.comparing import compare_models
from lib_embedmerge.checkpoints import canonical
from lib_embedmerge.checkpoints.fingerprints import fingerprint_encoders, fingerprint_table
from lib_embedmerge.checkpoints.layouts import find_encoders
from lib_embedmerge.checkpoints.weights import make_memory_weights
from lib_embedmerge.core.ports import Fingerprint
from lib_embedmerge.errors import CheckpointError
from lib_embedmerge.files import cache
from lib_embedmerge.files.cache import FileFacts, cache_folder


@pytest.fixture(autouse=True)
def cache_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "file-facts.json"


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    return make_encoders()


def in_memory(key: str, tensors: Tensors) -> Fingerprint:
    return fingerprint_encoders([find_encoders(make_memory_weights(tensors))[key]])[key]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(offset, size) of all reads of safetensors files from here on."""
    return record_reads(monkeypatch)


def expected(key: str, tensors: Tensors) -> Fingerprint:
    """The definition, written once more and plainly, over a state dict in Hugging Face naming."""
    skipped = ("position_ids", "logit_scale") + (() if key == "clip_g" else ("text_projection.weight",))
    digests = {
        name: hashlib.sha256(tensor.to(torch.float16).numpy().astype("<f2").tobytes()).hexdigest()
        for name, tensor in tensors.items()
        if not name.endswith(skipped)
    }
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    rows = tensors[TABLE].to(torch.float64).tolist()
    mean = sum(math.sqrt(sum(value * value for value in row)) for row in rows) / len(rows)
    as_float32 = struct.unpack("<f", struct.pack("<f", mean))[0]
    return Fingerprint(digests[TABLE], hashlib.sha256(lines.encode()).hexdigest(), as_float32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_same(tmp_path: Path, encoders: Encoders, layout: str) -> None:
    made = write_layout(layout, tmp_path, encoders)
    found = open_checkpoint(made.path).fingerprints()
    assert found == {key: expected(key, encoders[key]) for key in made.encoders}


def test_the_sdxl_layouts_are_many() -> None:
    assert len(SDXL_LAYOUTS) >= 15  # so that the test above says something


@pytest.mark.slow
def test_transformers_own_models(tmp_path: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=40, hidden_size=1280, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16,
        projection_dim=1280,
    )  # fmt: skip
    model = CLIPTextModelWithProjection(config)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "one")
    model.half().save_pretrained(tmp_path / "two", max_shard_size="5MB")
    whole = open_checkpoint(tmp_path / "one").fingerprints()["clip_g"]
    half = open_checkpoint(tmp_path / "two").fingerprints()["clip_g"]
    open_clip = save(tmp_path / "open.safetensors", to_open_clip({name: t.clone() for name, t in tensors.items()}))
    assert whole == expected("clip_g", tensors) == open_checkpoint(open_clip).fingerprints()["clip_g"]
    assert (half.token_table, half.text_encoder) == (whole.token_table, whole.text_encoder)
    assert in_memory("clip_g", model.float().state_dict()).text_encoder == whole.text_encoder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_wider_copy_is_the_same(tmp_path: Path, encoders: Encoders, dtype: torch.dtype) -> None:
    wide = {key: {name: t.to(dtype) for name, t in encoder.items()} for key, encoder in encoders.items()}
    path = save(tmp_path / "wide.safetensors", sgm_tensors(wide))
    keys = ("clip_l", "clip_g")
    assert open_checkpoint(path).fingerprints() == {key: expected(key, encoders[key]) for key in keys}


def test_values_that_float16_cannot_hold(tmp_path: Path) -> None:
    tensors = {name: tensor.to(torch.float32) for name, tensor in make_encoder("clip_l", 5).items()}
    tensors[TABLE][1, :6] = torch.tensor([70000.0, -1e38, 1e-30, -0.0, torch.inf, 65519.9])
    found = open_checkpoint(save(tmp_path / "x.safetensors", tensors)).fingerprints()["clip_l"]
    assert found.token_table == expected("clip_l", tensors).token_table
    tensors[TABLE][2, 0] = torch.nan
    found = open_checkpoint(save(tmp_path / "nan.safetensors", tensors)).fingerprints()["clip_l"]
    assert found.text_encoder
    # Rows 1 and 2 have values that are not finite, so that they have no length.
    lengths = torch.linalg.vector_norm(tensors[TABLE][[0, 3, 4]].to(torch.float64), dim=1)
    assert found.mean_length == pytest.approx(lengths.mean().item(), rel=1e-6)


def test_a_mean_beyond_all_bounds(tmp_path: Path) -> None:
    table = torch.full((5, 768), 1e150, dtype=torch.float64)
    assert open_checkpoint(save(tmp_path / "x.safetensors", {TABLE: table})).encoders[0].mean_length() == math.inf


def test_no_row_with_a_length(tmp_path: Path) -> None:
    table = torch.full((5, 768), 1e200, dtype=torch.float64)
    assert math.isnan(open_checkpoint(save(tmp_path / "x.safetensors", {TABLE: table})).encoders[0].mean_length())


@pytest.mark.parametrize("newer", [False, True], ids=["scale_weight", "comfy_quant"])
def test_scaled_fp8_counts_as_its_values(tmp_path: Path, encoders: Encoders, newer: bool) -> None:
    tensors = scaled_fp8(encoders["clip_g"], 0.011, newer=newer)
    scale = torch.tensor(0.011)
    values = {
        name: tensors[name].to(torch.float32) * scale if tensors[name].dtype == torch.float8_e4m3fn else tensors[name]
        for name in encoders["clip_g"]
    }
    path = save(tmp_path / "clip_g.safetensors", tensors)
    assert open_checkpoint(path).fingerprints()["clip_g"] == expected("clip_g", values)


def _without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


_LAYER = "text_model.encoder.layers.1.mlp.fc1."
INCOMPLETE: dict[str, Callable[[Tensors], Tensors]] = {
    "no projection": _without("text_projection.weight"),
    "a layer's bias": _without(_LAYER + "bias"),
    "no layers": lambda tensors: {name: tensor for name, tensor in tensors.items() if ".layers." not in name},
    "layer 0 is missing": lambda tensors: {name: t for name, t in tensors.items() if ".layers.0." not in name},
    "an unknown quantisation": lambda tensors: tensors | {_LAYER + "weight": torch.ones(8, 4, dtype=torch.int8)},
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_layers_that_are_not_known(tmp_path: Path, encoders: Encoders, name: str) -> None:
    path = save(tmp_path / "clip_g.safetensors", INCOMPLETE[name](dict(encoders["clip_g"])))
    found = open_checkpoint(path).fingerprints()["clip_g"]
    assert found.text_encoder is None
    assert found.token_table == expected("clip_g", encoders["clip_g"]).token_table


def test_the_unused_layer_of_clip_h_does_not_count(tmp_path: Path) -> None:
    """A single SD2 file has 24 layers, the diffusers folder of the same model 23."""
    tensors = make_encoder("clip_h", 5, layers=24)
    used = {name: tensor for name, tensor in tensors.items() if ".layers.23." not in name}
    whole = save(tmp_path / "single.safetensors", to_open_clip(tensors))
    cut = save(tmp_path / "diffusers.safetensors", used)
    assert open_checkpoint(whole).fingerprints() == open_checkpoint(cut).fingerprints()
    assert open_checkpoint(cut).fingerprints() == {"clip_h": expected("clip_h", used)}


@pytest.mark.parametrize("name", [TABLE, _LAYER + "weight", "text_projection.weight"])
def test_one_changed_value_changes_it(encoders: Encoders, name: str) -> None:
    changed = {key: tensor.clone() for key, tensor in encoders["clip_g"].items()}
    changed[name][-1, -1] += 0.5
    before, after = in_memory("clip_g", encoders["clip_g"]), in_memory("clip_g", changed)
    assert before.text_encoder != after.text_encoder
    assert (before.token_table == after.token_table) == (name != TABLE)


def test_tensors_in_memory(encoders: Encoders) -> None:
    for key, encoder in encoders.items():
        for tensors in (encoder, to_open_clip(encoder)):
            assert in_memory(key, tensors) == expected(key, encoder)


def test_a_table_alone(encoders: Encoders) -> None:
    for key, encoder in encoders.items():
        whole = expected(key, encoder)
        for size in (1, 7, 1000):
            found = fingerprint_table(rows.numpy() for rows in encoder[TABLE].split(size))
            assert found == Fingerprint(whole.token_table, None, whole.mean_length)


# Progress, and stopping.


def test_progress_reaches_the_end_in_small_steps(
    tmp_path: Path, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canonical, "_PIECE_VALUES", 4000)
    path = save(tmp_path / "model.safetensors", sgm_tensors(encoders))
    steps: list[tuple[int, int]] = []
    found = open_checkpoint(path).fingerprints(lambda done, total: steps.append((done, total)))
    assert found["clip_g"] == expected("clip_g", encoders["clip_g"])  # pieces do not matter
    total = sum(t.numel() * 2 for key in ("clip_l", "clip_g") for t in encoders[key].values())
    assert {whole for _, whole in steps} == {total} and steps[-1] == (total, total)
    done = [0, *(step for step, _ in steps)]
    assert done == sorted(done) and max(b - a for a, b in itertools.pairwise(done)) <= 8000


def test_a_piece_is_at_most_16_mib() -> None:
    assert canonical._PIECE_VALUES * 8 <= 16 * 1024 * 1024


def test_it_can_be_stopped(tmp_path: Path, encoders: Encoders) -> None:
    path = save(tmp_path / "model.safetensors", sgm_tensors(encoders))
    model = open_checkpoint(path)

    def stop(_: int, __: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fingerprints(stop)
    assert not model.has_fingerprints
    assert model.fingerprints()


def test_a_file_that_is_cut_after_it_was_opened(tmp_path: Path, encoders: Encoders) -> None:
    path = save(tmp_path / "clip_l.safetensors", encoders["clip_l"])
    model = open_checkpoint(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="cut off"):
        model.fingerprints()


# Cached.


def test_the_second_time_reads_nothing(tmp_path: Path, encoders: Encoders, reads: list[tuple[int, int]]) -> None:
    path = save(tmp_path / "model.safetensors", sgm_tensors(encoders))
    first = open_checkpoint(path)
    assert not first.has_fingerprints
    found = first.fingerprints()
    again = open_checkpoint(path)
    reads.clear()
    assert again.has_fingerprints
    assert again.fingerprints() == found == first.fingerprints()
    assert [encoder.mean_length() for encoder in again.encoders] == [one.mean_length for one in found.values()]
    assert reads == []


def test_a_changed_file_is_measured_anew(tmp_path: Path, encoders: Encoders) -> None:
    path = save(tmp_path / "clip_l.safetensors", encoders["clip_l"])
    before = open_checkpoint(path).fingerprints()
    save(path, make_encoder("clip_l", seed=5))
    os.utime(path, ns=(1, 1))
    model = open_checkpoint(path)
    assert not model.has_fingerprints
    assert model.fingerprints() != before


def test_an_encoder_that_two_models_share_is_measured_once(
    tmp_path: Path, encoders: Encoders, reads: list[tuple[int, int]]
) -> None:
    files = [save(tmp_path / f"{key}.safetensors", encoders[key]) for key in ("clip_l", "clip_g")]
    open_checkpoint(files[0]).fingerprints()
    pair = open_checkpoint(files)
    assert not pair.has_fingerprints
    reads.clear()
    pair.fingerprints()
    assert sum(size for _, size in reads) < files[1].stat().st_size


def test_mean_length_reads_the_table_alone(tmp_path: Path, encoders: Encoders, reads: list[tuple[int, int]]) -> None:
    path = save(tmp_path / "clip_l.safetensors", encoders["clip_l"])
    encoder = open_checkpoint(path).encoders[0]
    reads.clear()
    length = encoder.mean_length()
    assert length == expected("clip_l", encoders["clip_l"]).mean_length
    assert sum(size for _, size in reads) == encoders["clip_l"][TABLE].numel() * 2
    reads.clear()
    assert encoder.mean_length() == length and reads == []
    again = open_checkpoint(path)
    reads.clear()
    assert again.encoders[0].mean_length() == length and reads == []
    assert not again.has_fingerprints  # of a table alone the layers are not known
    assert again.fingerprints()["clip_l"] == expected("clip_l", encoders["clip_l"])


BROKEN = {
    "no JSON": "{",
    "a list": "[]",
    "other schema": '{"schema": 99, "files": {}}',
    "no files": '{"schema": 1}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_cache_is_an_empty_one(tmp_path: Path, encoders: Encoders, cache_file: Path, name: str) -> None:
    path = save(tmp_path / "clip_l.safetensors", encoders["clip_l"])
    cache_file.parent.mkdir()
    cache_file.write_text(BROKEN[name], encoding="utf-8")
    assert open_checkpoint(path).fingerprints()
    assert open_checkpoint(path).has_fingerprints


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprints": {"clip_l": {"token_table": 1, "text_encoder": None, "mean_length": 1.0}}},
        {"fingerprints": {"clip_l": []}},
        {"fingerprints": 3},
        {"schema": 99},
    ],
    ids=["number for text", "list", "number", "schema"],
)
def test_odd_entries_are_not_believed(
    tmp_path: Path, encoders: Encoders, cache_file: Path, change: dict[str, object]
) -> None:
    path = save(tmp_path / "clip_l.safetensors", encoders["clip_l"])
    found = open_checkpoint(path).fingerprints()
    content = json.loads(cache_file.read_text(encoding="utf-8"))
    for entry in content["files"].values():
        entry["value"] |= change
    cache_file.write_text(json.dumps(content), encoding="utf-8")
    assert not open_checkpoint(path).has_fingerprints
    assert open_checkpoint(path).fingerprints() == found
    assert open_checkpoint(path).has_fingerprints


def test_a_cache_that_cannot_be_written(tmp_path: Path, encoders: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path / "file"))
    path = save(tmp_path / "clip_l.safetensors", encoders["clip_l"])
    assert open_checkpoint(path).fingerprints()
    assert not open_checkpoint(path).has_fingerprints


def test_file_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MAX_ENTRIES", 3)
    facts, files = FileFacts(tmp_path / "facts"), [tmp_path / str(number) for number in range(5)]
    facts.put([tmp_path / "none"], {"a": 1})
    assert facts.get([tmp_path / "none"]) is None
    for number, file in enumerate(files):
        file.write_bytes(b"x")
        facts.put([file], {"number": number})
    assert [facts.get([file]) for file in files] == [None, None, *({"number": number} for number in (2, 3, 4))]
    facts.put(files[:2], {"both": True})
    assert facts.get(files[:2]) == {"both": True} and facts.get(files[1::-1]) is None
    files[0].write_bytes(b"xy")
    assert facts.get(files[:2]) is None
    assert [path.name for path in (tmp_path / "facts").iterdir()] == ["file-facts.json"]


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("EMBEDMERGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "embedmerge"
    home = Path.home()
    cases = {
        ("win32", "LOCALAPPDATA", str(tmp_path)): tmp_path,
        ("win32", "X", "y"): home / "AppData" / "Local",
        ("darwin", "X", "y"): home / "Library" / "Caches",
        ("linux", "XDG_CACHE_HOME", str(tmp_path)): tmp_path,
        ("linux", "XDG_CACHE_HOME", "relative"): home / ".cache",
        ("linux", "X", "y"): home / ".cache",
    }
    for (platform, name, value), folder in cases.items():
        assert cache._find_system_cache(platform, {name: value}) == folder


def test_no_warning_for_any_bits(tmp_path: Path) -> None:
    raw = numpy.random.default_rng(1).integers(0, 2**32, (7, 768), dtype=numpy.uint32)
    table = torch.from_numpy(raw.view(numpy.float32))
    model = open_checkpoint(save(tmp_path / "x.safetensors", {TABLE: table}))
    halves = table.to(torch.float16).numpy().tobytes()
    assert model.fingerprints()["clip_l"].token_table == hashlib.sha256(halves).hexdigest()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("transformer.resblocks.0.attn.in_proj_weight", ()),
        ("transformer.resblocks.0.attn.in_proj_bias", (7,)),
        ("text_projection", ()),
        ("text_projection", (2, 2, 2)),
    ],
)
def test_weights_of_damaged_shapes_are_no_stack_trace(
    tmp_path: Path, encoders: Encoders, name: str, shape: tuple[int, ...]
) -> None:
    tensors = sgm_tensors(encoders) | {f"conditioner.embedders.1.model.{name}": torch.ones(shape)}
    model = open_checkpoint(save(tmp_path / "model.safetensors", tensors))
    found = model.fingerprints()
    assert found["clip_l"] == expected("clip_l", encoders["clip_l"])
    assert found["clip_g"].token_table == expected("clip_g", encoders["clip_g"]).token_table
    assert found["clip_g"].text_encoder != expected("clip_g", encoders["clip_g"]).text_encoder
    whole = open_checkpoint(save(tmp_path / "whole.safetensors", sgm_tensors(encoders)))
    compared = compare_models([model.path, whole.path])[0]
    assert not compared.text_encoder["clip_g"].equal
