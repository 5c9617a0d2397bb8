"""Start a web UI, run this tier against it, and print one table: `python -m tests.webui.drive DIR COMMAND…`.

COMMAND starts the web UI in its folder DIR with its API, for example

    python -m tests.webui.drive ~/webui venv/bin/python launch.py --api

The extension and the probe are copied in first, as install.py does. The tests run in slices of at most ten minutes,
each in its own process; those that a stopped slice did not reach are in the next one. Output of the web UI and of the
tests goes to artifacts/. EmbedMerge's part of the start is printed first, which says something only on a machine that
does nothing else. With `--times` that is all: no test is run, the probe is not there, and the web UI is started twice,
because Python compiles an extension at the first start after it was installed or updated.
"""

# ruff: noqa: T201 -- its output is its result

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .install import ROOT, install  # noqa: TID252 -- it is `webui.drive` for mypy and pytest

_HERE = Path(__file__).parent
_ARTIFACTS = ROOT / "artifacts"
_SLICE = 40
"""Tests in one slice."""
_LIMIT = 600
"""Seconds that a slice, and the web UI's start, may take."""
_ALSO_FOR_SDNEXT = {"test_real_api.py", "test_real_library.py", "test_real_page.py"}
"""The test files that run in every web UI. SD.Next has one of its own, and the others are for the rest."""
_OUTCOME = re.compile(r"^(tests/\S+?::.+?) (PASSED|FAILED|ERROR|SKIPPED)", re.MULTILINE)


def main() -> int:
    """Run the command line. 1 if a test failed or a slice took too long."""
    parser = argparse.ArgumentParser(prog="python -m tests.webui.drive", description="Run the tests in a web UI.")
    parser.add_argument("webui", type=Path, metavar="DIR", help="the web UI's folder")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND...", help="starts the web UI")
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="where the web UI answers (%(default)s)")
    parser.add_argument(
        "--only", metavar="WORD", action="append", help="only test files with this in their name; can be repeated"
    )
    parser.add_argument(
        "-k", metavar="EXPRESSION", default="", help="only these tests, as pytest's option of that name"
    )
    parser.add_argument("--times", action="store_true", help="only measure the start")
    options = parser.parse_args()
    webui, url = options.webui.resolve(), options.url.rstrip("/")
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell lets what it starts in the background ignore the first
        signal.signal(number, _stop)
    if not options.command:
        parser.error("give the command that starts the web UI")
    _ARTIFACTS.mkdir(exist_ok=True)
    is_sdnext = (webui / "modules" / "prompt_parser_diffusers.py").exists()
    install(webui, "" if options.times else "sdnext" if is_sdnext else "probe")
    ready = f"{url}/embedmerge-timer/times" if options.times else f"{url}/embedmerge-probe/checks"
    if options.times:
        for title in ("the first start", "each start after it"):
            with _started(webui, options.command, ready):
                print(title)
                _print_times(url)
        return 0
    with _started(webui, options.command, ready):
        _print_times(url)
        environment = os.environ | {"EMBEDMERGE_WEBUI_URL": url, "EMBEDMERGE_WEBUI_DIR": str(webui)}
        if is_sdnext:
            environment["EMBEDMERGE_SDNEXT_URL"] = url
        files = [
            file
            for file in sorted(_HERE.glob("test_*.py"))
            if (("sdnext" in file.name) == is_sdnext or file.name in _ALSO_FOR_SDNEXT)
            and any(word in file.name for word in options.only or [""])
        ]
        return _run_tests(webui, files, options.k, environment)


def _stop(number: int, _frame: object) -> None:
    """End this program; what it has started is ended on the way."""
    raise SystemExit(128 + number)


@contextmanager
def _started(webui: Path, command: list[str], address: str) -> Iterator[None]:
    """The web UI is running and answers at an address. SystemExit if it does not."""
    log = _ARTIFACTS / f"{webui.name}.log"
    # Users' Python keeps what it compiles; where this is set, it compiles everything at every start.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=webui, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            deadline = time.monotonic() + _LIMIT
            while not _answers(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{webui.name} did not start. Its output is in {log}.")
                time.sleep(1)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=_LIMIT)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=30):
            return True
    except OSError:
        return False


def _read(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.load(answer)


def _print_times(url: str) -> None:
    """Print the milliseconds of each step of ours: the script, as far as the web UI measures it, and the callbacks."""
    times: dict[str, float] = {}
    try:
        while (profile := _read(f"{url}/internal/profile-startup")) is None:  # the start has not ended
            time.sleep(1)
        times["script"] = round(profile["records"].get("load scripts/embedmerge.py", 0) * 1000, 1)
    except urllib.error.HTTPError:  # the web UI has no such profile
        print("The web UI does not tell how long it took to load scripts.")
    times |= _read(f"{url}/embedmerge-timer/times")
    for step, milliseconds in times.items():
        print(f"{step:24}{milliseconds:8.1f} ms")
    print(f"{'all':24}{sum(times.values()):8.1f} ms", flush=True)


def _run_tests(webui: Path, files: list[Path], selected: str, environment: dict[str, str]) -> int:
    """Run all slices, and print the table. selected: an expression of pytest's `-k`."""
    counts: dict[str, Counter[str]] = {}
    faults: list[str] = []
    seconds: Counter[str] = Counter()
    for file in files:
        outcomes = counts.setdefault(file.name, Counter())
        left = _collect(file, selected, environment)
        number = 0
        while left:
            part, number = left[:_SLICE], number + 1
            start = time.monotonic()
            found = _run_slice(part, environment, _ARTIFACTS / f"{webui.name}-{file.stem}-{number}.log")
            is_stopped = time.monotonic() - start >= _LIMIT
            # If a stopped slice did not end its first test, that cannot be run in time.
            reached = {*found, *part[:1]} if is_stopped else set(part)
            outcomes["not run"] += len(reached - set(found))
            left = [name for name in left if name not in reached]
            seconds[file.name] += round(time.monotonic() - start)
            outcomes.update(found.values())
            failed = [name for name, outcome in found.items() if outcome in {"FAILED", "ERROR"}]
            for name in failed:
                print("  failed:", name, flush=True)
            faults += failed
    print(f"\n{webui.name}: {'tests':30}{'passed':>8}{'failed':>8}{'skipped':>8}{'not run':>8}{'seconds':>9}")
    for name, outcomes in counts.items():
        failures = outcomes["FAILED"] + outcomes["ERROR"]
        row = f"{outcomes['PASSED']:8}{failures:8}{outcomes['SKIPPED']:8}{outcomes['not run']:8}{seconds[name]:9}"
        print(f"{'':{len(webui.name) + 2}}{name:30}{row}")
    for name in faults:
        print("failed:", name)
    return int(bool(faults) or any(outcomes["not run"] for outcomes in counts.values()))


def _pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-cov", *arguments]


def _collect(file: Path, selected: str, environment: dict[str, str]) -> list[str]:
    """The names of the selected tests of a file."""
    command = _pytest("--collect-only", "-q", "-k", selected, str(file.relative_to(ROOT)))
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, encoding="utf-8", timeout=_LIMIT
    )
    if done.returncode not in {0, 5}:  # 5: no test is selected
        raise SystemExit(done.stdout + done.stderr)
    return [line for line in done.stdout.splitlines() if "::" in line]


def _run_slice(names: list[str], environment: dict[str, str], log: Path) -> dict[str, str]:
    """Name -> outcome of the tests that came to an end in time. log: gets all that pytest prints."""
    print(f"{names[0]} and {len(names) - 1} more", flush=True)
    with log.open("w", encoding="utf-8") as output:
        command = _pytest("-v", "--tb=short", *names)
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            process.wait(timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            print(f"  stopped after {_LIMIT} seconds", flush=True)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # its browser too
                process.wait(timeout=_LIMIT)
    return dict(_OUTCOME.findall(log.read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main())
