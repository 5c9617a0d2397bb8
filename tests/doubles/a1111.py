"""AUTOMATIC1111: hijacked embedders over transformers (CLIP-L) and open_clip (CLIP-G, CLIP-H), one database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch

from doubles import generation
from doubles.database import SharedDatabase
from doubles.installed import Options, Surroundings
from doubles.layers import (
    Conditioner,
    Embedder,
    Model,
    Node,
    TableWithEmbeddings,
    like_open_clip,
    like_transformers,
    table_layer,
)


class A1111:
    """The double, installed. model_data is sd_models.model_data; model_data.sd_model None while nothing is loaded."""

    dtype = torch.float16
    cache_slots = 2
    early_hires = inference_mode = skips_negative = strict_json = False
    passes_old_scheduling = True

    def __init__(self, surroundings: Surroundings, selected: str = "alpha") -> None:
        self.around = surroundings
        self.model_data = SimpleNamespace(sd_model=None)
        self.database = SharedDatabase(lambda: self.model_data.sd_model, surroundings.embeddings)
        self.hijack = SimpleNamespace(embedding_db=self.database, fixes=None, comments=[], extra_generation_params={})
        infos = surroundings.infos()
        self.infos = infos
        self.options = Options(self._option_changed, sd_model_checkpoint=surroundings.info(selected).title)
        self.styles = generation.Styles()
        surroundings.install(
            shared={
                "opts": self.options,
                "cmd_opts": SimpleNamespace(embeddings_dir=str(surroundings.embeddings)),
                "prompt_styles": self.styles,
            },
            sd_models={
                "model_data": self.model_data,
                "checkpoints_list": infos,
                "checkpoint_aliases": dict(infos),
                "select_checkpoint": lambda: self.selected,
                "SkipWritingToConfig": nullcontext,
                "reload_model_weights": lambda info=None: self.switch_to(info),
            },
            sd_hijack={"model_hijack": self.hijack},
            sd_hijack_clip={"TextConditionalModel": Embedder, "FrozenCLIPEmbedderWithCustomWordsBase": Embedder},
        )
        generation.install(surroundings, self)

    @property
    def model(self) -> Any:
        return self.model_data.sd_model

    @property
    def selected(self) -> Any:
        return generation.checkpoint(self, self.options.sd_model_checkpoint)

    def load(self, build: Callable[[A1111, Any], Model] | None = None, info: Any = None) -> None:
        """Load a checkpoint, else what is selected, as the web UI does at its start or when another one is chosen."""
        info = info or self.selected
        if self.model is not None and build is None and self._is_alike(info):
            self._load_into(info)
        else:
            self.model_data.sd_model = (build or _BUILDS[frozenset(self.tables(info))])(self, info)
            if hasattr(self.model, "cond_stage_model"):
                self.database.load_textual_inversion_embeddings(force_reload=True)

    def apply(self, settings: dict[str, Any]) -> None:
        for key, value in settings.items():
            self.options.set(key, value, run_callbacks=False)

    def prepare(self, p: Any) -> None:
        del p
        self.switch_to(None)

    def switch_to(self, info: Any) -> None:
        """reload_model_weights: nothing where that one is loaded."""
        wanted = info or self.selected
        if self.model is None or self.model.sd_checkpoint_info.filename != wanted.filename:
            self.load(info=wanted)

    def begin(self) -> None:
        self.hijack.comments, self.hijack.extra_generation_params = [], {}
        self.database.load_textual_inversion_embeddings()

    def restrict(self, wanted: tuple[Any, ...]) -> tuple[Any, ...]:
        return wanted

    def encoded(self, cache: list[Any]) -> None:
        """What was said of it is forgotten with it."""

    def recalled(self, cache: list[Any]) -> None:
        """It says nothing."""

    def said(self) -> tuple[dict[str, Any], list[str]]:
        return self.hijack.extra_generation_params, self.hijack.comments

    def tables(self, info: Any) -> dict[str, torch.Tensor]:
        """A checkpoint's tables in the dtype of this web UI. Nothing writes into them."""
        tables = self.around.checkpoints[info.name_for_extra].tables
        return {key: table.to(self.dtype) for key, table in tables.items()}

    def wrap(self, bare: Node, *, open_clip: bool) -> Embedder:
        """Hijack one text encoder."""
        tokenize = self.around.open_clip if open_clip else self.around.tokenize
        return Embedder(bare, self.hijack, tokenize, self.options)

    def layer(self, table: torch.Tensor, key: str = "clip_l") -> TableWithEmbeddings:
        return TableWithEmbeddings(table_layer(table), self.hijack, key)

    def _option_changed(self, key: str) -> None:
        if key == "sd_model_checkpoint" and self.model is not None:
            self.load()

    def _is_alike(self, info: Any) -> bool:
        return set(self.around.checkpoints[info.name_for_extra].tables) == set(_layers(self.model))

    def _load_into(self, info: Any) -> None:
        """Of the same configuration: into the same layers; the database stays as it is."""
        for key, layer in _layers(self.model).items():
            layer.weight.data = torch.empty_like(layer.weight)  # until now it was the checkpoint's own
            with torch.no_grad():
                layer.weight.copy_(self.around.checkpoints[info.name_for_extra].tables[key])
        self.model.sd_checkpoint_info = info


def sdxl(host: A1111, info: Any) -> Model:
    tables = host.tables(info)
    first = host.wrap(like_transformers(host.layer(tables["clip_l"])), open_clip=False)
    second = host.wrap(like_open_clip(host.layer(tables["clip_g"], "clip_g")), open_clip=True)
    conditioner = Conditioner(first, second)
    return Model(info, conditioner=conditioner, cond_stage_model=conditioner, is_sdxl=True)


def refiner(host: A1111, info: Any) -> Model:
    """One text encoder, which then is the cond_stage_model itself."""
    embedder = host.wrap(like_open_clip(host.layer(host.tables(info)["clip_g"], "clip_g")), open_clip=True)
    return Model(info, conditioner=Conditioner(embedder), cond_stage_model=embedder, is_sdxl=True)


def sd1(host: A1111, info: Any) -> Model:
    bare = like_transformers(host.layer(host.tables(info)["clip_l"]))
    return Model(info, cond_stage_model=host.wrap(bare, open_clip=False), is_sd1=True)


def sd2(host: A1111, info: Any) -> Model:
    bare = like_open_clip(host.layer(host.tables(info)["clip_h"]))
    return Model(info, cond_stage_model=host.wrap(bare, open_clip=True), is_sd2=True)


_BUILDS: dict[frozenset[str], Callable[[A1111, Any], Model]] = {
    frozenset({"clip_l", "clip_g"}): sdxl,
    frozenset({"clip_g"}): refiner,
    frozenset({"clip_l"}): sd1,
    frozenset({"clip_h"}): sd2,
}


def not_hijacked(host: A1111, info: Any) -> Model:
    """In the middle of a change of checkpoint: bare embedders, plain layers, no cond_stage_model."""
    tables = host.tables(info)
    bare = like_transformers(table_layer(tables["clip_l"])), like_open_clip(table_layer(tables["clip_g"]))
    model = Model(info, conditioner=Conditioner(*bare), is_sdxl=True)
    del model.cond_stage_model
    return model


class _TableOfSd3(torch.nn.Embedding):
    """Its `wrapped` is a method, not a module."""

    @property
    def wrapped(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return super().forward


def sd3(host: A1111, info: Any) -> Model:
    """Three text encoders, two of them CLIP."""
    del host
    encoders = {name: like_transformers(_TableOfSd3(1, width)) for name, width in (("clip_l", 768), ("clip_g", 1280))}
    return Model(info, cond_stage_model=Node(**encoders, t5xxl=torch.nn.Identity()), is_sd3=True)


def _layers(model: Any) -> dict[str, torch.nn.Embedding]:
    keys = {768: "clip_l", 1280: "clip_g", 1024: "clip_h"}
    layers = [one for one in model.modules() if isinstance(one, torch.nn.Embedding)]
    return {keys[layer.embedding_dim]: layer for layer in layers}
