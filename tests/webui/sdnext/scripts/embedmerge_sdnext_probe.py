"""An SD.Next extension for tests: runs the contract (tests/contract) inside SD.Next, and watches its text encoders.

Installed beside EmbedMerge by tests/webui/install.py; driven over HTTP by tests/webui/test_real_sdnext.py. Those of the
other probe's routes that the tests of the API, the library and the page use are here too, and answer the same.

    GET  /embedmerge-probe/checks          names of the checks, and whether a model is in memory
    GET  /embedmerge-probe/started         as the other probe's
    GET  /embedmerge-probe/checkpoints     as the other probe's
    GET  /embedmerge-probe/registered      as the other probe's
    GET  /embedmerge-probe/routes          as the other probe's
    POST /embedmerge-probe/refresh         SD.Next reads its folder of embeddings again
    POST /embedmerge-probe/run/{check}     runs one against the host
    POST /embedmerge-probe/save/{name}     saves an embedding of {source}, as the faces do
    POST /embedmerge-probe/remove/{name}   removes it, as the library does
    POST /embedmerge-probe/forget-prompts  empties SD.Next's cache of encoded prompts
    POST /embedmerge-probe/watch           from now on, what the token layers give is recorded
    POST /embedmerge-probe/seen/{name}     where in that the vectors of an embedding stood; ends it
    POST /embedmerge-probe/judge/{case}    what in that is not as contract/sdnext_generations.py says; ends it
    POST /embedmerge-probe/judge-text      the same for a {text}, which SD.Next should have encoded; where {refined},
                                           with the other checkpoint too
    GET  /embedmerge-probe/model           what EmbedMerge takes for the active model
    GET  /embedmerge-probe/traces          hooks on embedding layers, and SD.Next's state
    GET  /embedmerge-probe/finds/{name}    whether SD.Next finds an embedding of that name in a prompt
"""

from __future__ import annotations

import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from modules import modeldata, script_callbacks, shared

_EXTENSION = Path(__file__).absolute().parents[1]  # not resolved, as it may be a link
_PLACES = [str(_EXTENSION), str(_EXTENSION.with_name("embedmerge"))]
sys.path[:0] = _PLACES  # SD.Next takes it back when its scripts are loaded; by then the packages are
from arrays import as_tensors
from contract.callbacks import list_registered
from contract.checks import CHECKS
from contract.generations import NAMED, NAMED_SOURCE, find_places
from contract.sdnext_generations import CASES, Case, Watch, judge
from contract.sdnext_tools import SdNextTools

from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.hosts.sdnext.sdnext_host import SdNextHost
from lib_embedmerge.recipes.build import build_embedding

_host = SdNextHost()
_watches: list[Watch] = []


def checks() -> dict[str, Any]:
    return {"checks": sorted(CHECKS), "cases": sorted(CASES), "loaded": modeldata.model_data.sd_model is not None}


def started() -> dict[str, Any]:
    options = shared.cmd_opts
    return {
        "api": bool(options.api),
        "logins": bool(options.api_auth or options.auth or options.auth_file),
        "embeddings": str(Path(shared.opts.embeddings_dir).absolute()),
        "refreshes": "/embedmerge-probe/refresh",
    }


def checkpoints() -> dict[str, Any]:
    tools = SdNextTools()
    current, other = tools.selected(), tools.find_other()
    lacks = None if other else "SD.Next has no other SDXL checkpoint"
    return {"current": current.title, "other": other and other.title, "refiner": None, "lacks": lacks}


def registered() -> list[str]:
    return list_registered(script_callbacks.callback_map)


def routes(app: Any) -> list[str]:
    found = {path: methods for path, methods in app.openapi()["paths"].items() if path.startswith("/embedmerge/")}
    return sorted(f"{method.upper()} {path}" for path, methods in found.items() for method in methods)


def refresh() -> dict[str, Any]:
    modeldata.model_data.sd_model.embedding_db.load_textual_inversion_embeddings(force_reload=True)
    return {}


def run(check: str) -> dict[str, Any]:
    try:
        CHECKS[check](_host, SdNextTools())
    except Exception:  # noqa: BLE001 -- whatever it is, the test on the other side shows it
        return {"ok": False, "error": traceback.format_exc()}
    return {"ok": True, "error": None}


def save(name: str, source: str) -> dict[str, Any]:
    active = _host.active()
    path = build_embedding(active.model, source, name).save(_host.embeddings_folder, overwrite=True)
    _host.embedding_saved(path)
    return {"path": str(path), "vectors_from": active.vectors_from, "notes": active.warnings}


def save_named() -> dict[str, Any]:
    return save(NAMED, NAMED_SOURCE)


def forget_prompts() -> dict[str, Any]:
    """As SD.Next does when it loads a model."""
    from modules import prompt_parser_diffusers

    prompt_parser_diffusers.cache.clear()
    return {}


def remove(name: str) -> dict[str, Any]:
    path = _host.library().path(name)
    _host.before_replacing(path)
    path.unlink()
    _host.embedding_removed(path)
    return {}


def watch() -> dict[str, Any]:
    _watches.append(Watch())
    return {}


def seen(name: str) -> dict[str, Any]:
    embedding = load_embedding(_host.library().path(name))
    watched = _watches.pop()
    watched.end()
    return {key: find_places(rows, watched.outputs.get(key, [])) for key, rows in as_tensors(embedding.vectors).items()}


def judge_case(case: str) -> dict[str, Any]:
    return _judged(CASES[case])


def judge_text(text: str, refined: bool = False) -> dict[str, Any]:
    refiner = Path(SdNextTools().find_other().filename).absolute() if refined else None
    return _judged(Case(text, [text]), refiner)


def model() -> dict[str, Any]:
    active = _host.active()
    return {"file": active.model.facts.file_name, "vectors_from": active.vectors_from, "notes": active.warnings}


def traces() -> dict[str, Any]:
    pipeline = modeldata.model_data.sd_model
    encoders = [pipeline.text_encoder, pipeline.text_encoder_2]
    hooks = [len(encoder.get_input_embeddings()._forward_hooks) for encoder in encoders]
    rows = [len(encoder.get_input_embeddings().weight) for encoder in encoders]
    return {"hooks": hooks, "rows": rows, "job_count": shared.state.job_count}


def finds(name: str) -> dict[str, bool | None]:
    return {"found": SdNextTools().finds(name)}


def _judged(case: Case, refiner: Path | None = None) -> dict[str, Any]:
    watched = _watches.pop()
    watched.end()
    checkpoint = SdNextTools().files()[0]
    wrong = judge(case, watched.outputs, checkpoint, _host.embeddings_folder, refiner)
    return {"calls": {key: len(calls) for key, calls in watched.outputs.items()}, "wrong": wrong}


def _app_started(_demo: object, app: Any) -> None:
    app.add_api_route("/embedmerge-probe/routes", partial(routes, app), methods=["GET"])
    for function in (checks, started, checkpoints, registered, model, traces):
        app.add_api_route(f"/embedmerge-probe/{function.__name__}", function, methods=["GET"])
    app.add_api_route("/embedmerge-probe/finds/{name}", finds, methods=["GET"])
    posted: dict[str, Any] = {
        "/run/{check}": run, "/save/{name}": save, "/save-named": save_named, "/remove/{name}": remove,
        "/forget-prompts": forget_prompts, "/watch": watch, "/judge/{case}": judge_case, "/judge-text": judge_text,
        "/seen/{name}": seen, "/forget/{name}": remove, "/refresh": refresh,
    }  # fmt: skip
    for path, function in posted.items():
        app.add_api_route(f"/embedmerge-probe{path}", function, methods=["POST"])


script_callbacks.on_app_started(_app_started)
