"""Set up and run, on a machine with Python alone: `python dev.py demo`, `python dev.py test`.

Everything goes into the folders `.venv` and `.venv-gradio3` beside this file; delete them to start anew. Standard
library only.
"""

from __future__ import annotations

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
    install("-r", "tests/pages/gradio3.txt", into=GRADIO_3)
    for check in CHECKS:
        extra = options if check[0] == "pytest" else []
        if code := run(*check, *extra):
            return code
    return 0


def install(*what: str, into: Path = VENV) -> None:
    """Make the virtual environment where it is missing, and install into it."""
    python = python_of(into)
    if not python.exists():
        venv.create(into, with_pip=True)
    for packages in ((TORCH,), what):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], cwd=ROOT, check=True)


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def run(*module_and_arguments: str) -> int:
    """`python -m ...` in the main virtual environment; gives the exit code."""
    return subprocess.run([python_of(VENV), "-m", *module_and_arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
