"""Programs run as processes of their own: how long they take and how much memory they hold at most.

The process that measures must stay small: what a child had in memory before its program started, a copy of its parent,
counts towards the child's peak on Linux. So nothing here or in __main__ imports numpy or torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


class BenchmarkError(Exception):
    """A measured program failed, so there is nothing to report."""


@dataclass(frozen=True)
class Finished:
    """A program that ran: seconds from its start to its end, peak memory in bytes (None where the system does not
    tell), and what it printed."""

    seconds: float
    peak: int | None
    output: str


@dataclass(frozen=True)
class Medians:
    """Of several runs of one program. peak: bytes, None where not known."""

    seconds: float
    peak: float | None


LIMIT = 3600
"""Seconds after which a program is taken to hang."""


def python(*arguments: str) -> list[str]:
    """The command that runs this Python with these arguments."""
    return [sys.executable, *arguments]


def run(command: Sequence[str], environment: Mapping[str, str]) -> Finished:
    """Run a program to its end, in the repository's folder. BenchmarkError, with its last words, where it fails."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=errors, cwd=REPOSITORY, env={**os.environ, **environment}
        )
        peak = _wait(process)
        seconds = perf_counter() - started
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            words = errors.read().decode("utf-8", "replace")[-2000:] + output.read().decode("utf-8", "replace")[-500:]
            raise BenchmarkError(f"{' '.join(command)} gave {process.returncode}:\n{words}")
        return Finished(seconds, peak, output.read().decode("utf-8", "replace"))


def run_json(module: str, *arguments: str, environment: Mapping[str, str]) -> Any:
    """What `python -m module arguments` prints, as a value."""
    return json.loads(run(python("-m", module, *arguments), environment).output)


def interleaved(
    commands: Mapping[str, Sequence[str]], repeats: int, environment: Mapping[str, str]
) -> dict[str, Medians]:
    """Each command run `repeats` times in turn with the others, so that a busy minute strikes all of them alike; each
    once before that, for files to be in memory and modules to be compiled."""
    runs: dict[str, list[Finished]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, command in commands.items():
            finished = run(command, environment)
            if turn:
                runs[name].append(finished)
    return {name: _medians(finished) for name, finished in runs.items()}


def _medians(runs: Sequence[Finished]) -> Medians:
    peaks = [finished.peak for finished in runs if finished.peak is not None]
    return Medians(median(finished.seconds for finished in runs), median(peaks) if peaks else None)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """Wait for the end; its peak memory in bytes."""
    if sys.platform == "win32":
        process.wait(LIMIT)
        return None
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
