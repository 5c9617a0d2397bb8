"""Programs that run beside a test: what they say is waited for with a limit, and a signal that is sent reaches them."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]

_RUN = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""`python -m MODULE` that Ctrl+C ends even where whoever started the tests ignores it, as `nohup` and shells do
for what they start in the background: programs inherit that."""


class Program:
    """The command line of this package in a process of its own, killed at the end of the `with` if it still runs."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        read: bool = True,
        module: str = "lib_embedmerge",
    ) -> None:
        """log: where what it says to stderr goes.  read: whether what it prints is read.  module: what is run."""
        self.log = log
        self._lines: queue.Queue[str] = queue.Queue()
        command = [python, "-W", "ignore", "-c", _RUN, module, *arguments]
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows has it alone
        said = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "NO_PROXY": "127.0.0.1,localhost"}
        with log.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **said, **(environment or {})},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                creationflags=group,
            )
        self._reader = threading.Thread(target=self._read if read else lambda: None, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:  # without a limit, in a thread that nobody waits for
                self._lines.put(line)
        self._lines.put("")

    def line(self, limit: float = 120) -> str:
        """The next line of what it prints, with its end; empty where there is none any more. AssertionError, with what
        it said to stderr, where none comes for so many seconds."""
        try:
            return self._lines.get(timeout=limit)
        except queue.Empty:
            raise AssertionError(f"nothing was printed for {limit} s\n{self.said()}") from None

    def printed_until(self, end: str, limit: float = 120) -> str:
        """What it prints up to a line that ends so. AssertionError where it ends without one."""
        printed = ""
        while not printed.endswith(end):
            line = self.line(limit)
            assert line, f"{printed}\n{self.said()}"
            printed += line
        return printed

    def rest(self, limit: float = 60) -> str:
        """All that it prints from here to its end."""
        printed = ""
        while line := self.line(limit):
            printed += line
        return printed

    def said(self) -> str:
        """What it has said to stderr so far."""
        return self.log.read_text(encoding="utf-8")

    def interrupt(self) -> None:
        """Ctrl+C."""
        self.process.send_signal(getattr(signal, "CTRL_C_EVENT", signal.SIGINT))  # Windows has the first alone

    def end(self, limit: float = 60) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(limit)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        self._reader.join(60)
