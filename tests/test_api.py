"""The HTTP API: what each route gives, and how every request that is wrong is refused."""

from __future__ import annotations

import base64
import logging
import shutil
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from action_hosts import MODEL, NoModelHost
from api_client import Ask, api_of, ask, make_app
from models import write_models
from safetensors.torch import save_file
from test_api_schema import OPERATIONS

from lib_embedmerge import open_checkpoint
from lib_embedmerge.actions import comparing
from lib_embedmerge.actions.jobs import JOBS, RebuildJob
from lib_embedmerge.actions.library_jobs import LIBRARY_JOBS
from lib_embedmerge.cli import main
from lib_embedmerge.core.ports import Model
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.recipes.build import build_embedding

CAT = 2368
TIMEOUT = 60


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`; `pony` and another `pony`, in which the rows of `cat` are others; a torn file."""
    return write_models(tmp_path_factory.mktemp("models"), [CAT], third="sub/pony")


@pytest.fixture(scope="module")
def made(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`embeddings/one1`, `embeddings/sub/two2`, and `secret` beside them."""
    folder = tmp_path_factory.mktemp("made")
    model = open_checkpoint(models / "base.safetensors")
    build_embedding(model, "'cat'", "one1").save(folder / "embeddings")
    build_embedding(model, "'cat'+'dog'", "two2").save(folder / "embeddings" / "sub")
    build_embedding(model, "'dog'", "secret").save(folder)
    return folder


@pytest.fixture
def host(models: Path, made: Path, tmp_path: Path) -> CheckpointHost:
    """`base` is active; `one1` and `sub/two2` are there, and `secret` beside the folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return CheckpointHost(tmp_path / "embeddings", checkpoint=models / "base.safetensors", models=models)


@pytest.fixture
def api(host: CheckpointHost) -> Ask:
    return api_of(host)


def good(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def refusal(response: httpx.Response, status: int) -> str:
    """The message of an answer of this status, which is an error's JSON and nothing more."""
    assert response.status_code == status, response.text
    [(key, error)] = response.json().items()
    assert key == "error"
    assert set(error) == {"message", "start", "end", "expected", "hint"}
    assert "Traceback" not in response.text
    return str(error["message"])


def json_of_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    import json

    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_parse(api: Ask, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = good(api("POST", "/parse", json={"source": "'cat'+'dog', 'cat'", "by": "words"}))
    base = models / "base.safetensors"
    assert found == json_of_command(capsys, "parse", "'cat'+'dog', 'cat'", "--by", "words", "--checkpoint", base)
    message = refusal(api("POST", "/parse", json={"source": "'cat'+"}), 422)
    assert message


def test_a_typed_prompt_is_read_as_a_web_ui_reads_it(api: Ask) -> None:
    found = good(api("POST", "/parse", json={"source": r"a \(cat\), (dog:1.2)"}))
    assert (found["source"], found["vectors"]) == ("a (cat), dog", 5)
    assert any("Attention brackets" in warning for warning in found["warnings"])
    made = good(api("POST", "/build", json={"source": "(cat:1.5)", "attention": "scale", "name": "scaled_1"}))
    assert (made["kind"], made["source"], made["vectors"]) == ("prompt", "<'cat'*1.5>", 1)
    assert made["calls"]["ComfyUI"] == "embedding:scaled_1"
    kept = good(api("POST", "/build", json={"source": "(cat)", "attention": "keep", "name": "kept_1"}))
    assert kept["source"] == "(cat)"


def test_a_lookalike_is_refused_unless_one_insists(api: Ask) -> None:
    wishes = {"source": "cat+dog*0.5", "name": "like_1"}
    assert good(api("POST", "/parse", json={"source": "cat+dog*0.5"}))["meant"] == "'cat'+'dog'*0.5"
    response = api("POST", "/build", json=wishes)
    assert "looks like an expression" in refusal(response, 422)
    assert "Did you mean 'cat'+'dog'*0.5 ?" in response.json()["error"]["hint"]
    assert "set `read_as` to `prompt`" in response.json()["error"]["hint"]
    assert good(api("POST", "/build", json={**wishes, "read_as": "prompt"}))["kind"] == "prompt"


def test_recipes_of_named_embeddings_are_followed(api: Ask, host: CheckpointHost, models: Path) -> None:
    other = open_checkpoint(models / "pony.safetensors")
    build_embedding(other, "'cat'*3", "ofpony_1").save(host.embeddings_folder)
    made = good(api("POST", "/build", json={"source": "'ofpony_1'+'dog'", "name": "mix_1"}))
    assert any("'ofpony_1' was made for pony" in warning for warning in made["warnings"])
    followed = good(api("POST", "/build", json={"source": "'ofpony_1'+'dog'", "name": "mix_2", "follow": True}))
    assert any("was used on base, not its saved vectors" in warning for warning in followed["warnings"])
    assert made["encoders"] != followed["encoders"]


def test_without_a_model(tmp_path: Path) -> None:
    api = api_of(NoModelHost(tmp_path))
    assert good(api("POST", "/parse", json={"source": "a cat"}))["vectors"] == 2
    assert refusal(api("POST", "/build", json={"source": "a cat", "name": "x_1"}), 503) == "No model is loaded."
    build_embedding(MODEL, "'cat'", "one1").save(tmp_path)
    assert good(api("GET", "/show", params={"embedding": "one1"}))["fit"] is None
    assert good(api("GET", "/list"))[0]["fit"] is None
    assert refusal(api("GET", "/list", params={"fit": True}), 503) == "No model is loaded."


def test_a_host_in_memory(tmp_path: Path) -> None:
    host = MemoryHost(MODEL, tmp_path)
    api = api_of(host)
    made = good(api("POST", "/build", json={"source": "'cat'", "name": "my_one"}))
    assert host.saved == [Path(made["file"])]
    assert good(api("POST", "/recover", json={"embedding": "my_one"}))["texts"] == ["cat"]
    assert refusal(api("POST", "/rebuild", json={"embeddings": "all", "checkpoints": ["memory"]}), 404)


def test_build(
    api: Ask, host: CheckpointHost, models: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wishes = {"source": "'cat'*2", "name": "my_one", "notes": "soft", "negative": True, "dtype": "float32"}
    made = good(api("POST", "/build", json=wishes))
    assert made["file"] == str(host.embeddings_folder / "my_one.safetensors")
    assert made["tag"]["embedmerge.recipe"] == "'cat'*2"
    by_command = json_of_command(
        capsys, "build", "'cat'*2", "--name", "my_one", "--notes", "soft", "--negative",
        "--checkpoint", models / "base.safetensors", "--output", tmp_path / "other",
    )  # fmt: skip
    assert made.keys() == by_command.keys()
    assert made["encoders"] == by_command["encoders"]
    assert "my_one" in refusal(api("POST", "/build", json=wishes), 409)
    save_file({"emb_params": torch.ones(1, 768)}, host.embeddings_folder / "of_sd1.safetensors")
    host.library().refresh()
    taken = {**wishes, "name": "of_sd1", "overwrite": True}
    assert "Stable Diffusion 1" in refusal(api("POST", "/build", json=taken), 409)
    assert good(api("POST", "/build", json={**wishes, "overwrite": True, "source": "'dog'"}))["vectors"] == 1
    long = " ".join(["cat"] * 80)
    assert [one["vectors"] for one in good(api("POST", "/build", json={"source": long, "name": "long", "split": True}))]


@pytest.mark.parametrize("name", ["../out", "a/b", "C:\\x", "con", "x\0", "", "..", "a" * 900_000, "x:y"])
def test_names_that_nothing_can_be_saved_under(api: Ask, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert refusal(api("POST", "/build", json={"source": "'cat'", "name": name}), 422)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_of_half_a_character(api: Ask) -> None:
    body = b'{"source": "\'cat\'", "name": "\\ud800"}'
    assert refusal(api("POST", "/build", content=body, headers={"content-type": "application/json"}), 422)


def test_show(api: Ask, host: CheckpointHost, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = host.embeddings_folder / "sub" / "two2.safetensors"
    by_command = json_of_command(capsys, "show", file, "--checkpoint", models / "base.safetensors", "--nearest", 2)
    for named in ("two2", "sub/two2.safetensors", str(file), "TWO2"):
        assert good(api("GET", "/show", params={"embedding": named, "nearest": 2})) == by_command
    fitted = good(api("GET", "/show", params={"embedding": "one1", "checkpoint": "pony.safetensors", "nearest": 0}))
    assert fitted["fit"]["status"] == "differs"
    assert fitted["encoders"]["clip_l"]["rows"][0]["nearest"] == []


def test_list(api: Ask, host: CheckpointHost, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ("--embeddings", host.embeddings_folder)
    assert good(api("GET", "/list")) == json_of_command(capsys, "list", *folder)
    base, pony = models / "base.safetensors", models / "pony.safetensors"
    with_fit = good(api("GET", "/list", params={"fit": True}))
    assert with_fit == json_of_command(capsys, "list", *folder, "--checkpoint", base)
    assert {one["fit"]["status"] for one in with_fit} == {"made for this model"}
    named = good(api("GET", "/list", params={"checkpoint": str(pony)}))
    assert named == json_of_command(capsys, "list", *folder, "--checkpoint", pony)


def test_rebuild(api: Ask) -> None:
    asked = {"embeddings": "all", "checkpoints": ["pony.safetensors", "sub/pony.safetensors"]}
    job = good(api("POST", "/rebuild", json=asked))["job"]
    JOBS.get(job).wait(TIMEOUT)
    state = good(api("GET", f"/rebuild/{job}"))
    assert (state["state"], state["done"], state["total"]) == ("done", 4, 4)
    # The models of the two have one title, and the second one's variants are not to replace the first one's.
    assert [one["status"] for one in state["results"]] == ["written", "written", "skipped", "skipped"]
    assert set(state["results"][0]) == {"source", "checkpoint", "file", "status", "reason"}
    assert good(api("GET", f"/rebuild/{job}", params={"after": 3}))["results"] == state["results"][3:]
    assert good(api("DELETE", f"/rebuild/{job}"))["state"] == "done"
    job = good(api("POST", "/rebuild", json={"embeddings": ["one1", "one1"], "checkpoints": ["torn"]}))["job"]
    assert [one.rebuilt.status for one in JOBS.get(job).wait(TIMEOUT).results] == ["skipped"]


def test_a_rebuild_is_cancelled_and_bars_others(
    api: Ask, host: CheckpointHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Event

    reached, go_on = Event(), Event()

    def saved(_: Path) -> None:
        reached.set()
        go_on.wait(TIMEOUT)

    monkeypatch.setattr(host, "embedding_saved", saved)
    monkeypatch.setattr("lib_embedmerge.recipes.rebuild._GROUP", 1)
    asked = {"embeddings": ["one1", "two2"], "checkpoints": ["sub/pony.safetensors"]}
    job = good(api("POST", "/rebuild", json=asked))["job"]
    assert reached.wait(TIMEOUT)
    try:
        assert "already running" in refusal(api("POST", "/rebuild", json=asked), 409)
        assert good(api("DELETE", f"/rebuild/{job}"))["state"] == "running"
    finally:
        go_on.set()
    assert JOBS.get(job).wait(TIMEOUT).state == "cancelled"
    assert good(api("GET", f"/rebuild/{job}"))["done"] == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_rebuild_that_is_not_known(api: Ask, method: str) -> None:
    assert "rebuild is unknown" in refusal(api(method, "/rebuild/nothing"), 404)


def test_a_method_that_a_path_does_not_take(api: Ask) -> None:
    for method, path, allowed in (("PUT", "/list", "GET"), ("OPTIONS", "/rebuild/x", "DELETE, GET")):
        response = api(method, path)
        assert refusal(response, 405) == f"This address accepts only {allowed}."
        assert response.headers["allow"] == allowed


def test_recover(api: Ask, models: Path) -> None:
    found = good(api("POST", "/recover", json={"embedding": "one1"}))
    assert (found["name"], found["exact"], found["texts"]) == ("one1", True, ["cat"])
    assert found["checkpoint"] == "base"
    among = good(api("POST", "/recover", json={"embedding": "one1", "checkpoints": ["pony.safetensors", "base"]}))
    assert (among["checkpoint"], len(among["candidates"])) == (str(models / "base.safetensors"), 2)
    assert refusal(api("POST", "/recover", json={"embedding": "one1", "checkpoints": []}), 422)


def test_recover_in_the_background(api: Ask) -> None:
    wanted = {"embedding": "one1", "checkpoints": ["pony.safetensors", "base"]}
    job = good(api("POST", "/recover", json=wanted | {"background": True}))["job"]
    LIBRARY_JOBS.get(job).wait(TIMEOUT)
    ended = good(api("GET", f"/recover/{job}"))
    assert (ended["state"], ended["done"], ended["total"]) == ("done", 1, 1)
    assert ended["results"] == [good(api("POST", "/recover", json=wanted))]
    assert good(api("DELETE", f"/recover/{job}"))["state"] == "done"
    assert "unknown" in refusal(api("GET", "/recover/nothing"), 404)


def test_a_recovery_is_stopped_between_checkpoints(api: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    reached, go_on = threading.Event(), threading.Event()

    def hold(host: Any, path: Path) -> Model:
        opened.append(path)
        reached.set()
        assert go_on.wait(TIMEOUT)
        return open_checkpoint(path)

    monkeypatch.setattr("lib_embedmerge.api.routes._open_checkpoint", hold)
    wanted = {"embedding": "one1", "checkpoints": ["pony.safetensors", "base"], "background": True}
    job = good(api("POST", "/recover", json=wanted))["job"]
    assert reached.wait(TIMEOUT)
    api("DELETE", f"/recover/{job}")
    go_on.set()
    assert LIBRARY_JOBS.get(job).wait(TIMEOUT).state == "cancelled"
    assert len(opened) == 1


def test_compare(api: Ask, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [pair] = good(api("POST", "/compare", json={"checkpoints": ["base", "pony.safetensors"]}))
    assert (pair["a"], pair["b"]) == (str(models / "base.safetensors"), str(models / "pony.safetensors"))
    assert pair["token_table"]["clip_l"]["rows_differing"] == 1
    assert refusal(api("POST", "/compare", json={"checkpoints": ["base"]}), 422)
    assert refusal(api("POST", "/compare", json={"checkpoints": ["base"] * 11}), 422)
    given: list[comparing.CompareRequest] = []
    monkeypatch.setattr(comparing, "compare_models", lambda _, request: given.append(request) or ())
    for extra in ({"source": "'cat'"}, {"embedding": "one1"}):
        assert good(api("POST", "/compare", json={"checkpoints": ["base", "pony.safetensors"], **extra})) == []
    assert given[0].source == "'cat'"
    assert Path(str(given[1].embedding)).name == "one1.safetensors"


OUTSIDE = [
    "../secret.safetensors", "../gone.safetensors", "sub/../../secret.safetensors", "sub/../one1.safetensors",
    "..\\secret.safetensors", "C:\\secret.safetensors", "C:secret.safetensors", "C:/secret.safetensors",
    "\\\\server\\share\\x.safetensors", "//server/share/x.safetensors", "\\\\?\\C:\\x", "/etc/passwd", "\\x",
    "one1.safetensors\0", "\0", "one1.safetensors:stream", "one1.safetensors::$DATA", "..", "../", "/",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("route", ["show", "rebuild", "recover", "compare"])
def test_a_path_that_leads_out_is_refused(host: CheckpointHost, path: str, route: str) -> None:
    """Whether there is such a file makes no difference."""
    api = api_of(host)
    said = set()
    for given in (path, path if path.startswith("/") or "secret" not in path else path.replace("secret", "gone")):
        bodies: dict[str, dict[str, object]] = {
            "rebuild": {"embeddings": [given], "checkpoints": ["base"]},
            "recover": {"embedding": given},
            "compare": {"checkpoints": ["base", "pony.safetensors"], "embedding": given},
        }
        if route == "show":
            response = api("GET", "/show", params={"embedding": given})
        else:
            response = api("POST", f"/{route}", json=bodies[route])
        said.add(refusal(response, 404 if path == ".." else 403))
    assert len(said) == 1 or path == ".."


def test_links_are_followed_by_name_and_by_path_as_the_library_does(host: CheckpointHost, tmp_path: Path) -> None:
    try:
        (host.embeddings_folder / "link1.safetensors").symlink_to(tmp_path / "secret.safetensors")
    except OSError:  # Windows lets few make links
        pytest.skip("no links here")
    host.library().refresh()
    api = api_of(host)
    found = [
        good(api("GET", "/show", params={"embedding": asked}))
        for asked in ("link1", "link1.safetensors", str(host.embeddings_folder / "link1.safetensors"))
    ]
    assert found[0] == found[1] == found[2]
    listed = {one["name"]: one["file"] for one in good(api("GET", "/list"))}
    assert good(api("GET", "/show", params={"embedding": listed["link1"]})) == found[0]


def test_the_path_of_a_file_elsewhere_is_refused(api: Ask, tmp_path: Path) -> None:
    for name in ("secret.safetensors", "gone.safetensors"):
        assert refusal(api("GET", "/show", params={"embedding": str(tmp_path / name)}), 403)


@pytest.mark.parametrize("path", ["gone", "gone.safetensors", "sub/gone.safetensors", "", ".", "sub", "x" * 5000])
def test_an_embedding_that_is_not_there(api: Ask, path: str) -> None:
    assert refusal(api("GET", "/show", params={"embedding": path}), 404)


@pytest.mark.parametrize(
    ("checkpoint", "status"),
    [
        ("gone", 404), ("", 404), ("sub", 404), ("x" * 5000, 404), ("sub/gone.safetensors", 404),
        ("pony", 422), ("torn", 422),
        ("/etc/passwd", 403), ("../base.safetensors", 403), ("C:\\x", 403), ("\\\\server\\x", 403), ("\0", 403),
    ],
)  # fmt: skip
def test_checkpoints_that_are_refused(api: Ask, checkpoint: str, status: int) -> None:
    assert refusal(api("GET", "/list", params={"checkpoint": checkpoint}), status)


WRONG = [
    ("POST", "/parse", {}), ("POST", "/parse", []), ("POST", "/parse", "x"), ("POST", "/parse", None),
    ("POST", "/parse", {"source": 5}), ("POST", "/parse", {"source": None}), ("POST", "/parse", {"source": ["a"]}),
    ("POST", "/parse", {"source": "a", "by": "all"}), ("POST", "/parse", {"source": "a", "more": 1}),
    ("POST", "/build", {"source": "a"}), ("POST", "/build", {"source": "a", "name": "b", "split": "yes"}),
    ("POST", "/build", {"source": "a", "name": "b", "dtype": "int8"}),
    ("POST", "/rebuild", {"embeddings": "some", "checkpoints": ["base"]}),
    ("POST", "/rebuild", {"embeddings": [1], "checkpoints": ["base"]}),
    ("POST", "/rebuild", {"embeddings": [], "checkpoints": ["base"]}),
    ("POST", "/rebuild", {"embeddings": "all", "checkpoints": []}),
    ("POST", "/rebuild", {"embeddings": "all", "checkpoints": "base"}),
    ("POST", "/recover", {"embedding": {}}), ("POST", "/compare", {"checkpoints": "base"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), WRONG, ids=[f"{path} {body}" for _, path, body in WRONG])
def test_wrong_types(api: Ask, method: str, path: str, body: object) -> None:
    assert refusal(api(method, path, json=body), 422)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/show", {}), ("/show", {"embedding": "one1", "nearest": "many"}),
        ("/show", {"embedding": "one1", "nearest": -1}),
        ("/show", {"embedding": "one1", "nearest": 1000}), ("/list", {"fit": "maybe"}), ("/rebuild/x", {"after": -1}),
    ],
)  # fmt: skip
def test_wrong_queries(api: Ask, path: str, query: dict[str, Any]) -> None:
    assert refusal(api("GET", path, params=query), 422)


BODY = b'{"source": "a"}'


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (BODY, "application/json", 200),
        (BODY, "application/json; charset=utf-8", 200),
        (BODY, "text/plain", 415),
        (BODY, "application/x-www-form-urlencoded", 415),
        (BODY, None, 415),
        (b"{", "application/json", 422),
        (b"\xff\xfe\xff", "application/json", 422),
        (b"[" * 400_000, "application/json", 422),
        (b'{"source": ' + b"9" * 10_000 + b"}", "application/json", 422),
        (b'{"source": "\\ud800"}', "application/json", 200),
        (b"", "application/json", 422),
        (b'{"source": "' + b"a" * 1_000_000 + b'"}', "application/json", 413),
    ],
)  # fmt: skip
def test_bodies(api: Ask, content: bytes, media_type: str | None, status: int) -> None:
    headers = {"content-type": media_type} if media_type else {}

    async def in_pieces() -> AsyncIterator[bytes]:  # which is sent without a length
        for first in range(0, len(content), 100_000):
            yield content[first : first + 100_000]

    for body in (content, in_pieces()):
        response = api("POST", "/parse", content=body, headers=headers)
        assert response.status_code in ({200, 422} if b"ud800" in content else {status}), response.text
        assert status == 200 or refusal(response, status)


@pytest.mark.parametrize(
    ("user", "password", "status"),
    [
        ("ann", "secret", 200), ("bob", "x:y", 200), ("ann", "x:y", 401), ("ann", "", 401), ("", "", 401),
        ("eve", "secret", 401), ("ann", "sécret", 401), ("zoë", "ö", 200), ("zoë", "o", 401), ("żółw", "猫:🙂", 200),
        ("żółw", "猫", 401),
    ],
)  # fmt: skip
def test_logins(host: CheckpointHost, user: str, password: str, status: int) -> None:
    api = api_of(host, {"ann": "secret", "bob": "x:y", "zoë": "ö", "żółw": "猫:🙂"})
    response = api("GET", "/list", auth=(user, password))
    assert response.status_code == status
    assert status == 200 or refusal(response, 401)


def test_logins_as_older_programs_spell_them(host: CheckpointHost) -> None:
    """`requests` sends Latin-1 where it can; a login that has no Latin-1 takes nothing but UTF-8."""
    api = api_of(host, {"ann": "secret", "bob": "x:y", "zoë": "ö", "żółw": "猫:🙂"})
    for login, status in (("zoë:ö".encode("latin-1"), 200), (b"?:?", 401), ("zoë:ö".encode("utf-16"), 401)):
        for scheme in ("Basic ", "basic  "):
            header = scheme + base64.b64encode(login).decode("ascii")
            assert api("GET", "/list", headers={"authorization": header}).status_code == status


def test_two_at_once_make_an_embedding_of_one_name(host: CheckpointHost) -> None:
    """One of them does, and the other is told so as ever."""
    app = make_app(lambda: host)
    for number in range(60):
        wishes = {"source": "'cat'", "name": f"at_once_{number}"}
        together = threading.Barrier(2)

        def build(wishes: dict[str, str] = wishes, together: threading.Barrier = together) -> httpx.Response:
            together.wait(TIMEOUT)
            return ask(app, "POST", "/build", json=wishes)

        with ThreadPoolExecutor(2) as threads:
            answers = [one.result(TIMEOUT) for one in [threads.submit(build) for _ in range(2)]]
        assert sorted(one.status_code for one in answers) == [200, 409], [one.text for one in answers]


@pytest.mark.parametrize("header", [None, "Basic", "Basic !", "Basic YW5u", "Bearer x", "Basic /////w=="])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/parse"), ("POST", "/build"), ("GET", "/show"), ("GET", "/list"), ("POST", "/rebuild"),
        ("GET", "/rebuild/x"), ("DELETE", "/rebuild/x"), ("POST", "/recover"), ("POST", "/compare"),
    ],
)  # fmt: skip
def test_a_missing_login_is_told_before_anything_else(
    host: CheckpointHost, method: str, path: str, header: str | None
) -> None:
    api = api_of(host, {"ann": "secret"})
    response = api(method, path, content=b"{" * 2_000_000, headers={"authorization": header} if header else {})
    assert refusal(response, 401) == "The login is missing or wrong."
    hint = response.json()["error"]["hint"]
    assert hint == "Use a login that was given with --api-auth, in SD.Next with --auth or --auth-file."
    assert response.headers["www-authenticate"] == "Basic"


def test_a_bug_of_ours_is_logged_and_told_in_a_sentence(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("the cause")

    monkeypatch.setattr(host, "library", fail)
    with caplog.at_level(logging.ERROR):
        message = refusal(api_of(host)("GET", "/list"), 500)
    assert message == "Something went wrong inside EmbedMerge."
    assert "the cause" in caplog.text


def test_other_routes_of_the_app_keep_their_errors(host: CheckpointHost) -> None:
    from fastapi import HTTPException

    app = make_app(lambda: host)

    @app.get("/embedmerge/v1x")
    def theirs() -> None:
        raise HTTPException(418, "theirs")

    assert ask(app, "GET", "x").json() == {"detail": "theirs"}
    assert app.exception_handlers == make_app(lambda: host).exception_handlers


def test_what_the_docs_show(host: CheckpointHost) -> None:
    for logins in ({}, {"ann": "secret"}):
        schema = make_app(lambda: host, logins).openapi()
        calls = [(path, call) for path, calls in schema["paths"].items() for call in calls.values()]
        assert len(calls) == len(OPERATIONS)
        for _, call in calls:
            assert call["tags"] == ["EmbedMerge"]
            assert call["summary"]
            assert call["description"]
            assert {"200", "403", "404", "409", "413", "415", "422", "500", "503"} <= set(call["responses"])
            assert ("401" in call["responses"]) is ("security" in call) is bool(logins)
            answer = call["responses"]["422"]["content"]["application/json"]["schema"]
            assert answer == {"$ref": "#/components/schemas/FaultAnswer"}
        compared = schema["components"]["schemas"]["CompareRequest"]["properties"]["checkpoints"]
        assert (compared["minItems"], compared["maxItems"]) == (2, 10)


def test_a_job_starts_where_embeddings_lie(host: CheckpointHost) -> None:
    assert RebuildJob.start(host, [], []).wait(TIMEOUT).state == "done"
