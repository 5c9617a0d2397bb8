"""What a project keeps beside its code agrees with the code: versions, commands, environment variables."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib_embedmerge.version import __version__

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def load(name: str) -> Any:
    return yaml.safe_load(read(name))


# CHANGELOG.md

HEADINGS = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", read("CHANGELOG.md"), re.MULTILINE)


def test_the_newest_release_in_the_changelog_is_this_version() -> None:
    assert HEADINGS[0] == ("Unreleased", "")
    assert HEADINGS[1][0] == __version__


def test_releases_in_the_changelog_are_in_order() -> None:
    releases = HEADINGS[1:]
    assert all(date for _, date in releases)
    assert all(newer[1] >= older[1] for newer, older in pairwise(releases))


def test_the_changelog_has_only_kinds_of_its_format() -> None:
    kinds = re.findall(r"^### (.+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert len(re.findall(r"^#+ ", read("CHANGELOG.md"), re.MULTILINE)) == 1 + len(HEADINGS) + len(kinds)


# CONTRIBUTING.md


@pytest.mark.process
def test_the_commands_of_contributors_exist() -> None:
    usage = subprocess.run(
        [sys.executable, ROOT / "dev.py"], capture_output=True, text=True, check=False, timeout=60
    ).stderr
    tasks = re.findall(r"python dev\.py (\w+)", read("CONTRIBUTING.md"))
    assert tasks
    assert [task for task in tasks if not re.search(rf"\b{task}\b", usage)] == []


def test_every_environment_variable_is_listed() -> None:
    listed = re.findall(r"^\| `(EMBEDMERGE_[A-Z0-9_]+)` \|", read("CONTRIBUTING.md"), re.MULTILINE)
    folders = ("lib_embedmerge", "scripts", "tests", "benchmarks")
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]
    modules += ROOT.glob("*.py")
    used = {name for path in modules for name in re.findall(r"EMBEDMERGE_[A-Z0-9_]+\b", path.read_text("utf-8"))}
    assert len(used) >= 7
    assert sorted(listed) == sorted(used)


def test_files_that_contributors_are_sent_to_exist() -> None:
    named = re.findall(r"(?<![\w/.])(?:tests|lib_embedmerge|docs)/[\w/.-]+\w", read("CONTRIBUTING.md"))
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_test_that_contributors_run_by_a_word_exists() -> None:
    for file, word in re.findall(r"pytest (tests/[\w/]+\.py) -k (\w+)", read("CONTRIBUTING.md")):
        assert re.search(rf"def test_\w*{word}", read(file)), (file, word)


# .pre-commit-config.yaml, pyproject.toml, .github


def pinned(tool: str) -> str:
    (version,) = re.findall(rf'"{tool}==([\d.]+)"', read("pyproject.toml"))
    return str(version)


def test_the_hooks_use_the_versions_of_the_project() -> None:
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    assert set(hooks) == {"ruff", "ruff-format", "mypy"}
    for name in ("ruff", "ruff-format"):
        assert hooks[name]["additional_dependencies"] == [f"ruff=={pinned('ruff')}"]
    assert hooks["mypy"]["language"] == "system"  # so it is the environment's, which pyproject.toml pins
    assert pinned("mypy")


def test_every_supported_python_is_tested() -> None:
    quick = load(".github/workflows/test.yml")["jobs"]["quick"]["strategy"]["matrix"]
    (oldest,) = re.findall(r'requires-python = ">=(3\.\d+)"', read("pyproject.toml"))
    assert quick["python"][0] == oldest
    assert quick["python"] == [f"3.{minor}" for minor in range(int(oldest[2:]), 14)]
    assert {system.partition("-")[0] for system in quick["os"]} == {"ubuntu", "windows"}


def test_the_workflow_runs_the_commands_that_contributors_run() -> None:
    jobs = load(".github/workflows/test.yml")["jobs"].values()
    commands = {step["run"] for job in jobs for step in job["steps"] if "dev.py" in step.get("run", "")}
    listed = set(re.findall(r"^\| `(python dev\.py [^`]+)` \|", read("CONTRIBUTING.md"), re.MULTILINE))
    assert commands == listed


FORMS = sorted(path.name for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


@pytest.mark.parametrize("name", FORMS)
def test_forms_for_issues_are_whole(name: str) -> None:
    form = load(f".github/ISSUE_TEMPLATE/{name}")
    assert form["name"]
    assert form["description"]
    ids = [part["id"] for part in form["body"]]
    assert len(ids) == len(set(ids)) > 0
    assert all(part["type"] in {"textarea", "dropdown", "input"} for part in form["body"])
    assert all(part["attributes"]["label"] for part in form["body"])


def test_a_bug_report_asks_for_the_report() -> None:
    assert FORMS == ["bug.yml", "feature.yml"]
    (part,) = [part for part in load(".github/ISSUE_TEMPLATE/bug.yml")["body"] if part["id"] == "report"]
    assert "embedmerge report" in part["attributes"]["label"]
    assert part["validations"]["required"]


# docs/web-uis.md

WEB_UIS = re.findall(
    r"^\| (.+?) +\| (.+?) +\|", read("docs/web-uis.md").partition("|---")[2].partition("\n\n")[0], re.MULTILINE
)


@pytest.mark.parametrize("page", ["README.md", "docs/syntax.md"])
def test_the_web_uis_that_were_run_are_named_with_their_versions(page: str) -> None:
    """`docs/syntax.md` is the tab's Help."""
    (told,) = re.findall(r"run in (AUTOMATIC1111.*?)[;.]\s", read(page), re.DOTALL)
    named = re.sub(r"\s", " ", told).replace("`", "")
    assert len(WEB_UIS) > 5
    for web_ui, version in WEB_UIS:
        name, _, branch = web_ui.replace("`", "").partition(", branch ")
        wanted = f"{version} (branch {branch})" if branch else f"{name} {version}"
        assert wanted in named


# the package


def test_the_package_says_that_it_has_types() -> None:
    assert (ROOT / "lib_embedmerge" / "py.typed").read_text(encoding="utf-8") == ""
    (listed,) = re.findall(r"^package-data = \{ lib_embedmerge = \[(.*)\] \}$", read("pyproject.toml"), re.MULTILINE)
    assert '"py.typed"' in listed
