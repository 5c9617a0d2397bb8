"""How many bytes of one file a command reads, counted in two ways.

By strace, where there is one: every system call on that file, in all threads and libraries. Otherwise inside the
process: `python -m benchmarks.reads PATH ARGUMENTS...` runs lib_embedmerge's command line twice with Python's files
replaced by counting ones, and counts the second time. It also tells how many bytes that second run read from all files
together, where the system knows (Linux, rchar): the file's share cannot be more.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import LIMIT, REPOSITORY, BenchmarkError, python, run_json

_CALLS = "read,pread64,readv,preadv,preadv2,mmap,sendfile,copy_file_range,splice"
_RESULT = re.compile(r"^(?:\d+\s+)?(?:<\.\.\. )?(\w+)(?:\(| resumed>).*\) += (0x[0-9a-f]+|-?\d+)")
_MAPPED = re.compile(r"mmap\([^,]+, (\d+),")
_IO_FACTS = Path("/proc/self/io")
_UNCOUNTED = "the checkpoint is opened in a way that cannot be counted"


@dataclass(frozen=True)
class Reads:
    """traced: bytes by strace, mapped ones in full; None without it.  counted: bytes by Python's files.
    everything: bytes the process read of all files, None where the system does not tell."""

    traced: int | None
    counted: int
    everything: int | None

    @property
    def bytes(self) -> int:
        """The more reliable of both, which can only be too high."""
        return self.counted if self.traced is None else self.traced

    @property
    def note(self) -> str:
        traced = "no strace here" if self.traced is None else f"{self.traced:,} bytes by strace"
        everything = "" if self.everything is None else f"; of all files together {self.everything:,}"
        return f"{traced}, {self.counted:,} by counting inside the process{everything}"


def bytes_read(path: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Reads:
    """Of `path`, by `python -m lib_embedmerge` with these arguments. BenchmarkError where that fails."""
    inside = run_json("benchmarks.reads", str(path), *arguments, environment=environment)
    return Reads(_traced(path, arguments, environment), inside["counted"], inside["everything"])


def _traced(path: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> int | None:
    """None where there is no strace, or it may not trace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "trace")
        options = [
            "-f",
            "--seccomp-bpf",
            "-s",
            "0",
            "-o",
            str(log),
            "-e",
            f"trace={_CALLS}",
            "-P",
            os.path.realpath(path),
        ]
        command = [strace, *options, "--", *python("-m", "lib_embedmerge", *arguments)]
        done = subprocess.run(
            command, check=False, capture_output=True, cwd=REPOSITORY, env={**os.environ, **environment}, timeout=LIMIT
        )
        if done.returncode:
            return None
        return sum(map(traced_bytes, log.read_text(encoding="utf-8", errors="replace").splitlines()))


def traced_bytes(line: str) -> int:
    """What one line of strace says was read; a mapping counts in full, as any byte of it may be looked at."""
    if mapped := _MAPPED.search(line):
        return int(mapped[1])
    match = _RESULT.match(line)
    return max(0, int(match[2])) if match and not match[2].startswith("0x") else 0


class _CountingFile(io.FileIO):
    """A file that adds up what is read of it. It gives no file number, past which bytes would go uncounted."""

    total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        return self._count(super().read(-1 if size is None else size))

    def readall(self) -> bytes:
        return self._count(super().readall())

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        _CountingFile.total += count
        return count

    def fileno(self) -> int:
        raise BenchmarkError(_UNCOUNTED)

    @staticmethod
    def _count(data: bytes) -> bytes:
        _CountingFile.total += len(data)
        return data


@contextlib.contextmanager
def counting(path: Path) -> Iterator[None]:
    """Inside here, Python opens `path` as a _CountingFile."""
    originals: Any = builtins.open, io.open, Path.open, os.open
    wanted = os.path.realpath(path)

    def is_wanted(file: Any) -> bool:
        return not isinstance(file, int) and os.path.realpath(file) == wanted

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
            if not is_wanted(file):
                return original(file, mode, buffering, *rest, **named)
            if mode != "rb":
                raise BenchmarkError(_UNCOUNTED)
            raw = _CountingFile(file)
            return raw if buffering == 0 else io.BufferedReader(raw)

        return opened

    def opened_by_number(file: Any, *rest: Any, **named: Any) -> int:
        if is_wanted(file):
            raise BenchmarkError(_UNCOUNTED)
        number: int = originals[3](file, *rest, **named)
        return number

    # Path.open keeps an `open` of its own on Python 3.10.
    places: Any = builtins, io, Path, os
    replacements = (*map(counted, originals[:3]), opened_by_number)
    try:
        for place, replacement in zip(places, replacements, strict=True):
            place.open = replacement
        yield
    finally:
        for place, original in zip(places, originals, strict=True):
            place.open = original


def _everything_read() -> int | None:
    """Bytes that this process has read so far, of whatever file."""
    if not _IO_FACTS.exists():
        return None
    facts = dict(line.split(": ") for line in _IO_FACTS.read_text(encoding="ascii").splitlines())
    return int(facts["rchar"])


def _main(path: Path, arguments: Sequence[str]) -> int:
    from lib_embedmerge.cli import main

    code = 0
    before: tuple[int, int | None] = (0, None)
    with counting(path):
        for _ in range(2):  # the first run imports and unpacks; the second reads the file only
            before = _CountingFile.total, _everything_read()
            with contextlib.redirect_stdout(io.StringIO()) as output:
                code = code or main(arguments)
            if code:
                sys.stderr.write(output.getvalue())
    after = _everything_read()
    everything = None if before[1] is None or after is None else after - before[1]
    print(json.dumps({"counted": _CountingFile.total - before[0], "everything": everything}))
    return code


if __name__ == "__main__":
    raise SystemExit(_main(Path(sys.argv[1]), sys.argv[2:]))
