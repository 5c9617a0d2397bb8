"""Programs that are killed: a function in a process of its own, which ends at a given step of its work with files.

A step is a call that opens, moves, links or removes something; Python tells of each before it is done. The process ends
there at once, with nothing tidied up, as by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

STEPS = {"open", "os.link", "os.symlink", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"}

KILLED, FAILED = 9, 1


def killed_at(step: int, work: Callable[[], object], folder: Path) -> bool:
    """Do the work in another process, which is killed before that step among its steps in a folder; whether it came to
    that. AssertionError where the work itself fails."""
    child = os.fork()
    if child == 0:
        try:
            _die_at(step, str(folder))
            work()
        except BaseException as error:  # noqa: BLE001 -- it must not go on as a second run of the tests
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(FAILED)
        os._exit(0)
    code = exit_code(child)
    assert code in (0, KILLED), "the work failed by itself"
    return code == KILLED


def exit_code(child: int, limit: float = 60) -> int:
    """Wait for a forked process; its exit code, negative where a signal ended it. One that takes longer than so many
    seconds is killed, and AssertionError."""
    deadline = time.monotonic() + limit
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"a process took longer than {limit} seconds")
        time.sleep(0.001)


def _die_at(step: int, folder: str) -> None:
    left = [step]

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event in STEPS and any(folder in str(one) for one in arguments):
            if left[0] == 0:
                os._exit(KILLED)
            left[0] -= 1

    sys.addaudithook(count)
