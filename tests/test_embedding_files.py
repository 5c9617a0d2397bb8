"""Embedding files: every form that tools write is read, ours is written whole, and harmful ones are refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from arrays import as_arrays, as_tensors, assert_close, equal, store_tensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import lib_embedmerge.tokenizer
from lib_embedmerge.core.architecture import SD1, SD2, SDXL, SDXL_REFINER, Architecture
from lib_embedmerge.core.ports import Fingerprint, ModelFacts
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding, read_embedding_header
from lib_embedmerge.embeddings.form_layout import read_vectors
from lib_embedmerge.embeddings.forms import recognise
from lib_embedmerge.embeddings.tag import UsedEmbedding
from lib_embedmerge.embeddings.tag_writing import Origin, make_metadata
from lib_embedmerge.errors import Remedy, StorageError
from lib_embedmerge.files.safetensors_file import encode_safetensors, hash_payload, read_header
from lib_embedmerge.files.stored_values import store
from lib_embedmerge.recipes.build import record_used_embedding
from lib_embedmerge.tokenizer import clip_tokenizer

ROOT = Path(__file__).parent.parent
MODEL = ModelFacts("Model", "model.safetensors", SDXL, "epsilon")


def table(width: int, count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed + width))


L, G, H = table(768), table(1280), table(1024)
PAIR = {"clip_l": L, "clip_g": G}
ARRAYS = as_arrays(PAIR)
"""The same, as embeddings take them."""


def metadata(name: str = "catdog", day: int = 1) -> dict[str, str]:
    date = datetime(2026, 1, day, tzinfo=timezone.utc)
    return make_metadata(Origin(name, MODEL, date, {"clip_l": Fingerprint("a" * 64, None, 0.4)}, "'cat'"))


def written(path: Path, content: object) -> Path:
    """A file as safetensors and torch write it themselves."""
    if path.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


A1111 = {
    "string_to_token": {"*": 265},
    "string_to_param": {"*": L},
    "name": "my\nname",
    "step": 1499,
    "sd_checkpoint": "0102",
    "sd_checkpoint_name": None,
}

FORMS: list[tuple[str, str, Any, dict[str, Tensor], Architecture, tuple[str, ...]]] = [
    ("sdxl", ".safetensors", PAIR, PAIR, SDXL, ()),
    ("sdxl pickle", ".pt", PAIR, PAIR, SDXL, ()),
    ("sdxl parameters", ".pt", {k: torch.nn.Parameter(v) for k, v in PAIR.items()}, PAIR, SDXL, ()),
    ("sdxl with plain data", ".pt", {**PAIR, "name": "x", "step": 5}, PAIR, SDXL, ()),
    ("refiner", ".safetensors", {"clip_g": G}, {"clip_g": G}, SDXL_REFINER, ()),
    ("kohya clip_l alone", ".safetensors", {"clip_l": L}, {"clip_l": L}, SD1, ("Only CLIP-L has vectors",)),
    ("kohya sd1", ".safetensors", {"emb_params": L}, {"clip_l": L}, SD1, ()),
    ("kohya sd2", ".safetensors", {"emb_params": H}, {"clip_h": H}, SD2, ()),
    ("emb_params refiner", ".safetensors", {"emb_params": G}, {"clip_g": G}, SDXL_REFINER, ()),
    ("emb_params and another", ".safetensors", {"emb_params": L, "x": H}, {"clip_l": L}, SD1, ("'x' is ignored",)),
    ("a1111", ".pt", A1111, {"clip_l": L}, SD1, ()),
    ("a1111 sd2", ".bin", {"string_to_param": {"*": H}}, {"clip_h": H}, SD2, ()),
    ("a1111 token as tensor", ".pt", {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": L}},
     {"clip_l": L}, SD1, ()),
    ("a1111 in safetensors", ".safetensors", {"string_to_param.*": L}, {"clip_l": L}, SD1, ()),
    ("diffusers", ".bin", {"<cat-toy>": L[0]}, {"clip_l": L[:1]}, SD1, ()),
    ("diffusers safetensors", ".safetensors", {"<cat-toy>": L[0].clone()}, {"clip_l": L[:1]}, SD1, ()),
    ("diffusers sd2 table", ".bin", {"<x>": H}, {"clip_h": H}, SD2, ()),
    ("tensor alone", ".pt", L, {"clip_l": L}, SD1, ()),
    ("pivotal", ".safetensors", {"text_encoders_0": L, "text_encoders_1": G}, PAIR, SDXL, ()),
    ("pivotal, the other order", ".pt", {"text_encoders_0": G, "text_encoders_1": L}, PAIR, SDXL, ()),
    ("pivotal sd1", ".safetensors", {"text_encoders_0": L}, {"clip_l": L}, SD1, ()),
    ("onetrainer", ".safetensors", {**PAIR, "clip_l_out": L * 2, "clip_g_out": G * 2}, PAIR, SDXL,
     ("output vectors (clip_l_out and clip_g_out) are ignored",)),
    ("third tensor", ".safetensors", {**PAIR, "vision": torch.zeros(3, 4096)}, PAIR, SDXL, ("'vision' is ignored",)),
    ("t5 that holds nothing", ".safetensors", {**PAIR, "t5": torch.zeros(0, 4096)}, PAIR, SDXL, ("'t5' is ignored",)),
    ("t5 of whole numbers", ".pt", {**PAIR, "t5": torch.zeros(3, 4, dtype=torch.int8)}, PAIR, SDXL,
     ("'t5' is ignored",)),
    ("zero-size tensor", ".safetensors", {**PAIR, "v_pred": torch.zeros(0)}, PAIR, SDXL, ("'v_pred' is ignored",)),
    ("em sd1 as sdxl", ".safetensors", {"clip_l": L, "clip_g": torch.zeros(3, 1280)},
     {"clip_l": L, "clip_g": torch.zeros(3, 1280)}, SDXL,
     ("All vectors of clip_g are zero, as in SDXL files that Embedding Merge made",)),
    ("not finite", ".safetensors", {"clip_l": L.clone().index_fill_(0, torch.tensor([1]), float("nan")), "clip_g": G},
     {"clip_l": L.clone().index_fill_(0, torch.tensor([1]), float("nan")), "clip_g": G}, SDXL,
     ("clip_l contains values that are not finite numbers, in vector 2.",)),
    ("76 vectors", ".safetensors", {"emb_params": table(768, 76)}, {"clip_l": table(768, 76)}, SD1,
     ("It has 76 vectors, but a prompt chunk of a web UI holds only 75",)),
    ("list of dicts", ".pt", [{"a": L[0]}, {"b": L[1:]}, {"c": G}, 5], PAIR, SDXL, ()),
    ("view with strides", ".pt", {"clip_l": torch.randn(768, 3).T, "clip_g": G}, {}, SDXL, ()),
    ("keys that are numbers", ".pt", {7: L, 8: 10**18}, {"clip_l": L}, SD1, ()),
]  # fmt: skip


@pytest.mark.parametrize("form", [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_every_form_is_read(tmp_path: Path, form: tuple[Any, ...]) -> None:
    suffix, content, vectors, architecture, notes = form
    path = written(tmp_path / f"my emb{suffix}", content)
    embedding = load_embedding(path)
    assert (embedding.name, embedding.path, embedding.architecture) == ("my emb", path, architecture)
    assert list(embedding.vectors) == list(architecture.encoders)
    for key, rows in (vectors or content).items():
        assert_close(embedding.vectors[key], rows.float(), rtol=0, atol=0, equal_nan=True)
        assert embedding.vectors[key].flags["C_CONTIGUOUS"]
    assert len(embedding.warnings) == len(notes)
    assert [part for part, note in zip(notes, embedding.warnings, strict=True) if part not in note] == []
    assert embedding.count == len(next(iter(embedding.vectors.values())))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("for_l", "for_g"),
    [
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float64, torch.float64),
        (torch.float8_e4m3fn, torch.float8_e4m3fn),
        (torch.float8_e5m2, torch.float8_e5m2),
        (torch.float16, torch.float64),
        (torch.bfloat16, torch.float8_e4m3fn),
    ],
    ids=lambda dtype: str(dtype).removeprefix("torch."),
)
def test_every_precision_becomes_float32(tmp_path: Path, suffix: str, for_l: torch.dtype, for_g: torch.dtype) -> None:
    content = {"clip_l": L.to(for_l), "clip_g": G.to(for_g)}
    embedding = load_embedding(written(tmp_path / f"x{suffix}", content))
    for key, rows in content.items():
        assert embedding.vectors[key].dtype == numpy.float32
        assert equal(embedding.vectors[key], rows.to(torch.float32))


def test_a_precision_of_pickles_alone_becomes_float32(tmp_path: Path) -> None:
    content = {"clip_l": L.to(torch.float8_e4m3fnuz), "clip_g": G}
    embedding = load_embedding(written(tmp_path / "x.pt", content))
    assert equal(embedding.vectors["clip_l"], content["clip_l"].float())


REFUSED: list[tuple[str, str, Any, str]] = [
    ("more for l", ".safetensors", {"clip_l": L, "clip_g": G[:2].clone()}, "3 vectors for clip_l and 2 vectors for"),
    ("1-D", ".safetensors", {"clip_l": L[0].clone(), "clip_g": G[0].clone()}, "'clip_l' has the shape [768]"),
    ("3-D", ".safetensors", {"clip_l": L[None].clone(), "clip_g": G[None].clone()}, "has the shape [1, 3, 768]"),
    ("0-D", ".safetensors", {"clip_l": torch.tensor(1.0), "clip_g": G}, "has the shape []"),
    ("0-D alone", ".safetensors", {"x": torch.tensor(1.0)}, "'x' is 0 wide"),
    ("joined", ".safetensors", {"emb_params": torch.zeros(3, 2048)}, "joins CLIP-L and CLIP-G"),
    ("joined as clip_g", ".safetensors", {"clip_l": L, "clip_g": torch.zeros(3, 2048)}, "joins CLIP-L and CLIP-G"),
    ("no rows", ".safetensors", {"clip_l": L[:0].clone(), "clip_g": G[:0].clone()}, "'clip_l' has no vectors"),
    ("strange width", ".safetensors", {"emb_params": torch.zeros(3, 4096)}, "'emb_params' is 4096 wide"),
    ("swapped", ".safetensors", {"clip_l": G, "clip_g": L}, "'clip_l' is 1280 wide; its vectors must be 768 wide"),
    ("sd2 as clip_l", ".safetensors", {"clip_l": H}, "1024 wide; its vectors must be 768 wide"),
    ("two unknown", ".safetensors", {"s0": L, "s1": G}, "None of its 2 tensors ('s0', 's1') has a name"),
    ("two tokens", ".safetensors", {"<s0>": L, "<s1>": L + 1}, "bundles 2 embeddings: '<s0>', '<s1>'"),
    ("two tokens in a pickle", ".bin", {"<s0>": L[0], "<s1>": L[1]}, "bundles 2 embeddings: '<s0>', '<s1>'"),
    ("state of a training", ".pt", {"hash": "ab", "optimizer_state_dict": {"state": {}}},
     "the state of an unfinished training"),
    ("integers", ".safetensors", {"emb_params": torch.zeros(3, 768, dtype=torch.int64)}, "contains I64 numbers"),
    ("integers in a pickle", ".pt", {"emb_params": torch.zeros(3, 768, dtype=torch.int8)}, "contains int8 numbers"),
    ("complex", ".pt", {"emb_params": torch.zeros(3, 768, dtype=torch.complex64)}, "contains complex64 numbers"),
    ("sparse", ".pt", {"emb_params": torch.zeros(3, 768).to_sparse()}, "'emb_params' is not a plain table"),
    ("without numbers", ".pt", {"emb_params": torch.zeros(3, 768, device="meta")}, "'emb_params' is not a plain"),
    ("thousands", ".pt", {"emb_params": torch.zeros(1, 768).expand(4097, 768)}, "4,097 vectors"),
    ("beyond all memory", ".pt", {"emb_params": torch.zeros(1, 768).expand(2**40, 768)}, "1,099,511,627,776 vectors"),
    ("wider than all memory", ".pt", {**PAIR, "t5": torch.zeros(1).expand(2**12, 2**40)}, "1,099,511,627,776 wide"),
    ("t5 beyond all memory", ".pt", {**PAIR, "t5": torch.zeros(1, 4096).expand(2**40, 4096)}, "1,099,511,627,776 vec"),
    ("several params", ".pt", {"string_to_param": {"*": L, "+": L}}, "string_to_param contains 2 embeddings"),
    ("no params", ".pt", {"string_to_param": {}}, "string_to_param contains no vectors"),
    ("params are no dict", ".pt", {"string_to_param": [5]}, "string_to_param contains no vectors"),
    ("only outputs", ".safetensors", {"clip_l_out": L, "clip_g_out": G}, "only OneTrainer's output vectors"),
    ("one output", ".safetensors", {"clip_g_out": G}, "only OneTrainer's output vectors"),
    ("nothing", ".safetensors", {}, "contains no vectors"),
    ("empty dict", ".pt", {}, "contains no vectors"),
    ("a number", ".pt", 5, "a value of the type int"),
    ("an empty list", ".pt", [], "a list with 0 tensors"),
    ("a long list", ".pt", [{"a": L[0]}] * 5000, "a list with 4,097 tensors"),
    ("list of sd1 and sd2", ".pt", [{"a": L}, {"b": H}],
     "vectors for clip_l and clip_h; no model has these text encoders together"),
    ("pivotal of one width", ".safetensors", {"text_encoders_0": L, "text_encoders_1": L + 1}, "both 768 wide"),
    ("lora", ".safetensors", {"lora_te1_x.lora_up.weight": L, "lora_unet_y.alpha": G}, "It is a LoRA"),
    ("checkpoint", ".safetensors", {"conditioner.embedders.0.x": L, "model.diffusion_model.y": G}, "is a checkpoint"),
    ("text encoder", ".safetensors", {"text_model.x": L, "text_model.y": L * 2}, "It is a text encoder"),
    ("vae", ".safetensors", {"decoder.x": L, "encoder.y": L * 2}, "It is a VAE"),
    ("hostile names", ".safetensors", {"\n" * 500: L, "\x1b[2J": G}, "2 tensors"),
    ("two bundles", ".safetensors", {"bundle_emb.a.clip_l": L, "bundle_emb.b.x.clip_l": G}, "2 embeddings: 'a', 'b.x'"),
    ("bundle without vectors", ".safetensors", {"bundle_emb.a": L, "bundle_emb.": L * 2}, "2 tensors ('', 'a')"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "content", "part"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_harmful_and_foreign_files_are_refused(tmp_path: Path, suffix: str, content: Any, part: str) -> None:
    path = written(tmp_path / f"bad{suffix}", content)
    with pytest.raises(StorageError) as caught:
        load_embedding(path)
    assert part in caught.value.message
    assert path.name in caught.value.message
    assert caught.value.hint
    assert caught.value.message.isprintable()
    if suffix == ".safetensors":
        with pytest.raises(StorageError) as from_header:
            read_embedding_header(path)
        assert from_header.value.message == caught.value.message


BUNDLE = {
    "lora_te1_text_model.alpha": torch.zeros(1),
    "bundle_emb.one.string_to_param.*": L,
    "bundle_emb.v1.2 two.clip_l": L * 2,
    "bundle_emb.v1.2 two.clip_g": G * 2,
    "bundle_emb.v1.2 two.clip_l_out": L * 3,
}


@pytest.mark.parametrize("read", [load_embedding, read_embedding_header], ids=["vectors", "header"])
def test_one_of_several_bundled_embeddings_can_be_chosen(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "lora.safetensors"
    save_file(BUNDLE, path, {"ss_sd_model_name": "of the LoRA"})
    one, two = read(path, bundled="one"), read(path, bundled="v1.2 two")
    assert (one.name, one.architecture, two.name, two.architecture) == ("one", SD1, "v1.2 two", SDXL)
    assert dict(one.metadata) == {}
    assert "clip_l_out" in two.warnings[0]
    with pytest.raises(StorageError, match=r"no embedding 'three', only 'one', 'v1\.2 two'"):
        read(path, bundled="three")


def test_a_single_bundled_embedding_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({"lora_x": torch.zeros(1), "bundle_emb.ac.clip_l": L, "bundle_emb.ac.clip_g": G}, path)
    embedding = load_embedding(path)
    assert embedding.name == "ac"
    assert equal(embedding.vectors["clip_g"], G)
    assert "bundled in a LoRA as 'ac'" in read_embedding_header(path).layout.source


def test_no_bundle_has_no_names(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="bundles no embeddings, so there is no 'x'"):
        load_embedding(written(tmp_path / "a.safetensors", PAIR), bundled="x")


def test_forms_are_read_without_files() -> None:
    layout = recognise(PAIR)
    assert (layout.architecture, layout.source, layout.bundled) == (SDXL, "clip_l and clip_g", None)
    vectors, notes = read_vectors(layout)
    assert notes == ()
    assert not numpy.shares_memory(vectors["clip_l"], L.numpy())
    assert recognise({"x": L}).source == "one tensor, 'x'"


def test_numbers_that_python_does_not_spell_do_no_harm() -> None:
    layout = recognise({10**5000: L, "step": 10**5000, "loss": 0.5, "done": True, "raw": b"x"})
    assert (layout.warnings, dict(layout.facts)) == ((), {"loss": "0.5", "done": "True"})
    assert layout.source == "one tensor, 'entry 1'"


def test_a_header_alone_gives_no_numbers(tmp_path: Path) -> None:
    header = read_header(written(tmp_path / "a.safetensors", PAIR))
    with pytest.raises(ValueError, match="header alone"):
        read_vectors(recognise(header.tensors))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("missing.safetensors", "does not exist"),
        ("missing.pt", "does not exist"),
        ("missing.png", "does not exist"),
        ("missing.ckpt", "does not exist"),
        ("a.jpg", "is a JPEG picture"),
        ("a.ckpt", "is a checkpoint"),
        ("a.json", "is a JSON file"),
        ("a.exe", "is a program"),
        ("no_suffix", "does not have the file ending of an embedding"),
        ("a\0.safetensors", "cannot be"),
        ("x" * 5000 + ".pt", "cannot be"),
        ("folder.safetensors", "is a folder"),
        ("empty.safetensors", "is empty"),
        ("empty.pt", "is empty"),
    ],
    ids=lambda text: text[:12].replace("\0", "0"),
)
def test_what_is_no_embedding_file_is_named_for_what_it_is(tmp_path: Path, name: str, part: str) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    for empty in ("empty.safetensors", "empty.pt"):
        (tmp_path / empty).touch()
    for foreign in ("a.ckpt", "no_suffix"):
        torch.save(PAIR, tmp_path / foreign)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(50))
    (tmp_path / "a.json").write_text('{"a": "' + "b" * 50 + '"}', encoding="utf-8")
    (tmp_path / "a.exe").write_bytes(b"MZ\x90" + bytes(50))
    with pytest.raises(StorageError, match=part):
        load_embedding(tmp_path / name)


def test_what_has_no_header_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no header that can be read alone"):
        read_embedding_header(written(tmp_path / "a.pt", PAIR))


def test_a_header_tells_all_but_the_numbers(tmp_path: Path) -> None:
    path = Embedding("catdog", ARRAYS, metadata()).save(tmp_path)
    header = read_embedding_header(str(path))
    assert (header.name, header.path, header.count, header.architecture) == ("catdog", path, 3, SDXL)
    assert header.tag == load_embedding(path).tag
    assert header.tag is not None
    assert (header.layout.source, header.warnings) == ("clip_l and clip_g", ())


@pytest.mark.process
def test_a_header_is_read_without_torch(tmp_path: Path) -> None:
    path = Embedding("catdog", ARRAYS).save(tmp_path)
    code = f"""
import sys
from lib_embedmerge.embeddings.embedding import read_embedding_header
assert read_embedding_header({str(path)!r}).count == 3
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


# The object


@pytest.mark.parametrize("kind", [as_arrays, as_tensors], ids=["numpy", "torch"])
def test_an_embedding_owns_its_vectors_and_shows_them_read_only(kind: Callable[[Any], Any]) -> None:
    mine = kind({"clip_g": G.half(), "clip_l": L.clone()})
    texts = {"a": "b"}
    embedding = Embedding("x", mine, texts)
    mine["clip_l"][:] = 0
    texts.clear()
    assert equal(embedding.vectors["clip_l"], L)
    assert embedding.vectors["clip_g"].dtype == numpy.float32
    assert list(embedding.vectors) == ["clip_l", "clip_g"]
    assert (embedding.count, embedding.architecture, embedding.recipe, embedding.tag) == (3, SDXL, None, None)
    assert dict(embedding.metadata) == {"a": "b"}
    with pytest.raises(TypeError):
        embedding.vectors["clip_l"] = ARRAYS["clip_l"]  # type: ignore[index] # that it is refused is the test
    with pytest.raises(TypeError):
        embedding.metadata["a"] = "c"  # type: ignore[index] # that it is refused is the test


@pytest.mark.parametrize(
    ("vectors", "part"),
    [
        ({}, "none"),
        ({"clip_l": L, "clip_h": H}, "'clip_h', 'clip_l'"),
        ({"emb_params": L}, "'emb_params'"),
        ({"clip_l": L, "clip_g": G[:2]}, "the same number of vectors"),
        ({"clip_l": L[:0]}, "1 to 75 vectors, not 0"),
        ({"clip_l": table(768, 76)}, "1 to 75 vectors, not 76"),
        ({"clip_l": L[0]}, r"\[768\], not \[n, 768\]"),
        ({"clip_l": G}, r"\[3, 1280\], not \[n, 768\]"),
        ({"clip_l": L.long()}, "floating-point"),
        ({"clip_l": [[0.0] * 768]}, "floating-point"),
    ],
    ids=["none", "mixed", "tensor name", "counts", "zero", "76", "1-D", "width", "integers", "no tensor"],
)
def test_an_embedding_is_checked_when_made(vectors: Any, part: str) -> None:
    with pytest.raises(StorageError, match=part):
        Embedding("x", vectors)


def test_what_a_recipe_used_is_kept_whole(tmp_path: Path) -> None:
    made = make_metadata(Origin("x", MODEL, datetime.now(timezone.utc), {}, "'a'", {"b": UsedEmbedding("c" * 64)}))
    fresh = Embedding("x", ARRAYS, made)
    assert record_used_embedding(fresh) == UsedEmbedding(
        hash_payload(store_tensors(PAIR)), "'a'", {"b": UsedEmbedding("c" * 64)}, 3
    )
    loaded = load_embedding(fresh.save(tmp_path))
    assert record_used_embedding(loaded) == record_used_embedding(fresh)
    assert loaded.recipe == "'a'"
    assert record_used_embedding(Embedding("y", ARRAYS)).recipe is None


# Saving


@pytest.mark.parametrize(
    ("vectors", "names"),
    [
        (PAIR, {"clip_l", "clip_g"}),
        ({"clip_l": L}, {"emb_params"}),
        ({"clip_h": H}, {"emb_params"}),
        ({"clip_g": G}, {"clip_g"}),
    ],
    ids=["sdxl", "sd1", "sd2", "refiner"],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_saved_is_what_safetensors_reads(tmp_path: Path, vectors: Any, names: set[str], dtype: str) -> None:
    path = Embedding("catdog", vectors, metadata()).save(tmp_path / "new" / "folder", dtype=dtype)
    assert path == tmp_path / "new" / "folder" / "catdog.safetensors"
    stored = load_file(path)
    assert set(stored) == names
    assert {str(tensor.dtype) for tensor in stored.values()} == {f"torch.{dtype}"}
    loaded = load_embedding(path)
    for key, rows in vectors.items():
        name = key if key in stored else "emb_params"
        expected = rows.to(getattr(torch, dtype))
        assert equal(stored[name], expected)
        assert equal(loaded.vectors[key], expected.float())
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    raw = path.read_bytes()
    payload = raw[8 + struct.unpack("<Q", raw[:8])[0] :]
    assert texts == {**metadata(), "modelspec.hash_sha256": "0x" + hashlib.sha256(payload).hexdigest()}
    assert dict(loaded.metadata) == texts
    assert raw[8:10] == b'{"'


def test_equal_embeddings_give_equal_files_but_for_the_date(tmp_path: Path) -> None:
    first = Embedding("catdog", ARRAYS, metadata()).save(tmp_path / "1").read_bytes()
    shuffled = dict(reversed(metadata().items()))
    again = Embedding("catdog", dict(reversed(ARRAYS.items())), shuffled).save(tmp_path / "2").read_bytes()
    assert first == again
    later = Embedding("catdog", ARRAYS, metadata(day=2)).save(tmp_path / "3").read_bytes()
    assert first.replace(b"2026-01-01", b"2026-01-02") == later


def test_a_loaded_file_saves_as_itself(tmp_path: Path) -> None:
    path = Embedding("catdog", ARRAYS, {**metadata(), "author": "me", "ss_x": "y"}).save(tmp_path)
    before = path.read_bytes()
    assert load_embedding(path).save(tmp_path, overwrite=True).read_bytes() == before


def test_a_long_embedding_from_a_file_can_be_saved_again(tmp_path: Path) -> None:
    long = load_embedding(written(tmp_path / "long1.safetensors", {"emb_params": table(768, 80)}))
    assert load_embedding(long.save(tmp_path / "out")).count == 80


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    first = Embedding("catdog", ARRAYS)
    path = first.save(tmp_path)
    before = path.read_bytes()
    other = Embedding("catdog", {"clip_l": ARRAYS["clip_l"]})
    with pytest.raises(StorageError, match=r"catdog\.safetensors already exists") as caught:
        other.save(tmp_path)
    assert caught.value.remedy is Remedy.OVERWRITE
    assert path.read_bytes() == before
    other.save(tmp_path, overwrite=True)
    assert load_embedding(path).architecture == SD1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "CON", "a:b", "x" * 200, "\0", "\ud83d"], ids=ascii)
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError) as caught:
        Embedding(name, ARRAYS).save(tmp_path / "out")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def changed(rows: Tensor, row: int, column: int, value: float) -> Tensor:
    rows = rows.clone()
    rows[row, column] = value
    return rows


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_values_that_are_not_finite_are_refused_with_their_place(tmp_path: Path, value: float, dtype: str) -> None:
    embedding = Embedding("x1", as_arrays({"clip_l": L, "clip_g": changed(G, 1, 1279, value)}))
    with pytest.raises(StorageError, match="Vector 2 of clip_g, value 1280, is not a finite number"):
        embedding.save(tmp_path, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_values_too_large_for_float16_are_refused_with_their_place(tmp_path: Path) -> None:
    embedding = Embedding("x1", as_arrays({"clip_l": changed(L, 0, 2, -65520.0), "clip_g": G}))
    with pytest.raises(StorageError, match="Vector 1 of clip_l, value 3, is too large for float16") as caught:
        embedding.save(tmp_path, dtype="float16")
    assert caught.value.hint == "Save it as float32."
    embedding.save(tmp_path)


@pytest.mark.parametrize(
    ("keywords", "folder", "part"),
    [
        ({"dtype": "bfloat16"}, "out", "cannot be saved as 'bfloat16'"),
        ({}, "file/out", "cannot be created"),
        ({}, "\0", "cannot be created"),
    ],
    ids=["dtype", "folder in a file", "nul"],
)
def test_what_cannot_be_saved_is_said(tmp_path: Path, keywords: Any, folder: str, part: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=part) as caught:
        Embedding("x1", ARRAYS).save(tmp_path / folder, **keywords)
    assert caught.value.hint


def test_metadata_beyond_what_tools_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"take 1\.1 MB\. Web UIs refuse more than 1 MB") as caught:
        Embedding("x1", ARRAYS, {"thumb": "x" * (1 << 20), "a": "b"}).save(tmp_path)
    assert "'thumb'" in (caught.value.hint or "")
    path = Embedding("x1", ARRAYS, {"thumb": "é" * ((1 << 19) - 700)}).save(tmp_path)
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] < 1 << 20


STORED_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=25)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.dictionaries(STORED_TEXT, STORED_TEXT, max_size=6))
def test_any_metadata_survive_a_file(tmp_path: Path, texts: dict[str, str]) -> None:
    path = Embedding("x1", {"clip_l": ARRAYS["clip_l"]}, texts).save(tmp_path, overwrite=True)
    loaded = dict(load_embedding(path).metadata)
    expected = "0x" + hash_payload(store_tensors({"emb_params": L}))
    assert loaded == {**texts, "modelspec.hash_sha256": expected}
    with safe_open(path, "pt") as file:
        assert file.metadata() == loaded


def test_a_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="broken character"):
        Embedding("x1", ARRAYS, {"note": "\ud83d"}).save(tmp_path)


WHOLE = b"".join(encode_safetensors(store_tensors({"clip_l": L, "clip_g": G}), metadata()))
HEADER_END = 8 + struct.unpack("<Q", WHOLE[:8])[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.integers(0, HEADER_END + 20), st.integers(0, 255)), max_size=4),
    length=st.integers(0, len(WHOLE) + 8),
    cut=st.booleans(),
)
def test_a_damaged_file_is_an_embedding_or_a_clear_error(
    tmp_path: Path, places: list[tuple[int, int]], length: int, cut: bool
) -> None:
    data = bytearray(WHOLE)
    for place, byte in places:
        data[place] = byte
    path = tmp_path / "x1.safetensors"
    path.write_bytes(data[:length].ljust(length, b"\0") if cut else data)
    try:
        embedding = load_embedding(path)
    except StorageError as error:
        assert path.name in error.message
    else:
        assert embedding.tag is None or embedding.tag.tool in {"EmbedMerge", "kohya sd-scripts", None}


# Read by diffusers


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a slow CLIPTokenizer, from our vocabulary."""
    folder = tmp_path_factory.mktemp("tokenizer")
    ours = clip_tokenizer()
    tokens = {ours.token(index): index for index in range(ours.vocabulary_size)}
    (folder / "vocab.json").write_text(json.dumps(tokens), encoding="utf-8")
    package = Path(lib_embedmerge.tokenizer.__file__).parent
    merges = gzip.decompress((package / "merges.txt.gz").read_bytes()).decode("utf-8")
    first = merges.partition("\n")[0]
    (folder / "merges.txt").write_text(
        merges if first.startswith("#") else f"#version: 0.2\n{merges}", encoding="utf-8"
    )
    return folder


def tiny_pipeline(folder: Path) -> Any:
    """What diffusers' SDXL pipelines have of text: its own loader, two tokenizers, two encoders of the real widths.

    No whole pipeline: those of diffusers 0.39 ask for a newer transformers than the web UIs have.
    """
    from diffusers.loaders import TextualInversionLoaderMixin
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    def config(width: int) -> Any:
        return CLIPTextConfig(
            hidden_size=width, intermediate_size=16, num_hidden_layers=1, num_attention_heads=4, projection_dim=16
        )

    class TextPipeline(TextualInversionLoaderMixin):
        hf_device_map = None

        def __init__(self) -> None:
            self.tokenizer = CLIPTokenizer.from_pretrained(folder)
            self.tokenizer_2 = CLIPTokenizer.from_pretrained(folder)
            self.text_encoder = CLIPTextModel(config(768))
            self.text_encoder_2 = CLIPTextModelWithProjection(config(1280))
            self.components = {"text_encoder": self.text_encoder, "text_encoder_2": self.text_encoder_2}
            for encoder in self.components.values():
                # New rows are otherwise drawn from the covariance of all others: seconds, for rows that are then set.
                encoder.resize_token_embeddings = partial(encoder.resize_token_embeddings, mean_resizing=False)

    return TextPipeline()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_diffusers_loads_the_file_and_has_our_vectors(tmp_path: Path, clip_folder: Path, dtype: str) -> None:
    embedding = Embedding("catdog_1", ARRAYS, metadata())
    path = embedding.save(tmp_path, dtype=dtype)
    expected = load_embedding(path).vectors
    stored, pipeline = load_file(path), tiny_pipeline(clip_folder)
    for key, tokenizer, encoder in (
        ("clip_l", pipeline.tokenizer, pipeline.text_encoder),
        ("clip_g", pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        # As diffusers' documentation does for SDXL: each encoder gets its tensor.
        pipeline.load_textual_inversion(stored[key], token="catdog_1", text_encoder=encoder, tokenizer=tokenizer)
        prompt = pipeline.maybe_convert_prompt("a catdog_1, by night", tokenizer)
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        added = [token_id for token_id in ids if token_id >= 49408]
        assert len(added) == embedding.count
        rows = encoder.get_input_embeddings()(torch.tensor(added)).detach()
        assert equal(rows, expected[key])


# Killed while saving

KILLED = """
import os, random, sys, time
from pathlib import Path
import torch
from lib_embedmerge.embeddings.embedding import Embedding

folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
both = [Embedding("catdog", {"clip_l": torch.full((n, 768), 1.0 + n), "clip_g": torch.full((n, 1280), 2.0 + n)})
        for n in (75, 3)]

def save_for_ever():
    while True:
        for embedding in both:
            embedding.save(folder, overwrite=True)

if kills == 0:
    both[0].save(folder, overwrite=True)
    print("ready", flush=True)
    save_for_ever()

whole = {embedding.save(folder / "whole" / str(n)).read_bytes() for n, embedding in enumerate(both)}
target = both[0].save(folder)
chance = random.Random(seed)
for _ in range(kills):
    child = os.fork()
    if child == 0:
        save_for_ever()
    time.sleep(chance.uniform(0.001, 0.02))
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert target.read_bytes() in whole, "half-written"
print("held", flush=True)
"""


def check_folder(folder: Path) -> None:
    from lib_embedmerge.embeddings.library import EmbeddingFolder

    assert EmbeddingFolder(folder, clip_tokenizer()).names() == ("catdog",)
    embedding = load_embedding(folder / "catdog.safetensors")
    payload = hash_payload({key: store(rows) for key, rows in embedding.vectors.items()})
    assert embedding.metadata["modelspec.hash_sha256"] == f"0x{payload}"


@pytest.mark.crash
@pytest.mark.parametrize(
    "kills", [pytest.param(50, id="50 kills"), pytest.param(200, id="200 kills", marks=pytest.mark.slow)]
)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each kill needs a process that has torch already")
def test_a_save_that_is_killed_leaves_a_whole_file(tmp_path: Path, kills: int) -> None:
    """One process loads torch, then forks; each fork saves over the file until it is killed at a random moment."""
    script = [sys.executable, "-c", KILLED, str(tmp_path), str(kills), "1"]
    done = subprocess.run(script, check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.stdout == "held\n", done.stderr
    check_folder(tmp_path)


@pytest.mark.crash
def test_a_killed_program_leaves_a_whole_file(tmp_path: Path) -> None:
    """The same once with a whole program, as on Windows too."""
    script = [sys.executable, "-c", KILLED, str(tmp_path), "0", "0"]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        timer = threading.Timer(120, child.kill)
        timer.start()
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        timer.cancel()
        child.kill()
    check_folder(tmp_path)
