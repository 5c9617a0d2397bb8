"""Web UIs that lack something: one sentence says what does not work, and they stay as they were."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from action_hosts import MODEL

from lib_embedmerge.actions.answering import describe_model
from lib_embedmerge.actions.reporting import report_in
from lib_embedmerge.hosts import host_parts
from lib_embedmerge.hosts.host_parts import Part, describe_missing_parts, guard
from lib_embedmerge.hosts.memory_host import MemoryHost

KNIT = Part("knit", ("wool.red", "needles.pair.left"))


@pytest.fixture(autouse=True)
def faults(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Those of one test."""
    found: dict[str, str] = {}
    monkeypatch.setattr(host_parts, "_faults", found)
    return found


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A web UI's package with the module `wool`, which is returned."""
    package = types.ModuleType("modules")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "modules", package)
    wool = types.ModuleType("modules.wool")
    monkeypatch.setitem(sys.modules, "modules.wool", wool)
    yield wool


def test_nothing_is_missing(modules: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    modules.red = 1  # type: ignore[attr-defined] # a made module
    needles = types.ModuleType("modules.needles")
    needles.pair = types.SimpleNamespace(left=None)  # type: ignore[attr-defined] # as above
    monkeypatch.setitem(sys.modules, "modules.needles", needles)
    assert KNIT.find_missing() == ()
    assert KNIT.describe_missing() is None
    assert describe_missing_parts((KNIT,)) == []


def test_an_attribute_and_a_module_are_missing() -> None:
    assert KNIT.find_missing() == KNIT.needs
    sentence = "EmbedMerge cannot knit: this web UI has no wool.red and no needles.pair.left."
    assert KNIT.describe_missing() == sentence
    assert describe_missing_parts((KNIT,)) == [sentence]


def test_a_guarded_callback_that_works() -> None:
    assert guard("knit", lambda x: x + 1, 0)(2) == 3
    assert host_parts.list_faults() == []


def test_a_guarded_callback_that_fails_says_one_sentence_once(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(thing: str) -> list[str]:
        raise LookupError(f"There is no {thing}.")

    nothing: list[str] = []
    guarded = guard("knit", fail, nothing)
    assert guarded("wool") == guarded("wool") == []
    sentence = "EmbedMerge cannot knit in this web UI (LookupError: There is no wool)."
    assert capsys.readouterr().err == f"EmbedMerge: {sentence}\n"
    assert describe_missing_parts(()) == [sentence]


def test_the_status_line_and_the_report_say_it(tmp_path: Path) -> None:
    class Host(MemoryHost):
        """With a part that it cannot do."""

        parts = (KNIT,)  # type: ignore[assignment] # of MemoryHost, which has none

    host = Host(MODEL, tmp_path)
    assert describe_model(host).warnings[0] == KNIT.describe_missing()
    report = report_in(host)
    assert report.parts == {"knit": KNIT.needs}
    assert "can knit: no, it lacks wool.red, needles.pair.left" in report.text()
