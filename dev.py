"""Set up and run, on a machine with Python alone.

    python dev.py demo             the program, on a small checkpoint that it makes
    python dev.py check            ruff and mypy
    python dev.py test --quick     the tests that take no time: no browser, no other program
    python dev.py test             ruff, mypy and all tests, as CI runs them

`test` hands further options to pytest: `python dev.py test --quick -k names`.

Everything goes into the folders `.venv` and `.venv-gradio3` beside this file. They are installed again when what they
need changes; delete them to start over. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
GRADIO_3 = ROOT / ".venv-gradio3"
"""A second environment, for the page under the gradio of AUTOMATIC1111 and reForge."""

TORCH = "torch==2.13.0"
"""Pinned: an open range would take a build with gigabytes of CUDA libraries, and tests should not drift."""

FOR_DEMO = ("-e", ".")
FOR_TESTS = ("-e", ".[test]")
"""What pip is asked to install."""

CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
PARALLEL = ("-n", "2")
"""Tests run in two processes; tests/conftest.py says which tests run in the same one."""
QUICK = ("-m", "not (browser or crash or process or slow or webui)")
COVERAGE = ("--cov", "--cov-report=term", "--cov-fail-under=95")

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "100000000", "MALLOC_TRIM_THRESHOLD_": "500000000"}
"""For the memory manager of Linux: what one test frees, the next one takes, instead of memory that the system has to
clear; that was a quarter of the time of tests that search token tables. In bytes."""

STAMP = "embedmerge-installed"
"""The file in an environment that says what was installed into it."""


def main() -> int:
    """Run the task that the command line names; gives its exit code."""
    tasks = {"demo": demo, "check": check, "test": test}
    if len(sys.argv) < 2 or sys.argv[1] not in tasks:
        sys.stderr.write("usage: python dev.py demo | check | test [--quick] [pytest options]\n")
        return 2
    return tasks[sys.argv[1]](sys.argv[2:])


def demo(options: list[str]) -> int:
    """Install the program, unless it is there with all that tests need, and run its demo."""
    needs = dependencies((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if not is_installed(*FOR_TESTS, needs=needs, into=VENV):
        install_once(*FOR_DEMO, needs=needs)
    return run("lib_embedmerge", "demo", *options)


def check(_: list[str]) -> int:
    """Install what tests need, then lint and check types; stops at the first that fails."""
    install_for_tests()
    for tool in CHECKS:
        if code := run(*tool):
            return code
    return 0


def test(options: list[str]) -> int:
    """With `--quick` the quick tests alone; otherwise lint, check types and run all tests."""
    if "--quick" in options:
        install_for_tests()
        return run("pytest", *PARALLEL, *QUICK, *(option for option in options if option != "--quick"))
    if code := check([]):
        return code
    pages = ROOT / "tests" / "pages" / "gradio3.txt"
    install_once("-r", str(pages), needs=pages.read_text(encoding="utf-8"), into=GRADIO_3)
    return run("pytest", *PARALLEL, *COVERAGE, *options)


def install_for_tests() -> None:
    """Install the main environment with everything that linter, type checker and tests need."""
    install_once(*FOR_TESTS, needs=dependencies((ROOT / "pyproject.toml").read_text(encoding="utf-8")))


def dependencies(pyproject: str) -> str:
    """The tables of a pyproject.toml that an installation depends on: all but the settings of tools."""
    tables = re.split(r"^(?=\[)", pyproject, flags=re.MULTILINE)
    return "".join(table for table in tables if not table.startswith("[tool.") or table.startswith("[tool.setuptools"))


def install_once(*what: str, needs: str, into: Path = VENV) -> None:
    """Install, unless the last installation into this environment was the same: same packages, same `needs`, same
    Python, same place of this folder."""
    if not is_installed(*what, needs=needs, into=into):
        install(*what, into=into)
        (into / STAMP).write_text(make_stamp(*what, needs=needs), encoding="utf-8")


def is_installed(*what: str, needs: str, into: Path) -> bool:
    """Whether the last installation into an environment was this one."""
    stamp = into / STAMP
    expected = make_stamp(*what, needs=needs)
    return python_of(into).exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == expected


def make_stamp(*what: str, needs: str) -> str:
    """What the stamp of an installation says: a hash of all that it depends on."""
    return hashlib.sha256("\n".join((sys.version, str(ROOT), TORCH, *what, needs)).encode()).hexdigest()


def install(*what: str, into: Path = VENV) -> None:
    """Make the virtual environment where it is missing, and install into it."""
    python = python_of(into)
    if not python.exists():
        venv.create(into, with_pip=True)
    (into / STAMP).unlink(missing_ok=True)
    for packages in ((TORCH,), what):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], cwd=ROOT, check=True)


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def run(*module_and_arguments: str) -> int:
    """`python -m ...` in the main virtual environment; gives the exit code.

    Compiled files are kept even where the environment says otherwise, or each process of a parallel run compiles all
    tests again.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = KEEP_MEMORY | environment  # whoever sets them knows better
    command = [str(python_of(VENV)), "-m", *module_and_arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
