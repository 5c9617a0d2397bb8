"""`embedmerge serve`: options and faults without a server, then a server as a process of its own."""

from __future__ import annotations

import base64
import json
import signal
import socket
import sys
import time
import types
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
from models import encoders, write_sdxl
from processes import Program

from lib_embedmerge import load_embedding
from lib_embedmerge.cli import main, serve_command
from lib_embedmerge.errors import CheckpointError
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.hosts.port import Host

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_sdxl(folder / "base.safetensors", encoders())
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command in a folder of its own; what runs until Ctrl+C ends at once."""
    monkeypatch.chdir(tmp_path)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serve_command.time, "sleep", interrupted)

    def run_main(*arguments: object) -> tuple[int, str, str]:
        code = main(["serve", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_main


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Host, dict[str, Any]]]:
    """A page without gradio: what it was launched with."""
    found: list[tuple[Host, dict[str, Any]]] = []

    def launch(host: Host, **options: Any) -> str:
        found.append((host, options))
        return "http://127.0.0.1:7860/"

    page = types.ModuleType("lib_embedmerge.ui.page")
    vars(page)["launch"] = launch
    monkeypatch.setitem(sys.modules, "lib_embedmerge.ui.page", page)
    return found


Launched = list[tuple[Host, dict[str, Any]]]


def test_options_and_pure_json(run: Run, launched: Launched, models: Path, tmp_path: Path) -> None:
    options = ("--models", models, "--embeddings", tmp_path / "mine", "--port", 7999, "--host", "0.0.0.0", "--open")
    code, out, err = run(*options, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "url": "http://127.0.0.1:7860/",
        "checkpoint": "base",
        "embeddings": str((tmp_path / "mine").resolve()),
    }
    [(host, given)] = launched
    key = given.pop("key")
    assert given == {"address": "0.0.0.0", "port": 7999, "open_browser": True}
    assert key.login is None
    assert len(key.token) >= 32
    assert host.chooser is not None
    assert list(host.checkpoints()) == ["base.safetensors"]


def test_defaults_this_machine_and_the_demo_checkpoint(run: Run, launched: Launched, tmp_path: Path) -> None:
    code, out, _ = run("--json")
    assert code == 0
    [(host, given)] = launched
    assert given == {"address": "127.0.0.1", "port": None, "open_browser": False}
    assert json.loads(out)["checkpoint"] == "embedmerge-demo"
    assert host.embeddings_folder.resolve() == tmp_path / "embeddings"
    assert host.active().model.facts.architecture.title == "SDXL"


def test_people_are_told_the_address(run: Run, launched: Launched, models: Path) -> None:
    code, out, _ = run("--checkpoint", models / "base.safetensors")
    assert code == 0
    assert "http://127.0.0.1:7860/" in out
    assert len(launched) == 1


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--models", "nowhere"], ("There is no folder 'nowhere'.", "--models")),
        (["--models", "empty"], ("No checkpoint was found in 'empty'.", "--checkpoint")),
        (["--checkpoint", "nowhere.safetensors"], ("nowhere.safetensors", "")),
        (["--checkpoint", "torn.safetensors"], ("torn.safetensors", "")),
    ],
)
def test_what_cannot_be_served(
    run: Run, launched: Launched, tmp_path: Path, options: list[str], said: tuple[str, str], *, as_json: bool
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.safetensors").write_bytes(b"\xff" * 40)
    code, out, err = run(*options, *(["--json"] if as_json else []))
    assert code == 1
    assert launched == []
    told = json.loads(out)["error"] if as_json else {"message": err, "hint": err}
    assert said[0] in told["message"]
    assert said[1] in (told["hint"] or "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "login", "has_token"),
    [
        ([], None, False),
        (["--host", "localhost"], None, False),
        (["--host", "127.8.9.1"], None, False),
        (["--host", "::1"], None, False),
        (["--host", "::"], None, True),
        (["--host", "192.0.2.1"], None, True),
        (["--host", "0.0.0.0", "--login", "ann:secret"], ("ann", "secret"), False),
        (["--login", "ann:a:b"], ("ann", "a:b"), False),
    ],
)
def test_who_may_come(run: Run, launched: Launched, options: list[str], login: object, has_token: bool) -> None:
    code, _, err = run(*options)
    assert code == 0
    key = launched[0][1].get("key")
    assert (key.login if key else None, bool(key and key.token)) == (login, has_token)
    assert ("with its token" in err) is has_token


@pytest.mark.parametrize("login", ["", "ann", "ann:", ":secret"])
def test_a_login_that_is_none(run: Run, launched: Launched, login: str) -> None:
    with pytest.raises(SystemExit) as stop:
        run("--login", login)
    assert stop.value.code == 2
    assert launched == []


def test_a_host_that_is_none(run: Run, launched: Launched, models: Path) -> None:
    code, _, err = run("--models", models, "--host", "no such host.invalid")
    assert (code, launched) == (1, [])
    assert "must be an address of this computer" in err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "many"])
def test_a_port_that_is_none(run: Run, launched: Launched, port: str) -> None:
    with pytest.raises(SystemExit) as stop:
        run("--port", port)
    assert stop.value.code == 2
    assert launched == []


def test_without_gradio(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "lib_embedmerge.ui.page", raising=False)
    monkeypatch.delitem(sys.modules, "lib_embedmerge.ui.tab", raising=False)
    code, _, err = run("--models", models)
    assert code == 1
    assert "The Python package gradio is missing. The page needs it." in err
    assert 'Install it: pip install "gradio>=3.41.2,<7"' in err


def test_another_module_that_is_missing_is_a_bug(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lib_embedmerge.ui.page", None)
    with pytest.raises(ModuleNotFoundError):
        run("--models", models)


@pytest.mark.parametrize(
    ("error", "options", "said"),
    [
        (OSError("taken"), ["--port", "7999"], ("Port 7999 cannot be used on 127.0.0.1.", "another --port")),
        (OSError("taken"), [], ("No port from 7860 on can be used on 127.0.0.1.", "another --port")),
    ],
)
def test_a_page_that_cannot_be_launched(
    run: Run, launched: Launched, error: Exception, options: list[str], said: tuple[str, ...]
) -> None:
    def launch(*_: object, **__: object) -> str:
        raise error

    sys.modules["lib_embedmerge.ui.page"].launch = launch  # type: ignore[attr-defined] # the stand-in of `launched`
    code, out, err = run(*options)
    assert (code, out, launched) == (1, "", [])
    assert all(words in err for words in said)


def served(models: Path, folder: Path, *options: object) -> Program:
    """The page, in a process of its own."""
    arguments = ["serve", "--models", models, "--embeddings", folder / "embeddings", "--port", _free_port(), *options]
    return Program(list(map(str, arguments)), folder / "log.txt")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, str, Mapping[str, str]]:
    """Status, content and headers of an answer; none is followed elsewhere."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)
    try:
        with direct.open(urllib.request.Request(url, headers=dict(headers or {})), timeout=30) as answer:
            return answer.status, answer.read().decode("utf-8"), answer.headers
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode("utf-8"), dict(refused.headers)


@pytest.mark.process
def test_a_real_page_is_served_a_taken_port_is_told_and_ctrl_c_ends_it(models: Path, tmp_path: Path) -> None:
    with served(models, tmp_path, "--json") as program:
        url = json.loads(program.printed_until("}\n"))["url"]
        assert "embedmerge" in ask(url)[1]
        port = url.rstrip("/").rpartition(":")[2]
        (tmp_path / "second").mkdir()
        with served(models, tmp_path / "second", "--port", port) as second:
            assert second.end(120) == 1
            assert f"Port {port} cannot be used on 127.0.0.1." in second.said()
            assert "Traceback" not in second.said()
        program.interrupt()
        assert (program.rest(), program.end()) == ("", 0)
        assert program.said() == ""


@pytest.mark.process
def test_ctrl_c_reaches_it_where_whoever_started_the_tests_ignores_it(models: Path, tmp_path: Path) -> None:
    """As `nohup` and shells do for what they start in the background: these tests hung there for ever."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        program = served(models, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    with program:
        program.printed_until("Ctrl+C stops it.\n")
        program.interrupt()
        assert program.end() == 0


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="Windows asks nobody to end")
@pytest.mark.parametrize("moment", ["as it starts", "as it runs"])
def test_who_is_told_to_end_ends_cleanly(models: Path, tmp_path: Path, moment: str) -> None:
    """By a service manager, or a container's."""
    with served(models, tmp_path) as program:
        deadline = time.monotonic() + 60
        while not program.said() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert program.said() == "Starting the page. This takes some seconds...\n"
        if moment == "as it runs":
            program.printed_until("Ctrl+C stops it.\n")
        program.process.terminate()
        assert program.end() == (0 if moment == "as it runs" else 130)
        assert "Traceback" not in program.said()


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="Windows asks nobody to end")
def test_an_answer_that_goes_on_at_the_end_is_cut_off_without_a_stack_trace(models: Path, tmp_path: Path) -> None:
    port = _free_port()
    head = f"POST /embedmerge/v1/parse HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    with served(models, tmp_path, "--port", port) as program:
        program.printed_until("Ctrl+C stops it.\n")
        with socket.create_connection(("127.0.0.1", port)) as asking:
            asking.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            time.sleep(0.5)  # until the server reads it
            program.process.terminate()
            assert program.end() == 0
        assert "Traceback" not in program.said()


@pytest.mark.process
def test_it_says_at_once_what_it_does_and_is_open_only_when_all_is_there(models: Path, tmp_path: Path) -> None:
    """Whoever waits for the port is never told that there is no such route."""
    begun = time.monotonic()
    port = _free_port()
    with served(models, tmp_path, "--port", port) as program:
        answers = []
        while 200 not in answers:
            assert time.monotonic() - begun < 120, program.said()
            try:
                answers.append(ask(f"http://127.0.0.1:{port}/embedmerge/v1/list")[0])
            except OSError:
                time.sleep(0.01)
        assert answers == [200]
        assert program.said().startswith("Starting the page")
        assert ask(f"http://127.0.0.1:{port}/")[0] == 200
        program.printed_until("Ctrl+C stops it.\n")


@pytest.fixture(scope="module")
def with_token(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A page that other machines can reach: its address, and the token in it."""
    with served(models, tmp_path_factory.mktemp("token"), "--json", "--host", "0.0.0.0") as program:
        address, _, token = json.loads(program.printed_until("}\n"))["url"].partition("?token=")
        yield address, token


API = "embedmerge/v1/list"


@pytest.mark.process
@pytest.mark.parametrize("path", ["", API, "config", "openapi.json", "theme.css", "run/predict", "?token=", "?token=x"])
def test_other_machines_see_nothing_without_the_token(with_token: tuple[str, str], path: str) -> None:
    address, token = with_token
    for headers in ({}, {"cookie": "embedmerge=x"}, {"authorization": "Bearer x"}, {"authorization": "Basic Og=="}):
        status, content, _ = ask(address + path, headers)
        assert status == 401
        assert "the full address that EmbedMerge printed" in content
        assert token not in content


@pytest.mark.process
def test_the_token_lets_in_and_goes_from_the_address(with_token: tuple[str, str]) -> None:
    address, token = with_token
    assert len(token) >= 32
    status, _, headers = ask(f"{address}?__theme=dark&token={token}")
    assert (status, headers["location"]) == (303, "/?__theme=dark")
    cookie = headers["set-cookie"]
    assert token not in cookie
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Lax", "Path=/"))
    kept = {"cookie": "other=1; " + cookie.partition(";")[0]}
    assert "embedmerge" in ask(address, kept)[1]
    for way in ({"authorization": f"Bearer {token}"}, kept):
        assert ask(address + API, way)[0] == 200
    assert ask(f"{address}{API}?token={token}")[0] == 200
    # Behind any name, as a cookie is bound to its own; but no page of another site.
    assert ask(address + API, {**kept, "host": "my-server.example"})[0] == 200
    assert ask(address + API, {**kept, "origin": "http://evil.example"})[0] == 403


@pytest.mark.process
def test_a_login_for_the_page_and_the_api(models: Path, tmp_path: Path) -> None:
    with served(models, tmp_path, "--json", "--login", "zoë:geheim:猫") as program:
        url = json.loads(program.printed_until("}\n"))["url"]
        assert "token" not in url
        for path in ("", API):
            status, content, headers = ask(url + path)
            assert (status, headers["www-authenticate"]) == (401, 'Basic realm="EmbedMerge", charset="UTF-8"')
            assert "The login is missing or wrong." in content
            assert ask(url + path, _basic("zoë:geheim"))[0] == 401
            status, _, headers = ask(url + path, _basic("zoë:geheim:猫"))
            assert status == 200
            assert ask(url + path, {"cookie": headers["set-cookie"].partition(";")[0]})[0] == 200


def _basic(login: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(login.encode("utf-8")).decode("ascii")}


@pytest.fixture
def host(models: Path, tmp_path: Path) -> CheckpointHost:
    return CheckpointHost(tmp_path / "embeddings", models=models)


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
def test_what_the_events_of_the_page_take_and_give(gradio: types.ModuleType, host: CheckpointHost) -> None:
    """What gradio's widgets give goes to the handlers, and what these give goes to the widgets; without a browser."""
    from lib_embedmerge.ui.page import build_page

    events = {event.name: event.fn for event in build_page(host)[0].fns.values()}
    wishes = ("'cat'", " my_one ", "mine", True, True, False, "remove brackets", False)
    assert "Saved <bdi>my_one</bdi>" in events["save"](*wishes, "")
    assert "already exists" in events["save"](*wishes, None)
    assert "Saved <bdi>my_one</bdi>" in events["save"](*wishes, "my_one")
    made = load_embedding(host.embeddings_folder / "my_one.safetensors")
    assert made.tag is not None
    assert (made.tag.notes, made.tag.negative) == ("mine", True)
    assert events["<lambda>"]()["choices"] == ["my_one"]
    naming = events["check_name"]("cat", "7")
    assert 'data-embedmerge-asked="7"' in naming
    assert "cat_em" in naming
    assert events["update_chosen"]()["value"] == "base.safetensors"
    trouble, dropdown = events["choose"]("gone.safetensors")
    assert "no longer exists" in trouble
    assert dropdown["value"] == "base.safetensors"

    assert events["inspect"](None) == ("", "")
    assert "my_one" in events["inspect"]("my_one")[0]
    assert "did not arrive" in events["inspect_dropped"]("")


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
def test_no_widget_takes_files_and_no_event_has_gradio_read_its_values(
    gradio: types.ModuleType, host: CheckpointHost
) -> None:
    """gradio 4 takes any value of the form {"path": ...}, of a text box too, for a file that it has to fetch."""
    from lib_embedmerge.ui.page import build_page

    page, _ = build_page(host)
    assert {type(block).__name__.lower() for block in page.blocks.values()} <= {
        "column", "row", "form", "tabs", "tab", "accordion", "html", "markdown", "button", "textbox", "dropdown",
        "radio", "checkbox", "blocks",
    }  # fmt: skip
    events = [event for event in page.fns.values() if event.fn is not None]
    assert len(events) > 15
    assert not any(event.preprocess for event in events)
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    answers = {event.name: event.fn for event in events}
    assert "/etc/passwd" not in answers["check_name"](file, "1")
    assert answers["inspect"]([file]) == ("", "")
    assert "1" in answers["check_name"](1, "1")


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
def test_the_page_is_launched_for_this_machine(
    gradio: types.ModuleType, host: CheckpointHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lib_embedmerge.ui import page, server
    from lib_embedmerge.ui.entrance import Key

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    try:
        opened: list[str] = []
        monkeypatch.setattr(page.webbrowser, "open", opened.append)
        key = Key.new_token()
        urls = [
            page.launch(host, address="127.0.0.1", port=_free_port(), open_browser=False),
            page.launch(host, address="localhost", port=None, open_browser=True, key=key),
        ]
        assert urls[0].startswith("http://127.0.0.1:")
        assert urls[1].startswith("http://localhost:78") or urls[1].startswith("http://localhost:79")
        assert urls[1].endswith(f"/?token={key.token}")
        assert opened == urls[1:]
        assert ask(urls[0])[0] == 200
        with pytest.raises(OSError, match=""):
            page.launch(host, address="127.0.0.1", port=int(urls[0].split(":")[2][:-1]), open_browser=False)
        assert capsys.readouterr().out == ""
    finally:
        server.stop_all()
    with pytest.raises(OSError, match=""):
        ask(urls[0])


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
def test_a_fault_of_ours_keeps_no_web_ui_from_starting(
    gradio: types.ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lib_embedmerge.ui import tab

    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(tab, "add_tab", fail)
    with gradio.Blocks(analytics_enabled=False):
        tab.WebuiTab(fail).render()
    assert "the tab could not be created" in caplog.text


def test_the_first_checkpoint_that_can_be_read_is_opened(
    run: Run, launched: Launched, models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "a_broken.safetensors").write_bytes(b"")
    (folder / "b_good.safetensors").write_bytes((models / "base.safetensors").read_bytes())
    code, out, _ = run("--models", folder, "--json")
    assert code == 0
    assert json.loads(out)["checkpoint"] == "b_good"


def test_a_folder_of_which_no_file_can_be_read_is_served(run: Run, launched: Launched, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "page.safetensors").write_bytes(b"<html>" * 20)
    (folder / "noise.ckpt").write_bytes(b"\xff" * 100)
    code, out, _ = run("--models", folder, "--json")
    assert code == 0
    assert json.loads(out)["checkpoint"] is None
    ((host, _),) = launched
    assert list(host.checkpoints()) == ["noise.ckpt", "page.safetensors"]
    with pytest.raises(CheckpointError, match=r"noise\.ckpt"):
        host.active()


def test_gradio_prints_no_stack_trace_for_an_answer_that_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its routes call `traceback.print_exc` for the cancellation, as they do for a fault in a handler."""
    import traceback

    from lib_embedmerge.ui import server

    routes = types.ModuleType("gradio.routes")
    routes.traceback = traceback  # type: ignore[attr-defined] # a made module
    monkeypatch.setitem(sys.modules, "gradio.routes", routes)
    monkeypatch.setattr(server, "_running", [])
    server.stop_all()
    try:
        raise RuntimeError("cut off")
    except RuntimeError:
        routes.traceback.print_exc()
    assert capsys.readouterr().err == ""
    assert sys.modules["traceback"] is traceback
