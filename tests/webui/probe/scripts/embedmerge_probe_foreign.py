"""Part of the probe: models with other text encoders than CLIP, planted into a Forge or a fork of it.

No such model is loaded: an object of the web UI's own class takes the place of the loaded model, with engines of its
own classes, but without weights. So only what reads the object's attributes can be tested with it.

    GET  /embedmerge-probe/foreign         names of the web UI's models with other text encoders than CLIP
    POST /embedmerge-probe/plant/{name}    puts one in place of the model in memory
    POST /embedmerge-probe/unplant         puts the model back
    POST /embedmerge-probe/change/{name}   saves, renames, edits and deletes an embedding, as the page's buttons do
    POST /embedmerge-probe/logged          what EmbedMerge has logged since the last such request
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
from pathlib import Path
from typing import Any

from modules import script_callbacks, sd_models

_EXTENSION = Path(__file__).resolve().parents[2] / "embedmerge"
sys.path.insert(0, str(_EXTENSION))  # the web UI takes it back when its scripts are loaded
from lib_embedmerge.actions import managing
from lib_embedmerge.hosts.webui.host import WebuiHost
from lib_embedmerge.recipes.build import build_embedding

_PREFIX = "text_processing_engine"
_ENGINE = re.compile(rf"self\.({_PREFIX}\w*) = (\w+)\(")
_CLASS = re.compile(r"^class (\w+)\(ForgeDiffusionEngine\):", re.MULTILINE)
_CLIP = "ClassicTextProcessingEngine"

_host = WebuiHost()
_kept: list[Any] = []
"""The model that a planted one has replaced."""


class _Records(logging.Handler):
    """Keeps what EmbedMerge logs as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter().format(record))


_records = _Records()


def _find_foreign() -> dict[str, tuple[str, dict[str, str]]]:
    """Name -> the module, and attribute -> class of the engines, as the web UI's source has them."""
    folder = Path(sd_models.__file__).parents[1] / "backend" / "diffusion_engine"
    found = {}
    for file in sorted(folder.glob("*.py")):
        source = file.read_text(encoding="utf-8")
        names = _CLASS.findall(source)
        engines = dict(_ENGINE.findall(source))
        if len(names) == 1 and set(engines.values()) - {_CLIP}:
            found[names[0]] = f"backend.diffusion_engine.{file.stem}", engines
    return found


def foreign() -> list[str]:
    return list(_find_foreign())


def plant(name: str) -> dict[str, Any]:
    module_name, engines = _find_foreign()[name]
    module = importlib.import_module(module_name)
    before = sd_models.model_data.sd_model
    model = _make_bare(getattr(module, name))
    vars(model).update({name: value for name, value in vars(before).items() if not name.startswith(_PREFIX)})
    for attribute, class_name in engines.items():
        engine = _make_bare(getattr(module, class_name))
        if class_name == _CLIP:
            databases = importlib.import_module("backend.text_processing.textual_inversion")
            engine.embeddings = databases.EmbeddingDatabase(None, 768)
        setattr(model, attribute, engine)
    _kept.append(before)
    sd_models.model_data.sd_model = model
    return {"engines": engines}


def unplant() -> dict[str, Any]:
    sd_models.model_data.sd_model = _kept[0]
    _kept.clear()
    return {}


def change(name: str) -> dict[str, Any]:
    model = _host.active().model
    _host.embedding_saved(build_embedding(model, "'cat'+'dog'", name).save(_host.embeddings_folder, overwrite=True))
    path = build_embedding(model, "'cat'*2", name).save(_host.embeddings_folder, overwrite=True)
    _host.embedding_saved(path)
    managing.edit_notes(_host, [path.name], "of a test")
    managing.rename(_host, [path.name], f"{name}b")
    managing.delete(_host, [f"{name}b{path.suffix}"])
    return {"left": [one for one in _host.library().names() if one.startswith(name)]}


def logged() -> list[str]:
    found, _records.texts = _records.texts, []
    return found


def _make_bare(of_class: Any) -> Any:
    """An object of a class, without running its constructor, which needs weights."""
    made = of_class.__new__(of_class)
    if "torch" in sys.modules and isinstance(made, sys.modules["torch"].nn.Module):
        sys.modules["torch"].nn.Module.__init__(made)
    return made


def _app_started(_demo: object, app: Any) -> None:
    logging.getLogger("lib_embedmerge").addHandler(_records)
    app.add_api_route("/embedmerge-probe/foreign", foreign, methods=["GET"])
    posted: dict[str, Any] = {"plant/{name}": plant, "unplant": unplant, "change/{name}": change, "logged": logged}
    for path, function in posted.items():
        app.add_api_route(f"/embedmerge-probe/{path}", function, methods=["POST"])


script_callbacks.on_app_started(_app_started)
