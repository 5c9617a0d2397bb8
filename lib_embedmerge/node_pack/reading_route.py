"""The route by which the page learns how a text is read: tokens and mistakes, while the user types."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from lib_embedmerge.errors import UNEXPECTED, EmbedMergeError
from lib_embedmerge.node_pack.node_inputs import BARE, make_choices

ROUTE = "/embedmerge/read"

_MAX_LENGTH = 20_000
"""Characters of a text that is read while it is typed."""

_log = logging.getLogger(__name__)


def add_reading_route(routes: Any) -> None:
    """Add the route to ComfyUI's server. routes: `PromptServer.instance.routes`."""
    from aiohttp import web

    async def read(request: Any) -> Any:
        body = await request.json()
        return web.json_response(await asyncio.to_thread(answer, body))

    routes.post(ROUTE)(read)


def answer(body: object) -> dict[str, Any]:
    """How a text is read, as JSON data. Never raises.

    body: from the page: `text`; `kind`, which is `source` for the source of an embedding; `embedding_names`, which is
        the value of that input.
    line: for people.  mistakes: for each `message`, `start`, `end`, and `sentence` for people.
    """
    fields = body if isinstance(body, dict) else {}
    text, names = str(fields.get("text", "")), str(fields.get("embedding_names", BARE))
    try:
        if fields.get("kind") == "source":
            return _read_source(text[:_MAX_LENGTH])
        return _read(text[:_MAX_LENGTH], {"embedding_names": names})
    except EmbedMergeError as error:
        return {"line": error.message, "mistakes": []}
    except Exception:  # noqa: BLE001 -- a bug: it is logged, and the user reads one sentence
        _log.exception(UNEXPECTED)
        return {"line": UNEXPECTED, "mistakes": []}


def _read(text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    from lib_embedmerge.hosts.comfyui.comfy_host import make_surroundings
    from lib_embedmerge.hosts.comfyui.text_counting import read_text
    from lib_embedmerge.node_pack.text_reports import describe_count, describe_names, make_error_sentence

    reading = read_text(text, make_choices(options), make_surroundings())
    lines = (describe_count(reading.counted), describe_names(reading))
    mistakes = [{**error.as_json(), "sentence": make_error_sentence(error, "text")} for error in reading.mistakes]
    return {"line": "\n".join(filter(None, lines)), "mistakes": mistakes}


def _read_source(source: str) -> dict[str, Any]:
    """How the source of an embedding is read, as for SDXL."""
    from lib_embedmerge.actions.answering import read_typed_text
    from lib_embedmerge.hosts.comfyui.comfy_host import ComfyHost
    from lib_embedmerge.node_pack.text_reports import describe_answer, make_error_sentence

    answer = read_typed_text(ComfyHost(), source)
    error = answer.error
    mistakes = [{**error.as_json(), "sentence": make_error_sentence(error, "source")}] if error else []
    return {"line": describe_answer(answer), "mistakes": mistakes}
