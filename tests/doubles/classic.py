"""Forge Classic: reForge's text encoders over A1111's host. Only plain JSON leaves it, and its database is read again
with every model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from doubles.a1111 import A1111
from doubles.installed import Surroundings
from doubles.reforge import ReForge, build_model


class Classic(ReForge):
    """The double, installed. It has no option for text encoders of another checkpoint."""

    cache_slots = 2
    strict_json = True

    def __init__(self, surroundings: Surroundings, selected: str = "alpha") -> None:
        A1111.__init__(self, surroundings, selected)
        surroundings.install(modules_forge__main_thread={"run_and_wait_result": _run})

    def load(self, build: Any = None, info: Any = None) -> None:
        info = info or self.selected
        self.model_data.sd_model = None
        self.model_data.sd_model = (build or build_model)(self, info)
        self.database.load_textual_inversion_embeddings(force_reload=True)

    def tables(self, info: Any) -> Any:
        return A1111.tables(self, info)

    def encoded(self, cache: list[Any]) -> None:
        """What was said of it is forgotten with it."""

    def recalled(self, cache: list[Any]) -> None:
        """It says nothing."""

    def _option_changed(self, key: str) -> None:
        A1111._option_changed(self, key)


def _run(function: Any, *args: Any, **kwargs: Any) -> SimpleNamespace:
    """main_thread.run_and_wait_result, in this thread."""
    found: SimpleNamespace = function(*args, **kwargs)
    return found
