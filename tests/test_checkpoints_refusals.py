"""Files that are no checkpoint of ours, each refused with its own sentence; damaged and hostile ones too."""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import equal
from checkpoint_files import (
    TABLE,
    Tensors,
    make_encoder,
    prefixed,
    save,
    sgm_tensors,
    to_open_clip,
    write_diffusers,
    write_json,
    write_shards,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib_embedmerge import open_checkpoint
from lib_embedmerge.checkpoints.refusals import PIPELINES, REFUSALS, WITHOUT_ENCODERS
from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.files.pickle_file import load_tensors

ONE = torch.zeros(1)
CLIP_L = {TABLE: torch.zeros(5, 768)}
CLIP_G = {TABLE: torch.zeros(5, 1280)}


def names(*found: str) -> Tensors:
    return dict.fromkeys(found, ONE)


FOREIGN: dict[str, tuple[Tensors, str]] = {
    "SD3": (
        names("model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight")
        | prefixed("text_encoders.clip_l.transformer.", CLIP_L)
        | prefixed("text_encoders.clip_g.transformer.", CLIP_G),
        "a Stable Diffusion 3 model",
    ),
    "SD3 by its entrance": (names("model.diffusion_model.x_embedder.proj.weight"), "a Stable Diffusion 3 model"),
    "SD3 bare": (names("joint_blocks.0.x_block.attn.qkv.weight"), "a Stable Diffusion 3 model"),
    "Flux": (
        names("model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale")
        | prefixed("text_encoders.clip_l.transformer.", CLIP_L),
        "a Flux model",
    ),
    "Flux, diffusers": (names("single_transformer_blocks.0.attn.to_k.weight"), "a Flux model"),
    "Chroma": (
        names("double_blocks.0.img_attn.qkv.weight", "distilled_guidance_layer.norms.0.scale"),
        "a Chroma model",
    ),
    "HunyuanDiT": (names("model.mlp_t5.0.weight", "model.x_embedder.proj.weight"), "a HunyuanDiT model"),
    "HunyuanDiT encoders": (names("text_encoders.hydit_clip.transformer.bert.x"), "a HunyuanDiT model"),
    "Hunyuan Video": (
        names("double_blocks.0.img_attn.x", "txt_in.individual_token_refiner.blocks.0.norm1.weight"),
        "a Hunyuan Video model",
    ),
    "Kolors": (names("model.diffusion_model.encoder_hid_proj.weight"), "a Kolors model"),
    "ChatGLM": (names("encoder.layers.0.self_attention.query_key_value.weight"), "a Kolors model"),
    "PixArt": (names("y_embedder.y_proj.fc1.weight", "x_embedder.proj.weight"), "a PixArt model"),
    "Stable Cascade": (
        names("model.diffusion_model.clip_txt_mapper.weight") | prefixed("text_encoder.clip_g.transformer.", CLIP_G),
        "a Stable Cascade model",
    ),
    "AuraFlow": (names("model.double_layers.0.attn.w1q.weight"), "an AuraFlow model"),
    "LoRA, kohya": (names("lora_unet_x.alpha", "lora_te1_text_model_x.alpha"), "a LoRA"),
    "LoRA, diffusers": (names("unet.x.lora_A.weight"), "a LoRA"),
    "LyCORIS": (names("some.hada_w1_a"), "a LoRA"),
    "embedding, SDXL": ({"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(2, 1280)}, "a textual-inversion"),
    "embedding, SD1": ({"emb_params": torch.zeros(2, 768)}, "a textual-inversion"),
    "embedding in a LoRA bundle": (names("bundle_emb.x.clip_l"), "a textual-inversion"),
    "ControlNet": (names("control_model.input_hint_block.0.weight"), "a ControlNet"),
    "ControlNet, diffusers": (names("controlnet_cond_embedding.conv_in.weight"), "a ControlNet"),
    "IP-Adapter": (names("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "an IP-Adapter"),
    "SigLIP": (names("text_model.head.weight") | {TABLE: torch.zeros(5, 768)}, "a SigLIP"),
    "T5": (names("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"), "a T5 text encoder"),
    "bundle with T5": (
        names("text_encoders.t5xxl.transformer.shared.weight") | prefixed("text_encoders.clip_l.transformer.", CLIP_L),
        "a bundle of text encoders with T5",
    ),
    "UNet": (names("model.diffusion_model.input_blocks.0.0.weight"), "only a UNet"),
    "UNet with VAE": (names("model.diffusion_model.out.0.bias", "first_stage_model.x"), "only a UNet"),
    "UNet, diffusers": (names("down_blocks.0.resnets.0.conv1.weight"), "only a UNet"),
    "VAE": (names("decoder.conv_in.weight", "encoder.conv_in.weight"), "a VAE"),
    "VAE, sgm": (names("first_stage_model.decoder.conv_in.weight"), "a VAE"),
    "image encoder": (names("vision_model.embeddings.class_embedding"), "an image encoder"),
    "anything else": (names("model.0.weight"), "no CLIP text encoder"),
    "nothing": ({}, "no CLIP text encoder"),
    "width 512": ({TABLE: torch.zeros(5, 512)}, "its token table is 5 x 512"),
    "flat table": ({TABLE: torch.zeros(768)}, "its token table is 768"),
    "single value": ({TABLE: torch.tensor(0.0)}, "its token table is a single value"),
    "no rows": ({TABLE: torch.zeros(0, 768)}, "its token table is 0 x 768"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_kinds_of_files(tmp_path: Path, name: str) -> None:
    tensors, says = FOREIGN[name]
    path = save(tmp_path / "thing.safetensors", {key: tensor.clone() for key, tensor in tensors.items()})
    with pytest.raises(CheckpointError, match=says) as caught:
        open_checkpoint(path)
    assert caught.value.message.startswith("'thing.safetensors' ") and caught.value.message.endswith(".")
    assert caught.value.hint


def test_every_row_of_the_tables_has_a_case() -> None:
    said = [says for _, says in FOREIGN.values()]
    for refusal in (*REFUSALS, *WITHOUT_ENCODERS):
        assert any(refusal.title.startswith(says) for says in said), refusal.title


def test_an_embedding_pickle_is_told_too(tmp_path: Path) -> None:
    path = tmp_path / "neg.pt"
    torch.save({"string_to_param": {"*": torch.zeros(2, 768)}, "name": "neg"}, path)
    with pytest.raises(CheckpointError, match="a textual-inversion embedding"):
        open_checkpoint(path)


BYTES = {
    "empty": ("x.safetensors", b"", "is empty"),
    "empty ckpt": ("x.ckpt", b"", "is empty"),
    "page": ("x.safetensors", b"<!DOCTYPE html><html></html>" + b" " * 50, "a web page"),
    "page as ckpt": ("x.ckpt", b"\n<!DOCTYPE html><html></html>", "a web page"),
    "gguf": ("x.gguf", b"GGUF\x03\0\0\0" + bytes(100), "a GGUF file"),
    "gguf renamed": ("x.safetensors", b"GGUF\x03\0\0\0" + bytes(100), "a GGUF file"),
    "noise": ("x.safetensors", b"\x93" * 200, "not a safetensors file"),
    "noise as ckpt": ("x.ckpt", b"\x93" * 200, "neither a safetensors file nor a pickle"),
    "cut zip": ("x.ckpt", b"PK\x03\x04" + bytes(100), "cut off or damaged"),
    "tiny": ("x.safetensors", b"hello", "too small"),
}


@pytest.mark.parametrize("case", BYTES)
def test_files_that_are_no_model_at_all(tmp_path: Path, case: str) -> None:
    name, data, says = BYTES[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=says) as caught:
        open_checkpoint(tmp_path / name)
    assert name in caught.value.message and caught.value.hint


def test_a_zip_is_not_a_model(tmp_path: Path) -> None:
    for name in ("model.zip", "model.ckpt"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("model.safetensors", b"x")
        with pytest.raises(CheckpointError, match="is a zip archive, not a model"):
            open_checkpoint(tmp_path / name)


def test_paths_that_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"'none\.safetensors' does not exist"):
        open_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="cannot be opened"):
        open_checkpoint("a\0b")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="'empty' contains no model files"):
        open_checkpoint(".")
    save(tmp_path / "vaes" / "vae.safetensors", names("decoder.conv_in.weight"))
    (tmp_path / "vaes" / "broken.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="'vaes' contains no separate text encoder files"):
        open_checkpoint(tmp_path / "vaes")
    save(tmp_path / "two" / "a.safetensors", CLIP_L)
    save(tmp_path / "two" / "b.safetensors", CLIP_L)
    with pytest.raises(CheckpointError, match=r"Both 'a\.safetensors' and 'b\.safetensors' contain CLIP-L"):
        open_checkpoint(tmp_path / "two")
    for number in range(201):
        (tmp_path / "empty" / f"{number}.safetensors").touch()
    with pytest.raises(CheckpointError, match="contains 201 model files"):
        open_checkpoint(tmp_path / "empty")


# Diffusers folders.


@pytest.mark.parametrize(("start", "title"), PIPELINES, ids=[start for start, _ in PIPELINES])
def test_other_pipelines(tmp_path: Path, start: str, title: str) -> None:
    folder = write_diffusers(tmp_path / "pipe", {"clip_l": CLIP_L, "clip_g": CLIP_G}, pipeline=f"{start}Pipeline")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert caught.value.message == f"'pipe' is {title}."


def test_other_text_encoder_classes(tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / "pipe", {"clip_l": CLIP_L})
    index = {"_class_name": "SomePipeline", "text_encoder": ["transformers", "UMT5EncoderModel"]}
    write_json(folder / "model_index.json", index)
    with pytest.raises(CheckpointError, match="SomePipeline with the text encoder UMT5EncoderModel"):
        open_checkpoint(folder)


def test_broken_folders(tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / "pipe", {"clip_l": CLIP_L, "clip_g": CLIP_G})
    (folder / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="SDXL without its text encoder CLIP-G"):
        open_checkpoint(folder)
    (folder / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="without text encoder files"):
        open_checkpoint(folder)
    save(folder / "text_encoder" / "model.safetensors", names("some.weight"))
    with pytest.raises(CheckpointError, match="no CLIP text encoder"):
        open_checkpoint(folder)
    for content, says in ((b"{", "not valid JSON"), (b"[]", "not a JSON object"), (b"[" * 100_000, "not valid JSON")):
        (folder / "model_index.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=says):
            open_checkpoint(folder)


INDEXES: dict[str, tuple[object, str]] = {
    "no map": ({}, "lists no files"),
    "empty map": ({"weight_map": {}}, "lists no files"),
    "map a list": ({"weight_map": ["a"]}, "lists no files"),
    "outside": ({"weight_map": {"a": "../model.safetensors"}}, "outside its folder"),
    "absolute": ({"weight_map": {"a": "/etc/passwd"}}, "outside its folder"),
    "windows": ({"weight_map": {"a": "C:\\x.safetensors"}}, "outside its folder"),
    "number": ({"weight_map": {"a": 3}}, "outside its folder"),
    "blank": ({"weight_map": {"a": ""}}, "outside its folder"),
    "parent": ({"weight_map": {"a": ".."}}, "outside its folder|is a folder"),
    "missing shard": ({"weight_map": {"a": "model-1.safetensors"}}, "'model-1.safetensors' does not exist"),
    "too many": ({"weight_map": {str(n): f"{n}.safetensors" for n in range(1001)}}, "lists 1001 files"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_hostile_indexes(tmp_path: Path, name: str) -> None:
    content, says = INDEXES[name]
    write_json(tmp_path / "te" / "model.safetensors.index.json", content)
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(tmp_path / "te")


def test_shards_that_repeat_a_name(tmp_path: Path) -> None:
    write_shards(tmp_path, make_encoder("clip_l", 5))
    first = tmp_path / "model-00001-of-00002.safetensors"
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match="from another part of the model"):
        open_checkpoint(tmp_path)


# Pickles.


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_something_does_not(tmp_path: Path) -> None:
    torch.save({"state_dict": CLIP_L, "callbacks": _Runs(tmp_path / "ran")}, tmp_path / "evil.ckpt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": _Runs(tmp_path / "ran")}))
    for name in ("evil.ckpt", "plain.pt"):
        with pytest.raises(CheckpointError, match="cannot be loaded safely") as caught:
            open_checkpoint(tmp_path / name)
        assert "safetensors" in (caught.value.hint or "")
    assert not (tmp_path / "ran").exists()


def test_pickles_without_weights(tmp_path: Path) -> None:
    content: object
    for content in (
        [1, 2],
        {"a": 1},
        torch.zeros(3),
        {"state_dict": {}},
        {"a": {"b": {"c": {"d": {"e": {"f": ONE}}}}}},
    ):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match="contains no named tensors"):
            open_checkpoint(tmp_path / "x.pt")


def test_a_tensor_that_claims_more_than_its_data(tmp_path: Path) -> None:
    torch.save({TABLE: torch.zeros(1).expand(2**40, 768)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="larger than its data"):
        open_checkpoint(tmp_path / "x.pt")


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    torch.save(CLIP_L, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match="compressed entries"):
        open_checkpoint(tmp_path / "bomb.pt")


def test_a_large_pickle_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_embedmerge.files.pickle_file._MAPPED_SIZE", 1000)
    encoder = make_encoder("clip_l", 50)
    torch.save({"state_dict": encoder}, tmp_path / "x.ckpt")
    loads: list[dict[str, object]] = []
    original = torch.load

    def spy(path: Any, *, map_location: str, weights_only: bool, mmap: bool = False) -> object:
        loads.append({"mmap": mmap, "weights_only": weights_only})
        return original(path, map_location=map_location, weights_only=weights_only, mmap=mmap)

    monkeypatch.setattr(torch.serialization, "load", spy)
    model = open_checkpoint(tmp_path / "x.ckpt")
    assert loads == [{"mmap": True, "weights_only": True}]
    assert equal(model.encoders[0].vectors([7]), encoder[TABLE][[7]].to(torch.float32))


def test_disks_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_diffusers(tmp_path / "pipe", {"clip_l": CLIP_L, "clip_g": CLIP_G})
    torch.save(CLIP_L, tmp_path / "x.ckpt")
    (tmp_path / "loose").mkdir()
    (tmp_path / "clip_l.yaml").write_text("parameterization: v", encoding="utf-8")
    lone = save(tmp_path / "clip_l.safetensors", CLIP_L)
    original = Path.open

    def fail(*_: object, **__: object) -> object:
        raise OSError(5, "Input/output error")

    def open_or_fail(self: Path, *args: object, **options: object) -> object:
        return fail() if self.suffix in {".json", ".yaml"} else original(self, *args, **options)  # type: ignore[call-overload] # passed on

    monkeypatch.setattr(Path, "open", open_or_fail)
    with pytest.raises(CheckpointError, match=r"'model_index\.json' cannot be read"):
        open_checkpoint(folder)
    assert open_checkpoint(lone).facts.prediction_type is None  # a sidecar is only a hint
    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(CheckpointError, match="The folder 'loose' cannot be read"):
        open_checkpoint(tmp_path / "loose")
    monkeypatch.setattr(torch.serialization, "load", fail)
    with pytest.raises(CheckpointError, match=r"'x\.ckpt' cannot be read"):
        open_checkpoint(tmp_path / "x.ckpt")


def test_pickles_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        load_tensors(tmp_path / "none.pt")
    with pytest.raises(StorageError, match="is a folder"):
        load_tensors(tmp_path)


@pytest.fixture(scope="module")
def pickles() -> list[bytes]:
    """A small checkpoint pickle in both formats."""
    import io

    made = []
    for new in (True, False):
        buffer = io.BytesIO()
        content = {"state_dict": {TABLE: torch.zeros(1, 768), "b": torch.zeros(2)}}
        torch.save(content, buffer, _use_new_zipfile_serialization=new)
        made.append(buffer.getvalue())
    return made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_change_of_a_pickle_gives_a_model_or_a_sentence(
    tmp_path: Path, pickles: list[bytes], data: st.DataObject
) -> None:
    whole = bytearray(data.draw(st.sampled_from(pickles)))
    for _ in range(data.draw(st.integers(1, 3))):
        # Most of the bytes are zeros of the tensors; the pickle program is what can be made to misbehave.
        places = [place for place, byte in enumerate(whole) if byte]
        at = places[data.draw(st.integers(0, len(places) - 1))]
        if data.draw(st.booleans()):
            whole[at] = data.draw(st.integers(0, 255))
        else:
            del whole[at : at + data.draw(st.integers(1, 400))]
    path = tmp_path / "x.pt"
    path.write_bytes(whole)
    try:
        model = open_checkpoint(path)
    except CheckpointError:
        return
    assert model.encoders[0].vectors([0]).shape == (1, 768)


def test_a_checkpoint_cut_anywhere_says_so(tmp_path: Path) -> None:
    encoders = {key: make_encoder(key, 5, 1) for key in ("clip_l", "clip_g")}
    path = save(tmp_path / "whole.safetensors", sgm_tensors(encoders))
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in [*range(0, header, 97), *range(header, len(whole), len(whole) // 40), len(whole) - 1]:
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut off|too small|is empty"):
            open_checkpoint(tmp_path / "cut.safetensors")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.data())
def test_any_header_gives_a_model_or_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    """Headers that are sound but odd: known names with any dtype and shape."""
    stored = [*make_encoder("clip_l", 1, 1), *to_open_clip(make_encoder("clip_g", 1, 1)), "v_pred", "scaled_fp8"]
    aside = [f"{name.removesuffix('weight')}{part}" for name in stored[:1] for part in ("scale_weight", "comfy_quant")]
    unet = ["model.diffusion_model.x.attn2.to_k.weight", "model.diffusion_model.input_blocks.0.0.weight"]
    prefixes = ["", "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.", "clip_g.transformer."]
    sizes = {"F32": 4, "F16": 2, "F8_E4M3": 1, "I8": 1, "F64": 8}
    header: dict[str, object] = {}
    offset = 0
    drawn = [(name, None) for name in data.draw(st.lists(st.sampled_from([*stored, *aside, *unet]), max_size=30))]
    for name, known_shape in [(stored[0], [2, 768]), *drawn]:
        dtype = data.draw(st.sampled_from(list(sizes)))
        shape = known_shape or data.draw(st.lists(st.sampled_from([0, 1, 2, 3, 9, 768, 1280, 2048]), max_size=3))
        size = sizes[dtype] * math.prod(shape)
        full = data.draw(st.sampled_from(prefixes)) + name
        if size <= 4_000_000 and full not in header:
            header[full] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
    text = json.dumps(header).encode()
    path = tmp_path / "odd.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    try:
        model = open_checkpoint(path)
        for encoder in model.encoders:
            assert encoder.vectors([0]).shape == (1, encoder.width)
            assert encoder.mean_length() >= 0
    except CheckpointError:
        return
    model.fingerprints()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path / "cache"))
