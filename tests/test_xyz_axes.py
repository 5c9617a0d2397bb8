"""The axes of X/Y/Z plot: which prompts and settings its cells get, and what is refused before it starts."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lib_embedmerge.hosts.webui.grid_infotext import write_grid_infotext
from lib_embedmerge.hosts.webui.settings import FOLLOW
from lib_embedmerge.hosts.webui.xyz_axes import add_axes, remove_axes, use_embedding


@dataclass
class AxisOption:
    """As in scripts/xyz_grid.py of AUTOMATIC1111 1.10.1, Forge and reForge."""

    label: str
    type: Callable[[str], Any]
    apply: Callable[[Any, Any, Any], None]
    confirm: Callable[[Any, Any], None] | None = None
    choices: Callable[[], list[str]] | None = None


@dataclass
class Cell:
    """A StableDiffusionProcessing, as far as the script uses it."""

    prompt: str = ""
    negative_prompt: str = ""
    override_settings: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[AxisOption]]:
    """The axes of the script of a web UI."""
    seed = AxisOption("Seed", int, lambda *_: None)
    script = SimpleNamespace(axis_options=[seed], AxisOption=AxisOption)
    scripts = ModuleType("modules.scripts")
    scripts.scripts_data = [  # type: ignore[attr-defined] # a made module
        SimpleNamespace(path="/webui/scripts/loopback.py", module=ModuleType("loopback")),
        SimpleNamespace(path="/webui/scripts/xyz_grid.py", module=script),
    ]
    monkeypatch.setitem(sys.modules, "modules.scripts", scripts)
    return script.axis_options


def test_they_are_added_once_and_know_the_library_as_it_is(axes: list[AxisOption]) -> None:
    names = ["soft"]
    add_axes(list)
    add_axes(lambda: names)
    assert [axis.label for axis in axes] == ["Seed", "[EmbedMerge] Embedding", "[EmbedMerge] Recipes follow the model"]
    _, embedding, _ = axes
    assert embedding.choices is not None
    assert embedding.confirm is not None
    assert embedding.choices() == ["none", "soft"]
    with pytest.raises(RuntimeError, match="There is no embedding 'later'"):
        embedding.confirm(None, ["soft", "later"])
    names.append("later")
    embedding.confirm(None, ["none", "soft", "later"])
    remove_axes()
    assert [axis.label for axis in axes] == ["Seed"]


def test_recipes_are_switched_for_a_cell(axes: list[AxisOption]) -> None:
    add_axes(list)
    *_, follow = axes
    for switch in ("on", "off"):
        cell = Cell()
        follow.apply(cell, switch, ["on", "off"])
        assert cell.override_settings == {FOLLOW: switch == "on"}
    assert follow.confirm is not None
    with pytest.raises(RuntimeError, match="'yes' is neither"):
        follow.confirm(None, ["on", "yes"])


TAB = {
    "prompt": "a cat,\nsitting", "negative_prompt": "bad", "sampler": "DPM++ 2M", "scheduler": "Karras", "steps": "9",
    "width": "64", "height": "96", "guidance": "5.5", "seed": "-1",
}  # fmt: skip


def test_a_grid_as_an_infotext(axes: list[AxisOption], monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_grid_infotext(TAB, ["soft"], ["a.safetensors [1]"]) is None
    add_axes(list)
    assert write_grid_infotext(TAB, ["soft"], ["a.safetensors [1]"]) is None  # an older script has no checkpoints
    axes.append(AxisOption("Checkpoint name", str, lambda *_: None))
    monkeypatch.delitem(sys.modules, "modules.infotext_utils", raising=False)
    names, checkpoints = ["soft", "odd, one", 'a "b"'], ["a.safetensors [1]", "deep/b.safetensors"]
    *prompts, last = (write_grid_infotext(TAB, names, checkpoints) or "").split("\n")
    assert prompts == ["a cat,", "sitting", "Negative prompt: bad"]
    assert last == (
        "Steps: 9, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5.5, Seed: -1, Size: 64x96, Script: X/Y/Z plot,"
        ' X Type: [EmbedMerge] Embedding, X Values: "none,soft,\\"odd, one\\",\\"a \\"\\"b\\"\\"\\"",'
        ' Y Type: Checkpoint name, Y Values: "a.safetensors [1],deep/b.safetensors", Z Type: Nothing'
    )
    assert next(csv.reader([json.loads(last.split("X Values: ")[1].split(", Y Type")[0])])) == ["none", *names]


def test_a_grid_leaves_the_options_as_they_are(axes: list[AxisOption], monkeypatch: pytest.MonkeyPatch) -> None:
    add_axes(list)
    axes.append(AxisOption("Checkpoint name", str, lambda *_: None))
    utils, shared = ModuleType("modules.infotext_utils"), ModuleType("modules.shared")
    vars(utils)["parse_generation_parameters"] = lambda text: {"Clip skip": "1", "text": text}
    vars(utils)["get_override_settings"] = lambda _: [("Clip skip", "skip", 1)]
    vars(shared)["opts"] = SimpleNamespace(skip=2)
    for module in (utils, shared):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert (write_grid_infotext(TAB, ["soft"], []) or "").endswith(", Z Type: Nothing, Clip skip: 2")


def test_a_web_ui_without_the_script(axes: list[AxisOption]) -> None:
    sys.modules["modules.scripts"].scripts_data = []  # type: ignore[attr-defined] # a made module
    add_axes(list)
    assert len(axes) == 1


AXIS = ["none", "soft", "soft-pony", "a.b", "odd(1)"]


@pytest.mark.parametrize(
    ("before", "name", "after"),
    [
        (("a cat", ""), "soft", ("a cat, soft", "")),
        (("a cat, ", ""), "soft", ("a cat, soft", "")),
        (("", ""), "soft", ("soft", "")),
        (("a cat", ""), "none", ("a cat", "")),
        (("a soft, cat", ""), "soft-pony", ("a soft-pony, cat", "")),
        (("a soft-pony, cat", "bad, soft"), "a.b", ("a a.b, cat", "bad, a.b")),
        (("a softer cat, axb", ""), "soft", ("a softer cat, axb, soft", "")),
        (("a (Soft:1.2), cat", ""), "a.b", ("a (a.b:1.2), cat", "")),
        (("a (soft:1.2), cat", ""), "none", ("a cat", "")),
        (("soft, a cat", "bad, soft"), "none", ("a cat", "bad")),
        (("a cat, soft", ""), "none", ("a cat", "")),
        (("a cat,", "soft"), "none", ("a cat,", "")),
        (("a cat", ""), "odd(1)", ("a cat, odd\\(1\\)", "")),
        (("a odd\\(1\\) cat", ""), "soft", ("a soft cat", "")),
        (("a odd(1) cat", ""), "none", ("a cat", "")),
        (("a cat, {embedding}", ""), "soft", ("a cat, soft", "")),
        (("a cat", "bad, {embedding}"), "none", ("a cat", "bad")),
    ],
)
def test_an_embedding_takes_the_place_of_another_one(
    before: tuple[str, str], name: str, after: tuple[str, str]
) -> None:
    cell = Cell(*before)
    use_embedding(cell, name, AXIS)
    assert (cell.prompt, cell.negative_prompt) == after


def test_an_axis_of_nothing_changes_nothing() -> None:
    cell = Cell("a cat")
    use_embedding(cell, "none", ["none"])
    assert cell.prompt == "a cat"
