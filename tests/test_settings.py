"""Settings, the other extension of the same syntax, and the token counters, against stand-ins of `modules`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from action_hosts import MODEL, NoModelHost, write
from memory_model import MemoryModel, MemoryNames, random_model

from lib_embedmerge.actions.answering import read_typed_text
from lib_embedmerge.errors import HostError, StorageError
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.hosts.patching import Patches
from lib_embedmerge.hosts.webui import dynamic_prompts, embedding_merge, settings
from lib_embedmerge.hosts.webui.token_counter import count_expressions

Install = Callable[..., ModuleType]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a module of the package `modules` into place, with these attributes."""
    package = ModuleType("modules")
    monkeypatch.setitem(sys.modules, "modules", package)

    def put(name: str, **content: Any) -> ModuleType:
        module = ModuleType(f"modules.{name}")
        vars(module).update(content)
        setattr(package, name, module)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module

    return put


# Settings


class OptionInfo:
    """modules.options.OptionInfo: the same signature, and what we use of it."""

    def __init__(  # noqa: PLR0917 -- theirs
        self,
        default: Any = None,
        label: str = "",
        component: Any = None,
        component_args: Any = None,
        onchange: Any = None,
        section: Any = None,
        refresh: Any = None,
        comment_before: str = "",
        comment_after: str = "",
        infotext: Any = None,
        restrict_api: bool = False,
        category_id: Any = None,
    ) -> None:
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.section, self.comment_after, self.infotext, self.restrict_api = (
            section,
            comment_after,
            infotext,
            restrict_api,
        )
        assert (onchange, refresh, comment_before, category_id) == (None, None, "", None)

    def info(self, info: str) -> OptionInfo:
        self.comment_after += f"<span class='info'>({info})</span>"
        return self


class Options:
    """modules.options.Options: values of what was added, defaults of the rest, AttributeError for what is unknown."""

    def __init__(self, **saved: Any) -> None:
        self.data: dict[str, Any] = saved
        self.data_labels: dict[str, OptionInfo] = {}

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info
        self.data.setdefault(key, info.default)

    def __getattr__(self, name: str) -> Any:
        if name in ("data", "data_labels") or name not in self.data:
            raise AttributeError(name)
        return self.data[name]


class Radio:
    """gradio's."""


def test_what_is_added(install: Install) -> None:
    options = Options()
    install("shared", OptionInfo=OptionInfo, opts=options)
    install("scripts", scripts_data=[])
    settings.add_settings(Radio)
    keys = [settings.INLINE, settings.FOLLOW, settings.MISTAKES, settings.PRECISION]
    assert list(options.data_labels) == keys
    assert set(keys) == set(settings.DEFAULTS)
    assert all(key.startswith("embedmerge_") for key in keys)
    assert options.data == settings.DEFAULTS
    assert options.data == {
        "embedmerge_inline": True,
        "embedmerge_follow": False,
        "embedmerge_mistakes": settings.STOP,
        "embedmerge_precision": "float32",
    }
    for info in options.data_labels.values():
        assert info.section == ("embedmerge", "EmbedMerge")
        assert info.label
        assert (info.infotext, info.restrict_api) == (None, False)
    inline, following, mistakes, precision = options.data_labels.values()
    for checkbox in (inline, following):
        assert (checkbox.component, checkbox.component_args) == (None, None)
    assert mistakes.component is precision.component is Radio
    assert list(mistakes.component_args["choices"]) == [settings.STOP, settings.LITERAL]
    assert list(precision.component_args["choices"]) == ["float32", "float16"]


@pytest.mark.parametrize("is_there", [False, True])
def test_the_other_extension_is_named_where_it_is_there(install: Install, is_there: bool) -> None:
    options = Options()
    install("shared", OptionInfo=OptionInfo, opts=options)
    install("scripts", **(scripts((EM_FILE, Rival)) if is_there else scripts()))
    settings.add_settings(Radio)
    comment = options.data_labels[settings.INLINE].comment_after
    assert ("Embedding Merge" in comment) == is_there
    assert "Help" in comment
    assert "None" not in comment


def test_reading(install: Install) -> None:
    options = Options()
    install("shared", OptionInfo=OptionInfo, opts=options)
    for key, default in settings.DEFAULTS.items():
        assert settings.read_setting(key) == default  # before they are added, as without a page
    install("scripts", scripts_data=[])
    settings.add_settings(Radio)
    options.data |= {settings.INLINE: False, settings.MISTAKES: settings.LITERAL}
    assert settings.read_setting(settings.INLINE) is False
    assert settings.read_setting(settings.MISTAKES) == settings.LITERAL


def test_what_was_saved_stays(install: Install) -> None:
    options = Options(embedmerge_precision="float16")
    install("shared", OptionInfo=OptionInfo, opts=options)
    install("scripts", scripts_data=[])
    settings.add_settings(Radio)
    assert settings.read_setting(settings.PRECISION) == "float16"
    assert settings.saves_float16()


@pytest.mark.parametrize("saved", [{}, {"embedmerge_precision": "float32"}, {"embedmerge_precision": None}])
def test_the_precision_is_float32_unless_chosen(install: Install, saved: dict[str, Any]) -> None:
    install("shared", opts=Options(**saved))
    assert not settings.saves_float16()


def test_an_unknown_setting(install: Install) -> None:
    install("shared", opts=Options())
    with pytest.raises(KeyError):
        settings.read_setting("embedmerge_other")


# The other one


class Rival:
    """EM's script."""

    def process(self, p: list[str]) -> str:
        p.append("changed")
        return "processed"


class Other:
    """Of an extension that has nothing to do with it."""

    def process(self, p: list[str]) -> str:
        p.append("other")
        return "other"


class NoProcess:
    """A class beside EM's script."""

    process = None


def scripts(*found: tuple[str, type]) -> dict[str, Any]:
    return {"scripts_data": [SimpleNamespace(path=path, script_class=one) for path, one in found]}


EM_FILE = "/webui/extensions/embedding-merge/scripts/embedding_merge.py"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], False),
        ([("/webui/extensions/other/scripts/other.py", Other)], False),
        ([("/webui/extensions/x/scripts/my_embedding_merge.py", Other)], False),
        ([(EM_FILE, NoProcess)], False),
        ([(EM_FILE, object)], False),
        ([("/webui/scripts/other.py", Other), (EM_FILE, NoProcess), (EM_FILE, Rival)], True),
        ([("/webui/extensions/renamed/scripts/embedding_merge.py", Rival)], True),
    ],
)
def test_whether_it_is_installed(install: Install, found: list[tuple[str, type]], *, expected: bool) -> None:
    install("scripts", **scripts(*found))
    assert embedding_merge.is_installed() is expected


DYNAMIC_FILE = "/webui/extensions/sd-dynamic-prompts/scripts/dynamic_prompting.py"


@pytest.mark.parametrize("is_there", [False, True])
def test_users_of_dynamic_prompts_are_told(
    install: Install, capsys: pytest.CaptureFixture[str], *, is_there: bool
) -> None:
    install("scripts", **scripts((DYNAMIC_FILE if is_there else EM_FILE, Other)))
    dynamic_prompts.warn_if_installed()
    told = capsys.readouterr().err
    assert told.count("\n") == is_there
    assert ("Write expressions as <'cat'+'dog'>, not {'cat'+'dog'}, and without #." in told) == is_there


def test_exactly_one_of_the_two_acts(install: Install) -> None:
    install("scripts", **scripts((EM_FILE, Rival), ("/webui/scripts/other.py", Other)))
    before = vars(Rival)["process"], vars(Other)["process"]
    ours = [True]
    patches = Patches()
    embedding_merge.suspend_embedding_merge(patches, lambda: ours[0])
    p: list[str] = []
    assert Rival().process(p) is None
    assert p == []
    ours[0] = False  # asked each time: a setting takes effect at once
    assert Rival().process(p) == "processed"
    assert Other().process(p) == "other"
    assert p == ["changed", "other"]
    patches.undo()
    assert (vars(Rival)["process"], vars(Other)["process"]) == before


def test_nothing_to_pass_over(install: Install) -> None:
    install("scripts", **scripts())
    patches = Patches()
    embedding_merge.suspend_embedding_merge(patches, lambda: True)
    patches.undo()


# Token counters


@dataclass
class Params:
    """script_callbacks.BeforeTokenCounterParams."""

    prompt: str
    steps: int = 20
    styles: list[str] = field(default_factory=list)
    is_positive: bool = True


class Styles:
    """shared.prompt_styles: what a style called S puts around a prompt, and around a negative one."""

    def apply_styles_to_prompt(self, prompt: str, styles: list[str]) -> str:
        assert styles == ["S"]
        return f"best, {prompt}, <'cat dog'>"

    def apply_negative_styles_to_prompt(self, prompt: str, styles: list[str]) -> str:
        assert styles == ["S"]
        return f"{prompt}, worst"


class Host:
    """Its model names an embedding `mine` of four vectors; or there is none."""

    def __init__(self, *, is_loaded: bool = True) -> None:
        self.asked = 0
        self._is_loaded = is_loaded

    def active(self) -> Any:
        self.asked += 1
        if not self._is_loaded:
            raise HostError("Nothing is loaded.")
        return SimpleNamespace(model=MemoryModel(random_model(3000).encoders, self.library()))

    def library(self) -> MemoryNames:
        """The embeddings folder, which is there whatever is loaded."""
        return MemoryNames({"mine": {"clip_l": torch.ones(4, 768), "clip_g": torch.ones(4, 1280)}})


def counted(install: Install, params: Params, host: Host, *, styles_count: bool = False) -> Params:
    install("shared", opts=SimpleNamespace(include_styles_into_token_counters=styles_count), prompt_styles=Styles())
    count_expressions(params, host)  # type: ignore[arg-type] # it needs no more of a host
    return params


def test_a_prompt(install: Install) -> None:
    params = counted(install, Params("x <'mine'> <'cat dog'>"), Host())
    assert params == Params("x the the the the the the")


def test_a_mistake_counts_the_rest(install: Install) -> None:
    assert counted(install, Params("x <'mine' 'a'> <'cat'>, <'dog'"), Host()).prompt == "x  the , "


def test_without_a_model(install: Install) -> None:
    """A name of an embedding counts as its vectors then too, as in the tab."""
    host = Host(is_loaded=False)
    assert counted(install, Params("x <'mine'> <'cat dog'>"), host).prompt == "x the the the the the the"
    assert host.asked == 1


def test_without_a_model_or_a_folder(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of an embedding counts as its tokens then."""

    def library(_: Host) -> MemoryNames:
        raise StorageError("There is no such folder.")

    monkeypatch.setattr(Host, "library", library)
    assert counted(install, Params("x <'mine'> <'cat dog'>"), Host(is_loaded=False)).prompt == "x the the the"


SOURCES = ["mystyle4", "'mystyle4'", "'a cat, mystyle4':3", "'mystyle4'*0.5 + 'mystyle4 x'", "'cat'*2L/3G", "H('x')"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", [MemoryHost, NoModelHost], ids=["model", "no model"])
def test_the_counter_and_the_tab_read_alike(install: Install, tmp_path: Path, kind: Any, source: str) -> None:
    """Whether a model is loaded or not."""
    write(tmp_path / "mystyle4.safetensors", 4)
    host: Any = kind(MODEL, tmp_path) if kind is MemoryHost else kind(tmp_path)
    params = counted(install, Params(f"<{source}>" if "'" in source else f"<'{source}'>"), host)
    assert len(params.prompt.split()) == read_typed_text(host, source).count


@pytest.mark.parametrize(
    ("prompt", "is_positive", "styles_count", "expected"),
    [
        ("x <'cat'>", True, True, ("best, x the , the the", [])),
        ("x", True, True, ("best, x, the the", [])),
        ("x <'cat'>", True, False, ("x the", [])),
        ("x", True, False, ("x", ["S"])),
        ("x <'cat'>", False, True, ("x the , worst", [])),
        ("x", False, True, ("x", ["S"])),
        ("x <'cat'>", False, False, ("x the", [])),
    ],
)
def test_styles(
    install: Install, prompt: str, is_positive: bool, styles_count: bool, expected: tuple[str, list[str]]
) -> None:
    params = Params(prompt, styles=["S"], is_positive=is_positive)
    counted(install, params, Host(is_loaded=False), styles_count=styles_count)
    assert (params.prompt, params.styles) == expected
    assert (params.steps, params.is_positive) == (20, is_positive)


def test_a_prompt_without_expressions_asks_for_no_model(install: Install) -> None:
    host = Host()
    for prompt in ("", "it's a cat", "<lora:x:1> it's"):
        assert counted(install, Params(prompt), host) == Params(prompt)
    assert host.asked == 0
