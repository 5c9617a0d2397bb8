"""`python -m benchmarks`: all measurements in one run. Exit code 1 where a bound does not hold."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import measurements
from benchmarks.measurements import Setting
from benchmarks.processes import BenchmarkError, python, run
from benchmarks.report import Line, table

_FILE_NAME = "sdxl-sparse.safetensors"

PARTS: dict[str, Callable[[Setting], Iterator[Line]]] = {
    "fingerprint": measurements.fingerprinting,
    "build": measurements.build_command,
    "parse": measurements.parse_command,
    "builds": measurements.many_builds,
    "steps": measurements.steps,
    "first": measurements.first_text,
    "tab": measurements.tab,
    "library": measurements.library,
    "headers": measurements.headers,
    "restoring": measurements.restoring,
    "effects": measurements.effects,
    "inline": measurements.inline,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and give 0 where every bound holds, 1 where one does not, 2 where nothing could be measured."""
    options = _parser().parse_args(arguments)
    if options.workdir is None:
        with tempfile.TemporaryDirectory(prefix="embedmerge-benchmarks-") as folder:
            return _measure(options, Path(folder))
    options.workdir.mkdir(parents=True, exist_ok=True)
    return _measure(options, options.workdir.resolve())


def _measure(options: argparse.Namespace, folder: Path) -> int:
    environment = {
        "EMBEDMERGE_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONDONTWRITEBYTECODE": "",  # users' programs are compiled once; where this is set, at every start
    }
    em = options.em and options.em.resolve()
    setting = Setting(folder / _FILE_NAME, folder, options.repeats, options.builds, environment, em)
    lines: list[Line] = []
    try:
        if not setting.checkpoint.exists():
            _say("making the checkpoint")
            run(python("-m", "benchmarks.checkpoint", str(setting.checkpoint)), environment)
        for name in options.only or PARTS:
            _say(f"measuring: {name}")
            lines += PARTS[name](setting)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        report = {"machine": _machine(), "lines": [line.as_json() for line in lines]}
        print(json.dumps(report, indent=2))
    else:
        print(_machine())
        print("\n".join(table(lines)))
    return 0 if all(line.holds for line in lines) else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _machine() -> str:
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast it is, as ratios: README.md.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--workdir", type=Path, metavar="DIR", help="keep the checkpoint here for further runs (0.2 GB)"
    )
    parser.add_argument("--repeats", type=_positive, default=7, metavar="N", help="of each process; default: 7")
    parser.add_argument("--builds", type=_positive, default=1000, metavar="N", help="in one process; default: 1,000")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part of the report; can be given again")
    parser.add_argument(
        "--em", type=_file, metavar="FILE", help="embedding_merge.py of Embedding Merge, to compare inline with"
    )
    return parser


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return Path(text)


def _positive(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("at least 2 are needed")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
