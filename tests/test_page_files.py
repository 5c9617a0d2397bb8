"""The page's files that are not Python, in an installed package: setup.py puts them where the page looks for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lib_embedmerge.ui.page_files import SCRIPTS, STYLE, SYNTAX, read_page_file

ROOT = Path(__file__).parents[1]
FILES = (*SCRIPTS, STYLE, SYNTAX)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation copies, in a folder without the repository's own files beside it."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(folder), "build_py"]
    command += ["--build-lib", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.process
@pytest.mark.parametrize("name", FILES)
def test_they_are_in_the_package(installed: Path, name: str) -> None:
    copied = installed / "lib_embedmerge" / "ui" / "page" / name
    assert copied.read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.process
def test_the_package_finds_them(installed: Path) -> None:
    code = (
        "import sys; sys.stdout.reconfigure(encoding='utf-8')\n"
        "import lib_embedmerge.ui.page_files as files\n"
        "print(files.__file__)\n"
        f"for name in {FILES!r}: print(len(files.read_page_file(name)))\n"
    )
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}"]
    done = subprocess.run(command, cwd=installed, capture_output=True, encoding="utf-8", check=True, timeout=120)
    place, *lengths = done.stdout.splitlines()
    assert Path(place).is_relative_to(installed)
    assert list(map(int, lengths)) == [len(read_page_file(name)) for name in FILES]


@pytest.mark.process
def test_the_rest_of_the_package_is_there_too(installed: Path) -> None:
    package = ROOT / "lib_embedmerge"
    wanted = {path.relative_to(package) for path in package.rglob("*.py")}
    assert wanted <= {path.relative_to(installed / "lib_embedmerge") for path in installed.rglob("*.py")}


def test_in_the_repository_its_own_are_read() -> None:
    for name in FILES:
        assert read_page_file(name) == (ROOT / name).read_text(encoding="utf-8")
    assert not (ROOT / "lib_embedmerge" / "ui" / "page").exists()


def test_a_missing_file_is_named_with_its_place() -> None:
    with pytest.raises(FileNotFoundError, match="no_such_file"):
        read_page_file("no_such_file.css")
