"""The tiers of the tests: what a quick run leaves out, and which tests a parallel run keeps together.

Markers name what a test starts, or that it is slow. `python dev.py test --quick` leaves out every test that has one of
LEFT_OUT.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

PROCESSES = ("browser", "comfyui", "crash", "process", "webui")
"""The markers of tests that start another process; pyproject.toml explains them."""

LEFT_OUT = (*PROCESSES, "slow")
"""The markers that a quick run leaves out."""

STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system"}
"""The audit events of Python that announce another process."""

started: list[str] = []
"""Those of the present test."""

_GRADIO = re.compile(r"\[(gradio-[\d.]+)")


class UnmarkedProcessError(AssertionError):
    """A test started another process and has no marker that says so."""


def note_start(event: str, _: tuple[object, ...]) -> None:
    """An audit hook: it notes what starts a process."""
    if event in STARTS:
        started.append(event)


def check_tier(markers: Iterable[str], events: Collection[str]) -> None:
    """UnmarkedProcessError where a test with these markers started a process and none of these announces that."""
    if events and not set(markers) & set(PROCESSES):
        raise UnmarkedProcessError(
            f"This test starts another process ({', '.join(sorted(set(events)))}), so a quick run must leave it out: "
            "mark it with pytest.mark.process, crash or browser."
        )


def together(test: str) -> str:
    """Tests for which this is the same run in one process, in the order of the files: those of a file, which share its
    fixtures, and those of the page under one version of gradio, which share a server and a browser."""
    file = test.partition("::")[0]
    if "/pages/" in f"/{file}" and (found := _GRADIO.search(test)):
        return found[1]
    return file
