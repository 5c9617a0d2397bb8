"""Who is let in to the page of its own: those who have the login or the token, and whom a cookie says had it."""

from __future__ import annotations

import base64

import pytest
from asgi import Answer, ask, echo

from lib_embedmerge.ui.entrance import Entrance, Key

TOKEN = "a-token-that-nobody-guesses"
PORT = 7860


def by_token() -> Entrance:
    return Entrance(echo, Key(token=TOKEN), PORT)


def by_login() -> Entrance:
    return Entrance(echo, Key(login=("zoë", "geheim:猫")), PORT)


def basic(login: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(login.encode(encoding)).decode("ascii")}


def cookie_of(answer: Answer) -> dict[str, str]:
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


@pytest.mark.parametrize(
    ("query", "place"),
    [
        (f"token={TOKEN}", "/"),
        (f"__theme=dark&token={TOKEN}&x=%20%26", "/?__theme=dark&x=+%26"),
        (f"token=wrong&token={TOKEN}", "/"),
    ],
)
def test_the_token_in_the_address_goes_into_a_cookie(query: str, place: str) -> None:
    entrance = by_token()
    answer = ask(entrance, query_string=query.encode())
    assert (answer.status, answer.headers["location"], answer.body) == (303, place, b"")
    assert TOKEN not in str(answer.messages)
    for path in ("/", "/run/predict"):
        assert ask(entrance, cookie_of(answer), path=path).status == 200
    assert ask(by_token(), cookie_of(answer)).status == 401  # another run's


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"cookie": f"embedmerge-{PORT}=x"}, {"cookie": "\xff=;;"}, {"cookie": f"embedmerge-{PORT}={TOKEN}"},
        {"authorization": "Bearer"}, {"authorization": "Bearer x"}, {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer \xfc\xff"}, basic(f":{TOKEN}"), {"cookie": "embedmerge-7861=x; a b c"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("query", ["", "token=", "token=x", "token=%FF%00", f"other={TOKEN}", f"token={TOKEN}x"])
def test_nobody_else_is_let_in(headers: dict[str, str], query: str) -> None:
    for entrance in (by_token(), by_login()):
        for path in ("/", "/config", "/embedmerge/v1/list"):
            answer = ask(entrance, headers, path=path, query_string=query.encode())
            assert answer.status == 401
            assert TOKEN.encode() not in answer.body
        refused = ask(entrance, headers, type="websocket", query_string=query.encode())
        assert refused.messages == [{"type": "websocket.close", "code": 1008}]


def test_scripts_may_bring_the_token_each_time() -> None:
    for scheme in ("Bearer", "bearer"):
        assert ask(by_token(), {"authorization": f"{scheme} {TOKEN}"}, path="/embedmerge/v1/list").status == 200
    assert ask(by_token(), path="/embedmerge/v1/list", query_string=f"token={TOKEN}".encode()).status == 200


@pytest.mark.parametrize(("login", "status"), [("zoë:geheim:猫", 200), ("zoë:geheim", 401), ("zoe:geheim:猫", 401)])
def test_a_login_in_any_characters(login: str, status: int) -> None:
    entrance = by_login()
    answer = ask(entrance, basic(login))
    assert answer.status == status
    if status == 200:
        assert ask(entrance, cookie_of(answer)).status == 200
    else:
        assert answer.headers["www-authenticate"] == 'Basic realm="EmbedMerge", charset="UTF-8"'


def test_a_new_token_is_another_one() -> None:
    tokens = {str(Key.new_token().token) for _ in range(50)}
    assert len(tokens) == 50
    assert all(len(token) >= 32 for token in tokens)


def test_what_is_no_request_passes() -> None:
    assert ask(by_token(), type="lifespan").status == 200
