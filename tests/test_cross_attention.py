"""What reads text in a U-Net is found in every naming, and read in every dtype."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from checkpoint_files import ATTENTIONS, CONTEXTS, Tensors, make_encoder, save, scaled_fp8, text_unet

from lib_embedmerge.checkpoints.cross_attention import TextReader, find_text_reader, open_text_reader
from lib_embedmerge.checkpoints.weights import make_memory_weights
from lib_embedmerge.errors import CheckpointError

SGM = "model.diffusion_model."


def read_all(reader: TextReader) -> list[numpy.ndarray]:
    return [matrix.read() for matrix in reader.matrices()]


def in_memory(tensors: Tensors) -> TextReader:
    return find_text_reader(make_memory_weights(tensors))


@pytest.mark.parametrize("architecture", CONTEXTS)
@pytest.mark.parametrize("naming", ["sgm", "diffusers", "sgm:diffusion_model.", "diffusers:unet."])
def test_layers_are_found_in_order_whatever_their_names(tmp_path: Path, architecture: str, naming: str) -> None:
    tensors = text_unet(architecture, naming=naming)
    shuffled = dict(sorted(tensors.items(), key=lambda item: hash(item[0])))
    reader = open_text_reader(save(tmp_path / "model.safetensors", shuffled))
    assert reader.context == CONTEXTS[architecture]
    assert [layer.place for layer in reader.layers] == [
        "input 0, 0",
        "input 0, 1",
        "middle 0, 0",
        "output 0, 0",
        "output 1, 0",
    ]
    assert [layer.inner for layer in reader.layers] == [128, 256, 128, 256, 128]
    assert [layer.heads for layer in reader.layers] == ([8] * 5 if architecture == "sd1" else [2, 4, 2, 4, 2])
    keys = [value for name, value in tensors.items() if name.endswith("attn2.to_k.weight") and value.shape[0] > 2]
    queries = [value for name, value in tensors.items() if name.endswith("attn2.to_q.weight")]
    for layer, key, query in zip(reader.layers, keys, queries, strict=True):
        assert numpy.array_equal(layer.key.read(), key.float().numpy())
        assert numpy.array_equal(layer.query.read(), query.float().numpy())
        assert layer.value.read().dtype == numpy.float32
    pooled = reader.pooled
    if not architecture.startswith("sdxl"):
        assert pooled is None
    else:
        assert pooled is not None
        assert pooled.shape == (64, 1280)
        (stored,) = (value for name, value in tensors.items() if value.shape == (64, 2816))
        assert numpy.array_equal(pooled.read(), stored[:, :1280].float().numpy())


def test_the_fingerprint_is_of_the_weights_not_of_their_names() -> None:
    prints = {
        naming: in_memory(text_unet("sdxl", naming=naming)).fingerprint() for naming in ("diffusers", "sgm:unet.")
    }
    assert len(set(prints.values())) == 1
    assert in_memory(text_unet("sdxl", seed=1, naming="diffusers")).fingerprint() not in prints.values()
    changed = text_unet("sdxl", naming="diffusers")
    changed["add_embedding.linear_1.weight"][3, 5] += 1
    assert in_memory(changed).fingerprint() not in prints.values()


def test_the_fingerprint_reports_its_progress_and_can_be_stopped() -> None:
    reader = in_memory(text_unet("sd1", naming="diffusers"))
    seen: list[tuple[int, int]] = []
    reader.fingerprint(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (reader.count_values(), reader.count_values())

    def stop(_: int, __: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reader.fingerprint(stop)


def test_a_diffusers_folder(tmp_path: Path) -> None:
    save(tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors", text_unet("sdxl", naming="diffusers"))
    reader = open_text_reader(tmp_path)
    assert len(reader.layers) == len(ATTENTIONS)
    assert reader.files == (tmp_path.resolve() / "unet" / "diffusion_pytorch_model.fp16.safetensors",)


def test_a_folder_without_a_unet(tmp_path: Path) -> None:
    save(tmp_path / "clip_l.safetensors", make_encoder("clip_l"))
    with pytest.raises(CheckpointError, match="folder without a U-Net"):
        open_text_reader(tmp_path)


@pytest.mark.parametrize("newer", [False, True])
def test_fp8_is_read_with_its_scale(newer: bool) -> None:
    tensors = text_unet("sdxl", naming="sgm:diffusion_model.")
    found = read_all(in_memory(scaled_fp8(tensors, 0.5, newer=newer)))
    for ours, true in zip(found, read_all(in_memory(tensors)), strict=True):
        assert numpy.abs(ours - true).max() < 0.1 * numpy.abs(true).max()
        assert numpy.abs(ours - true).max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float8_e5m2])
def test_every_dtype(dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in text_unet("sd2", naming="diffusers").items()}
    key = next(iter(tensors.values()))
    assert numpy.array_equal(in_memory(tensors).layers[0].key.read(), key.to(torch.float32).numpy())


START = f"{SGM}input_blocks.4.1.transformer_blocks.0.attn2."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({START + "to_v.weight": None}, "to_v.weight' is missing"),
        ({START + "to_v.weight": torch.zeros(3)}, "to_v.weight' is missing or no matrix"),
        ({START + "to_v.weight": torch.zeros(127, 2048)}, "do not fit together"),
        (
            {START + part: torch.zeros(128, 768) for part in ("to_k.weight", "to_v.weight")},
            "states of 768, 2048 values",
        ),
    ],
    ids=["missing", "flat", "other size", "two widths"],
)
def test_a_damaged_unet(change: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {name: value for name, value in (text_unet("sdxl") | change).items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        in_memory(tensors)


def test_a_model_of_another_kind() -> None:
    tensors = text_unet("sd1", naming="diffusers")
    with pytest.raises(CheckpointError, match="states of 512 values") as caught:
        in_memory({name: torch.zeros(16, 512) for name in tensors})
    assert caught.value.expected == "one of 768, 1024, 1280, 2048"


def test_a_file_without_a_unet(tmp_path: Path) -> None:
    path = save(tmp_path / "clip_l.safetensors", make_encoder("clip_l"))
    with pytest.raises(CheckpointError, match=r"'clip_l.safetensors' contains no U-Net") as caught:
        open_text_reader(path)
    assert caught.value.hint and "whole checkpoint" in caught.value.hint
