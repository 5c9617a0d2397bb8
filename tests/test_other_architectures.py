"""Embeddings for Stable Diffusion 3, Flux, HiDream and others: named, kept whole, and used only where asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import assert_close, equal
from memory_model import MemoryModel, random_model
from models import StandardModels
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.cli import main
from lib_embedmerge.core.architecture import OTHER_ARCHITECTURES, OTHER_ENCODERS, SD1, find_architecture
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.embeddings.editing import edit_notes, rename_embedding
from lib_embedmerge.embeddings.embedding import read_embedding_header
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import EvaluationError, StorageError
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.recovery.recover import recover
from lib_embedmerge.tokenizer import clip_tokenizer


def rows(width: int, count: int = 2) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(width))


L, G, T5, LLAMA = rows(768), rows(1280), rows(4096), rows(4096) + 1

KINDS: dict[str, tuple[dict[str, Tensor], str, str]] = {
    "sd3 of ComfyUI": ({"clip_l": L, "clip_g": G, "t5xxl": T5}, "sd3", "Stable Diffusion 3"),
    "sd3 of OneTrainer": ({"clip_l": L, "clip_g": G, "t5": T5}, "sd3", "Stable Diffusion 3"),
    "sd3 with outputs": (
        {"clip_l": L, "clip_g": G, "t5": T5, "t5_out": T5, "clip_l_out": L},
        "sd3",
        "Stable Diffusion 3",
    ),
    "sd3, t5 of another length": ({"clip_l": L, "clip_g": G, "t5xxl": rows(4096, 5)}, "sd3", "Stable Diffusion 3"),
    "flux of ComfyUI": ({"clip_l": L, "t5xxl": T5}, "flux", "Flux"),
    "flux of OneTrainer": ({"clip_l": L, "t5": T5}, "flux", "Flux"),
    "flux, one vector": ({"clip_l": L[:1].clone(), "t5": T5[0].clone()}, "flux", "Flux"),
    "flux, pivotal": ({"text_encoders_0": L, "text_encoders_1": T5}, "flux", "Flux"),
    "hidream": ({"clip_l": L, "clip_g": G, "t5xxl": T5, "llama": LLAMA}, "hidream", "HiDream"),
    "hunyuan video": ({"clip_l": L, "llama": LLAMA}, "hunyuan-video", "HunyuanVideo"),
    "t5 alone": ({"t5xxl": T5}, "other", "models with T5"),
    "t5 alone of OneTrainer": ({"t5": T5}, "other", "models with T5"),
    "llama alone": ({"llama": LLAMA}, "other", "models with Llama"),
    "clip_g and t5": ({"clip_g": G, "t5xxl": T5}, "other", "models with CLIP-G and T5"),
    "t5 and llama": ({"t5": T5, "llama": LLAMA}, "other", "models with Llama and T5"),
    "qwen": ({"qwen25_7b": rows(3584)}, "other", "models with Qwen"),
}


def written(path: Path, tensors: dict[str, Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: one.clone() for key, one in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_named(tmp_path: Path, kind: str, ending: str) -> None:
    tensors, name, title = KINDS[kind]
    embedding = load_embedding(written(tmp_path / f"x{ending}", tensors))
    assert (embedding.architecture.name, embedding.architecture.title) == (name, title)
    assert embedding.count == len(next(iter(tensors.values()))) or embedding.count == 1
    assert f"It is for {title}" in " ".join(embedding.warnings)
    for key in embedding.vectors:
        assert key in tensors or key in {"clip_l", "t5"}
    if ending == ".safetensors":
        header = read_embedding_header(tmp_path / "x.safetensors")
        assert (header.architecture, header.count) == (embedding.architecture, embedding.count)


def test_architectures_are_told_by_all_their_encoders() -> None:
    assert {one.name for one in OTHER_ARCHITECTURES} == {"sd3", "flux", "hidream", "hunyuan-video"}
    assert find_architecture({"clip_l", "x"}) is None
    for key in OTHER_ENCODERS:
        found = find_architecture({key})
        assert found is not None and found.encoders == (key,)


@pytest.fixture(scope="module")
def checkpoint(standard: StandardModels) -> Path:
    return standard.base


@pytest.fixture
def library(tmp_path: Path) -> Path:
    written(tmp_path / "threex1.safetensors", KINDS["sd3 of ComfyUI"][0])
    written(tmp_path / "fluxx1.pt", KINDS["flux of OneTrainer"][0])
    written(tmp_path / "hidx1.safetensors", KINDS["hidream"][0])
    written(tmp_path / "tfivex1.safetensors", KINDS["t5 alone"][0])
    written(tmp_path / "plainx1.safetensors", {"clip_l": L, "clip_g": G})
    written(tmp_path / "oldx1.pt", {"emb_params": L})
    return tmp_path


REFUSED = [
    ("'threex1'", "is for Stable Diffusion 3, with vectors for CLIP-L and CLIP-G and T5", "L('threex1')+G('threex1')"),
    ("'cat'+'threex1'", "is for Stable Diffusion 3", "L('threex1')+G('threex1')"),
    ("a photo of threex1", "is for Stable Diffusion 3", "L('threex1')"),
    ("a <'cat'+'threex1'> b", "is for Stable Diffusion 3", "L('threex1')"),
    ("'threex1'*0.5", "is for Stable Diffusion 3", "L('threex1')"),
    ("'threex1'*0.5L", "is for Stable Diffusion 3", "L('threex1')"),
    ("L('threex1')+'threex1'", "is for Stable Diffusion 3", "L('threex1')"),
    ("orth('cat','threex1')", "is for Stable Diffusion 3", "L('threex1')"),
    ("'cat','threex1'", "is for Stable Diffusion 3", "L('threex1')"),
    ("'fluxx1'", "is for Flux, with vectors for CLIP-L and T5", "L('fluxx1')."),
    ("G('fluxx1')", "is for Flux", "L('fluxx1')."),
    ("L('cat')+G('fluxx1')", "is for Flux", "L('fluxx1')."),
    ("'hidx1'", "is for HiDream", "L('hidx1')+G('hidx1')"),
    ("L('tfivex1')", "is for models with T5", "in another way"),
    ("'oldx1'", "is for CLIP-L; this model has", "in another way"),
    ("G('oldx1')", "is for CLIP-L; this model has", "in another way"),
]


@pytest.mark.parametrize(("source", "says", "hint"), REFUSED)
def test_it_is_refused_where_all_of_it_is_asked_for(
    library: Path, checkpoint: Path, source: str, says: str, hint: str
) -> None:
    model = open_checkpoint(checkpoint, embeddings=library)
    with pytest.raises(EvaluationError, match=says) as caught:
        model.build(source, name="made1")
    assert hint in (caught.value.hint or "")


L_, G_ = torch.zeros_like(L), torch.zeros_like(G)

USED: list[tuple[str, Tensor, Tensor]] = [
    ("L('threex1')", L, G_),
    ("G('threex1')", L_, G),
    ("L('threex1')+G('threex1')", L, G),
    ("L('hidx1')-G('hidx1')*2", L, -2 * G),
    ("L('fluxx1')", L, G_),
    ("L('fluxx1'*0.5)*2", L, G_),
    ("L('fluxx1'+'fluxx1')", 2 * L, G_),
    ("L(orth('fluxx1',G('threex1')))", L, G_),
    ("(L('fluxx1'))*3", 3 * L, G_),
    ("L(L('fluxx1'))", L, G_),
    ("L(G('fluxx1'))", L_, G_),
    ("L(G('tfivex1'))", L_, G_),
    ("L(norm('fluxx1')*0)", L_, G_),
    ("L('fluxx1')+G('plainx1')", L, G),
    ("L('oldx1')", L, G_),
    ("L(cat('fluxx1','fluxx1'):2)", L, G_),
    ("L('fluxx1':1):2", torch.cat([L[:1], L_[:1]]), G_),
    ("lerp(L('threex1'),G('threex1'),0.5)", L * 0.5, G * 0.5),
]


@pytest.mark.parametrize(("source", "of_l", "of_g"), USED, ids=[one[0] for one in USED])
def test_its_vectors_for_l_and_g_are_used_where_they_are_asked_for(
    library: Path, checkpoint: Path, source: str, of_l: Tensor, of_g: Tensor
) -> None:
    model = open_checkpoint(checkpoint, embeddings=library)
    found = evaluate(parse(source), model)
    assert_close(found["clip_l"], of_l)
    assert_close(found["clip_g"], of_g)


def test_inside_a_prompt_too(library: Path, checkpoint: Path) -> None:
    model = open_checkpoint(checkpoint, embeddings=library)
    found = evaluate(parse("a <L('fluxx1')> b"), model)
    assert_close(found["clip_l"][1:3], L)
    assert not found["clip_g"][1:3].any()


def test_a_model_with_one_encoder_has_no_use_for_it(library: Path) -> None:
    names = EmbeddingFolder(library, clip_tokenizer())
    model = MemoryModel([random_model(100).encoders[0]], embeddings=names, architecture=SD1)
    with pytest.raises(EvaluationError, match="is for Flux"):
        evaluate(parse("'fluxx1'"), model)


def test_fit_and_list_and_show_say_so(library: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: object) -> Any:
        assert main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    listed = {one["name"]: one for one in run("list", "--embeddings", library, "--checkpoint", checkpoint)}
    assert {name: one["architecture"] for name, one in listed.items()} == {
        "threex1": "sd3",
        "fluxx1": "flux",
        "hidx1": "hidream",
        "tfivex1": "other",
        "plainx1": "sdxl",
        "oldx1": "sd1",
    }
    for name, title in (("threex1", "Stable Diffusion 3"), ("fluxx1", "Flux"), ("hidx1", "HiDream")):
        fit = listed[name]["fit"]
        assert (fit["status"], fit["detail"]) == (
            "other architecture",
            f"It was made for {title}; this model is SDXL.",
        )
    shown = run("show", library / "threex1.safetensors", "--checkpoint", checkpoint)
    assert (shown["architecture"], shown["fit"]["status"]) == ("sd3", "other architecture")
    assert set(shown["encoders"]) == {"clip_l", "clip_g", "t5xxl"}
    assert len(shown["encoders"]["clip_l"]["rows"][0]["nearest"]) == 3
    assert main(["show", str(library / "fluxx1.pt")]) == 0
    assert "It is for Flux" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(StorageError, match="Flux"):
        recover(load_embedding(library / "fluxx1.pt"), open_checkpoint(checkpoint))


def test_edits_keep_every_tensor(tmp_path: Path) -> None:
    tensors = {**KINDS["hidream"][0], "t5_out": T5, "clip_l_out": L, "strange": rows(7)}
    path = written(tmp_path / "hidx1.safetensors", tensors)
    edit_notes(path, "of a friend")
    (renamed,) = rename_embedding(path, "hidx2")
    found = load_file(renamed)
    assert found.keys() == tensors.keys()
    assert all(equal(found[key], tensors[key]) for key in tensors)
    assert read_embedding_header(renamed).metadata["embedmerge.notes"] == "of a friend"


def test_a_loaded_one_saves_as_itself(tmp_path: Path) -> None:
    tensors = KINDS["sd3, t5 of another length"][0]
    path = load_embedding(written(tmp_path / "x1.pt", tensors)).save(tmp_path / "out")
    assert {key: tuple(one.shape) for key, one in load_file(path).items()} == {
        key: tuple(one.shape) for key, one in tensors.items()
    }
