"""Forge Neo: Forge's engines and databases, but no modules.sd_hijack at all, engines for encoders other than CLIP, and
one place for what all engines say for the infotext."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

from doubles.forge import Engine, EngineModel, Forge
from doubles.installed import Surroundings
from doubles.layers import Model, Node


class dynamic_args:  # noqa: N801 -- as Forge Neo calls it
    """backend.args.dynamic_args, which the modules of engines import."""

    last_extra_generation_params: ClassVar[dict[str, str]] = {}


class NeoEngine(Engine):
    """One CLIP encoder of a model. The class of Forge Neo has these methods itself, where EmbedMerge wraps them."""

    __call__ = Engine.__call__
    tokenize_line = Engine.tokenize_line

    def tell(self, name: str) -> None:
        print(f"[Textual Inversion] Used Embedding [{name}] in CLIP of [{self.embedding_key}]")  # noqa: T201 -- as Forge Neo does
        said = dynamic_args.last_extra_generation_params.get("TI")
        dynamic_args.last_extra_generation_params["TI"] = f"{said}, {name}" if said else name


class Neo(Forge):
    """The double, installed; nothing is loaded."""

    engine = NeoEngine
    passes_old_scheduling = False
    leftovers: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, surroundings: Surroundings, selected: str = "alpha") -> None:
        super().__init__(surroundings, selected)
        surroundings.patch.setattr(dynamic_args, "last_extra_generation_params", {})
        surroundings.install(
            modules_forge__main_entry={"checkpoint_change": self.choose_for},
            backend__args={"dynamic_args": dynamic_args},
        )

    def choose_for(self, title: str, preset: str | None, *, save: bool = True, refresh: bool = True) -> bool:
        """checkpoint_change. preset: the kind of models for which the page remembers it; None for none."""
        del preset, refresh
        if title == self.options.sd_model_checkpoint:
            return False
        self.choose(title, save=save)
        return True

    def encoded(self, cache: list[Any]) -> None:
        self.model.extra_generation_params.update(dynamic_args.last_extra_generation_params)
        cache[2] = dict(dynamic_args.last_extra_generation_params)
        dynamic_args.last_extra_generation_params.clear()

    def restrict(self, wanted: tuple[Any, ...]) -> tuple[Any, ...]:
        """cached_params: it knows what is loaded, and so the files of text encoders."""
        return (*wanted, str(self.model_data.forge_loading_parameters))


OTHER_ENGINES = {
    "Chroma": "t5", "Wan": "t5", "Lumina": "gemma", "Z-Image": "gemma", "Flux.2": "gemma", "PiD": "gemma",
    "Qwen-Image": "qwen", "Krea 2": "qwen", "Anima": "anima", "Ernie": "ministral",
}  # fmt: skip
"""Models without CLIP -> what the name of their engine ends in."""


def without_clip(info: Any, ending: str) -> Model:
    """A model whose only text encoder is not CLIP, and has no database of embeddings."""
    engine = SimpleNamespace(text_encoder=Node(), tokenizer=object())
    return EngineModel(info, **{f"text_processing_engine_{ending}": engine})
