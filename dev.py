"""Set up and run, on a machine with Python alone: `python dev.py demo`, `python dev.py test`.

Everything goes into the folder `.venv` beside this file; delete it to start anew. Standard library only.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

TORCH = "torch==2.13.0"
"""Pinned: an open range would take a build with gigabytes of CUDA libraries, and tests should not drift."""

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("pytest", "--cov", "--cov-report=term", "--cov-fail-under=95"),
)


def main() -> int:
    """Run the task that the command line names; gives its exit code."""
    tasks = {"demo": demo, "test": test}
    if len(sys.argv) < 2 or sys.argv[1] not in tasks:
        sys.stderr.write("usage: python dev.py demo | test [pytest options]\n")
        return 2
    return tasks[sys.argv[1]](sys.argv[2:])


def demo(options: list[str]) -> int:
    """Install the program and run its demo."""
    install(".")
    return run("lib_embedmerge", "demo", *options)


def test(options: list[str]) -> int:
    """Install what tests need, then lint, check types and run all tests; stops at the first that fails."""
    install("-e", ".[test]")
    for check in CHECKS:
        extra = options if check[0] == "pytest" else []
        if code := run(*check, *extra):
            return code
    return 0


def install(*what: str) -> None:
    """Make the virtual environment where it is missing, and install into it."""
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    for packages in ((TORCH,), what):
        subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *packages], cwd=ROOT, check=True)


def run(*module_and_arguments: str) -> int:
    """`python -m ...` in the virtual environment; gives the exit code."""
    return subprocess.run([PYTHON, "-m", *module_and_arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
