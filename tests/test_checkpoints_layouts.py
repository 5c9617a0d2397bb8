"""Every layout opens as what it is and gives the rows that transformers' own models hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from arrays import as_tensor, equal
from checkpoint_files import (
    LAYOUTS,
    TABLE,
    Encoders,
    Tensors,
    make_encoder,
    make_encoders,
    prefixed,
    save,
    scaled_fp8,
    sgm_tensors,
    to_open_clip,
    unet,
    write_diffusers,
    write_json,
    write_layout,
    write_shards,
)

from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.facade import CheckpointModel, open_checkpoint

IDS = [599, 3, 3, 0, 4, 5, 598]


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    return make_encoders()


ONLY_ENCODERS = ("ComfyUI internal", "text_encoders")
"""Layouts without a UNet, which prove nothing of what it predicts."""


def check_rows(model: CheckpointModel, encoders: Encoders) -> None:
    for encoder in model.encoders:
        vectors = encoder.vectors(IDS)
        assert isinstance(vectors, numpy.ndarray) and vectors.dtype == numpy.float32
        assert equal(vectors, encoders[encoder.key][TABLE][IDS].to(torch.float32))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path: Path, encoders: Encoders, layout: str) -> None:
    made = write_layout(layout, tmp_path, encoders)
    model = open_checkpoint(made.path)
    assert model.facts.architecture.name == made.architecture
    assert tuple(encoder.key for encoder in model.encoders) == made.encoders
    assert [encoder.width for encoder in model.encoders] == [encoders[key][TABLE].shape[1] for key in made.encoders]
    assert {encoder.vocabulary_size for encoder in model.encoders} == {600}
    has_unet = not layout.startswith("pair") and "alone" not in layout and layout not in ONLY_ENCODERS
    assert model.facts.prediction_type == ("epsilon" if has_unet and made.architecture != "sd2" else None)
    assert model.facts.layout.endswith(", float16")
    assert bool(model.facts.warnings) == ("alone" in layout)
    check_rows(model, encoders)


@pytest.fixture(scope="module")
def transformers_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensors]:
    """A pipeline's encoders saved by transformers itself: text_encoder in one file, text_encoder_2 in shards."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(1)
    small = {"vocab_size": 600, "num_hidden_layers": 1, "intermediate_size": 32, "max_position_embeddings": 77}
    first = CLIPTextModel(CLIPTextConfig(hidden_size=768, num_attention_heads=4, **small))
    second = CLIPTextModelWithProjection(
        CLIPTextConfig(hidden_size=1280, num_attention_heads=4, projection_dim=1280, **small)
    )
    folder = tmp_path_factory.mktemp("transformers")
    write_json(folder / "model_index.json", {"_class_name": "StableDiffusionXLPipeline"})
    first.save_pretrained(folder / "text_encoder")
    second.save_pretrained(folder / "text_encoder_2", max_shard_size="8MB")
    assert len(list((folder / "text_encoder_2").glob("*.safetensors"))) > 1
    models = (("clip_l", first), ("clip_g", second))
    return folder, {key: model.get_input_embeddings()(torch.tensor(IDS)).detach() for key, model in models}


def test_rows_are_those_of_transformers(transformers_pair: tuple[Path, Tensors]) -> None:
    folder, expected = transformers_pair
    model = open_checkpoint(folder)
    assert model.facts.architecture.name == "sdxl"
    for encoder in model.encoders:
        assert equal(encoder.vectors(IDS), expected[encoder.key])


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_all_names_that_transformers_saves_under(
    tmp_path: Path, variant: str | None, safe: bool, transformers_pair: tuple[Path, Tensors]
) -> None:
    from transformers import CLIPTextModel

    folder, expected = transformers_pair
    model = CLIPTextModel.from_pretrained(folder / "text_encoder")
    for size, name in (("1MB", "shards"), ("1GB", "whole")):
        model.save_pretrained(
            tmp_path / name / "text_encoder", variant=variant, safe_serialization=safe, max_shard_size=size
        )
        opened = open_checkpoint(tmp_path / name)
        assert equal(opened.encoders[0].vectors(IDS), expected["clip_l"])


def test_a_folder_of_one_text_encoder(tmp_path: Path, encoders: Encoders) -> None:
    write_shards(tmp_path / "te", encoders["clip_g"])
    for path in (tmp_path / "te", tmp_path / "te" / "model.safetensors.index.json"):
        model = open_checkpoint(path)
        assert model.facts.architecture.name == "sdxl-refiner" and model.facts.warnings
        check_rows(model, encoders)


DTYPES = {
    "float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16,
    "fp8 e4m3": torch.float8_e4m3fn, "fp8 e5m2": torch.float8_e5m2,
}  # fmt: skip


@pytest.mark.parametrize("title", DTYPES)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_dtypes(tmp_path: Path, encoders: Encoders, title: str, suffix: str) -> None:
    tensors = {name: tensor.to(DTYPES[title]) for name, tensor in encoders["clip_l"].items()}
    path = tmp_path / f"clip_l{suffix}"
    if suffix == ".ckpt":
        torch.save({"state_dict": tensors}, path)
    else:
        save(path, tensors)
    model = open_checkpoint(path)
    assert model.facts.layout.endswith(title)
    assert equal(model.encoders[0].vectors(IDS), tensors[TABLE].to(torch.float32)[IDS])


@pytest.mark.parametrize("newer", [False, True], ids=["scale_weight", "comfy_quant"])
def test_scaled_fp8(tmp_path: Path, encoders: Encoders, newer: bool) -> None:
    tensors = scaled_fp8(encoders["clip_l"], 0.037, newer=newer)
    vectors = open_checkpoint(save(tmp_path / "clip_l.safetensors", tensors)).encoders[0].vectors(IDS)
    stored = tensors[TABLE].to(torch.float32)[IDS]
    assert equal(vectors, stored * torch.tensor(0.037))
    assert torch.allclose(as_tensor(vectors), encoders["clip_l"][TABLE].to(torch.float32)[IDS], rtol=0.07, atol=1e-3)


_LAYER = TABLE.removesuffix("weight")


def _text(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


UNKNOWN = {
    "integers": ({TABLE: torch.zeros(600, 768, dtype=torch.int8)}, "stored as I8"),
    "nvfp4": ({f"{_LAYER}weight_scale_2": torch.tensor(1.0)}, "weight_scale_2"),
    "bitsandbytes": ({f"{_LAYER}weight.absmax": torch.tensor(1.0)}, "absmax"),
    "scale without fp8": ({f"{_LAYER}weight_scale": torch.tensor(1.0)}, "not fp8"),
    "scale per row": ({f"{_LAYER}scale_weight": torch.ones(600)}, "not a single number"),
    "scale of integers": ({f"{_LAYER}scale_weight": torch.ones(1, dtype=torch.int64)}, "not a single number"),
    "other format": ({f"{_LAYER}comfy_quant": _text('{"format": "mxfp8"}')}, "mxfp8"),
    "fp8 format of float16": ({f"{_LAYER}comfy_quant": _text('{"format": "float8_e4m3fn"}')}, "float8_e4m3fn"),
    "no JSON": ({f"{_LAYER}comfy_quant": _text("{")}, "None"),
    "JSON list": ({f"{_LAYER}comfy_quant": _text("[1]")}, "None"),
    "no text": ({f"{_LAYER}comfy_quant": torch.ones(3)}, "None"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_quantisation_is_refused(tmp_path: Path, encoders: Encoders, name: str) -> None:
    extra, says = UNKNOWN[name]
    path = save(tmp_path / "clip_l.safetensors", encoders["clip_l"] | extra)
    with pytest.raises(CheckpointError, match=says) as caught:
        open_checkpoint(path)
    assert "clip_l.safetensors" in caught.value.message and caught.value.hint


# Facts.

EMPTY = torch.tensor([])
FACTS: dict[str, tuple[Tensors, dict[str, str], str | None, dict[str, object]]] = {
    "plain": ({}, {}, None, {"prediction_type": "epsilon", "zero_terminal_snr": False, "variant": "base"}),
    "v_pred": ({"v_pred": EMPTY}, {}, None, {"prediction_type": "v", "zero_terminal_snr": False}),
    "v_pred, ztsnr": ({"v_pred": EMPTY, "ztsnr": EMPTY}, {}, None, {"prediction_type": "v", "zero_terminal_snr": True}),
    "cosxl": (
        {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.1)},
        {},
        None,
        {"prediction_type": "edm", "variant": "cosxl"},
    ),
    "playground": (
        {"edm_mean": torch.zeros(1), "edm_std": torch.zeros(1)},
        {},
        None,
        {"prediction_type": "edm", "variant": "playground-2.5"},
    ),
    "inpainting": (unet("sdxl", 9), {}, None, {"variant": "inpainting"}),
    "pix2pix": (unet("sdxl", 8), {}, None, {"variant": "instruct-pix2pix"}),
    "yaml VScaling": ({}, {}, "target: sgm.modules.VScaling\n", {"prediction_type": "v"}),
    "yaml parameterization": ({}, {}, 'params:\n  parameterization: "v"\n', {"prediction_type": "v"}),
    "yaml comment": ({}, {}, "# parameterization: v\nx: 1\n", {"prediction_type": "epsilon"}),
    "yaml edm": ({}, {}, "target: sgm.EDMScaling\n", {"prediction_type": "edm"}),
    "yaml before metadata": (
        {},
        {"modelspec.prediction_type": "v"},
        "target: sgm.EpsScaling\n",
        {"prediction_type": "epsilon"},
    ),
    "metadata": ({}, {"modelspec.prediction_type": "v"}, None, {"prediction_type": "v"}),
    "ComfyUI metadata": ({}, {"modelspec.predict_key": "v"}, None, {"prediction_type": "v"}),
    "metadata nonsense": ({}, {"modelspec.predict_key": "what"}, None, {"prediction_type": "epsilon"}),
}


@pytest.mark.parametrize("name", FACTS)
def test_facts_of_a_file(tmp_path: Path, encoders: Encoders, name: str) -> None:
    extra, metadata, yaml, expected = FACTS[name]
    tables = {key: {TABLE: encoders[key][TABLE][:5]} for key in ("clip_l", "clip_g")}
    tensors = prefixed("conditioner.embedders.0.transformer.", tables["clip_l"]) | unet("sdxl") | extra
    tensors["conditioner.embedders.1.model.token_embedding.weight"] = tables["clip_g"][TABLE]
    path = save(tmp_path / "My Model v1.0.safetensors", tensors, metadata)
    if yaml is not None:
        path.with_suffix(".yaml").write_text(yaml, encoding="utf-8")
    facts = open_checkpoint(str(path)).facts
    assert (facts.title, facts.file_name) == ("My Model v1.0", "My Model v1.0.safetensors")
    assert {key: getattr(facts, key) for key in expected} == expected


@pytest.mark.parametrize("told", [("v", "v"), ("eps", "epsilon"), (None, None)], ids=str)
def test_sd2_is_told_by_its_yaml_alone(tmp_path: Path, encoders: Encoders, told: tuple[str | None, str | None]) -> None:
    path = write_layout("sd2", tmp_path, encoders).path
    assert isinstance(path, Path)
    if told[0]:
        path.with_suffix(".yaml").write_text(f"parameterization: '{told[0]}'", encoding="utf-8")
    assert open_checkpoint(path).facts.prediction_type == told[1]


MIDDLE = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"


@pytest.mark.parametrize(
    ("blocks", "has_middle", "variant"),
    [
        ({4: 2, 5: 2, 7: 10, 8: 10}, True, "base"),
        ({4: 2, 5: 2, 7: 10, 8: 10}, False, "base"),  # a file that was stripped of some weights
        ({4: 2, 5: 2, 7: 4, 8: 4}, False, "SSD-1B"),
        ({4: 1, 5: 1, 7: 2, 8: 2}, False, "Segmind Vega"),
        ({3: 2, 5: 5}, False, "KOALA-700M"),
        ({3: 2, 5: 6}, True, "KOALA-1B"),
        ({4: 3}, False, "with a smaller UNet"),
        ({}, False, "with a smaller UNet"),
        ({}, True, "base"),
    ],
)
def test_smaller_unets_are_told_by_their_sizes(
    tmp_path: Path, encoders: Encoders, blocks: dict[int, int], has_middle: bool, variant: str
) -> None:
    tensors = sgm_tensors(encoders)
    if not has_middle:
        del tensors[MIDDLE]
    context = next(name for name in tensors if name.endswith("attn2.to_k.weight"))
    if blocks:  # what shows the architecture stands in a block that there is
        tensors[re.sub(r"input_blocks\.\d+", f"input_blocks.{max(blocks)}", context)] = tensors.pop(context)
    for block, depth in blocks.items():
        for number in range(depth):
            name = f"model.diffusion_model.input_blocks.{block}.1.transformer_blocks.{number}.attn1.to_q.weight"
            tensors[name] = torch.zeros(1, 1)
    facts = open_checkpoint(save(tmp_path / "x.safetensors", tensors)).facts
    assert (facts.variant, facts.prediction_type) == (variant, "epsilon")


def test_32_channels_are_a_flow_model(tmp_path: Path, encoders: Encoders) -> None:
    tensors = sgm_tensors(encoders)
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(1, 32, 3, 3)
    facts = open_checkpoint(save(tmp_path / "x.safetensors", tensors)).facts
    assert (facts.variant, facts.prediction_type) == ("Mugen", "flow")


@pytest.mark.parametrize(
    ("name", "told", "prediction"),
    [("x-Rectified-v1", {}, "flow"), ("x-Rectified-v1", {"v_pred": EMPTY}, "v"), ("x-v1", {}, "epsilon")],
)
def test_the_name_tells_rectified_flow_where_the_file_does_not(
    tmp_path: Path, encoders: Encoders, name: str, told: dict[str, torch.Tensor], prediction: str
) -> None:
    """Forge Neo samples such an SDXL model as flow; nothing in the file tells it from others."""
    path = save(tmp_path / f"{name}.safetensors", sgm_tensors(encoders) | told)
    assert open_checkpoint(path).facts.prediction_type == prediction


def test_the_name_of_another_architecture_tells_no_flow(tmp_path: Path, encoders: Encoders) -> None:
    written = write_layout("sd1", tmp_path, encoders).path
    assert isinstance(written, Path)
    path = written.rename(tmp_path / "x-rectified.safetensors")
    assert open_checkpoint(path).facts.prediction_type == "epsilon"


FOLDERS: dict[str, tuple[Any, Any, tuple[object, ...]]] = {
    "epsilon": ({"prediction_type": "epsilon"}, {}, ("epsilon", False, "base")),
    "v, zero snr": (
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        {"in_channels": 9},
        ("v", True, "inpainting"),
    ),
    "edm": ({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}, {}, ("edm", False, "base")),
    "odd values": (
        {"prediction_type": 3, "rescale_betas_zero_snr": "yes"},
        {"in_channels": "4", "cross_attention_dim": [2048]},
        ("epsilon", False, "base"),
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_facts_of_a_folder(tmp_path: Path, encoders: Encoders, name: str) -> None:
    scheduler, config, expected = FOLDERS[name]
    folder = write_diffusers(tmp_path / "xl", {key: encoders[key] for key in ("clip_l", "clip_g")})
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_json(folder / "unet" / "config.json", {"cross_attention_dim": 2048} | config)
    facts = open_checkpoint(folder).facts
    assert (facts.prediction_type, facts.zero_terminal_snr, facts.variant) == expected
    assert facts.title == facts.file_name == "xl" and facts.layout == "diffusers folder, float16"


def test_a_refiner_folder(tmp_path: Path, encoders: Encoders) -> None:
    folder = write_diffusers(tmp_path / "refiner", {"clip_g": encoders["clip_g"]})
    (folder / "text_encoder").rename(folder / "text_encoder_2")
    write_json(folder / "unet" / "config.json", {"in_channels": 4, "cross_attention_dim": 1280})
    facts = open_checkpoint(folder).facts
    assert (facts.architecture.name, facts.variant, facts.warnings) == ("sdxl-refiner", "refiner", ())


# Encoders from other files.


def test_given_text_encoders_stand_in(tmp_path: Path, encoders: Encoders) -> None:
    others = make_encoders(seed=7)
    path = save(tmp_path / "model.safetensors", sgm_tensors(encoders))
    clip_g = save(tmp_path / "other_g.safetensors", to_open_clip(others["clip_g"]))
    model = open_checkpoint(path, text_encoders=[clip_g])
    check_rows(model, {**encoders, "clip_g": others["clip_g"]})
    assert model.facts.text_encoder_files == ("other_g.safetensors",)
    assert model.facts.title == "model" and model.facts.warnings == ()
    assert model.encoders[1].files == (clip_g,)


def test_a_unet_alone_with_both_encoders(tmp_path: Path, encoders: Encoders) -> None:
    path = save(tmp_path / "unet.safetensors", unet("sdxl") | {"v_pred": EMPTY})
    files = [save(tmp_path / f"{key}.safetensors", encoders[key]) for key in ("clip_l", "clip_g")]
    model = open_checkpoint(path, text_encoders=[str(file) for file in files])
    check_rows(model, encoders)
    assert model.facts.prediction_type == "v"
    assert model.facts.text_encoder_files == ("clip_l.safetensors", "clip_g.safetensors")
    with pytest.raises(CheckpointError, match="SDXL without its text encoder CLIP-G"):
        open_checkpoint(path, text_encoders=[files[0]])
    with pytest.raises(CheckpointError, match=r"Both .* contain CLIP-L"):
        open_checkpoint(path, text_encoders=[files[0], files[0]])
    with pytest.raises(CheckpointError, match="only a UNet"):
        open_checkpoint(path)


def test_encoders_that_have_no_place(tmp_path: Path, encoders: Encoders) -> None:
    path = write_layout("sd1", tmp_path, encoders).path
    clip_g = save(tmp_path / "clip_g.safetensors", encoders["clip_g"])
    with pytest.raises(CheckpointError, match="CLIP-G, which Stable Diffusion 1 does not use"):
        open_checkpoint(path, text_encoders=[clip_g])
    clip_h = save(tmp_path / "clip_h.safetensors", encoders["clip_h"])
    with pytest.raises(CheckpointError, match="contains CLIP-G and CLIP-H"):
        open_checkpoint([clip_g, clip_h])
    vae = save(tmp_path / "vae.safetensors", {"decoder.conv_in.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="a VAE"):
        open_checkpoint(path, text_encoders=[vae])


def test_pairs_that_are_none(tmp_path: Path, encoders: Encoders) -> None:
    whole = save(tmp_path / "model.safetensors", sgm_tensors(encoders))
    clip_l = save(tmp_path / "clip_l.safetensors", encoders["clip_l"])
    with pytest.raises(CheckpointError, match="a whole model") as caught:
        open_checkpoint([whole, clip_l])
    assert "text_encoders" in (caught.value.hint or "")
    again = save(tmp_path / "again.safetensors", encoders["clip_l"])
    with pytest.raises(CheckpointError, match=r"Both .*'clip_l.safetensors' and 'again.safetensors' contain CLIP-L"):
        open_checkpoint([clip_l, again])
    with pytest.raises(CheckpointError, match="No checkpoint was given"):
        open_checkpoint([])


def test_three_encoders_make_sdxl(tmp_path: Path, encoders: Encoders) -> None:
    files = [save(tmp_path / f"{key}.safetensors", encoders[key]) for key in encoders]
    model = open_checkpoint(files)
    assert model.facts.architecture.name == "sdxl"
    assert model.facts.title == "clip_l + clip_g + clip_h"


# The model.


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "clip_l.safetensors", make_encoder("clip_l", 5))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert open_checkpoint(path, device="auto").device == "cpu" == open_checkpoint(path).device
    with pytest.raises(CheckpointError, match="no CUDA"):
        open_checkpoint(path, device="cuda")
    with pytest.raises(CheckpointError, match="Unknown device 'tpu'"):
        open_checkpoint(path, device="tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for name in ("auto", "cuda"):
        assert open_checkpoint(path, device=name).device == "cuda:0"


def test_embeddings(tmp_path: Path) -> None:
    path = save(tmp_path / "clip_l.safetensors", make_encoder("clip_l", 5))
    model = open_checkpoint(path)
    assert model.path == path and model.embeddings.find([1, 2], 0) is None
    with pytest.raises(StorageError, match="No embedding is called 'neg'"):
        model.embeddings.load("neg")
    save(tmp_path / "embeddings" / "mycat.safetensors", {"emb_params": torch.ones(2, 768)})
    model = open_checkpoint(path, embeddings=tmp_path / "embeddings")
    ids = model.encoders[0].tokenizer.encode("mycat")
    assert model.embeddings.find(ids, 0) == ("mycat", len(ids))
    assert open_checkpoint(path, embeddings=model.embeddings).embeddings is model.embeddings
    with pytest.raises(StorageError):
        open_checkpoint(path, embeddings=str(tmp_path / "none"))
