"""The page of its own in a real browser, under four versions of gradio: a server each, one browser, and a page for each
module of tests, which leave on it what they like. Without a browser these tests fail: the page is not to go untested.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkpoint_files import make_encoders, write_layout
from processes import Program

from lib_embedmerge.demo import make_demo_checkpoint
from pages.drive import Tab, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]

INTERPRETERS = {
    "gradio-3.41.2": ROOT / ".venv-gradio3",
    "gradio-4.40.0": Path(sys.prefix),
    "gradio-5.50.0": ROOT / ".venv-gradio5",
    "gradio-6.31.0": ROOT / ".venv-gradio6",
}
"""The environments that dev.py makes; EMBEDMERGE_GRADIO3 names another one for the first, and so on."""

CORE = ("test_making.py", "test_saving.py", "test_inspecting.py", "test_choosing.py", "test_privacy.py")
"""The modules of tests that run under the newest versions of gradio too; the others would take minutes more."""

_VARIABLES = {
    "gradio-3.41.2": "EMBEDMERGE_GRADIO3",
    "gradio-5.50.0": "EMBEDMERGE_GRADIO5",
    "gradio-6.31.0": "EMBEDMERGE_GRADIO6",
}

_OLD = ("gradio-3.41.2", "gradio-4.40.0")

_CHROMIUM_OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

_FAILED = pytest.StashKey[bool]()


@dataclass(frozen=True)
class Served:
    """A page that is served: its address, which gradio serves it, and its folders."""

    url: str
    gradio: str
    embeddings: Path
    models: Path


@pytest.fixture(scope="session", params=list(INTERPRETERS))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`embedmerge serve` on the demo checkpoint, as a process of its own."""
    with serve(request.param, tmp_path_factory.mktemp(request.param)) as served:
        yield served


@contextmanager
def serve(gradio: str, folder: Path, module: str = "lib_embedmerge") -> Iterator[Served]:
    """A page in a folder. gradio: a key of INTERPRETERS.  module: what `python -m` runs."""
    models = folder / "models"
    models.mkdir()
    shutil.copyfile(make_demo_checkpoint(), models / "demo.safetensors")
    small = write_layout("sd1", folder, make_encoders(rows=6000)).path
    assert isinstance(small, Path)
    shutil.move(small, models / "small-sd1.safetensors")
    (models / "torn.safetensors").write_bytes(b"nothing that could be read")
    embeddings = folder / "embeddings"
    arguments = [
        "serve", "--json", "--models", str(models), "--embeddings", str(embeddings), "--port", str(_free_port()),
    ]  # fmt: skip
    with Program(arguments, folder / "log.txt", python=str(find_python(gradio)), module=module) as program:
        url = str(json.loads(program.printed_until("}\n"))["url"])
        yield Served(url, gradio, embeddings, models)
        program.process.terminate()
        code = program.end()
    assert "Traceback" not in program.said()
    assert code == 0 or sys.platform == "win32", program.said()  # where nobody is asked to end


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: EMBEDMERGE_CHROMIUM, the system's, or the one that playwright has installed."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("EMBEDMERGE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(_CHROMIUM_OPTIONS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def tab(served: Served, browser: Browser) -> Iterator[Tab]:
    """The page, open, for the tests of one module."""
    with opened(browser, served.url) as page:
        yield page


@pytest.hookimpl(trylast=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Every test in this folder needs the server, and nearly every one the browser."""
    item.add_marker(pytest.mark.browser)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what only runs under the older versions of gradio."""
    items[:] = [item for item in items if not _is_left_out(item)]


def _is_left_out(item: pytest.Item) -> bool:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return item.path.name not in CORE and parameters.get("served", _OLD[0]) not in _OLD


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember of each test whether it failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def _look(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test may bring up a dialog or a fault of the script. A test that fails leaves a screenshot of the page among
    the artefacts; with EMBEDMERGE_SCREENSHOTS=1 every test does."""
    yield
    if "tab" in request.fixturenames:
        tab: Tab = request.getfixturevalue("tab")
        (tab.take_screenshot if request.node.stash.get(_FAILED, False) else tab.shoot)(request.node.name)
        assert tab.faults == []


def find_python(gradio: str) -> Path:
    """The Python of the environment with a version of gradio."""
    environment = INTERPRETERS[gradio]
    variable = _VARIABLES.get(gradio, "")
    if other := os.environ.get(variable):
        environment = Path(other)
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    assert python.exists(), f"{environment} is missing: run `python dev.py test`, or set {variable}"
    return python


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
