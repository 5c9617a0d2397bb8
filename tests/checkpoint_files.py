"""Small and sparse checkpoint files in every layout, for tests. The token tables have real widths; their rows, and the
layers, are as few and as small as they can be. Files are written by the safetensors library, not by ours.

    encoders = make_encoders()                               # Hugging Face naming, float16: {"clip_l": {...}, ...}
    made = write_layout("sgm", tmp_path, encoders)           # .path to open, .encoders keys that are in it
    path = write_sparse_sdxl(tmp_path / "big.safetensors")   # 6.9 GB that takes no room, full-size tables
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib_embedmerge.files import safetensors_file

Tensors = dict[str, torch.Tensor]

TABLE = "text_model.embeddings.token_embedding.weight"
WIDTHS = {"clip_l": 768, "clip_g": 1280, "clip_h": 1024}
CONTEXTS = {"sdxl": 2048, "sdxl-refiner": 1280, "sd1": 768, "sd2": 1024}
_INNER = 4  # width inside the layers; only the table and what is as wide has the real one


def record_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(offset, size) of all reads of safetensors files from here on."""
    reads: list[tuple[int, int]] = []
    original = safetensors_file._read_into

    def read_into(target: memoryview, path: Path, file: FileIO, places: Iterable[tuple[int, int]]) -> None:
        places = list(places)
        reads.extend(places)
        original(target, path, file, places)

    monkeypatch.setattr(safetensors_file, "_read_into", read_into)
    return reads


def make_encoder(key: str, rows: int = 600, layers: int = 2, seed: int = 0) -> Tensors:
    """A state dict in Hugging Face naming, random float16; clip_g with its projection."""
    generator = torch.Generator().manual_seed(seed * 1000 + WIDTHS[key])

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * 0.02).to(torch.float16)

    tensors = {TABLE: random(rows, WIDTHS[key])}
    tensors["text_model.embeddings.position_embedding.weight"] = random(77, WIDTHS[key])
    for layer in range(layers):
        start = f"text_model.encoder.layers.{layer}"
        for part in ("layer_norm1", "layer_norm2"):
            tensors |= {f"{start}.{part}.weight": random(_INNER), f"{start}.{part}.bias": random(_INNER)}
        for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"):
            tensors |= {f"{start}.{part}.weight": random(_INNER, _INNER), f"{start}.{part}.bias": random(_INNER)}
        tensors |= {f"{start}.mlp.fc1.weight": random(8, _INNER), f"{start}.mlp.fc1.bias": random(8)}
        tensors |= {f"{start}.mlp.fc2.weight": random(_INNER, 8), f"{start}.mlp.fc2.bias": random(_INNER)}
    tensors |= {f"text_model.final_layer_norm.{kind}": random(_INNER) for kind in ("weight", "bias")}
    if key == "clip_g":
        tensors["text_projection.weight"] = random(_INNER, _INNER)
    return tensors


def make_encoders(rows: int = 600, layers: int = 2, seed: int = 0) -> dict[str, Tensors]:
    """clip_l, clip_g and clip_h."""
    return {key: make_encoder(key, rows, layers, seed) for key in WIDTHS}


def to_open_clip(tensors: Tensors) -> Tensors:
    """The same encoder in open_clip's naming: in_proj joined, the projection turned, logit_scale added."""
    renamed = {
        "token_embedding.weight": tensors[TABLE],
        "positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        "ln_final.weight": tensors["text_model.final_layer_norm.weight"],
        "ln_final.bias": tensors["text_model.final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
        "attn_mask": torch.zeros(77, 77),
    }
    if "text_projection.weight" in tensors:
        renamed["text_projection"] = tensors["text_projection.weight"].T.contiguous()
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names["self_attn.out_proj"] = "attn.out_proj"
    layer = 0
    while (start := f"text_model.encoder.layers.{layer}") + ".layer_norm1.weight" in tensors:
        for kind in ("weight", "bias"):
            for old, new in names.items():
                renamed[f"transformer.resblocks.{layer}.{new}.{kind}"] = tensors[f"{start}.{old}.{kind}"]
            thirds = [tensors[f"{start}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            renamed[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(thirds)
        layer += 1
    return renamed


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def unet(architecture: str, channels: int = 4) -> Tensors:
    """The few UNet tensors that tell an architecture."""
    start = "model.diffusion_model."
    return {
        f"{start}input_blocks.0.0.weight": torch.zeros(2, channels, 3, 3),
        f"{start}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(2, CONTEXTS[architecture]),
        f"{start}middle_block.0.in_layers.0.weight": torch.zeros(2),
        f"{start}middle_block.1.transformer_blocks.0.attn1.to_q.weight": torch.zeros(2, 2),
    }


ATTENTIONS = (("input", 4, 0), ("input", 4, 1), ("middle", 0, 0), ("output", 3, 0), ("output", 10, 0))
"""(stage, block, layer) of the cross-attentions of `text_unet`. The last block is beyond 9 on purpose."""


def text_unet(architecture: str, seed: int = 0, inner: int = 128, naming: str = "sgm") -> Tensors:
    """A U-Net with only what reads text, random float16: five cross-attentions, and for SDXL what reads the pooled
    vector. naming: `sgm`, `diffusers` (as in the folder unet), or either with a prefix, `diffusers:unet.`."""
    generator = torch.Generator().manual_seed(seed * 1000 + CONTEXTS[architecture])
    style, _, prefix = naming.partition(":")

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) / shape[-1] ** 0.5).to(torch.float16)

    tensors = {} if style == "diffusers" or prefix else unet(architecture)
    prefix = prefix or ("" if style == "diffusers" else "model.diffusion_model.")
    for number, (stage, block, layer) in enumerate(ATTENTIONS):
        if style == "diffusers":
            place = {
                "input": f"down_blocks.{block // 3}.attentions.{block % 3 - 1}",
                "middle": "mid_block.attentions.0",
                "output": f"up_blocks.{block // 3}.attentions.{block % 3}",
            }[stage]
        else:
            place = "middle_block.1" if stage == "middle" else f"{stage}_blocks.{block}.1"
        start = f"{prefix}{place}.transformer_blocks.{layer}.attn2"
        width = inner * (1 + number % 2)
        tensors |= {f"{start}.{part}.weight": random(width, CONTEXTS[architecture]) for part in ("to_k", "to_v")}
        tensors[f"{start}.to_q.weight"] = random(width, width)
    if architecture.startswith("sdxl"):
        name = "add_embedding.linear_1.weight" if style == "diffusers" else "label_emb.0.0.weight"
        tensors[prefix + name] = random(64, 2816)
    return tensors


def save(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, dict(metadata or {}) or None)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Made:
    """path: what to open, a file, a folder or several.  architecture: its short name."""

    path: Path | list[Path]
    architecture: str

    @property
    def encoders(self) -> tuple[str, ...]:
        keys = {"sdxl": ("clip_l", "clip_g"), "sdxl-refiner": ("clip_g",), "sd1": ("clip_l",), "sd2": ("clip_h",)}
        return keys[self.architecture]


Encoders = Mapping[str, Tensors]
_FILE = "model.safetensors"


def sgm_tensors(encoders: Encoders) -> Tensors:
    """SDXL as Stability, A1111, kohya and ComfyUI's CheckpointSave write it."""
    noise = {"text_model.embeddings.position_ids": torch.arange(77).reshape(1, 77), "logit_scale": torch.tensor(1.0)}
    return (
        prefixed("conditioner.embedders.0.transformer.", encoders["clip_l"] | noise)
        | prefixed("conditioner.embedders.1.model.", to_open_clip(encoders["clip_g"]))
        | unet("sdxl")
        | {"first_stage_model.decoder.conv_in.weight": torch.zeros(1)}
    )


def write_diffusers(
    folder: Path, encoders: Encoders, *, name: str = _FILE, pipeline: str = "StableDiffusionXLPipeline"
) -> Path:
    """A diffusers folder; `name` is the file's in each part."""
    parts = dict(zip(("text_encoder", "text_encoder_2"), encoders.values(), strict=False))
    classes = {part: ["transformers", "CLIPTextModel"] for part in parts}
    write_json(folder / "model_index.json", {"_class_name": pipeline, "tokenizer": ["transformers", "X"]} | classes)
    write_json(folder / "scheduler" / "scheduler_config.json", {"prediction_type": "epsilon"})
    write_json(folder / "unet" / "config.json", {"in_channels": 4, "cross_attention_dim": 2048})
    for part, tensors in parts.items():
        if name.endswith(".bin"):
            (folder / part).mkdir(parents=True)
            torch.save(tensors, folder / part / name)
        else:
            save(folder / part / name, tensors)
    return folder


def write_shards(folder: Path, tensors: Tensors, index: str = "model.safetensors.index.json") -> None:
    """Two shards and their index, as save_pretrained writes them."""
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file_name, half in halves.items():
        save(folder / file_name, {name: tensors[name] for name in half}, {"format": "pt"})
    weight_map = {name: file_name for file_name, half in halves.items() for name in half}
    write_json(folder / index, {"metadata": {"total_size": 1}, "weight_map": weight_map})


def _sharded(folder: Path, encoders: Encoders) -> Path:
    write_diffusers(folder, encoders)
    for part, key in (("text_encoder", "clip_l"), ("text_encoder_2", "clip_g")):
        (folder / part / _FILE).unlink()
        write_shards(folder / part, encoders[key])
    return folder


def _pair(name: str, change: Callable[[str, Tensors], Tensors]) -> Callable[[Path, Encoders], list[Path]]:
    def write(folder: Path, encoders: Encoders) -> list[Path]:
        return [save(folder / f"{name}_{key}.safetensors", change(key, encoders[key])) for key in ("clip_l", "clip_g")]

    return write


def _pair_folder(folder: Path, encoders: Encoders) -> Path:
    _pair("some", lambda _, tensors: tensors)(folder, encoders)
    save(folder / "ae.safetensors", {"decoder.conv_in.weight": torch.zeros(1)})
    return folder


def _xl(encoders: Encoders) -> Encoders:
    return {key: encoders[key] for key in ("clip_l", "clip_g")}


def _both(outer: str) -> Callable[[Path, Encoders], Path]:
    def write(folder: Path, encoders: Encoders) -> Path:
        tensors = prefixed(f"{outer}clip_l.transformer.", encoders["clip_l"])
        tensors |= prefixed(f"{outer}clip_g.transformer.", encoders["clip_g"])
        return save(folder / _FILE, tensors)

    return write


def _old_clipsave(_: str, tensors: Tensors) -> Tensors:
    """ComfyUI's CLIPSave once wrote the projection under open_clip's name, turned."""
    old = {name: tensor for name, tensor in tensors.items() if name != "text_projection.weight"}
    if len(old) < len(tensors):
        old["text_projection"] = tensors["text_projection.weight"].T.contiguous()
    return old | {"logit_scale": torch.tensor(1.0)}


def _forge_keys(key: str, tensors: Tensors) -> Tensors:
    if key == "clip_l":
        return prefixed("conditioner.embedders.0.transformer.", tensors)
    return prefixed("conditioner.embedders.1.model.", to_open_clip(tensors))


def _bare(tensors: Tensors) -> Tensors:
    return {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}


def _ckpt(folder: Path, encoders: Encoders) -> Path:
    path = folder / "model.ckpt"
    torch.save({"state_dict": sgm_tensors(encoders), "global_step": 3, "epoch": 1}, path)
    return path


def _old_pt(folder: Path, encoders: Encoders) -> Path:
    path = folder / "model.pt"
    torch.save(sgm_tensors(encoders), path, _use_new_zipfile_serialization=False)
    return path


_File = Callable[[Path, Encoders], "Path | list[Path]"]
_WRITERS: dict[str, tuple[str, _File]] = {
    "sgm": ("sdxl", lambda folder, e: save(folder / _FILE, sgm_tensors(e))),
    "sgm, ckpt": ("sdxl", _ckpt),
    "sgm, old pt": ("sdxl", _old_pt),
    "diffusers": ("sdxl", lambda folder, e: write_diffusers(folder / "xl", _xl(e))),
    "diffusers, fp16 variant": (
        "sdxl",
        lambda folder, e: write_diffusers(folder / "xl", _xl(e), name="model.fp16.safetensors"),
    ),
    "diffusers, bin": ("sdxl", lambda folder, e: write_diffusers(folder / "xl", _xl(e), name="pytorch_model.bin")),
    "diffusers, sharded": ("sdxl", lambda folder, e: _sharded(folder / "xl", _xl(e))),
    "pair, Hugging Face": ("sdxl", _pair("hf", lambda _, tensors: tensors)),
    "pair, open_clip": ("sdxl", _pair("open", lambda _, tensors: to_open_clip(tensors))),
    "pair, ComfyUI CLIPSave": ("sdxl", _pair("clip_save", lambda _, t: t | {"logit_scale": torch.tensor(1.0)})),
    "pair, old CLIPSave": ("sdxl", _pair("old", _old_clipsave)),
    "pair, Forge module keys": ("sdxl", _pair("forge", _forge_keys)),
    "pair, folder": ("sdxl", lambda folder, e: _pair_folder(folder / "pair", e)),
    "ComfyUI internal": ("sdxl", _both("")),
    "text_encoders": ("sdxl", _both("text_encoders.")),
    "stable-diffusion.cpp": (
        "sdxl",
        lambda folder, e: save(
            folder / _FILE,
            prefixed("cond_stage_model.transformer.", e["clip_l"])
            | prefixed("cond_stage_model.1.transformer.", e["clip_g"])
            | unet("sdxl"),
        ),
    ),
    "refiner": (
        "sdxl-refiner",
        lambda folder, e: save(
            folder / _FILE,
            prefixed("conditioner.embedders.0.model.", to_open_clip(e["clip_g"])) | unet("sdxl-refiner"),
        ),
    ),
    "sd1": (
        "sd1",
        lambda folder, e: save(folder / _FILE, prefixed("cond_stage_model.transformer.", e["clip_l"]) | unet("sd1")),
    ),
    "sd1, old naming": (
        "sd1",
        lambda folder, e: save(
            folder / _FILE, prefixed("cond_stage_model.transformer.", _bare(e["clip_l"])) | unet("sd1")
        ),
    ),
    "sd2": (
        "sd2",
        lambda folder, e: save(
            folder / _FILE, prefixed("cond_stage_model.model.", to_open_clip(e["clip_h"])) | unet("sd2")
        ),
    ),
    "sd2, conditioner": (
        "sd2",
        lambda folder, e: save(
            folder / _FILE, prefixed("conditioner.embedders.0.model.", to_open_clip(e["clip_h"])) | unet("sd2")
        ),
    ),
    "clip_l alone": ("sd1", lambda folder, e: save(folder / "clip_l.safetensors", e["clip_l"])),
    "clip_g alone": ("sdxl-refiner", lambda folder, e: save(folder / "clip_g.safetensors", e["clip_g"])),
}
LAYOUTS = tuple(_WRITERS)
"""Names for write_layout."""

SDXL_LAYOUTS = tuple(name for name, (architecture, _) in _WRITERS.items() if architecture == "sdxl")


def write_layout(name: str, folder: Path, encoders: Encoders) -> Made:
    """A checkpoint of these encoders in one of LAYOUTS, below `folder`."""
    architecture, writer = _WRITERS[name]
    return Made(writer(folder, encoders), architecture)


def scaled_fp8(tensors: Tensors, scale: float, *, newer: bool = False) -> Tensors:
    """The matrices of a state dict as scaled fp8: ComfyUI's older form, or its newer one with comfy_quant."""
    made: Tensors = {} if newer else {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or not name.endswith(".weight"):
            made[name] = tensor
            continue
        made[name] = (tensor.to(torch.float32) / scale).to(torch.float8_e4m3fn)
        layer = name.removesuffix(".weight")
        made[f"{layer}.weight_scale" if newer else f"{layer}.scale_weight"] = torch.tensor(scale)
        if newer:
            text = json.dumps({"format": "float8_e4m3fn"}).encode()
            made[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
    return made


def write_sparse(path: Path, shapes: Mapping[str, tuple[str, tuple[int, ...]]], values: Tensors) -> dict[str, int]:
    """A safetensors file by name -> (dtype, shape) of which only `values` take room on disk; the rest reads as zeros.

    Returns the offset of each tensor in the file.
    """
    header: dict[str, object] = {}
    offsets: dict[str, int] = {}
    offset = 0
    for name, (dtype, shape) in shapes.items():
        size = int(torch.tensor(shape).prod()) * {"F32": 4, "F16": 2, "BF16": 2}[dtype] if shape else 4
        offsets[name] = offset
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    starts = {name: 8 + len(text) + offset for name, offset in offsets.items()}
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
        for name, tensor in values.items():
            file.seek(starts[name])
            file.write(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return starts


def write_sparse_sdxl(path: Path, values: Tensors | None = None) -> dict[str, int]:
    """A full-size SDXL checkpoint of about 6.9 GB in sgm naming with 49,408-row tables, all holes but for `values`."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, tensor in unet("sdxl").items():
        shapes[name] = ("F16", tuple(tensor.shape))
    for index in range(1680):  # as many names as the real UNet has
        shapes[f"model.diffusion_model.output_blocks.{index % 9}.1.filler.{index}.weight"] = ("F16", (1528, 1024))
    shapes["conditioner.embedders.0.transformer." + TABLE] = ("F16", (49408, 768))
    shapes["conditioner.embedders.1.model.token_embedding.weight"] = ("F16", (49408, 1280))
    for key, prefix in (
        ("clip_l", "conditioner.embedders.0.transformer."),
        ("clip_g", "conditioner.embedders.1.model."),
    ):
        encoder = make_encoder(key, rows=1, layers=2)
        for name, tensor in (encoder if key == "clip_l" else to_open_clip(encoder)).items():
            shapes.setdefault(prefix + name, ("F16", tuple(tensor.shape)) if tensor.ndim else ("F32", ()))
    shapes["model.diffusion_model.filler"] = ("F16", (800_000_000,))
    return write_sparse(path, shapes, values or {})
