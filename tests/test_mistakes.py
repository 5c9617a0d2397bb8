"""What a web UI is told of a mistake: the sentence on its page, and the place for its API."""

from __future__ import annotations

import asyncio
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.texts import NoEmbeddings, TextReader
from lib_embedmerge.errors import EvaluationError, ExpressionError, HostError
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.source import read_prompt
from lib_embedmerge.tokenizer import clip_tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # fastapi's own imports warn of one another
    from fastapi import FastAPI, Request
    from fastapi.encoders import jsonable_encoder
    from fastapi.exceptions import HTTPException
    from fastapi.responses import JSONResponse

    from lib_embedmerge.hosts.webui.generation_stop import EmbedMerge, make_stop_in_prompt, make_stop_without_place

FIELDS = {"message", "field", "source", "start", "end", "expected", "hint"}


def mistake_in(encoded: str, p: Any, *, negative: bool = False) -> EmbedMerge:
    """For the first mistake of a prompt as it would be encoded."""
    outliner = Outliner(TextReader(clip_tokenizer(), NoEmbeddings()))
    for part in read_prompt(encoded):
        if isinstance(part, BrokenInline):
            return make_stop_in_prompt(part.error, part, p, negative=negative)
        if isinstance(part, Inline):
            try:
                outliner.part(encoded, part)
            except EvaluationError as error:
                return make_stop_in_prompt(error, part, p, negative=negative)
    raise AssertionError("there is no mistake")


def processing(**prompts: object) -> SimpleNamespace:
    return SimpleNamespace(**{"prompt": "", "negative_prompt": ""} | prompts)


def test_the_sentence() -> None:
    typed = "a photo of <'cat'+>, best"
    mistake = mistake_in(typed, processing(prompt=typed))
    assert str(mistake) == mistake.text
    assert mistake.text == (
        "Nothing follows +. (At character 18 of the prompt, in <'cat'+>.) Remove the + or write a text after it."
    )
    assert mistake.status_code == 422
    detail: object = mistake.detail  # fastapi calls it a text and takes any value
    assert detail == {
        "message": "Nothing follows +.",
        "field": "prompt",
        "source": typed,
        "start": 17,
        "end": 18,
        "expected": "a text in quotes such as 'dog', a function, or (",
        "hint": "Remove the + or write a text after it.",
    }


def test_a_sentence_without_a_hint() -> None:
    error = ExpressionError("It is wrong.", source="<'a'>", start=1, end=2)
    mistake = make_stop_in_prompt(
        error, BrokenInline(error, start=0, end=5), processing(prompt="x<'a'>"), negative=False
    )
    assert mistake.text == "It is wrong. (At character 3 of the prompt, in <'a'>.)"


@pytest.mark.parametrize(
    ("encoded", "prompts", "negative", "field", "source", "start"),
    [
        ("a <'b'+>", {"prompt": "a <'b'+>"}, False, "prompt", "a <'b'+>", 6),
        ("a <'b'+>", {"negative_prompt": "a <'b'+>"}, True, "negative_prompt", "a <'b'+>", 6),
        # lists, as of batches through the API
        ("z <'b'+>", {"prompt": ["x <'a'>", "z <'b'+>"]}, False, "prompt", "z <'b'+>", 6),
        ("z <'b'+>", {"prompt": [None, "z <'b'+>"]}, False, "prompt", "z <'b'+>", 6),
        # hires
        ("h <'b'+>", {"prompt": "x", "hr_prompt": "h <'b'+>"}, False, "hr_prompt", "h <'b'+>", 6),
        ("h <'b'+>", {"hr_negative_prompt": "h <'b'+>"}, True, "hr_negative_prompt", "h <'b'+>", 6),
        ("h <'b'+>", {"prompt": "h <'b'+>", "hr_prompt": ""}, False, "prompt", "h <'b'+>", 6),
        ("h <'b'+>", {"prompt": "h", "hr_prompt": None}, False, None, "h <'b'+>", 6),
        # a LoRA is taken out, and styles stand around it
        ("x  <'b'+>", {"prompt": "x <lora:y:1> <'b'+>"}, False, "prompt", "x <lora:y:1> <'b'+>", 17),
        ("s, a <'b'+> c, t", {"prompt": "a <'b'+> c"}, False, "prompt", "a <'b'+> c", 6),
        ("x {'b' 'c'} ", {"prompt": "{red|blue} {'b' 'c'}"}, False, "prompt", "{red|blue} {'b' 'c'}", 16),
        # never closed: it goes on through what a style put after it, or where a LoRA was
        ("a <'b", {"prompt": "a <'b"}, False, "prompt", "a <'b", 2),
        ("s a <'b, t", {"prompt": "a <'b"}, False, "prompt", "a <'b", 2),
        ("<'a'> <'b, t", {"prompt": "<'a'> <'b"}, False, "prompt", "<'a'> <'b", 6),
        ("a <'b  c", {"prompt": "a <'b <lora:x:1> c"}, False, "prompt", "a <'b <lora:x:1> c", 2),
        ("a <'b'  'c'>", {"prompt": "a <'b' <lora:x:1> 'c'>"}, False, "prompt", "a <'b' <lora:x:1> 'c'>", 7),
        ("a <L('b, t", {"prompt": "a <L('b"}, False, "prompt", "a <L('b", 2),
        ("a <'b, t", {"prompt": "y", "hr_prompt": "a <'b"}, False, "hr_prompt", "a <'b", 2),
        # nobody typed it: a style has it, or an extension wrote it
        ("a, s <'b'+>", {"prompt": "a"}, False, None, "a, s <'b'+>", 9),
        ("a, s <'b'+>", {"prompt": "a <'c'>"}, False, None, "a, s <'b'+>", 9),
        ("<'c'>, s <'b", {"prompt": "<'c'>"}, False, None, "<'c'>, s <'b", 9),
        ("<'c'>, s <'b", {"negative_prompt": "<'b"}, False, None, "<'c'>, s <'b", 9),
        ("a, s <'b'+>", {}, True, None, "a, s <'b'+>", 9),
        # without a meaning
        ("s <'b':76>", {"prompt": "<'b':76>"}, False, "prompt", "<'b':76>", 0),
        ("s <'b',49408>", {"prompt": "<'b',49408>"}, False, "prompt", "<'b',49408>", 4),
    ],
)
def test_the_place_in_what_was_typed(
    *, encoded: str, prompts: dict[str, object], negative: bool, field: str | None, source: str, start: int
) -> None:
    mistake = mistake_in(encoded, processing(**prompts), negative=negative)
    detail: Any = mistake.detail
    assert (detail["field"], detail["source"], detail["start"]) == (field, source, start)
    assert start <= detail["end"] <= len(source)
    title = (field or ("negative_prompt" if negative else "prompt")).replace("hr_", "hires ").replace("_", " ")
    assert f"(At character {start + 1} of the {title}, in " in mistake.text
    assert set(detail) == FIELDS


def test_a_processing_without_prompts() -> None:
    assert mistake_in("<'b'+>", SimpleNamespace()).detail["field"] is None  # type: ignore[index] # a dict


def test_the_kind_of_error_stays() -> None:
    """An error of the evaluation is placed as one of the language."""
    mistake = mistake_in("x <'cat':76>", processing(prompt="<'cat':76>"))
    message = "This expression makes 76 vectors; inside a prompt it can make at most 75."
    assert mistake.text.startswith(f"{message} (At character 1 ")


def test_a_long_expression_is_cut() -> None:
    typed = "<'" + "cat " * 100 + "'+>"
    text = mistake_in(typed, processing(prompt=typed)).text
    assert f"in {typed[:59]}….)" in text
    assert len(text) < 250


@pytest.mark.parametrize("nasty", ["\u202e", "\x1b[31m", "\n", "\x00", "\u200f", "\ud800"])
def test_nothing_that_a_page_or_terminal_acts_on(nasty: str) -> None:
    for typed in (f"a {nasty} <'b{nasty}'+>", f"a {nasty} <'b{nasty}'{nasty}#>", f"<'a'{nasty} <'b"):
        for prompt in (typed, ""):
            mistake = mistake_in(typed, processing(prompt=prompt))
            assert mistake.text.isprintable()
            json.dumps(mistake.detail, ensure_ascii=False).encode()


def test_a_half_of_a_pair_keeps_the_place() -> None:
    typed = "\ud800 \ud83d\ude00 😀 <'\udfff'+>"
    detail: Any = mistake_in(typed, processing(prompt=typed)).detail
    assert detail["source"] == "\ufffd \ufffd\ufffd 😀 <'\ufffd'+>"
    assert typed[detail["start"] : detail["end"]] == "+"


def test_a_fault_without_a_place() -> None:
    mistake = make_stop_without_place(HostError("There is no\x1b model.", hint="Load one."))
    assert mistake.text == "There is no\\x1b model. (At an inline expression.) Load one."
    detail: object = mistake.detail  # fastapi calls it a text and takes any value
    assert detail == {
        "message": "There is no\x1b model.",
        "field": None,
        "source": None,
        "start": None,
        "end": None,
        "expected": None,
        "hint": "Load one.",
    }


# The API


def plain_app() -> FastAPI:
    app = FastAPI()

    @app.post("/txt2img")
    async def txt2img() -> None:
        raise mistake_in("x <'b' 'c'>", processing(prompt="<'b' 'c'>"))

    return app


def webui_app() -> FastAPI:
    """As modules/api/api.py of the web UIs answers: `handle_exception`, by a handler and a middleware."""
    app = plain_app()

    async def handle_exception(_: Request, error: Exception) -> JSONResponse:
        answer = {
            "error": type(error).__name__,
            "detail": vars(error).get("detail", ""),
            "body": vars(error).get("body", ""),
            "errors": str(error),
        }
        assert isinstance(error, HTTPException), "a trace would be in the log"
        return JSONResponse(status_code=vars(error).get("status_code", 500), content=jsonable_encoder(answer))

    app.add_exception_handler(HTTPException, handle_exception)
    return app


async def _posted(app: FastAPI) -> tuple[int, dict[str, Any]]:
    body: list[bytes] = []
    status: list[int] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/txt2img",
        "raw_path": b"/txt2img",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
        else:
            body.append(message.get("body", b""))

    await app(scope, receive, send)
    return status[0], json.loads(b"".join(body))


def _post(app: FastAPI) -> tuple[int, dict[str, Any]]:
    # In a thread of its own: a browser's and gradio's loops live on in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _posted(app)).result(60)


def test_an_api_answers_422_with_the_place() -> None:
    status, answer = _post(plain_app())
    assert status == 422
    assert set(answer["detail"]) == FIELDS
    assert (answer["detail"]["field"], answer["detail"]["start"], answer["detail"]["end"]) == ("prompt", 5, 8)


def test_a_web_uis_api_answers_422_with_the_sentence_too() -> None:
    status, answer = _post(webui_app())
    assert status == 422
    assert answer["error"] == "EmbedMerge"
    assert answer["detail"]["source"] == "<'b' 'c'>"
    assert answer["errors"].startswith(
        "EmbedMerge"[:0] + answer["detail"]["message"] + " (At character 6 of the prompt"
    )
