"""ComfyUI's CLIP object, its patches and folders, written from the facts, not from its code.

Clones share one module. Patches are written into it when the clone is loaded, and taken out when another one is.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import torch

from doubles import comfyui_tokenizer
from doubles.comfyui_tokenizer import ClipTokenizers, is_vector

WIDTHS = {"clip_l": 768, "clip_g": 1280, "clip_h": 1024}

KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # kind of model -> its text encoders, those of its tokenizer
    "sdxl": (("clip_l", "clip_g"), ("clip_l", "clip_g")),
    "sdxl-refiner": (("clip_g",), ("clip_l", "clip_g")),
    "sd1": (("clip_l",), ("clip_l",)),
    "sd2": (("clip_h",), ("clip_h",)),
    "sd3": (("clip_l", "clip_g"), ("clip_l", "clip_g", "t5xxl")),
    "flux": (("clip_l",), ("clip_l", "t5xxl")),
    "hidream": (("clip_l", "clip_g"), ("clip_l", "clip_g", "t5xxl", "llama")),
}


class TableLayer(torch.nn.Embedding):
    """An embedding layer that gives rows in the dtype that is asked for."""

    def forward(self, ids: torch.Tensor, out_dtype: torch.dtype | None = None) -> torch.Tensor:
        rows = super().forward(ids)
        return rows if out_dtype is None else rows.to(out_dtype)


class Transformer(torch.nn.Module):
    """The part of a text encoder that has the token table."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        embeddings = torch.nn.Module()
        self.text_model = torch.nn.Module()
        self.text_model.embeddings = embeddings
        embeddings.token_embedding = TableLayer(table.shape[0], table.shape[1], _weight=table)

    def get_input_embeddings(self) -> Any:
        return self.get_submodule("text_model.embeddings.token_embedding")


class TextEncoder(torch.nn.Module):
    """A text encoder, whose output is its input."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.transformer = Transformer(table)

    def process_tokens(self, tokens: list[list[Any]], device: Any) -> tuple[Any, ...]:
        layer = self.transformer.get_input_embeddings()
        width = layer.weight.shape[1]
        chunks = []
        for chunk in tokens:
            rows = [
                token.to(torch.float32)
                if is_vector(token)
                else layer(torch.tensor(token, device=device), out_dtype=torch.float32)
                for token in chunk
            ]
            chunks.append(torch.stack([row for row in rows if row.shape[-1] == width]))
        return (torch.stack(chunks), None, None, None)


class CondStageModel(torch.nn.Module):
    """The text encoders of a CLIP."""

    def __init__(self, tables: dict[str, torch.Tensor], others: tuple[str, ...] = ()) -> None:
        super().__init__()
        for key, table in tables.items():
            setattr(self, key, TextEncoder(table))
        for key in others:
            setattr(self, key, torch.nn.Linear(1, 1))
        self.loaded: Any = None


class ModelPatcher:
    """The patches of one clone: name of a weight -> what is added to it."""

    def __init__(self, model: CondStageModel) -> None:
        self.model = model
        self.patches: dict[str, torch.Tensor] = {}
        self.patches_uuid = uuid.uuid4()

    def clone(self) -> ModelPatcher:
        other = ModelPatcher(self.model)
        other.patches, other.patches_uuid = dict(self.patches), self.patches_uuid
        return other

    def add_patches(self, patches: dict[str, torch.Tensor]) -> None:
        self.patches |= patches
        self.patches_uuid = uuid.uuid4()


class CLIP:
    """ComfyUI's CLIP."""

    def __init__(self, patcher: ModelPatcher, tokenizer: Any) -> None:
        self.patcher = patcher
        self.cond_stage_model = patcher.model
        self.tokenizer = tokenizer
        self.layer_idx: int | None = None

    def clone(self) -> CLIP:
        other = CLIP(self.patcher.clone(), self.tokenizer)
        other.layer_idx = self.layer_idx
        return other

    def clip_layer(self, layer_idx: int) -> None:
        self.layer_idx = layer_idx

    def add_patches(self, patches: dict[str, torch.Tensor]) -> None:
        self.patcher.add_patches(patches)

    def load_model(self) -> None:
        load_model_gpu(self.patcher)

    def tokenize(self, text: str, return_word_ids: bool = False, **options: Any) -> Any:
        return self.tokenizer.tokenize_with_weights(text, return_word_ids, **options)

    def encode_from_tokens(self, tokens: Any, return_pooled: bool = False) -> Any:
        self.load_model()
        outputs = [
            cast(TextEncoder, encoder).process_tokens(
                [[entry[0] for entry in chunk] for chunk in tokens[key[-1]]], "cpu"
            )[0]
            for key, encoder in self.cond_stage_model.named_children()
            if key in WIDTHS
        ]
        cond = torch.cat([output.reshape(1, -1, output.shape[-1]) for output in outputs], dim=-1)
        return (cond, cond.mean(dim=1)) if return_pooled else cond

    def encode_from_tokens_scheduled(self, tokens: Any) -> Any:
        cond, pooled = self.encode_from_tokens(tokens, return_pooled=True)
        return [[cond, {"pooled_output": pooled}]]


def _without_weights(chunks: list[Any]) -> list[list[Any]]:
    return [[entry[0] for entry in chunk] for chunk in chunks]


def load_model_gpu(patcher: ModelPatcher) -> None:
    """Write the patches of a clone into the module that all clones share."""
    model = patcher.model
    if model.loaded is not None and model.loaded[0] == patcher.patches_uuid:
        return
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, before in (model.loaded[1] if model.loaded else {}).items():
            weights[name].copy_(before)
        kept = {name: weights[name].detach().clone() for name in patcher.patches}
        for name, added in patcher.patches.items():
            weights[name].add_(added)
    model.loaded = patcher.patches_uuid, kept


def make_table(key: str, dtype: torch.dtype, seed: int = 7) -> torch.Tensor:
    """A random token table of full size."""
    generator = torch.Generator().manual_seed(seed + WIDTHS[key])
    return (torch.randn(49408, WIDTHS[key], generator=generator) * 0.02).to(dtype)


def make_clip(kind: str, folders: list[Path], dtype: torch.dtype = torch.float32) -> CLIP:
    """A CLIP with random tables. kind: of KINDS.  folders: ComfyUI's embeddings folders."""
    keys, tokenizer_keys = KINDS[kind]
    return make_clip_of({key: make_table(key, dtype) for key in keys}, tokenizer_keys, folders)


def make_clip_of(tables: dict[str, torch.Tensor], tokenizer_keys: tuple[str, ...], folders: list[Path]) -> CLIP:
    """A CLIP with these token tables. tokenizer_keys: its text encoders, with those that the model does not have."""
    model = CondStageModel(tables, tuple(set(tokenizer_keys) - set(WIDTHS)))
    return CLIP(ModelPatcher(model), ClipTokenizers(tokenizer_keys, [str(folder) for folder in folders]))


class ProgressBar:
    """The progress of the node that runs."""

    def __init__(self, total: int) -> None:
        self.done = (0, total)

    def update_absolute(self, value: int, total: int) -> None:
        self.done = (value, total)


class PreviewImage:
    """The node whose pictures ComfyUI shows below it."""

    def save_images(self, images: torch.Tensor) -> dict[str, Any]:
        assert images.ndim == 4
        return {"ui": {"images": [{"filename": "shown.png", "subfolder": "", "type": "temp"}]}}


class FolderPaths(ModuleType):
    """ComfyUI's folder_paths. folders: kind -> folders."""

    def __init__(self, folders: dict[str, list[Path]]) -> None:
        super().__init__("folder_paths")
        self.folders = folders

    def get_folder_paths(self, kind: str) -> list[str]:
        return [str(folder) for folder in self.folders[kind]]

    def get_filename_list(self, kind: str) -> list[str]:
        return sorted(path.name for folder in self.folders[kind] for path in folder.glob("*"))

    def get_full_path(self, kind: str, name: str) -> str | None:
        paths = (folder / name for folder in self.folders.get(kind, []))
        return next((str(path) for path in paths if path.is_file()), None)


def install(patch: pytest.MonkeyPatch, folders: dict[str, list[Path]]) -> None:
    """Put the modules of ComfyUI that EmbedMerge imports into sys.modules. folders: kind -> folders."""
    modules = {name: ModuleType(name) for name in ("comfy", "comfy.model_management", "comfy.utils", "nodes", "server")}
    modules["comfy.sd1_clip"] = comfyui_tokenizer
    modules["folder_paths"] = FolderPaths(folders)
    modules["comfyui_version"] = ModuleType("comfyui_version")
    vars(modules["comfy.model_management"])["load_model_gpu"] = load_model_gpu
    vars(modules["comfy.utils"])["ProgressBar"] = ProgressBar
    vars(modules["nodes"])["PreviewImage"] = PreviewImage
    vars(modules["comfyui_version"])["__version__"] = "0.3.64"
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            patch.setattr(modules[parent], child, module, raising=False)
        patch.setitem(sys.modules, name, module)
