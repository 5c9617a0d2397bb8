"""What a bug report needs: enough to find the fault, and nothing that says who or where somebody is."""

from __future__ import annotations

import getpass
import json
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from action_hosts import MODEL, NoModelHost
from memory_model import MemoryModel
from models import encoders, write_sdxl

from lib_embedmerge.actions import reporting
from lib_embedmerge.actions.reporting import PACKAGES, Report, make_rows, report, report_in
from lib_embedmerge.cli import main
from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.hosts.webui.host import WebuiHost
from lib_embedmerge.version import __version__

USER = "zz_user_of_this_machine"
SECRET = "my_private_model"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder whose name nobody else has; its user's name is in it."""
    place = tmp_path / USER
    place.mkdir()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(place))
    for variable in ("USER", "LOGNAME", "USERNAME", "LNAME"):
        monkeypatch.setenv(variable, USER)
    assert Path.home() == place
    assert getpass.getuser() == USER
    return place


@pytest.fixture
def checkpoint(home: Path) -> Path:
    return write_sdxl(home / f"{SECRET}.safetensors", encoders())


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["report", *map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def is_private(text: str, home: Path) -> Iterator[str]:
    """What a text says that nobody should know."""
    words = (USER, str(home), home.name, str(home.parent), str(reporting._ROOT), socket.gethostname(), SECRET)
    return (word for word in words if word in text)


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["embedmerge"] == __version__
    assert found["python"].startswith(platform.python_version())
    assert found["packages"] == {name: version(name) for name in PACKAGES}
    assert (found["program"], found["model"], found["fault"]) == (None, None, None)


def test_as_text_it_is_a_line_for_each_fact(capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(capsys)
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert lines == make_rows(report().as_json())
    assert lines["EmbedMerge"].startswith(__version__)
    assert lines["runs in"] == "the command line"
    assert lines.keys() >= {"Python", "system", *PACKAGES}
    assert report().text() == out.rstrip("\n")


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "PACKAGES", ("torch", "no-such-package-of-anybody"))
    assert report().packages["no-such-package-of-anybody"] is None
    assert make_rows(report().as_json())["no-such-package-of-anybody"] == "not installed"


@pytest.mark.process
def test_nothing_heavy_is_imported_for_it() -> None:
    heavy = "['torch', 'numpy', 'transformers', 'gradio', 'ftfy', 'safetensors']"
    code = f"from lib_embedmerge.cli import main; main(['report']); import sys; print(set({heavy}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.endswith("set()\n")
    assert "devices" not in done.stdout


def test_devices_are_told_where_torch_is_loaded() -> None:
    assert "torch" in sys.modules
    devices = report().devices
    assert devices is not None
    assert devices[0] == "cpu"


def test_a_checkpoint_is_described_without_its_name(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, home: Path
) -> None:
    code, out = run(capsys, "--checkpoint", checkpoint, "--json")
    assert code == 0
    model = json.loads(out)["model"]
    assert model["kind"] == "SDXL"
    assert model["layout"] == "single file, float16"
    assert {key: len(digits) for key, digits in model["token_tables"].items()} == {"clip_l": 12, "clip_g": 12}
    assert model["prediction_type"] == "epsilon"
    assert not list(is_private(out, home))
    _, out = run(capsys, "--checkpoint", checkpoint)
    assert model["token_tables"]["clip_l"] in out
    assert not list(is_private(out, home))


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"PK\x03\x04 cut off"])
def test_a_checkpoint_that_cannot_be_used_is_reported_without_its_name(
    content: bytes, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    path = home / f"{SECRET} 'of mine'.safetensors"
    path.write_bytes(content)
    code, out = run(capsys, "--checkpoint", path)
    assert code == 0
    assert "model: cannot be used: " in out
    assert "FILE" in out
    assert not list(is_private(out, home))


def test_a_folder_of_no_models_is_reported_without_its_name(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    (home / SECRET).mkdir()
    (home / SECRET / "model_index.json").write_text("{}")
    _, out = run(capsys, "--checkpoint", home / SECRET)
    assert "'FILE' is a diffusers folder without text encoder files." in out
    assert not list(is_private(out, home))


def test_a_host_says_what_it_is_and_what_model_it_has(tmp_path: Path) -> None:
    found = report_in(MemoryHost(MODEL, tmp_path))
    assert found.program == "a test"
    assert found.model is not None
    assert found.model.kind == "SDXL"
    assert found.model.vectors_from


def test_a_host_whose_model_cannot_be_used_says_so_without_a_name(tmp_path: Path) -> None:
    host = NoModelHost(tmp_path)
    host.error = HostError(f"{SECRET} cannot be read.")
    found = report_in(host)
    assert (found.model, found.fault) == (None, "HostError")
    assert SECRET not in found.text()


def test_the_page_of_its_own_gives_no_name(checkpoint: Path, home: Path) -> None:
    found = report_in(CheckpointHost(home / "embeddings", checkpoint=checkpoint))
    assert found.model is not None
    assert not list(is_private(found.text() + json.dumps(found.as_json()), home))


def test_fingerprints_are_not_measured_for_it(tmp_path: Path) -> None:
    class Slow(MemoryModel):
        has_fingerprints = False

        def fingerprints(self, progress: Any = None) -> Any:
            raise AssertionError("this takes seconds")

    found = report_in(MemoryHost(Slow(MODEL.encoders), tmp_path))
    assert found.model is not None
    assert make_rows(found.as_json())["token tables"] == "not measured"


def test_the_check_for_private_words_finds_them(home: Path) -> None:
    words = [f"in {home}/x", f"by {USER}", f"{SECRET}.safetensors"]
    assert all(list(is_private(text, home)) for text in words)
    assert not list(is_private("AUTOMATIC1111 or a fork of it, v1.10.1", home))


@pytest.mark.parametrize(
    ("model_data", "others", "family"),
    [
        ({"forge_loading_parameters": {}}, ["modules_forge"], "Forge or a fork of it"),
        ({}, ["modules_forge", "ldm_patched"], "reForge or a fork of it"),
        ({}, [], "AUTOMATIC1111 or a fork of it"),
    ],
)
def test_a_web_ui_by_what_it_has(
    model_data: dict[str, Any], others: list[str], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules: dict[str, dict[str, object]] = {
        "modules": {},
        "modules.sd_models": {"model_data": SimpleNamespace(**model_data)},
        "modules.launch_utils": {"git_tag": lambda: "v1.10.1\n"},
        **{name: {} for name in others},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["modules"], "sd_models", sys.modules["modules.sd_models"], raising=False)
    assert WebuiHost().program == f"{family}, v1.10.1"

    def fail() -> None:
        raise OSError("git is not there")

    monkeypatch.setattr(sys.modules["modules.launch_utils"], "git_tag", fail)
    assert WebuiHost().program == f"{family}, of an unknown version"
    monkeypatch.delitem(sys.modules, "modules.launch_utils")
    assert WebuiHost().program == f"{family}, of an unknown version"


class TestTheCommit:
    FIRST, SECOND = "a" * 40, "b" * 40

    def write(self, folder: Path, **files: str) -> Path:
        for name, content in files.items():
            path = folder / name.replace("__", "/").replace("_refs", "-refs")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return folder

    def test_of_a_branch(self, tmp_path: Path) -> None:
        git = self.write(tmp_path / ".git", HEAD="ref: refs/heads/main\n", refs__heads__main=self.FIRST + "\n")
        assert reporting._read_commit(git.parent) == "a" * 12

    def test_of_a_branch_that_git_has_packed(self, tmp_path: Path) -> None:
        packed = f"# pack-refs\n{self.SECOND} refs/heads/other\n{self.FIRST} refs/heads/main\n"
        git = self.write(tmp_path / ".git", HEAD="ref: refs/heads/main\n", packed_refs=packed)
        assert reporting._read_commit(git.parent) == "a" * 12

    def test_without_a_branch(self, tmp_path: Path) -> None:
        assert reporting._read_commit(self.write(tmp_path / ".git", HEAD=self.SECOND + "\n").parent) == "b" * 12

    def test_of_a_worktree(self, tmp_path: Path) -> None:
        self.write(tmp_path / "main" / ".git", refs__heads__side=self.FIRST)
        own = self.write(tmp_path / "main/.git/worktrees/x", HEAD="ref: refs/heads/side", commondir="../..\n")
        tree = self.write(tmp_path / "x", **{".git": f"gitdir: {own}\n"})
        assert reporting._read_commit(tree) == "a" * 12

    @pytest.mark.parametrize("head", ["ref: refs/heads/main", "ref: ../../secret", "not a commit", ""])
    def test_where_there_is_none(self, head: str, tmp_path: Path) -> None:
        assert reporting._read_commit(tmp_path) is None
        (tmp_path / "secret").write_text("a word\n")
        assert reporting._read_commit(self.write(tmp_path / ".git", HEAD=head).parent) is None


LACKING = {"knit": ("wool.red", "needles"), "sew": ()}


def test_a_report_in_words_leaves_nothing_out() -> None:
    model = reporting.ReportedModel(
        "SDXL", "single file", None, True, "c" * 12, 2, "memory", {"clip_l": "d" * 12}, {"clip_l": "e" * 12}, ("Odd.",)
    )
    found = Report(
        "1", "f" * 12, "3", "Linux", {"torch": None}, "a web UI", LACKING, ("It fails.",), ("cpu", "cuda"), model
    )
    words = found.text()
    for part in (
        "not installed",
        "a web UI",
        "can knit: no, it lacks wool.red, needles",
        "can sew: yes",
        "It fails.",
        "cpu, cuda",
        "SDXL, single file",
        "not known, zero terminal SNR",
        "memory",
    ):
        assert part in words
    for part in ("f" * 12, "c" * 12, "clip_l " + "d" * 12, "clip_l " + "e" * 12, ": 2", "Odd."):
        assert part in words
