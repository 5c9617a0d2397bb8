"""`embedmerge serve`: options and faults without a server, then a server as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import types
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from models import encoders, write_sdxl

from lib_embedmerge import load_embedding
from lib_embedmerge.cli import main, serving
from lib_embedmerge.errors import CheckpointError
from lib_embedmerge.hosts.checkpoint import CheckpointHost
from lib_embedmerge.hosts.port import Host

ROOT = Path(__file__).parents[1]

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

    monkeypatch.setattr(serving.time, "sleep", interrupted)

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
    page.launch = launch  # type: ignore[attr-defined] -- a module's contents are attributes
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
    assert given == {"address": "0.0.0.0", "port": 7999, "open_browser": True}
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
        (["--models", "empty"], ("There is no checkpoint in 'empty'.", "--checkpoint")),
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
    assert "The page needs gradio, which is not installed." in err
    assert 'pip install "gradio>=3.41.2,<5"' in err


def test_another_module_that_is_missing_is_a_bug(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lib_embedmerge.ui.page", None)
    with pytest.raises(ModuleNotFoundError):
        run("--models", models)


@pytest.mark.parametrize(
    ("error", "options", "said"),
    [
        (OSError("taken"), ["--port", "7999"], ("Port 7999 cannot be used on 127.0.0.1.", "another --port")),
        (OSError("taken"), [], ("No port from 7860 on can be used on 127.0.0.1.", "another --port")),
        (ValueError("share=True"), [], ("127.0.0.1 could not be reached from this machine.", "NO_PROXY")),
    ],
)
def test_a_page_that_cannot_be_launched(
    run: Run, launched: Launched, error: Exception, options: list[str], said: tuple[str, ...]
) -> None:
    def launch(*_: object, **__: object) -> str:
        raise error

    sys.modules["lib_embedmerge.ui.page"].launch = launch  # type: ignore[attr-defined] -- the stand-in of `launched`
    code, out, err = run(*options)
    assert (code, out, launched) == (1, "", [])
    assert all(words in err for words in said)


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A page that is served by a process of its own, and its address."""
    folder = tmp_path_factory.mktemp("serving")
    command = [sys.executable, "-W", "ignore", "-m", "lib_embedmerge", "serve", "--json", "--models", str(models)]
    command += ["--embeddings", str(folder / "embeddings"), "--port", str(_free_port())]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_PROXY": "127.0.0.1,localhost"}
    group = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, creationflags=group
        )
        try:
            assert process.stdout is not None
            printed = ""
            while not printed.endswith("}\n"):
                line = process.stdout.readline()
                assert line, (folder / "log.txt").read_text(encoding="utf-8")
                printed += line
            yield process, json.loads(printed)["url"]
        finally:
            process.kill()
            process.wait(30)
            process.stdout.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_real_page_is_served_a_taken_port_is_told_and_ctrl_c_ends_it(
    server: tuple[subprocess.Popen[str], str], models: Path, tmp_path: Path
) -> None:
    process, url = server
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=30) as page:
        assert "embedmerge" in page.read().decode("utf-8")
    port = url.rstrip("/").rpartition(":")[2]
    command = [sys.executable, "-W", "ignore", "-m", "lib_embedmerge", "serve", "--models", str(models)]
    command += ["--embeddings", str(tmp_path), "--port", port]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert second.returncode == 1
    assert f"Port {port} cannot be used on 127.0.0.1." in second.stderr
    assert "Traceback" not in second.stderr
    process.send_signal(signal.CTRL_C_EVENT if sys.platform == "win32" else signal.SIGINT)
    assert process.stdout is not None
    rest = process.stdout.read()
    assert (process.wait(30), rest) == (0, "")


@pytest.fixture
def host(models: Path, tmp_path: Path) -> CheckpointHost:
    return CheckpointHost(tmp_path / "embeddings", models=models)


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
def test_what_the_events_of_the_page_take_and_give(gradio: types.ModuleType, host: CheckpointHost) -> None:
    """What gradio's widgets give goes to the handlers, and what these give goes to the widgets; without a browser."""
    from lib_embedmerge.ui.page import build_page

    events = {event.name: event.fn for event in build_page(host).fns.values()}
    wishes = ("'cat'", " my_one ", "mine", True, True, False, "remove brackets", False)
    assert "Saved <bdi>my_one</bdi>" in events["save"](*wishes, "")
    assert "exists already" in events["save"](*wishes, None)
    assert "Saved <bdi>my_one</bdi>" in events["save"](*wishes, "my_one")
    made = load_embedding(host.embeddings_folder / "my_one.safetensors")
    assert made.tag is not None
    assert (made.tag.notes, made.tag.negative) == ("mine", True)
    assert events["<lambda>"]()["choices"] == ["my_one"]
    assert events["shown"]()["value"] == "base.safetensors"
    trouble, dropdown = events["choose"]("gone.safetensors")
    assert "There is no checkpoint" in trouble
    assert dropdown["value"] == "base.safetensors"

    path = str(made.path)
    of_gradio_3 = types.SimpleNamespace(name=path, orig_name="dropped.safetensors")
    dropped = [event.fn for event in build_page(host).fns.values() if event.name == "inspect"]
    assert [fn(None) for fn in dropped] == ["", ""]  # nothing chosen, nothing dropped
    assert "dropped.safetensors" in dropped[-1](of_gradio_3)
    assert "my_one.safetensors" in dropped[-1](path)


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
def test_the_page_is_launched_for_this_machine(
    gradio: types.ModuleType, host: CheckpointHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lib_embedmerge.ui import page

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    try:
        url = page.launch(host, address="127.0.0.1", port=_free_port(), open_browser=False)
        assert url.startswith("http://127.0.0.1:")
        assert capsys.readouterr().out == ""
    finally:
        gradio.close_all()


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
def test_a_fault_of_ours_keeps_no_web_ui_from_starting(
    gradio: types.ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lib_embedmerge.ui import tab

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tab, "add_tab", fail)
    with gradio.Blocks(analytics_enabled=False):
        tab.WebuiTab(fail).render()
    assert "the tab could not be made" in caplog.text


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
