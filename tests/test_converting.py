"""`embedmerge convert`: any form that is read becomes a tagged safetensors file, its vectors bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import as_arrays, assert_close, equal
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib_embedmerge import load_embedding
from lib_embedmerge.actions.converting import ConversionRequest, convert
from lib_embedmerge.cli import main
from lib_embedmerge.core.architecture import SDXL
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.embeddings.conversion import suggest_name
from lib_embedmerge.embeddings.embedding import Embedding, read_embedding_header
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.tag_writing import Origin, make_metadata
from lib_embedmerge.errors import StorageError
from lib_embedmerge.recipes.listing import list_embeddings
from lib_embedmerge.tokenizer import clip_tokenizer


def some(width: int, dtype: torch.dtype = torch.float32, count: int = 2) -> Tensor:
    """Any finite values, with bits that no rounding would keep."""
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(width), dtype=torch.float64)
    return rows.to(dtype)


def same_bits(a: Tensor, b: Tensor) -> bool:
    def raw(one: Tensor) -> bytes:
        return bytes(one.contiguous().reshape(-1).view(torch.uint8).numpy())

    return a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def written(path: Path, content: Any, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(content, path, metadata)
    else:
        torch.save(content, path)
    return path


L, G = some(768), some(1280)

FORMS: dict[str, tuple[str, Any, dict[str, Tensor], str]] = {
    "first textual inversions": (
        ".pt",
        {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(L)})},
        {"emb_params": L},
        "stable-diffusion-v1",
    ),
    "a1111": (
        ".pt",
        {"string_to_token": {"*": 265}, "string_to_param": {"*": L}, "name": "x"},
        {"emb_params": L},
        "stable-diffusion-v1",
    ),
    "sd2": (".pt", {"string_to_param": {"*": some(1024)}}, {"emb_params": some(1024)}, "stable-diffusion-v2"),
    "diffusers": (".bin", {"<mycat>": L[0]}, {"emb_params": L[:1]}, "stable-diffusion-v1"),
    "sdxl": (".safetensors", {"clip_l": L, "clip_g": G}, {"clip_l": L, "clip_g": G}, "stable-diffusion-xl-v1-base"),
    "pivotal": (
        ".safetensors",
        {"text_encoders_0": L, "text_encoders_1": G},
        {"clip_l": L, "clip_g": G},
        "stable-diffusion-xl-v1-base",
    ),
    "onetrainer": (
        ".safetensors",
        {"clip_l": L, "clip_g": G, "clip_l_out": L * 2, "clip_g_out": G * 2},
        {"clip_l": L, "clip_g": G},
        "stable-diffusion-xl-v1-base",
    ),
    "list": (".pt", [{"a": L[0]}, {"b": L[1:]}, {"c": G}], {"clip_l": L, "clip_g": G}, "stable-diffusion-xl-v1-base"),
    "refiner": (".safetensors", {"clip_g": G}, {"clip_g": G}, "stable-diffusion-xl-v1-refiner"),
    "view": (".pt", {"emb_params": torch.stack([L, L], dim=2)[:, :, 0]}, {"emb_params": L}, "stable-diffusion-v1"),
    "sd3": (
        ".pt",
        {"clip_l": L, "clip_g": G, "t5": some(4096, count=3)},
        {"clip_l": L, "clip_g": G, "t5": some(4096, count=3)},
        "stable-diffusion-3",
    ),
    "flux": (".safetensors", {"clip_l": L, "t5xxl": some(4096)}, {"clip_l": L, "t5xxl": some(4096)}, "flux-1"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_safetensors(tmp_path: Path, form: str) -> None:
    ending, content, tensors, modelspec = FORMS[form]
    source = written(tmp_path / f"mystyle{ending}", content)
    before = source.read_bytes()
    (made,) = convert(ConversionRequest([source], tmp_path / "out"))
    assert made.file == tmp_path / "out" / "mystyle.safetensors"
    found, tag = load_file(made.file), metadata_of(made.file)
    assert found.keys() == tensors.keys()
    assert all(same_bits(found[key], tensors[key].contiguous()) for key in tensors)
    assert tag["modelspec.architecture"] == f"{modelspec}/textual-inversion"
    assert (tag["modelspec.title"], tag["modelspec.trigger_phrase"]) == ("mystyle", "mystyle")
    assert tag["embedmerge.converted_from"].startswith(source.name)
    assert source.read_bytes() == before
    vectors = load_embedding(source).vectors
    for key, rows in load_embedding(made.file).vectors.items():
        assert_close(rows, vectors[key], rtol=0, atol=0)
    again = made.file.read_bytes()
    convert(ConversionRequest([source], tmp_path / "out", replace=True))
    assert made.file.read_bytes() == again


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2], ids=str
)
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_the_precision_is_kept(tmp_path: Path, ending: str, dtype: torch.dtype) -> None:
    rows = {"clip_l": some(768, dtype), "clip_g": some(1280)}
    (made,) = convert(ConversionRequest([written(tmp_path / f"mystyle{ending}", rows)], tmp_path / "out"))
    found = load_file(made.file)
    assert all(same_bits(found[key], rows[key]) for key in rows)
    assert made.as_json()["encoders"] == {
        "clip_l": {"width": 768, "vectors": 2, "dtype": str(dtype).removeprefix("torch.")},
        "clip_g": {"width": 1280, "vectors": 2, "dtype": "float32"},
    }


def test_values_that_are_no_numbers_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = L.clone()
    rows[0, 0], rows[1, 5] = float("nan"), float("-inf")
    (made,) = convert(ConversionRequest([written(tmp_path / "mystyle.pt", {"emb_params": rows})], tmp_path / "out"))
    assert same_bits(load_file(made.file)["emb_params"], rows)


# What is written down.


def test_what_the_file_says_is_kept_and_nothing_invented(tmp_path: Path) -> None:
    content = {
        "string_to_param": {"*": L},
        "name": "old name",
        "step": 500,
        "sd_checkpoint_name": "v1-5",
        "sd_checkpoint": "ab",
    }
    (made,) = convert(ConversionRequest([written(tmp_path / "mystyle.pt", content)], tmp_path / "out"))
    tag = metadata_of(made.file)
    assert json.loads(tag.pop("embedmerge.facts")) == {
        "name": "old name",
        "step": "500",
        "sd_checkpoint_name": "v1-5",
        "sd_checkpoint": "ab",
    }
    assert tag.pop("modelspec.hash_sha256").startswith("0x")
    assert tag == {
        "embedmerge.converted_from": "mystyle.pt: string_to_param (AUTOMATIC1111)",
        "modelspec.architecture": "stable-diffusion-v1/textual-inversion",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.merged_from": "v1-5",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": "mystyle",
        "modelspec.trigger_phrase": "mystyle",
    }
    header = read_embedding_header(made.file)
    assert header.tag is not None
    assert (header.tag.made_for, header.tag.tool, header.tag.recipe, header.tag.date) == ("v1-5", None, None, None)


def test_metadata_of_others_are_kept(tmp_path: Path) -> None:
    theirs = {
        "modelspec.title": "My Style",
        "modelspec.author": "me",
        "ss_sd_model_name": "base.safetensors",
        "modelspec.date": "2024-01-01",
        "x": "ключ",
    }
    source = written(tmp_path / "mystyle.safetensors", {"clip_l": L, "clip_g": G}, theirs)
    (made,) = convert(ConversionRequest([source], tmp_path / "out", name="yourstyle"))
    tag = metadata_of(made.file)
    assert theirs.items() <= tag.items()
    assert tag["modelspec.trigger_phrase"] == "yourstyle"


def test_a_file_of_ours_stays_what_it_is(tmp_path: Path) -> None:
    from datetime import datetime, timezone

    date = datetime(2026, 1, 1, tzinfo=timezone.utc)
    metadata = make_metadata(
        Origin("mystyle", ModelFacts("M", "m.safetensors", SDXL), date, recipe="'cat'", notes="soft")
    )
    source = Embedding("mystyle", as_arrays({"clip_l": L, "clip_g": G}), metadata).save(tmp_path)
    (made,) = convert(ConversionRequest([source], tmp_path / "out"))
    assert made.file.read_bytes() == source.read_bytes()
    (renamed,) = convert(ConversionRequest([source], tmp_path / "out", name="yourstyle"))
    changed = {"modelspec.title": "yourstyle", "modelspec.trigger_phrase": "yourstyle"}
    assert metadata_of(renamed.file) == {**metadata_of(source), **changed}


# Names.


@pytest.mark.parametrize(
    ("file", "content", "name"),
    [
        ("learned_embeds.bin", {"<birb-style>": L}, "birb-style"),
        ("learned_embeds-steps-500.safetensors", {"<birb-style>": L}, "birb-style"),
        ("learned_embeds_2.bin", {"<birb-style>": G}, "birb-style"),
        ("embeddings.pt", {"string_to_param": {"<birb style>": L}}, "birb_style"),
        ("model.bin", {"sks-style": L}, "sks-style"),
        ("birds.bin", {"<birb-style>": L}, "birds"),
        ("learned_embeds.bin", {"***": L}, "learned_embeds"),
        ("embeddings.pt", {"string_to_param": {"*": L}}, "embeddings"),
    ],
)
def test_what_it_calls_itself_names_it_where_the_file_does_not(
    tmp_path: Path, file: str, content: dict[str, Any], name: str
) -> None:
    (made,) = convert(ConversionRequest([written(tmp_path / file, content)], tmp_path / "out"))
    assert made.file.stem == name


@pytest.mark.parametrize(
    ("token", "name"),
    [
        ("<birb-style>", "birb-style"),
        ("<cat>", "cat_em"),
        ("sks", "sks_em"),
        ("<a b!>", "a_b"),
        ("<x/y>", "x_y"),
        ("***", None),
        ("", None),
        (None, None),
        ("<../../etc>", "etc_em"),
    ],
)
def test_a_token_gives_a_name(token: str | None, name: str | None) -> None:
    found = suggest_name(token)
    assert found == name or (name and found and found.startswith(name.split("_", maxsplit=1)[0]))


def test_the_token_is_shown_and_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "birds.bin", {"<birb-style>": L})
    assert main(["show", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["facts"], shown["suggested_name"]) == ({"token": "<birb-style>"}, "birb-style")
    assert main(["show", str(path)]) == 0
    assert "--name birb-style" in " ".join(capsys.readouterr().out.split())
    (made,) = convert(ConversionRequest([path], tmp_path / "out"))
    assert any("convert it with the name birb-style" in warning for warning in made.warnings)


# Pairs.


def pair(folder: Path, first: Tensor = L, second: Tensor = G, ending: str = ".bin") -> tuple[Path, Path]:
    return (
        written(folder / f"learned_embeds{ending}", {"<birb-style>": first}),
        written(folder / f"learned_embeds_2{ending}", {"<birb-style>": second}),
    )


@pytest.mark.parametrize("ending", [".bin", ".safetensors", "-steps-500.safetensors"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_halves_of_a_pair_are_joined(tmp_path: Path, ending: str, *, turned: bool) -> None:
    halves = pair(tmp_path, ending=ending)
    (made,) = convert(ConversionRequest(halves[::-1] if turned else halves, tmp_path / "out"))
    assert made.file.name == "birb-style.safetensors"
    found = load_file(made.file)
    assert found.keys() == {"clip_l", "clip_g"}
    assert same_bits(found["clip_l"], L) and same_bits(found["clip_g"], G)
    tag = metadata_of(made.file)
    assert tag["modelspec.architecture"] == "stable-diffusion-xl-v1-base/textual-inversion"
    assert tag["embedmerge.converted_from"] == f"{halves[0].name} and {halves[1].name}: a pair of diffusers"
    assert load_embedding(made.file).warnings == made.warnings == ()


def test_a_pair_among_others_is_joined(tmp_path: Path) -> None:
    other = written(tmp_path / "birds.pt", {"emb_params": L})
    elsewhere = written(tmp_path / "sub" / "learned_embeds.bin", {"<other-style>": L})
    made = convert(ConversionRequest([*pair(tmp_path), other, elsewhere], tmp_path / "out"))
    assert {one.file.stem: len(one.conversion.sources) for one in made} == {
        "birb-style": 2,
        "birds": 1,
        "other-style": 1,
    }


def test_any_two_halves_are_joined_under_a_name(tmp_path: Path) -> None:
    first = written(tmp_path / "a.bin", {"<birb-style>": L})
    second = written(tmp_path / "b.safetensors", {"emb_params": G})
    (made,) = convert(ConversionRequest([second, first], tmp_path / "out", name="mystyle"))
    assert load_file(made.file).keys() == {"clip_l", "clip_g"}
    assert len(convert(ConversionRequest([second, first], tmp_path / "apart"))) == 2


@pytest.mark.parametrize(
    ("contents", "name", "says"),
    [
        (({"<a>": L}, {"<a>": G[:1]}), "mystyle", "not halves of one embedding"),
        (({"<a>": L}, {"<a>": L + 1}), "mystyle", "two embeddings, which cannot be joined"),
        (({"clip_l": L, "clip_g": G}, {"<a>": G}), "mystyle", "two embeddings, which cannot be joined"),
        (({"<a>": L}, {"<a>": G}, {"<b>": L}), "mystyle", "3 embeddings, which cannot all have one name"),
        (({"<a>": L},), "my/style", "A file name cannot contain"),
        (({"<a>": L}, {"emb_params": torch.ones(2, 5)}), None, "is 5 wide"),
    ],
)
def test_what_cannot_be_converted_is_said_and_nothing_written(
    tmp_path: Path, contents: tuple[dict[str, Tensor], ...], name: str | None, says: str
) -> None:
    paths = [written(tmp_path / f"file{number}.bin", content) for number, content in enumerate(contents)]
    with pytest.raises(StorageError, match=says) as caught:
        convert(ConversionRequest(paths, tmp_path / "out", name=name))
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_half_of_a_pair_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = pair(tmp_path)
    for path, other in ((first, second), (second, first)):
        embedding = load_embedding(path)
        assert embedding.half is not None and embedding.half in embedding.warnings
        assert f"the other half is {other.name!r}" in embedding.half
        assert "embedmerge convert learned_embeds.bin learned_embeds_2.bin --name" in embedding.half
    entries = list_embeddings(EmbeddingFolder(tmp_path, clip_tokenizer()))
    assert [entry.is_usable and "half of a pair" in (entry.reason or "") for entry in entries] == [True, True]
    for path in (first, second):
        assert main(["show", str(path)]) == 0
        assert "half of a pair" in " ".join(capsys.readouterr().out.split())
    second.unlink()
    assert load_embedding(first).half is None  # as Stable Diffusion 1 has them
    alone = written(tmp_path / "sub" / "learned_embeds_2.bin", {"<birb-style>": G})
    assert "only for CLIP-G" in (load_embedding(alone).half or "")
    (made,) = convert(ConversionRequest([alone], tmp_path / "out"))
    assert "modelspec.architecture" not in metadata_of(made.file)
    assert any("only for CLIP-G" in warning for warning in made.warnings)


# Files of several.


def test_all_words_of_a_training_are_converted(tmp_path: Path) -> None:
    source = written(tmp_path / "tokens.safetensors", {"<s0>": L[0].clone(), "<s1>": L[1].clone()})
    with pytest.raises(StorageError, match="bundles 2 embeddings"):
        load_embedding(source)
    assert equal(load_embedding(source, bundled="<s1>").vectors["clip_l"], L[1:])
    made = convert(ConversionRequest([source], tmp_path / "out"))
    assert [one.file.stem for one in made] == ["s0", "s1"]
    assert [same_bits(load_file(one.file)["emb_params"], L[[n]]) for n, one in enumerate(made)] == [True, True]


def test_the_embeddings_of_a_lora_are_converted(tmp_path: Path) -> None:
    content = {
        "lora_te1_x.alpha": torch.zeros(1),
        "bundle_emb.one1.clip_l": L,
        "bundle_emb.one1.clip_g": G,
        "bundle_emb.two2.string_to_param.*": L * 2,
    }
    source = written(tmp_path / "lora.safetensors", content, {"ss_sd_model_name": "of the LoRA"})
    made = convert(ConversionRequest([source], tmp_path / "out"))
    assert {one.file.stem: one.conversion.architecture.name for one in made} == {"one1": "sdxl", "two2": "sd1"}
    assert "ss_sd_model_name" not in metadata_of(made[0].file)


# The command.


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # so that long paths stand in one line
    source = written(tmp_path / "mystyle.pt", {"string_to_param": {"*": L}, "step": 5})
    assert main(["convert", str(source), "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)
    assert made["file"] == str(tmp_path / "mystyle.safetensors")
    assert set(made) == {"file", "name", "sources", "form", "architecture", "vectors", "encoders", "tag", "warnings"}
    assert (made["name"], made["sources"], made["architecture"], made["vectors"]) == (
        "mystyle",
        [str(source)],
        "sd1",
        2,
    )
    assert any("'mystyle.pt' in the same folder has the same name" in warning for warning in made["warnings"])
    assert main(["convert", str(source)]) == 1
    assert "mystyle.safetensors already exists" in capsys.readouterr().err
    assert main(["convert", str(source), "--force", "--name", "yourstyle", "--output", str(tmp_path / "new")]) == 0
    assert "yourstyle" in capsys.readouterr().out
    assert (tmp_path / "new" / "yourstyle.safetensors").is_file()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "gone.pt", "does not exist"),
        (lambda folder: folder, "is a folder"),
        (
            lambda folder: written(
                folder / "x.pt", {"lora_unet_x.alpha": torch.zeros(1), "lora_te_y.alpha": torch.zeros(1)}
            ),
            "LoRA",
        ),
    ],
    ids=["gone", "folder", "lora"],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, make: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(make(tmp_path))]) == 1
    assert says in capsys.readouterr().err


def test_two_files_that_would_become_one_are_refused(tmp_path: Path) -> None:
    paths = [written(tmp_path / name, {"emb_params": L}) for name in ("mystyle.pt", "mystyle.bin")]
    with pytest.raises(StorageError, match=r"would both be saved as 'mystyle\.safetensors'"):
        convert(ConversionRequest(paths, tmp_path / "out"))
