"""A web UI extension that measures EmbedMerge's part of the start, and nothing else.

It imports nothing that EmbedMerge imports, which would make EmbedMerge look quicker. The web UI loads it after
EmbedMerge, because folders are loaded in alphabetical order (install.py).

    GET /embedmerge-timer/times    milliseconds of each of EmbedMerge's callbacks at its first call, by kind
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modules import script_callbacks

_times: dict[str, float] = {}


def _measure_callbacks() -> None:
    """Measure EmbedMerge's callbacks from now on."""
    for kind, callbacks in script_callbacks.callback_map.items():
        for place, callback in enumerate(callbacks):
            if Path(callback.script).parts[-3:] == ("embedmerge", "scripts", "embedmerge.py"):
                measured = _measure_first_call(kind.removeprefix("callbacks_"), callback.callback)
                if hasattr(callback, "_replace"):  # a named tuple, as in older web UIs
                    callbacks[place] = callback._replace(callback=measured)
                else:
                    callback.callback = measured


def _measure_first_call(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*args: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args)
        finally:
            _times.setdefault(kind, round((time.perf_counter() - start) * 1000, 1))

    return measured


def _app_started(_demo: object, app: Any) -> None:
    app.add_api_route("/embedmerge-timer/times", lambda: _times, methods=["GET"])


_measure_callbacks()
script_callbacks.on_app_started(_app_started)
