"""What a quick run promises: no test in it starts another process."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiers import LEFT_OUT, PROCESSES, STARTS, UnmarkedProcessError, check_tier, started, together

import dev

ROOT = Path(__file__).parents[1]


@pytest.mark.xfail(raises=UnmarkedProcessError, reason="this is what the tiers promise")
def test_a_test_that_starts_a_process_and_does_not_say_so_fails() -> None:
    """The event is what Python announces; no process is started. Strict: it is a failure if this passes."""
    sys.audit("subprocess.Popen")


def test_every_way_to_start_a_process_is_noticed() -> None:
    for event in ("open", *STARTS):
        sys.audit(event)
    noticed = list(started)
    started.clear()  # for the check of this test itself
    assert noticed == list(STARTS)


@pytest.mark.parametrize("tier", PROCESSES)
def test_one_that_says_so_passes(tier: str) -> None:
    check_tier(["parametrize", tier], ["subprocess.Popen"])
    check_tier([], [])
    with pytest.raises(UnmarkedProcessError, match=r"subprocess\.Popen"):
        check_tier(["slow"], ["subprocess.Popen"])


def test_the_quick_run_leaves_them_all_out(pytestconfig: pytest.Config) -> None:
    assert set(re.findall(r"\w+", dev.QUICK[1])) == {"not", "or", *LEFT_OUT}
    known = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert set(LEFT_OUT) <= known


@pytest.mark.parametrize(
    ("test", "where"),
    [
        ("tests/test_a.py::test_b", "tests/test_a.py"),
        ("tests/test_a.py::Test::test_b[gradio-3.41.2]", "tests/test_a.py"),
        ("tests/pages/test_a.py::test_b[gradio-3.41.2-x::y]", "gradio-3.41.2"),
        ("tests/pages/test_b.py::test_b[gradio-4.40.0]", "gradio-4.40.0"),
        ("tests/pages/test_b.py::test_b", "tests/pages/test_b.py"),
    ],
)
def test_what_runs_in_one_process(test: str, where: str) -> None:
    assert together(test) == where


def test_what_an_installation_depends_on() -> None:
    """A change to the settings of a tool installs nothing; a change to what is needed does."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needs = dev.dependencies(text)
    assert '"pytest-xdist"' in needs
    assert '"numpy"' in needs
    assert "lib_embedmerge.cli:main" in needs
    assert "build-backend" in needs
    assert "ruff.lint" not in needs
    assert dev.dependencies(text.replace("line-length = 120", "line-length = 100")) == needs
    assert dev.dependencies(text.replace("hypothesis", "hypotheses")) != needs


def test_an_environment_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[tuple[str, ...]] = []

    def install(*what: str, into: Path, base: str | None) -> None:
        assert base is None
        dev.python_of(into).parent.mkdir(parents=True, exist_ok=True)
        dev.python_of(into).touch()
        installed.append(what)

    monkeypatch.setattr(dev, "install", install)
    for needs in ("one", "one", "two", "two"):
        dev.install_once("-e", ".", needs=needs, into=tmp_path)
    assert installed == [("-e", ".")] * 2
    dev.python_of(tmp_path).unlink()
    dev.install_once("-e", ".", needs="two", into=tmp_path)
    assert len(installed) == 3


def test_an_installation_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an earlier one succeeded: it is not known what the second one has left."""
    monkeypatch.setattr(dev.subprocess, "run", lambda *_, **__: None)
    dev.python_of(tmp_path).parent.mkdir(parents=True)
    dev.python_of(tmp_path).touch()
    dev.install_once("x", needs="one", into=tmp_path)
    assert (tmp_path / dev.STAMP).exists()

    def failing(*_: object, **__: object) -> None:
        raise dev.subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(dev.subprocess, "run", failing)
    with pytest.raises(dev.subprocess.CalledProcessError):
        dev.install_once("x", needs="two", into=tmp_path)
    assert not (tmp_path / dev.STAMP).exists()


OTHER_PYTHONS = dict(dev.PYTHONS)


def test_the_other_pythons_are_not_this_one() -> None:
    assert len(OTHER_PYTHONS) >= 3
    assert f"{sys.version_info.major}.{sys.version_info.minor}" not in OTHER_PYTHONS


class Ran:
    """Stands in for subprocess.run: what was started."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, command: list[object], **_: object) -> SimpleNamespace:
        self.commands.append(list(map(str, command)))
        if "venv" in command:  # another Python makes an environment
            Path(str(command[-1])).mkdir()
        return SimpleNamespace(returncode=0, stdout="2.9.1+cu128 a\n")


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """What dev.py starts, with environments in a folder of the test; nothing is started."""

    def create(environment: Path, **_: object) -> None:
        dev.python_of(environment).parent.mkdir(parents=True)
        dev.python_of(environment).touch()

    ran = Ran()
    monkeypatch.setattr(dev.subprocess, "run", ran)
    monkeypatch.setattr(dev.venv, "create", create)
    monkeypatch.setattr(dev, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(dev, "GRADIOS", {3: tmp_path / ".venv-gradio3"})
    monkeypatch.setattr(dev, "PYTHONS", {})
    return ran


def test_the_demo_installs_the_program_alone_and_says_so(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.demo(["--json"]) == 0
    assert [command[1:] for command in ran.commands] == [
        ["-m", "pip", "install", "--disable-pip-version-check", "-e", "."],
        ["-m", "lib_embedmerge", "demo", "--json"],
    ]
    told = capsys.readouterr().out
    assert "Making the environment .venv." in told
    assert "To download: about 25 MB" in told
    ran.commands.clear()
    assert dev.demo([]) == 0
    assert [command[1:] for command in ran.commands] == [["-m", "lib_embedmerge", "demo"]]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("answered", [True, False])
def test_tests_take_the_small_pytorch_where_they_can(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answered: bool
) -> None:
    monkeypatch.setattr(dev.sys, "platform", "linux")
    monkeypatch.setattr(dev, "is_answered", lambda address: answered and address.startswith(dev.TORCH_FOR_CPU))
    dev.install_for_tests()
    ((_, *command),) = ran.commands
    assert command[-3:] == [dev.TORCH, "-e", ".[test]"]
    assert (command[-5:-3] == ["--extra-index-url", dev.TORCH_FOR_CPU]) is answered
    assert ("about 3 GB" in capsys.readouterr().out) is not answered


def test_an_environment_of_the_page_has_no_pytorch(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.test([]) == 0
    installed = [command for command in ran.commands if "install" in command]
    assert [command[-1] for command in installed] == [".[test]", str(dev.ROOT / "tests" / "pages" / "gradio3.txt")]
    assert dev.TORCH in installed[0]
    assert not any("torch" in part for part in installed[1])
    assert f"about {dev.SIZE_OF_PAGE}" in capsys.readouterr().out


def test_other_pythons_make_their_environments(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there, missing = list(OTHER_PYTHONS)[:2]
    monkeypatch.setattr(dev, "PYTHONS", {version: tmp_path / version for version in (there, missing)})
    monkeypatch.setattr(dev, "find_python", lambda version: "/other/python" if version == there else None)
    dev.install_other_pythons()
    made, installed = ran.commands
    assert made == ["/other/python", "-m", "venv", str(tmp_path / there)]
    assert installed[-1] == str(dev.ROOT / "tests" / "pythons" / f"python{there}.txt")
    told = capsys.readouterr().out
    assert f"There is no Python {missing} here" in told
    assert f"about {dev.SIZE_OF_PYTHON}" in told


def test_a_python_is_found_by_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyenv's programs are on the path also for versions that it then refuses to run."""
    chosen = dev.python_of(tmp_path / "versions" / "3.9.7")
    chosen.parent.mkdir(parents=True)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    def run(command: list[str], **_: object) -> SimpleNamespace:
        if command[0] == "py":
            raise FileNotFoundError
        if command[0] == "python3.9":
            raise dev.subprocess.CalledProcessError(127, command)
        return SimpleNamespace(stdout=f"3.9 {command[0]}\n")

    monkeypatch.setattr(dev.subprocess, "run", run)
    assert dev.find_python("3.9") == str(chosen)
    assert dev.find_python("3.8") is None


def test_an_index_that_cannot_be_reached() -> None:
    assert not dev.is_answered("https://localhost:1/torch/")


def test_a_pytorch_that_is_there_is_used_for_a_gpu_alone(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "packages"
    asked = {"purelib": str(tmp_path), "torch": "2.9.1+cu128 a"}
    monkeypatch.setattr(dev, "ask_python", lambda code: next(told for word, told in asked.items() if word in code))
    monkeypatch.setattr(dev, "find_torch", lambda: there)
    assert dev.demo([]) == 0
    assert not (tmp_path / "embedmerge-torch.pth").exists()
    assert dev.demo(["--gpu"]) == 0
    assert (tmp_path / "embedmerge-torch.pth").read_text(encoding="utf-8") == f"{there}\n"
    assert ran.commands[-1][1:] == ["-m", "lib_embedmerge", "demo"]
    assert "Using PyTorch 2.9.1+cu128" in capsys.readouterr().out
    monkeypatch.setattr(dev, "find_torch", lambda: None)
    ran.commands.clear()
    assert dev.demo(["--gpu"]) == 1
    assert ran.commands == []
    assert "has no PyTorch" in capsys.readouterr().out
