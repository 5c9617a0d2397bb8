"""Forge: a text processing engine and a database for each encoder; selecting a checkpoint loads nothing."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import safetensors.torch
import torch

from doubles import generation
from doubles.database import Chunk, EmbeddingDatabase, EngineDatabase, chunks_of, encoded, used
from doubles.installed import Options, Surroundings
from doubles.layers import (
    Model,
    Node,
    TableWithEmbeddings,
    conditioning_of,
    like_transformers,
    padding_id,
    table_layer,
)

last_extra_generation_params: dict[str, str] = {}
"""Of this module, as of Forge's classic_engine: what its engines say for the infotext."""

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
        return chunks_of(line, self.tokenize, self.embeddings)

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        self.encode_once()
        (layer,) = (one for one in self.text_encoder.modules() if isinstance(one, TableWithEmbeddings))
        chunks = [self.tokenize_line(text)[0] for text in texts]
        rows = encoded(chunks, layer, self.embeddings, padding_id(layer))
        for name in used(chunks):
            self.tell(name)
        return rows

    def tell(self, name: str) -> None:
        """That an embedding is used: in the console, and for the infotext."""
        print(f"[Textual Inversion] Used Embedding [{name}] in CLIP of [{self.embedding_key}]")  # noqa: T201 -- as Forge does
        said = last_extra_generation_params.get("TI")
        last_extra_generation_params["TI"] = f"{said}, {name}" if said else name

    def encode_once(self) -> None:
        """What the first prompt does to the layer."""
        encoder: Any = self.text_encoder
        embeddings = encoder.transformer.text_model.embeddings
        with torch.inference_mode():
            embeddings.token_embedding = embeddings.token_embedding.to(dtype=torch.float32)


class EngineModel(Model):
    """A model with engines."""

    def __init__(self, info: Any, **engines: Any) -> None:
        super().__init__(info, **engines)
        self.engines = [one for one in engines.values() if isinstance(one, Engine)]
        self.extra_generation_params: dict[str, str] = {}
        self.comments: list[str] = []

    @torch.inference_mode()
    def get_learned_conditioning(self, texts: Any) -> Any:
        """Of a model with T5, which is not encoded here, zeros."""
        rows = [engine(texts) for engine in self.engines]
        if not rows:
            return torch.zeros(len(texts), 1)
        return rows[0] if hasattr(self, "text_processing_engine") else conditioning_of(rows, texts)


class Forge:
    """The double, installed; nothing is loaded."""

    cache_slots = 3
    early_hires = inference_mode = skips_negative = passes_old_scheduling = True
    strict_json = False
    engine: type[Engine] = Engine
    leftovers: ClassVar[dict[str, dict[str, Any]]] = {"sd_hijack": {"model_hijack": SimpleNamespace()}}
    """Modules of AUTOMATIC1111's that are still there, and of no use."""

    def __init__(self, surroundings: Surroundings, selected: str = "alpha") -> None:
        self.around = surroundings
        self.infos = surroundings.infos()
        self.styles = generation.Styles()
        self.need_global_unload = False
        self.options = Options(sd_model_checkpoint=surroundings.info(selected).title, forge_additional_modules=[])
        self.model_data = SimpleNamespace(
            sd_model=SimpleNamespace(cond_stage_model=None, chunk_length=75),  # its FakeInitialModel
            forge_loading_parameters={},
            forge_hash="",
        )
        surroundings.install(
            shared={
                "opts": self.options,
                "cmd_opts": SimpleNamespace(embeddings_dir=str(surroundings.embeddings)),
                "prompt_styles": self.styles,
            },
            sd_models={
                "model_data": self.model_data,
                "checkpoints_list": self.infos,
                "checkpoint_aliases": dict(self.infos),
                "forge_model_reload": self.reload,
            },
            modules_forge__main_entry={"checkpoint_change": self.choose},
            **self.leftovers,
            backend__text_processing__classic_engine={"ClassicTextProcessingEngine": self.engine},
        )
        generation.install(surroundings, self)
        self.select()

    @property
    def model(self) -> Any:
        return self.model_data.sd_model

    def choose(self, title: str, *, save: bool = True) -> None:
        """Another checkpoint, loaded at the next generation."""
        del save
        self.options.sd_model_checkpoint = title
        self.select()

    def apply(self, settings: dict[str, Any]) -> None:
        for key, value in settings.items():
            if key == "sd_model_checkpoint":
                self.choose(value)
            else:
                self.options.set(key, value)

    def prepare(self, p: Any) -> None:
        """manage_model_and_prompt_cache."""
        self.reload()
        if self.need_global_unload:
            p.clear_prompt_cache()
        self.need_global_unload = False

    def switch_to(self, info: Any) -> None:
        """In memory only: what is selected stays so."""
        selected = self.options.sd_model_checkpoint
        if info is None:
            self.reload()
            return
        try:
            self.choose(info.title)
            self.reload()
        finally:
            self.choose(selected)

    def begin(self) -> None:
        self.model.comments, self.model.extra_generation_params = [], {}

    def restrict(self, wanted: tuple[Any, ...]) -> tuple[Any, ...]:
        return wanted

    def encoded(self, cache: list[Any]) -> None:
        module: Any = sys.modules[__name__]
        cache[2] = dict(module.last_extra_generation_params)
        self.recalled(cache)
        module.last_extra_generation_params = {}

    def recalled(self, cache: list[Any]) -> None:
        self.model.extra_generation_params.update(cache[2])

    def said(self) -> tuple[dict[str, Any], list[str]]:
        return self.model.extra_generation_params, self.model.comments

    def select(self, modules: Sequence[Path] = ()) -> None:
        """refresh_model_loading_parameters, with additional modules."""
        self.need_global_unload = True
        self.model_data.forge_loading_parameters = {
            "checkpoint_info": generation.checkpoint(self, self.options.sd_model_checkpoint),
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
        engines = {names[key]: self.engine(table.clone(), key, self.around, shape) for key, table in tables.items()}
        return EngineModel(info, **engines)


def with_t5(info: Any, *names: str) -> Model:
    """Flux, SD3.5 (names: l, g) or Chroma (none): T5 beside what CLIP there is."""
    widths = {"l": 768, "g": 1280}
    engines = {
        f"text_processing_engine_{name}": SimpleNamespace(
            text_encoder=like_transformers(table_layer(torch.zeros(2, widths[name]))),
            embeddings=EmbeddingDatabase(widths[name]),
        )
        for name in names
    }
    return EngineModel(info, text_processing_engine_t5=SimpleNamespace(text_encoder=Node()), **engines)
