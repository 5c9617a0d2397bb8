"""A web UI extension for tests: runs the contract (tests/contract) inside the web UI, and watches text encoders.

Installed beside EmbedMerge by tests/webui/install.py; driven over HTTP by tests/webui/test_real_host.py. Never shipped.

    GET  /embedmerge-probe/checks          names of the checks, and whether a model is in memory
    GET  /embedmerge-probe/registered      EmbedMerge's callbacks that the web UI knows, by kind
    POST /embedmerge-probe/run/{check}     runs one against WebuiHost
    POST /embedmerge-probe/save/{name}     saves an embedding of {source}, as the faces do
    POST /embedmerge-probe/watch           from now on, what the token layers give is recorded
    POST /embedmerge-probe/seen/{name}     where in that the vectors of an embedding stood; ends the recording
    POST /embedmerge-probe/forget/{name}   removes the embedding
"""

# ruff: noqa: TID251 -- it is an extension of a web UI, and so imports its modules

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from modules import script_callbacks, sd_models

_EXTENSION = Path(__file__).resolve().parents[1]
_PLACES = [str(_EXTENSION), str(_EXTENSION.with_name("embedmerge"))]
sys.path[:0] = _PLACES  # the web UI takes it back when its scripts are loaded; by then the packages are
from contract.checks import CHECKS  # noqa: E402 -- found by the line above
from contract.webui_tools import WebuiTools, layer_of  # noqa: E402

from lib_embedmerge.hosts.webui import WebuiHost  # noqa: E402
from lib_embedmerge.storage.build import build_embedding  # noqa: E402
from lib_embedmerge.storage.embedding import load_embedding  # noqa: E402

_host = WebuiHost()
_seen: dict[str, list[torch.Tensor]] = {}
_hooks: list[Any] = []
_watching = False


def _is_loaded() -> bool:
    return hasattr(sd_models.model_data.sd_model, "sd_checkpoint_info")


def _tools() -> WebuiTools:
    return WebuiTools(load=_is_loaded())


def checks() -> dict[str, Any]:
    return {"checks": sorted(CHECKS), "loaded": _is_loaded()}


def registered() -> list[str]:
    return sorted(
        kind.removeprefix("callbacks_")
        for kind, callbacks in script_callbacks.callback_map.items()
        for callback in callbacks
        if Path(callback.script).parts[-3:] == ("embedmerge", "scripts", "embedmerge.py")
    )


def run(check: str) -> dict[str, Any]:
    try:
        CHECKS[check](_host, _tools())
    except Exception:  # noqa: BLE001 -- whatever it is, the test on the other side shows it
        return {"ok": False, "error": traceback.format_exc()}
    return {"ok": True, "error": None}


def save(name: str, source: str) -> dict[str, Any]:
    active = _host.active()
    path = build_embedding(active.model, source, name).save(_host.embeddings_folder, overwrite=True)
    _host.embedding_saved(path)
    return {"path": str(path), "vectors_from": active.vectors_from, "notes": active.notes}


def watch() -> dict[str, Any]:
    global _watching  # noqa: PLW0603 -- the web UI's callback has no other way to know
    _watching = True
    _seen.clear()
    _hook_layers()
    return {"layers": len(_hooks)}


def seen(name: str) -> dict[str, Any]:
    global _watching  # noqa: PLW0603
    _watching = False
    _unhook()
    embedding = load_embedding(_host.library().path(name))
    return {key: _places_of(vectors, _seen.get(key, [])) for key, vectors in embedding.vectors.items()}


def forget(name: str) -> dict[str, Any]:
    _tools().forget(_host.library().path(name))
    return {}


def _hook_layers(_model: object = None) -> None:
    if not _watching or not _is_loaded():
        return
    _unhook()
    for key, place in WebuiTools().places().items():
        _hooks.append(layer_of(place).register_forward_hook(_recorder(key)))


def _unhook() -> None:
    for hook in _hooks:
        hook.remove()
    _hooks.clear()


def _recorder(key: str) -> Any:
    def record(_module: object, _inputs: object, output: torch.Tensor) -> None:
        _seen.setdefault(key, []).append(output.detach().clone().cpu())

    return record


def _places_of(vectors: torch.Tensor, outputs: list[torch.Tensor]) -> dict[str, Any]:
    """Calls of the layer, its dtype, and (call, row, position) wherever the vectors stand, to the last bit."""
    found = []
    for call, output in enumerate(outputs):
        for row, places in enumerate(output):
            for first in range(len(places) - len(vectors) + 1):
                here = places[first : first + len(vectors)]
                if here.dtype == torch.float32 and torch.equal(here, vectors):
                    found.append((call, row, first))
    return {"calls": len(outputs), "dtypes": sorted({str(output.dtype) for output in outputs}), "found": found}


def _app_started(_demo: object, app: Any) -> None:
    app.add_api_route("/embedmerge-probe/checks", checks, methods=["GET"])
    app.add_api_route("/embedmerge-probe/registered", registered, methods=["GET"])
    routes = ((run, "/{check}"), (save, "/{name}"), (watch, ""), (seen, "/{name}"), (forget, "/{name}"))
    for function, parameter in routes:
        app.add_api_route(f"/embedmerge-probe/{function.__name__}{parameter}", function, methods=["POST"])


script_callbacks.on_app_started(_app_started)
script_callbacks.on_model_loaded(_hook_layers)
