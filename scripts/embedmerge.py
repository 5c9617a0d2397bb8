"""EmbedMerge's entry in AUTOMATIC1111, Forge and reForge: registers, and does nothing else.

Web UIs run this file again at every "Reload UI", after they have forgotten all that was registered before.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modules import script_callbacks

# What an earlier run of this file imported is dropped, so that an updated extension needs no new process.
for _name in [name for name in sys.modules if name.partition(".")[0] == "lib_embedmerge"]:
    del sys.modules[_name]

# Now, while the extension's folder is on sys.path: AUTOMATIC1111 takes it off again. Its parts come when they are used.
import lib_embedmerge  # noqa: E402, F401 -- it has to stand behind the lines above, and to be found later

if TYPE_CHECKING:
    from lib_embedmerge.hosts.webui.host import WebuiHost
    from lib_embedmerge.hosts.webui.prompt_hook import PromptHook


@functools.cache
def _host() -> WebuiHost:
    from lib_embedmerge.hosts.webui.host import WebuiHost

    return WebuiHost()


def _tabs() -> list[tuple[Any, str, str]]:
    from lib_embedmerge.hosts.webui.settings import saves_float16
    from lib_embedmerge.ui.tab import WebuiTab

    return [(WebuiTab(_host, half=saves_float16()), "EmbedMerge", "embedmerge")]


@functools.cache
def _seam() -> PromptHook:
    from lib_embedmerge.hosts.webui.prompt_hook import PromptHook

    return PromptHook(_host)


def _unload() -> None:
    from lib_embedmerge.actions.jobs import JOBS

    JOBS.cancel_all()  # the page that comes next could neither show nor stop them
    _seam().remove()


def _settings() -> None:
    import gradio

    from lib_embedmerge.hosts.webui.settings import add_settings

    add_settings(gradio.Radio)


def _add_api(_: object, app: Any) -> None:
    from lib_embedmerge.api.in_webui import add_webui_api

    add_webui_api(app, _host)


def _register(kind: str, callback: Callable[..., Any]) -> None:
    """What `script_callbacks.on_<kind>` does, which reads the source of all callers to find out who calls it: 0.1 s and
    more of each start. Newer web UIs can be told. A kind that the web UI has not is passed over."""
    callbacks = script_callbacks.callback_map.get(f"callbacks_{kind}")
    if "filename" in inspect.signature(script_callbacks.add_callback).parameters and callbacks is not None:
        script_callbacks.add_callback(callbacks, callback, category=kind, filename=__file__)
    elif callbacks is not None:
        getattr(script_callbacks, f"on_{kind}")(callback)


_register("ui_settings", _settings)
_register("before_ui", lambda: _seam().install())
_register("script_unloaded", _unload)
_register("before_token_counter", lambda params: _seam().count(params))
_register("ui_tabs", _tabs)
_register("infotext_pasted", lambda _, parameters: _seam().restore(parameters))
_register("app_started", _add_api)
