"""Set up and run, on a machine with Python alone.

    python dev.py demo             the program, on a small checkpoint that it makes
    python dev.py demo --gpu       the same, with the PyTorch of the Python that runs this file
    python dev.py check            ruff and mypy
    python dev.py test --quick     the tests that take no time: no browser, no other program
    python dev.py test             ruff, mypy and all tests, as CI runs them

`test` hands further options to pytest: `python dev.py test --quick -k names`.

Everything goes into the folders `.venv`, `.venv-gradio3`, `.venv-gradio5`, `.venv-gradio6`, and `.venv-python3.10` and
so on beside this file. They are installed again when what they need changes; delete them to start over. Each step says
what it does and how much it downloads. Standard library only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
GRADIOS = {version: ROOT / f".venv-gradio{version}" for version in (3, 5, 6)}
"""Environments for the page under other versions of gradio: 3, which AUTOMATIC1111 and reForge have, and the newest."""

PYTHONS = {
    version: ROOT / f".venv-python{version}"
    for version in ("3.10", "3.11", "3.12", "3.13")
    if version != f"{sys.version_info.major}.{sys.version_info.minor}"
}
"""Environments for the other versions of Python that are on the machine, without PyTorch, each with another numpy."""

TORCH = "torch==2.13.0"
"""For tests. Pinned: an open range may take a build with gigabytes of CUDA libraries, and tests should not drift."""

TORCH_FOR_CPU = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index: builds for Linux without CUDA. PyPI's builds for Windows and macOS have none either."""

PATIENCE = 5
"""Seconds to wait for that index."""

FOR_DEMO = ("-e", ".")
FOR_TESTS = (TORCH, "-e", ".[test]")
"""What pip is asked to install."""

SIZES = {FOR_DEMO: "25 MB", FOR_TESTS: "600 MB"}
"""How much is downloaded, about."""

SIZE_OF_PAGE = "120 MB"
"""The same for an environment of the page, which has no PyTorch: the page does without it."""

SIZE_OF_PYTHON = "30 MB"
"""The same for an environment of another Python."""

SIZE_OF_CUDA = "3 GB"

CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
PARALLEL = ("-n", "2")
"""Tests run in two processes; tests/conftest.py says which tests run in the same one."""
QUICK = ("-m", "not (browser or comfyui or crash or process or slow or webui)")
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
        sys.stderr.write("usage: python dev.py demo [--gpu] | check | test [--quick] [pytest options]\n")
        return 2
    return tasks[sys.argv[1]](sys.argv[2:])


def demo(options: list[str]) -> int:
    """Install the program, unless it is there with all that tests need, and run its demo.

    With `--gpu` it can use the PyTorch of the Python that runs this file.
    """
    torch = find_torch() if "--gpu" in options else None
    if "--gpu" in options and torch is None:
        say(f"This Python has no PyTorch: {sys.executable}.")
        say("Install one for your GPU (https://pytorch.org/get-started/locally), or leave out --gpu.")
        return 1
    needs = dependencies((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if not is_installed(*FOR_TESTS, needs=needs, into=VENV):
        install_once(*FOR_DEMO, needs=needs, into=VENV)
    if torch is not None:
        use_torch(torch)
    return run("lib_embedmerge", "demo", *(option for option in options if option != "--gpu"))


def find_torch() -> Path | None:
    """The folder of packages in which this Python has PyTorch; None if it has none."""
    found = importlib.util.find_spec("torch")
    return Path(found.origin).parent.parent if found and found.origin else None


def use_torch(packages: Path) -> None:
    """Let the main environment find the PyTorch of another folder of packages, and say what it is."""
    own = ask_python("import sysconfig; print(sysconfig.get_path('purelib'))")
    (Path(own) / "embedmerge-torch.pth").write_text(f"{packages}\n", encoding="utf-8")
    told = ask_python("import torch; print(torch.__version__, 'a' if torch.cuda.is_available() else 'no')")
    version, _, gpu = told.rpartition(" ")
    say(f"Using PyTorch {version} of {packages}, which finds {gpu} GPU.")


def ask_python(code: str) -> str:
    """What the main environment's Python prints for a line of code."""
    done = subprocess.run([python_of(VENV), "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


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
    for version, environment in GRADIOS.items():
        pages = ROOT / "tests" / "pages" / f"gradio{version}.txt"
        install_once("-r", str(pages), needs=pages.read_text(encoding="utf-8"), into=environment)
    install_other_pythons()
    return run("pytest", *PARALLEL, *COVERAGE, *options)


def install_for_tests() -> None:
    """Install the main environment with everything that linter, type checker and tests need."""
    needs = dependencies((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    install_once(*FOR_TESTS, needs=needs, into=VENV)


def install_other_pythons() -> None:
    """Install what tests need that run in other versions of Python, as far as these are on the machine."""
    for version, environment in PYTHONS.items():
        packages = ROOT / "tests" / "pythons" / f"python{version}.txt"
        if (python := find_python(version)) is None:
            say(f"There is no Python {version} here, so the tests in it are skipped.")
            continue
        needs = f"{python}\n{packages.read_text(encoding='utf-8')}"
        install_once("-r", str(packages), needs=needs, into=environment, base=python)


def find_python(version: str) -> str | None:
    """The program of a version of Python: on the path, of Windows' launcher or of pyenv; None if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [
        [f"python{version}"],
        ["py", f"-{version}"],
        *([str(python_of(one))] for one in pyenv.glob(f"{version}.*")),
    ]
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2], sys.executable)"
    for command in candidates:
        try:
            done = subprocess.run([*command, "-c", code], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError):  # pyenv has programs for all versions, which may refuse to run
            continue
        found, _, program = done.stdout.strip().partition(" ")
        if found == version:
            return program
    return None


def dependencies(pyproject: str) -> str:
    """The tables of a pyproject.toml that an installation depends on: all but the settings of tools."""
    tables = re.split(r"^(?=\[)", pyproject, flags=re.MULTILINE)
    return "".join(table for table in tables if not table.startswith("[tool.") or table.startswith("[tool.setuptools"))


def install_once(*what: str, needs: str, into: Path, base: str | None = None) -> None:
    """Install, unless the last installation into this environment was the same: same packages, same `needs`, same
    Python, same place of this folder. base: the Python that makes the environment; None for this one."""
    if not is_installed(*what, needs=needs, into=into):
        install(*what, into=into, base=base)
        (into / STAMP).write_text(make_stamp(*what, needs=needs), encoding="utf-8")


def is_installed(*what: str, needs: str, into: Path) -> bool:
    """Whether the last installation into an environment was this one."""
    stamp = into / STAMP
    expected = make_stamp(*what, needs=needs)
    return python_of(into).exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == expected


def make_stamp(*what: str, needs: str) -> str:
    """What the stamp of an installation says: a hash of all that it depends on."""
    return hashlib.sha256("\n".join((sys.version, str(ROOT), *what, needs)).encode()).hexdigest()


def install(*what: str, into: Path, base: str | None = None) -> None:
    """Make the virtual environment where it is missing, and install into it. pip shows its progress."""
    python = python_of(into)
    if not python.exists():
        say(f"Making the environment {into.name}.")
        if base is None:
            venv.create(into, with_pip=True)
        else:
            subprocess.run([base, "-m", "venv", str(into)], check=True)
    (into / STAMP).unlink(missing_ok=True)
    size = SIZES.get(what, SIZE_OF_PAGE if base is None else SIZE_OF_PYTHON)
    index: tuple[str, ...] = ()
    if TORCH in what and sys.platform.startswith("linux"):
        if is_answered(f"{TORCH_FOR_CPU}/torch/"):
            index = ("--extra-index-url", TORCH_FOR_CPU)  # of one version, pip prefers the build for the CPU
        else:
            size = f"{SIZE_OF_CUDA}, because the small builds of PyTorch at {TORCH_FOR_CPU} cannot be reached"
    say(f"Installing into {into.name}, only this once. To download: about {size}.")
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *index, *what]
    subprocess.run(command, cwd=ROOT, check=True)


def is_answered(address: str) -> bool:
    """Whether a server gives the page at an https address within a few seconds."""
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 -- always https
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310 -- always https, as above
            return True
    except OSError:
        return False


def say(text: str) -> None:
    """Say what is done now, before a program that is started prints anything."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


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
