"""A web UI extension for tests: runs the contract (tests/contract) inside the web UI, and watches text encoders.

Installed beside EmbedMerge by tests/webui/install.py; driven over HTTP by tests/webui/test_real_host.py. Never shipped.

    GET  /embedmerge-probe/checks          names of the checks, and whether a model is in memory
    GET  /embedmerge-probe/registered      EmbedMerge's callbacks that the web UI knows, by kind
    GET  /embedmerge-probe/started         whether the web UI was started with its API, and with logins for it; its
                                           folder of embeddings, and the route that reads it again
    GET  /embedmerge-probe/routes          those of EmbedMerge's API in the web UI's app
    POST /embedmerge-probe/run/{check}     runs one against WebuiHost
    POST /embedmerge-probe/save/{name}     saves an embedding of {source}, as the faces do
    POST /embedmerge-probe/watch           from now on, what the token layers give is recorded
    POST /embedmerge-probe/seen/{name}     where in that the vectors of an embedding stood; ends the recording
    POST /embedmerge-probe/judge/{case}    what in that is not as contract/generations.py says; ends the recording
    POST /embedmerge-probe/judge-text      the same, where a {text} and the empty one should have been encoded
    POST /embedmerge-probe/judge-texts     the same for a list of texts
    POST /embedmerge-probe/printed/{file}  what another extension's script in a file of this name has printed since the
                                           last such request
    POST /embedmerge-probe/forget-conditionings
    GET  /embedmerge-probe/checkpoints     titles of the active checkpoint, another of its architecture with other text
                                           encoders, a refiner; what it lacks for that
    GET  /embedmerge-probe/model           what EmbedMerge takes for the active model, and the file that is in memory
    GET  /embedmerge-probe/traces          temporary names and patches that are still there
    GET  /embedmerge-probe/finds/{name}    whether the web UI finds an embedding of that name in a prompt
    POST /embedmerge-probe/forget/{name}   removes the embedding

The file `started` in its folder is written each time the web UI has started.
"""

from __future__ import annotations

import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import torch
from modules import processing, script_callbacks, scripts, sd_models, shared

_EXTENSION = Path(__file__).resolve().parents[1]
_PLACES = [str(_EXTENSION), str(_EXTENSION.with_name("embedmerge"))]
sys.path[:0] = _PLACES  # the web UI takes it back when its scripts are loaded; by then the packages are
from arrays import as_tensors
from contract.callbacks import list_registered
from contract.checks import CHECKS
from contract.generations import CASES, TEMPORARY, Case, Watch, find_places, judge
from contract.webui_tools import CACHES, WebuiTools, architecture_of_file, find_others

from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.hosts.webui.host import WebuiHost
from lib_embedmerge.recipes.build import build_embedding

_host = WebuiHost()
_watch: Watch | None = None
_watched: tuple[Any, Any] = (None, None)


def _is_loaded() -> bool:
    return hasattr(sd_models.model_data.sd_model, "sd_checkpoint_info")


def _tools() -> WebuiTools:
    return WebuiTools(load=_is_loaded())


def checks() -> dict[str, Any]:
    return {"checks": sorted(CHECKS), "loaded": _is_loaded()}


def registered() -> list[str]:
    return list_registered(script_callbacks.callback_map)


def started() -> dict[str, Any]:
    options = shared.cmd_opts
    return {
        "api": bool(options.api),
        "logins": bool(options.api_auth),
        "embeddings": str(options.embeddings_dir),
        "refreshes": "/sdapi/v1/refresh-embeddings",
    }


def routes(app: Any) -> list[str]:
    """As /docs lists them: EmbedMerge makes them when they are asked for."""
    found = {path: methods for path, methods in app.openapi()["paths"].items() if path.startswith("/embedmerge/")}
    return sorted(f"{method.upper()} {path}" for path, methods in found.items() for method in methods)


def run(check: str) -> dict[str, Any]:
    tools = _tools()
    try:
        CHECKS[check](_host, tools)
    except Exception:  # noqa: BLE001 -- whatever it is, the test on the other side shows it
        return {"ok": False, "error": traceback.format_exc(), "lacks": None}
    return {"ok": True, "error": None, "lacks": tools.lacks}


def save(name: str, source: str) -> dict[str, Any]:
    active = _host.active()
    path = build_embedding(active.model, source, name).save(_host.embeddings_folder, overwrite=True)
    _host.embedding_saved(path)
    return {"path": str(path), "vectors_from": active.vectors_from, "notes": active.warnings}


def watch() -> dict[str, Any]:
    global _watch, _watched
    if _watch:
        _watch.end()
    _watch, _watched = Watch(), _checkpoints()  # some web UIs end a job with another checkpoint than it began with
    return {}


def seen(name: str) -> dict[str, Any]:
    embedding = load_embedding(_host.library().path(name))
    outputs = _outputs()
    return {key: find_places(rows, outputs.get(key, [])) for key, rows in as_tensors(embedding.vectors).items()}


def judge_case(case: str) -> dict[str, Any]:
    return _judged(CASES[case])


def judge_text(text: str) -> dict[str, Any]:
    return _judged(Case(text, [text, ""]))


def judge_texts(texts: list[str]) -> dict[str, Any]:
    return _judged(Case("", texts))


_printed: dict[str, list[str]] = {}


def printed(file: str) -> list[str]:
    found = _printed.pop(file, [])
    _printed[file] = []
    for script in (one for one in scripts.scripts_data if Path(one.path).name == file):
        script.module.print = lambda *texts, **_: _printed[file].append(" ".join(map(str, texts)))
    return found


def finds(name: str) -> dict[str, bool | None]:
    return {"found": _tools().finds(name)}


def _judged(case: Case) -> dict[str, Any]:
    outputs = _outputs()
    current, other = _watched
    files = Path(current.filename), Path(other.filename) if other else None
    wrong = judge(case, outputs, *files, _host.embeddings_folder) if outputs else []
    return {"calls": {key: len(calls) for key, calls in outputs.items()}, "wrong": wrong}


def checkpoints() -> dict[str, Any]:
    current, other = _checkpoints()
    _, lacks = find_others(Path(current.filename), sd_models.checkpoints_list.values())
    refiner = _info_of_architecture("sdxl-refiner")
    titles = {"other": other, "refiner": refiner}
    return {
        "current": current.title,
        "lacks": lacks,
        **{name: one.title if one else None for name, one in titles.items()},
    }


def model() -> dict[str, Any]:
    active = _host.active()
    loaded = sd_models.model_data.sd_model.sd_checkpoint_info.filename if _is_loaded() else None
    told = {"vectors_from": active.vectors_from, "notes": active.warnings, "in_memory": loaded and Path(loaded).name}
    return {"file": active.model.facts.file_name, "architecture": active.model.facts.architecture.name, **told}


def forget_conditionings() -> dict[str, Any]:
    for class_name, names in CACHES:
        owner = getattr(processing, class_name)
        for name in names:
            setattr(owner, f"cached_{name}", [None] * len(getattr(owner, f"cached_{name}")))
    return {}


def traces() -> dict[str, Any]:
    """Temporary names in the databases, and the module that the seam's method is of."""
    databases = _tools().databases() if _is_loaded() else []
    names = [entry[1].name for database in databases for entries in database.ids_lookup.values() for entry in entries]
    names += [name for database in databases for name in database.word_embeddings]
    method = processing.StableDiffusionProcessing.get_conds_with_caching
    return {"names": [name for name in names if TEMPORARY.search(name)], "method": method.__module__}


def forget(name: str) -> dict[str, Any]:
    _tools().forget(_host.library().path(name))
    return {}


def _outputs() -> dict[str, list[torch.Tensor]]:
    """What was recorded; ends it."""
    assert _watch is not None, "nothing was recorded"
    _watch.end()
    return _watch.outputs


def _checkpoints() -> tuple[Any, Any]:
    """The web UI's infos of the checkpoint that is selected, and of another one of its architecture."""
    selected = Path(sd_models.select_checkpoint().filename)  # what is loaded can be what the last job ended with
    infos = {Path(info.filename): info for info in sd_models.checkpoints_list.values()}
    others, _ = find_others(selected, infos.values())
    return infos[selected], next(iter(others), None)


def _info_of_architecture(name: str) -> Any:
    infos = sd_models.checkpoints_list.values()
    found = ((info, architecture_of_file(Path(info.filename))) for info in infos)
    return next((info for info, architecture in found if architecture is not None and architecture.name == name), None)


def _app_started(_demo: object, app: Any) -> None:
    app.add_api_route("/embedmerge-probe/routes", partial(routes, app), methods=["GET"])
    for function in (checks, registered, started, checkpoints, model, traces):
        app.add_api_route(f"/embedmerge-probe/{function.__name__}", function, methods=["GET"])
    app.add_api_route("/embedmerge-probe/finds/{name}", finds, methods=["GET"])
    app.add_api_route("/embedmerge-probe/judge/{case}", judge_case, methods=["POST"])
    app.add_api_route("/embedmerge-probe/judge-text", judge_text, methods=["POST"])
    app.add_api_route("/embedmerge-probe/judge-texts", judge_texts, methods=["POST"])
    app.add_api_route("/embedmerge-probe/printed/{file}", printed, methods=["POST"])
    app.add_api_route("/embedmerge-probe/forget-conditionings", forget_conditionings, methods=["POST"])
    posted: dict[str, Any] = {
        "/run/{check}": run, "/save/{name}": save, "/watch": watch, "/seen/{name}": seen, "/forget/{name}": forget
    }  # fmt: skip
    for path, function in posted.items():
        app.add_api_route(f"/embedmerge-probe{path}", function, methods=["POST"])
    (_EXTENSION / "started").touch()


script_callbacks.on_app_started(_app_started)
