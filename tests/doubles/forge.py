"""Forge: a text processing engine and a database for each encoder; selecting a checkpoint loads nothing."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors.torch
import torch

from doubles.database import Chunk, EngineDatabase, chunks_of
from doubles.installed import Options, Surroundings, processing
from doubles.layers import Model, Node, TableWithEmbeddings, like_transformers, table_layer

_TABLE = "text_model.embeddings.token_embedding.weight"


class Engine:
    """One text encoder of a model, no torch module. Its table is float16 until the first prompt, then float32."""

    def __init__(self, table: torch.Tensor, key: str, around: Surroundings, expected_shape: int) -> None:
        self.embedding_key = key
        pad_token = "!" if key == "clip_g" else "<|endoftext|>"
        self.tokenize = functools.partial(around.tokenize, pad_token=pad_token)
        self.embeddings = EngineDatabase(self.tokenize, expected_shape)
        self.embeddings.load_folder(str(around.embeddings))
        layer = TableWithEmbeddings(table_layer(table), self.embeddings, key)
        self.text_encoder = like_transformers(layer)

    def tokenize_line(self, line: str) -> tuple[list[Chunk], int]:
        (ids,) = self.tokenize([line])
        return chunks_of(ids, self.embeddings), len(ids)

    def encode_once(self) -> None:
        """What the first prompt does to the layer."""
        embeddings: Any = self.text_encoder.transformer.text_model.embeddings
        with torch.inference_mode():
            embeddings.token_embedding = embeddings.token_embedding.to(dtype=torch.float32)


class Forge:
    """The double, installed; nothing is loaded."""

    def __init__(self, surroundings: Surroundings, selected: str = "alpha") -> None:
        self.around = surroundings
        self.infos = surroundings.infos()
        self.options = Options(sd_model_checkpoint=surroundings.info(selected).title, forge_additional_modules=[])
        self.model_data = SimpleNamespace(
            sd_model=SimpleNamespace(cond_stage_model=None, chunk_length=75),  # its FakeInitialModel
            forge_loading_parameters={},
            forge_hash="",
        )
        surroundings.install(
            shared={"opts": self.options, "cmd_opts": SimpleNamespace(embeddings_dir=str(surroundings.embeddings))},
            sd_models={
                "model_data": self.model_data,
                "checkpoints_list": self.infos,
                "checkpoint_aliases": dict(self.infos),
                "forge_model_reload": self.reload,
            },
            processing=processing(),
            modules_forge__main_entry={"checkpoint_change": self.choose},
        )
        self.select()

    @property
    def model(self) -> Any:
        return self.model_data.sd_model

    def choose(self, title: str, *, save: bool = True) -> None:
        """Another checkpoint, loaded at the next generation."""
        del save
        self.options.sd_model_checkpoint = title
        self.select()

    def select(self, modules: Sequence[Path] = ()) -> None:
        """refresh_model_loading_parameters, with additional modules."""
        self.model_data.forge_loading_parameters = {
            "checkpoint_info": self.infos[self.options.sd_model_checkpoint],
            "additional_modules": [str(module) for module in modules],
            "unet_storage_dtype": None,
        }

    def reload(self) -> None:
        """forge_model_reload: load what is selected, where that is not loaded. Its tensors are inference tensors."""
        parameters = self.model_data.forge_loading_parameters
        if self.model_data.forge_hash == str(parameters):
            return
        self.model_data.sd_model = None
        with torch.inference_mode():
            self.model_data.sd_model = self._loaded(parameters)
        self.model_data.forge_hash = str(parameters)

    def _loaded(self, parameters: Mapping[str, Any]) -> Model:
        info = parameters["checkpoint_info"]
        tables = dict(self.around.checkpoints[info.name_for_extra].tables)
        for module in parameters["additional_modules"]:
            tensors = safetensors.torch.load_file(module)
            if _TABLE in tensors:
                tables["clip_l"] = tensors[_TABLE]
        if set(tables) == {"clip_l", "clip_g"}:
            names = {"clip_l": "text_processing_engine_l", "clip_g": "text_processing_engine_g"}
        elif set(tables) == {"clip_g"}:
            names = {"clip_g": "text_processing_engine_g"}
        else:
            names = dict.fromkeys(tables, "text_processing_engine")
        shape = sum(table.shape[1] for table in tables.values())
        engines = {names[key]: Engine(table.clone(), key, self.around, shape) for key, table in tables.items()}
        return Model(info, **engines)


def with_t5(info: Any, *names: str) -> Model:
    """Flux, SD3.5 (names: l, g) or Chroma (none): T5 beside what CLIP there is."""
    widths = {"l": 768, "g": 1280}
    engines = {
        f"text_processing_engine_{name}": SimpleNamespace(
            text_encoder=like_transformers(table_layer(torch.zeros(2, widths[name])))
        )
        for name in names
    }
    return Model(info, text_processing_engine_t5=SimpleNamespace(text_encoder=Node()), **engines)
