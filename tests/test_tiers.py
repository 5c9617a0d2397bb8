"""What a quick run promises: no test in it starts another process."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tiers import LEFT_OUT, PROCESSES, STARTS, UnmarkedProcessError, check_tier, started, together

import dev

ROOT = Path(__file__).parents[1]


@pytest.mark.xfail(raises=UnmarkedProcessError, reason="this is what the tiers promise")
def test_a_test_that_starts_a_process_and_does_not_say_so_fails() -> None:
    """The event is what Python announces; no process is started. Strict: it is a failure if this passes."""
    sys.audit("subprocess.Popen")


def test_every_way_to_start_a_process_is_noticed() -> None:
    for event in ("open", *STARTS):
        sys.audit(event)
    noticed = list(started)
    started.clear()  # for the check of this test itself
    assert noticed == list(STARTS)


@pytest.mark.parametrize("tier", PROCESSES)
def test_one_that_says_so_passes(tier: str) -> None:
    check_tier(["parametrize", tier], ["subprocess.Popen"])
    check_tier([], [])
    with pytest.raises(UnmarkedProcessError, match=r"subprocess\.Popen"):
        check_tier(["slow"], ["subprocess.Popen"])


def test_the_quick_run_leaves_them_all_out(pytestconfig: pytest.Config) -> None:
    assert set(re.findall(r"\w+", dev.QUICK[1])) == {"not", "or", *LEFT_OUT}
    known = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert set(LEFT_OUT) <= known


@pytest.mark.parametrize(
    ("test", "where"),
    [
        ("tests/test_a.py::test_b", "tests/test_a.py"),
        ("tests/test_a.py::Test::test_b[gradio-3.41.2]", "tests/test_a.py"),
        ("tests/pages/test_a.py::test_b[gradio-3.41.2-x::y]", "gradio-3.41.2"),
        ("tests/pages/test_b.py::test_b[gradio-4.40.0]", "gradio-4.40.0"),
        ("tests/pages/test_b.py::test_b", "tests/pages/test_b.py"),
    ],
)
def test_what_runs_in_one_process(test: str, where: str) -> None:
    assert together(test) == where


def test_what_an_installation_depends_on() -> None:
    """A change to the settings of a tool installs nothing; a change to what is needed does."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needs = dev.dependencies(text)
    assert '"pytest-xdist"' in needs
    assert "torch>=2.0" in needs
    assert "lib_embedmerge.cli:main" in needs
    assert "build-backend" in needs
    assert "ruff.lint" not in needs
    assert dev.dependencies(text.replace("line-length = 120", "line-length = 100")) == needs
    assert dev.dependencies(text.replace("hypothesis", "hypotheses")) != needs


def test_an_environment_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[tuple[str, ...]] = []

    def install(*what: str, into: Path) -> None:
        dev.python_of(into).parent.mkdir(parents=True, exist_ok=True)
        dev.python_of(into).touch()
        installed.append(what)

    monkeypatch.setattr(dev, "install", install)
    for needs in ("one", "one", "two", "two"):
        dev.install_once("-e", ".", needs=needs, into=tmp_path)
    assert installed == [("-e", ".")] * 2
    dev.python_of(tmp_path).unlink()
    dev.install_once("-e", ".", needs="two", into=tmp_path)
    assert len(installed) == 3


def test_an_installation_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an earlier one succeeded: it is not known what the second one has left."""
    monkeypatch.setattr(dev.subprocess, "run", lambda *_, **__: None)
    dev.python_of(tmp_path).parent.mkdir(parents=True)
    dev.python_of(tmp_path).touch()
    dev.install_once("x", needs="one", into=tmp_path)
    assert (tmp_path / dev.STAMP).exists()

    def failing(*_: object, **__: object) -> None:
        raise dev.subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(dev.subprocess, "run", failing)
    with pytest.raises(dev.subprocess.CalledProcessError):
        dev.install_once("x", needs="two", into=tmp_path)
    assert not (tmp_path / dev.STAMP).exists()
