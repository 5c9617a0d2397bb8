"""The extension as a web UI loads it: scripts/embedmerge.py run against a stand-in that records what is registered."""

from __future__ import annotations

import functools
import runpy
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from api_client import ask
from test_api_schema import OPERATIONS

ROOT = Path(__file__).parents[1]
ENTRY = ROOT / "scripts" / "embedmerge.py"

KINDS = [
    "ui_settings", "before_ui", "script_unloaded", "before_token_counter", "ui_tabs", "infotext_pasted", "app_started"
]  # fmt: skip
"""What the entry registers, in order."""


SHAPES = ["new", "old", "unknown"]
"""The shapes of `modules.script_callbacks`.

new: it is given the file that registers a callback.
old: as in Forge Classic. It searches for that file, which takes 0.1 s for each callback, and keeps plain pairs.
unknown: only its public functions are known.
"""


class ScriptCallback(NamedTuple):
    """An old one's entry."""

    script: str
    callback: Callable[..., Any]


class Callbacks(list[object]):
    """Those of a kind, in a web UI's `callback_map`. note: called with each callback that is appended."""

    def __init__(self, note: Callable[[Callable[..., Any]], None]) -> None:
        super().__init__()
        self._note = note

    def append(self, entry: object) -> None:
        assert isinstance(entry, ScriptCallback)
        assert Path(entry.script) == ENTRY
        self._note(entry.callback)


class ScriptCallbacks(types.ModuleType):
    """What `modules.script_callbacks` is to the entry. shape: of SHAPES."""

    def __init__(self, shape: str, kinds: Sequence[str] = KINDS) -> None:
        super().__init__("modules.script_callbacks")
        self.registered: list[tuple[str, Callable[..., Any]]] = []
        note = self._on if shape == "old" else self._refuse
        self.callback_map = {f"callbacks_{kind}": Callbacks(functools.partial(note, kind)) for kind in kinds}
        self.add_callback = self._add_new if shape == "new" else self._add_old
        if shape == "old":
            self.ScriptCallback = ScriptCallback
        for kind in kinds if shape == "unknown" else ():
            setattr(self, f"on_{kind}", functools.partial(self._on, kind))

    def _add_new(
        self, callbacks: object, fun: Callable[..., Any], *, name: str | None = None, category: str, filename: str
    ) -> None:
        assert callbacks is self.callback_map[f"callbacks_{category}"]
        assert Path(filename) == ENTRY
        self.registered.append((category, fun))

    def _add_old(self, callbacks: object, fun: Callable[..., Any]) -> None:
        raise AssertionError("the public functions call this, nobody else")

    def _refuse(self, kind: str, callback: Callable[..., Any]) -> None:
        raise AssertionError("the web UI's own entries have more in them")

    def _on(self, kind: str, callback: Callable[..., Any]) -> None:
        self.registered.append((kind, callback))


def put(patch: pytest.MonkeyPatch, **contents: Any) -> types.ModuleType:
    """A package `modules` with modules of these names: ready ones, or of these contents."""
    package = types.ModuleType("modules")
    patch.setitem(sys.modules, "modules", package)
    for name, content in contents.items():
        module = content
        if not isinstance(content, types.ModuleType):
            module = types.ModuleType(f"modules.{name}")
            vars(module).update(content)
        setattr(package, name, module)
        patch.setitem(sys.modules, f"modules.{name}", module)
    return package


@pytest.fixture(params=SHAPES)
def callbacks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptCallbacks]:
    found = ScriptCallbacks(request.param)
    put(monkeypatch, script_callbacks=found)
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
        assert [kind for kind, _ in callbacks.registered] == KINDS


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("absent", KINDS)
@pytest.mark.usefixtures("callbacks")
def test_a_kind_that_the_web_ui_has_not_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, absent: str, shape: str
) -> None:
    kinds = [kind for kind in KINDS if kind != absent]
    old = ScriptCallbacks(shape, kinds)
    put(monkeypatch, script_callbacks=old)
    assert list(load(old)) == kinds


def test_it_is_short() -> None:
    assert len(ENTRY.read_text(encoding="utf-8").splitlines()) <= 100


def test_a_pasted_infotext_gets_its_expressions_back(callbacks: ScriptCallbacks) -> None:
    registered = load(callbacks)
    parameters = {"Prompt": "a <'EM_1'> b", "EmbeddingMerge": "<'EM_1'>=<'cat'+'dog'>", "Steps": 20}
    registered["infotext_pasted"]("", parameters)
    assert parameters["Prompt"] == "a <'cat'+'dog'> b"
    assert parameters["Steps"] == 20


@pytest.mark.filterwarnings("ignore")  # what fastapi says of others
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"api": True}, True),
        ({"api": False, "nowebui": True}, True),
        ({"api": False, "nowebui": False}, False),
        ({}, False),
    ],
)
def test_the_api_is_there_where_the_web_ui_has_one(
    callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], wanted: bool
) -> None:
    from fastapi import FastAPI

    webui(monkeypatch, callbacks)
    shared = sys.modules["modules.shared"]
    vars(shared)["cmd_opts"] = SimpleNamespace(api_auth="ann:secret:er,bob:x", **options)
    app = FastAPI()
    for _ in range(2):  # "Reload UI" runs the file again; what it adds takes the place of what is there
        load(callbacks)["app_started"](None, app)
        assert _list_our_paths(app) == (["/embedmerge/v1/{path:path}"] if wanted else [])
    described = [path for path in app.openapi()["paths"] if path.startswith("/embedmerge/v1/")]
    assert len(described) == (len({operation.split()[1] for operation in OPERATIONS}) if wanted else 0)
    assert len(_list_our_paths(app)) == (len(OPERATIONS) if wanted else 0)
    from lib_embedmerge.hosts.webui.api_options import read_logins

    assert read_logins() == {"ann": "secret:er", "bob": "x"}
    shared.cmd_opts.api_auth = None
    assert read_logins() == {}


def test_logins_are_those_that_the_web_ui_asks_for(
    callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SD.Next has one option for its page and its API, and one for a file of logins; AUTOMATIC1111 has neither."""
    webui(monkeypatch, callbacks)
    from lib_embedmerge.hosts.webui.api_options import read_logins

    logins = tmp_path / "logins.txt"
    logins.write_text('"cy":"y:z"\n\nno login\ndan: pwd \n', encoding="utf-8")
    shared: Any = sys.modules["modules.shared"]
    shared.cmd_opts = SimpleNamespace(api=True, api_auth=None, auth='"ann:secret, bob:x"', auth_file=str(logins))
    assert read_logins() == {"ann": "secret", "bob": "x", "cy": "y:z", "dan": "pwd"}
    shared.cmd_opts = SimpleNamespace(api=True, api_auth="eve:v", auth="ann:secret", auth_file=None)
    assert read_logins() == {"eve": "v", "ann": "secret"}
    shared.cmd_opts = SimpleNamespace(api=True, api_auth=None, auth=None, auth_file=str(tmp_path / "gone.txt"))
    with pytest.raises(OSError):  # and so there is no API without a login
        read_logins()


@pytest.mark.filterwarnings("ignore")  # what fastapi says of others
def test_the_routes_are_made_at_the_first_request(callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this request too, and each later one finds them there."""
    from fastapi import FastAPI

    webui(monkeypatch, callbacks)
    vars(sys.modules["modules.shared"])["cmd_opts"] = SimpleNamespace(api=True, api_auth="ann:x")
    app = FastAPI()
    before = len(app.routes)
    load(callbacks)["app_started"](None, app)
    for path, status in (("/nothing", 404), ("/list", 401), ("/parse", 405)):
        assert ask(app, "GET", path).status_code == status
        assert len(app.routes) == before + len(OPERATIONS)
    load(callbacks)["app_started"](None, app)
    assert len(app.routes) == before + 1
    assert ask(app, "GET", "/list").status_code == 401


def test_a_web_ui_that_encodes_otherwise_stays_as_it_was(
    callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    webui(monkeypatch, callbacks)
    sys.modules["modules.processing"].StableDiffusionProcessing = type("Other", (), {})  # type: ignore[attr-defined]
    registered = load(callbacks)
    errors = sys.modules["modules.errors"]
    before = vars(errors).copy()
    registered["before_ui"]()
    assert vars(errors) == before
    sentence = "EmbedMerge cannot handle expressions in prompts: this web UI has no "
    assert f"{sentence}processing.StableDiffusionProcessing.get_conds_with_caching.\n" in capsys.readouterr().err


def test_a_failure_in_the_middle_leaves_the_web_ui_as_it_was(
    callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    webui(monkeypatch, callbacks)
    sys.modules["modules.scripts"].scripts_data = None  # type: ignore[attr-defined] # a made module
    registered = load(callbacks)
    registered["before_ui"]()
    assert vars(Processing)["get_conds_with_caching"].__qualname__ == "Processing.get_conds_with_caching"
    assert "EmbedMerge cannot handle expressions in prompts in this web UI (TypeError" in capsys.readouterr().err


def _list_our_paths(app: Any) -> list[str]:
    return [path for path in map(attrgetter("path"), app.routes) if path.startswith("/embedmerge/v1/")]


class Processing:
    """modules.processing.StableDiffusionProcessing, as far as the entry asks for it."""

    def get_conds_with_caching(self, function: object, prompts: list[str]) -> tuple[object, list[str]]:
        return function, prompts


def webui(patch: pytest.MonkeyPatch, callbacks: ScriptCallbacks, **options: Any) -> SimpleNamespace:
    """The rest of a web UI, with these options set."""
    opts = SimpleNamespace(include_styles_into_token_counters=False, **options)
    no_folder = SimpleNamespace(embeddings_dir=str(ENTRY))
    shared = SimpleNamespace(opts=opts, prompt_styles=None, cmd_opts=no_folder)
    put(
        patch,
        script_callbacks=callbacks,
        processing={"StableDiffusionProcessing": Processing},
        scripts={"scripts_data": [], "__file__": "/x/modules/scripts.py"},
        errors={"report": print, "display": print},
        shared=vars(shared),
        sd_models={"model_data": SimpleNamespace(sd_model=None), "checkpoints_list": {}, "checkpoint_aliases": {}},
    )
    return shared


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
@pytest.mark.parametrize("precision", [None, "float32", "float16"])
def test_the_tab(
    callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch, gradio: types.ModuleType, precision: str | None
) -> None:
    webui(monkeypatch, callbacks, **({"embedmerge_precision": precision} if precision else {}))
    (interface, title, element) = load(callbacks)["ui_tabs"]()[0]
    assert (title, element) == ("EmbedMerge", "embedmerge")
    with gradio.Blocks(analytics_enabled=False) as demo:
        interface.render()
    blocks = {block.elem_id: block for block in demo.blocks.values() if block.elem_id}
    wanted = {"embedmerge", "embedmerge_source", "embedmerge_save", "embedmerge_inspect", "embedmerge_syntax"}
    assert wanted <= set(blocks)
    assert blocks["embedmerge_half"].value is (precision == "float16")
    assert list(interface.children) == []


def test_it_takes_hold_and_lets_go(callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch) -> None:
    webui(monkeypatch, callbacks)
    before = vars(Processing)["get_conds_with_caching"]
    for _ in range(2):  # "Reload UI": unloaded, and the file is run again
        registered = load(callbacks)
        registered["before_ui"]()
        ours = vars(Processing)["get_conds_with_caching"]
        assert ours is not before
        assert Processing().get_conds_with_caching("f", ["it's a cat"]) == ("f", ["it's a cat"])
        registered["before_ui"]()  # once more puts nothing on top
        registered["script_unloaded"]()
        assert vars(Processing)["get_conds_with_caching"] is before


def test_a_reload_stops_rebuilds(callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch) -> None:
    webui(monkeypatch, callbacks)
    registered = load(callbacks)
    from lib_embedmerge.actions import jobs  # as the entry has just imported it

    stopped: list[str] = []
    monkeypatch.setattr(jobs.JOBS, "cancel_all", lambda: stopped.append("all"))
    registered["script_unloaded"]()
    assert stopped == ["all"]


@pytest.mark.parametrize(
    ("prompt", "options", "expected"),
    [
        ("a <'cat dog'>", {}, "a the the"),
        ("a <'cat dog'>", {"embedmerge_inline": True}, "a the the"),
        ("a <'cat dog'>", {"embedmerge_inline": False}, "a <'cat dog'>"),
        ("it's a cat", {}, "it's a cat"),
        ("a cat", {}, "a cat"),
    ],
)
def test_the_token_counter(
    callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch, prompt: str, options: dict[str, Any], expected: str
) -> None:
    """Nothing is loaded, and there is no checkpoint."""
    webui(monkeypatch, callbacks, sd_model_checkpoint="", **options)
    params = SimpleNamespace(prompt=prompt, steps=20, styles=[], is_positive=True)
    load(callbacks)["before_token_counter"](params)
    assert params.prompt == expected


@pytest.mark.filterwarnings("ignore")  # what gradio and fastapi say of one another
def test_the_settings(callbacks: ScriptCallbacks, monkeypatch: pytest.MonkeyPatch, gradio: types.ModuleType) -> None:
    shared = webui(monkeypatch, callbacks)
    added: dict[str, Any] = {}

    class OptionInfo:
        def __init__(self, default: Any, label: str, component: Any = None, *_: Any, **__: Any) -> None:
            self.default, self.component, self.label = default, component, label

        def info(self, text: str) -> OptionInfo:
            self.label += text
            return self

    shared.opts.add_option = added.__setitem__
    sys.modules["modules.shared"].OptionInfo = OptionInfo  # type: ignore[attr-defined] # a module's contents
    load(callbacks)["ui_settings"]()
    assert set(added) == {f"embedmerge_{name}" for name in ("inline", "follow", "mistakes", "precision")}
    assert added["embedmerge_mistakes"].component is gradio.Radio
    assert "Embedding Merge" not in added["embedmerge_inline"].label

    class Rival:
        def process(self) -> None:
            """As EM does."""

    path = "/x/extensions/embedding-merge/scripts/embedding_merge.py"
    folder = "/x/extensions/embedding-merge"
    data = SimpleNamespace(path=path, basedir=folder, module=ModuleType("em"), script_class=Rival)
    sys.modules["modules.scripts"].scripts_data.append(data)
    load(callbacks)["ui_settings"]()
    assert "Embedding Merge" in added["embedmerge_inline"].label


def test_reload_takes_the_files_as_they_are_now(callbacks: ScriptCallbacks) -> None:
    runpy.run_path(str(ENTRY))
    import lib_embedmerge

    first = lib_embedmerge
    runpy.run_path(str(ENTRY))
    assert sys.modules["lib_embedmerge"] is not first


START = f"""
import sys, types

def module(name, **content):
    made = sys.modules[name] = types.ModuleType(name)
    vars(made).update(content)
    return made

def ours(*parts):
    names = [name for name in sys.modules if name.startswith("lib_embedmerge.")]
    return [name for name in names if not parts or name.split(".")[1] in parts]

class Processing:
    def get_conds_with_caching(self): pass

kinds, found = {KINDS!r}, []
module("modules", script_callbacks=module(
    "modules.script_callbacks",
    add_callback=lambda callbacks, callback: None,
    callback_map={{f"callbacks_{{kind}}": [] for kind in kinds}},
    **{{f"on_{{kind}}": found.append for kind in kinds}},
))
module("modules.processing", StableDiffusionProcessing=Processing)
module("modules.scripts", scripts_data=[], __file__="/x/modules/scripts.py")
module("modules.errors", report=print, display=print)
sys.modules["modules"].shared = module("modules.shared", opts=None)
import runpy
runpy.run_path({str(ENTRY)!r})
callbacks = dict(zip(kinds, found))
"""
"""A start of a web UI, in a process of its own."""


def _started(code: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", START + code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.process
def test_start_imports_nothing_heavy() -> None:
    """What the tab costs a web UI's start: neither torch nor most of the package is asked for."""
    heavy, count, torch = _started(
        "import gradio\n"
        "with gradio.Blocks(analytics_enabled=False): callbacks['ui_tabs']()[0][0].render()\n"
        "heavy = ours('files', 'embeddings', 'recipes', 'checkpoints', 'lang', 'tokenizer')\n"
        "print(heavy, len(ours()), 'torch' in sys.modules, file=sys.stderr)\n"
    ).rsplit(" ", 2)
    assert (heavy, torch) == ("[]", "False")
    assert int(count) < 48  # of small modules: widgets, their handlers, and what the pages show at first


@pytest.mark.process
def test_taking_hold_imports_nothing_heavy() -> None:
    """What expressions in prompts cost it: only the guard of callbacks at first, then what tells that there is one."""
    code = (
        "others = ('torch', 'numpy', 'ftfy', 'regex', 'fastapi', 'gradio')\n"
        "first, before = ours(), Processing.get_conds_with_caching\n"
        "callbacks['before_ui']()\n"
        "taken = Processing.get_conds_with_caching is not before\n"
        "heavy = ours('core', 'files', 'embeddings', 'recipes', 'checkpoints', 'tokenizer', 'actions', 'ui')\n"
        "heavy += [name for name in others if name in sys.modules]\n"
        "print(first, taken, heavy, len(ours()), file=sys.stderr, sep=';')\n"
    )
    first, taken, heavy, count = _started(code).split(";")
    assert first == "['lib_embedmerge.version', 'lib_embedmerge.hosts', 'lib_embedmerge.hosts.host_parts']"
    assert (taken, heavy) == ("True", "[]")
    assert int(count) < 20  # without the parser, which the first expression imports
