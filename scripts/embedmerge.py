"""EmbedMerge's entry point in AUTOMATIC1111, Forge, reForge and SD.Next. It only registers callbacks.

Web UIs run this file again at every "Reload UI", after they have removed all callbacks that it registered before.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modules import script_callbacks

# Remove the modules that an earlier run of this file imported, so that an update works without a new process.
for _name in [name for name in sys.modules if name.partition(".")[0] == "lib_embedmerge"]:
    del sys.modules[_name]

# Import the package now, because AUTOMATIC1111 removes the extension's folder from sys.path after this file has run.
# Its submodules are imported when they are used.
from lib_embedmerge.hosts.host_parts import guard  # noqa: E402 -- must follow the lines above

if TYPE_CHECKING:
    from lib_embedmerge.hosts.port import Host


@functools.cache
def _get_host() -> Host:
    from lib_embedmerge.hosts.this_webui import make_host

    return make_host()


def _make_tabs() -> list[tuple[Any, str, str]]:
    from lib_embedmerge.hosts.this_webui import makes_pictures
    from lib_embedmerge.hosts.webui.settings import saves_float16
    from lib_embedmerge.ui.tab import WebuiTab

    tab = WebuiTab(_get_host, half=saves_float16(), pictures=makes_pictures())
    return [(tab, "EmbedMerge", "embedmerge")]


@functools.cache
def _get_prompt_hook() -> Any:
    from lib_embedmerge.hosts.this_webui import make_prompt_hook

    return make_prompt_hook(_get_host)


def _unload() -> None:
    from lib_embedmerge.actions.background_jobs import cancel_all_jobs

    cancel_all_jobs()  # the next page could neither show nor stop them
    _get_prompt_hook().remove()


def _add_settings() -> None:
    import gradio

    from lib_embedmerge.hosts.webui.settings import add_settings

    add_settings(gradio.Radio)


def _add_api(_: object, app: Any) -> None:
    from lib_embedmerge.api.in_webui import add_webui_api

    add_webui_api(app, _get_host)


def _register(kind: str, task: str, callback: Callable[..., Any], otherwise: Any = None) -> None:
    """Register a callback, as `script_callbacks.on_<kind>` does. Does nothing if the web UI has no such kind.

    task, otherwise: as in `guard`, which says in one sentence if the callback fails.

    `on_<kind>` takes 0.1 s and more of each start, because it reads the source of all callers to find the file that
    calls it. Newer web UIs accept the file's name instead, and older ones keep plain pairs.
    """
    callbacks = script_callbacks.callback_map.get(f"callbacks_{kind}")
    callback = guard(task, callback, otherwise)
    if callbacks is None:
        return
    if "filename" in inspect.signature(script_callbacks.add_callback).parameters:
        script_callbacks.add_callback(callbacks, callback, category=kind, filename=__file__)
    elif getattr(getattr(script_callbacks, "ScriptCallback", None), "_fields", None) == ("script", "callback"):
        callbacks.append(script_callbacks.ScriptCallback(__file__, callback))
    else:
        getattr(script_callbacks, f"on_{kind}")(callback)


_COUNT, _RESTORE = "count expressions in token counters", "restore expressions from an infotext"

_register("ui_settings", "add its settings", _add_settings)
_register("before_ui", "handle expressions in prompts", lambda: _get_prompt_hook().install())
_register("script_unloaded", "stop", _unload)
_register("before_token_counter", _COUNT, lambda params: _get_prompt_hook().count_tokens(params))
_register("ui_tabs", "show its tab", _make_tabs, otherwise=[])
_register("infotext_pasted", _RESTORE, lambda _, parameters: _get_prompt_hook().restore_prompts(parameters))
_register("app_started", "add its API", _add_api)
