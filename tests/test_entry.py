"""The extension as a web UI loads it: scripts/embedmerge.py run against a stand-in that records what is registered."""

from __future__ import annotations

import runpy
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ENTRY = ROOT / "scripts" / "embedmerge.py"


class ScriptCallbacks(types.ModuleType):
    """What `modules.script_callbacks` is to the entry. A new one is told who registers, an old one finds out."""

    def __init__(self, *, is_new: bool) -> None:
        super().__init__("modules.script_callbacks")
        self.registered: list[tuple[str, Callable[..., Any]]] = []
        self.callback_map = {"callbacks_ui_tabs": [], "callbacks_infotext_pasted": []}
        self.add_callback = self._add_new if is_new else self._add_old

    def _add_new(
        self, callbacks: object, fun: Callable[..., Any], *, name: str | None = None, category: str, filename: str
    ) -> None:
        assert callbacks is self.callback_map[f"callbacks_{category}"]
        assert Path(filename) == ENTRY
        self.registered.append((category, fun))

    def _add_old(self, callbacks: object, fun: Callable[..., Any]) -> None:
        raise AssertionError("the public functions call this, nobody else")

    def on_ui_tabs(self, callback: Callable[..., Any]) -> None:
        self.registered.append(("ui_tabs", callback))

    def on_infotext_pasted(self, callback: Callable[..., Any]) -> None:
        self.registered.append(("infotext_pasted", callback))


@pytest.fixture(params=[True, False], ids=["new", "old"])
def callbacks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptCallbacks]:
    found = ScriptCallbacks(is_new=request.param)
    modules = types.ModuleType("modules")
    modules.script_callbacks = found  # type: ignore[attr-defined] -- a module's contents are attributes
    monkeypatch.setitem(sys.modules, "modules", modules)
    monkeypatch.setitem(sys.modules, "modules.script_callbacks", found)
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "lib_embedmerge"}
    yield found
    for name in [name for name in sys.modules if name.partition(".")[0] == "lib_embedmerge"]:
        del sys.modules[name]
    sys.modules.update(before)


def load(callbacks: ScriptCallbacks) -> dict[str, Callable[..., Any]]:
    """What is registered by a start, which forgets what an earlier one did."""
    callbacks.registered.clear()
    runpy.run_path(str(ENTRY))
    return dict(callbacks.registered)


def test_it_registers_each_thing_once(callbacks: ScriptCallbacks) -> None:
    for _ in range(2):
        load(callbacks)
        assert [kind for kind, _ in callbacks.registered] == ["ui_tabs", "infotext_pasted"]


def test_it_is_short() -> None:
    assert len(ENTRY.read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
def test_the_tab(callbacks: ScriptCallbacks, gradio: types.ModuleType) -> None:
    (interface, title, element) = load(callbacks)["ui_tabs"]()[0]
    assert (title, element) == ("EmbedMerge", "embedmerge")
    with gradio.Blocks(analytics_enabled=False) as demo:
        interface.render()
    ids = {block.elem_id for block in demo.blocks.values() if block.elem_id}
    assert {"embedmerge", "embedmerge_source", "embedmerge_save", "embedmerge_inspect", "embedmerge_syntax"} <= ids
    assert list(interface.children) == []


def test_a_pasted_infotext_gets_its_expressions_back(callbacks: ScriptCallbacks) -> None:
    registered = load(callbacks)
    parameters = {"Prompt": "a <'EM_1'> b", "EmbeddingMerge": "<'EM_1'>=<'cat'+'dog'>", "Steps": 20}
    registered["infotext_pasted"]("", parameters)
    assert parameters["Prompt"] == "a <'cat'+'dog'> b"
    assert parameters["Steps"] == 20


def test_reload_takes_the_files_as_they_are_now(callbacks: ScriptCallbacks) -> None:
    runpy.run_path(str(ENTRY))
    import lib_embedmerge

    first = lib_embedmerge
    runpy.run_path(str(ENTRY))
    assert sys.modules["lib_embedmerge"] is not first


def test_start_imports_nothing_heavy() -> None:
    """What the tab costs a web UI's start: neither torch nor most of the package is asked for."""
    code = (
        "import sys, types\n"
        "callbacks = types.ModuleType('modules.script_callbacks')\n"
        "found = []\n"
        "callbacks.add_callback = lambda callbacks, callback: None\n"
        "callbacks.on_ui_tabs = callbacks.on_infotext_pasted = found.append\n"
        "sys.modules['modules'] = modules = types.ModuleType('modules')\n"
        "sys.modules['modules.script_callbacks'] = modules.script_callbacks = callbacks\n"
        "import gradio, runpy\n"
        f"runpy.run_path({str(ENTRY)!r})\n"
        "with gradio.Blocks(analytics_enabled=False): found[0]()[0][0].render()\n"
        "names = [name for name in sys.modules if name.startswith('lib_embedmerge.')]\n"
        "heavy = [name for name in names if name.split('.')[1] in ('storage', 'checkpoints', 'lang', 'tokenizer')]\n"
        "print(heavy, len(names), 'torch' in sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    heavy, count, torch = done.stderr.strip().splitlines()[-1].rsplit(" ", 2)
    assert (heavy, torch) == ("[]", "False")
    assert int(count) < 20
