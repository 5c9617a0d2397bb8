"""No test waits for a program or a thread without a limit: where something hangs, it fails and says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FILES = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")])

WITH_TIMEOUT = {"run", "check_output", "check_call", "call"}
WITH_LIMIT = {"wait", "join", "communicate", "result", "wait_for"}
STREAMS = {"stdout", "stderr"}
ALONE = {
    "tests/killing.py": {"waitpid"},
    "benchmarks/processes.py": {"wait4"},
    "tests/processes.py": {"for"},
    "tests/test_embedding_files.py": {"readline"},
}
"""Where such a call stands with a limit of its own around it."""


def waits_for_ever(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What waits without a limit, and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and _is_stream(node.iter):
            yield "for", node.lineno
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, node.func.value
        named = {keyword.arg for keyword in node.keywords}
        module = owner.id if isinstance(owner, ast.Name) else ""
        is_endless = (
            (module == "subprocess" and name in WITH_TIMEOUT and "timeout" not in named)
            or (module == "os" and name in {"wait", "waitpid", "wait3", "wait4"})
            or (name in WITH_LIMIT and not node.args and not named)
            or (name.startswith("read") and _is_stream(owner))
        )
        if is_endless:
            yield name, node.lineno


def _is_stream(node: ast.AST) -> bool:
    """Whether it is what a process prints, under its own name or that of a `with` over it."""
    return isinstance(node, ast.Attribute) and node.attr in STREAMS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_wait_has_a_limit(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    found = [
        f"{place}:{line} {name}"
        for name, line in waits_for_ever(ast.parse(path.read_text(encoding="utf-8")))
        if name not in ALONE.get(place, ())
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "subprocess.run(['x'])", "subprocess.check_output(['x'], text=True)", "process.wait()", "thread.join()",
        "process.communicate()", "process.stdout.read()", "process.stderr.readline()", "event.wait()",
        "os.waitpid(child, 0)", "future.result()", "for line in process.stdout: pass",
    ],
)  # fmt: skip
def test_what_waits_for_ever_is_found(code: str) -> None:
    assert list(waits_for_ever(ast.parse(code)))
