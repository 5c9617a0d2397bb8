"""Who may import whom (docs/architecture.md), and what the public surface is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lib_embedmerge

ROOT = Path(lib_embedmerge.__file__).parent

MAY_IMPORT = {
    # part of the package -> parts that it may import
    "errors": set(),
    "version": set(),
    "lang": {"errors"},
    "core": {"errors", "lang"},
    "tokenizer": {"errors"},
    "storage": {"errors", "version", "lang", "core", "tokenizer"},
    "checkpoints": {"errors", "core", "tokenizer", "storage"},
    "hosts": {"errors", "version", "lang", "core", "tokenizer", "storage", "checkpoints"},
    "actions": {"errors", "lang", "core", "tokenizer", "storage", "checkpoints", "hosts"},
    "api": {"errors", "lang", "core", "storage", "checkpoints", "hosts", "actions"},
    "ui": {"errors", "lang", "core", "tokenizer", "storage", "hosts", "actions", "api"},
    "demo": {"errors", "core", "storage"},
    "cli": {
        "errors",
        "version",
        "lang",
        "core",
        "tokenizer",
        "storage",
        "checkpoints",
        "hosts",
        "actions",
        "ui",
        "demo",
    },
    "__init__": {"errors", "version", "lang", "storage", "checkpoints"},
    "__main__": {"cli"},
}

OUTSIDE = {
    # a package from outside -> the parts that may import it, wherever in a file
    "torch": {"core", "storage", "checkpoints", "hosts", "actions", "demo"},
    "numpy": {"checkpoints"},
    "ftfy": {"tokenizer"},
    "rich": {"cli"},
    "safetensors": set(),
    "PIL": {"storage"},
    "transformers": {"checkpoints"},
    "gradio": {"ui"},
    "fastapi": {"api", "hosts"},
    "pydantic": {"api"},
    "modules": {"hosts"},
    "backend": set(),
}


def _imports() -> list[tuple[str, str, str]]:
    """(file, its part, an imported module), for every import anywhere in the package."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        part = place.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(str(place), part, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{place} imports relatively"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [(str(place), part, name) for name in names]
    return found


IMPORTS = _imports()


def test_there_are_imports_to_check() -> None:
    assert len(IMPORTS) > 200
    assert {part for _, part, _ in IMPORTS} <= set(MAY_IMPORT)


def test_parts_import_only_downwards() -> None:
    wrong = []
    for file, part, module in IMPORTS:
        names = module.split(".")
        if names[0] == "lib_embedmerge" and len(names) > 1:
            wanted = names[1]
            if wanted != part and wanted not in MAY_IMPORT[part]:
                wrong.append(f"{file} imports {module}")
    assert wrong == []


def test_packages_from_outside_stay_where_they_belong() -> None:
    wrong = [
        f"{file} imports {module}"
        for file, part, module in IMPORTS
        if part not in OUTSIDE.get(module.split(".")[0], {part})
    ]
    assert wrong == []


def test_transformers_is_for_running_encoders_alone() -> None:
    assert {file for file, _, module in IMPORTS if module.split(".")[0] == "transformers"} == {
        str(Path("checkpoints", "outputs.py"))
    }


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import lib_embedmerge", ["torch", "numpy", "ftfy", "regex", "rich"]),
        ("import lib_embedmerge.cli", ["torch", "numpy", "ftfy", "regex", "rich"]),
        ("from lib_embedmerge import parse; parse(\"<'a'>\")", ["torch", "numpy", "ftfy", "regex"]),
        (
            "from lib_embedmerge.cli import main; assert main(['parse', \"'a'\", '--json']) == 0",
            ["torch", "numpy", "rich", "transformers"],
        ),
        ("import lib_embedmerge.actions.answering", ["torch", "numpy", "ftfy", "regex", "gradio"]),
        ("import lib_embedmerge.api.adding", ["torch", "numpy", "ftfy", "regex", "gradio"]),
        ("import lib_embedmerge.core.counting", ["torch", "numpy", "ftfy", "regex", "lib_embedmerge.core.evaluate"]),
        (
            "from lib_embedmerge.hosts import webui_rival, webui_seam, webui_settings",
            ["modules", "torch", "numpy", "ftfy", "regex", "fastapi", "gradio", "lib_embedmerge.core"],
        ),
        ("import lib_embedmerge.core.infotext", ["torch", "numpy", "regex", "lib_embedmerge.lang"]),
        ("import lib_embedmerge.actions.comparing", ["transformers", "safetensors", "rich", "gradio"]),
        ("import lib_embedmerge.checkpoints.model", ["rich", "transformers", "safetensors", "ftfy"]),
        (
            "import lib_embedmerge.hosts.webui, lib_embedmerge.hosts.checkpoint",
            ["modules", "gradio", "rich", "transformers", "safetensors", "ftfy"],
        ),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str, absent: list[str]) -> None:
    code = f"import sys\n{statement}\nprint([name for name in {absent!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr.strip() == "[]"


def test_public_names() -> None:
    public = {"EmbedMergeError", "Embedding", "__version__", "load_embedding", "open_checkpoint", "parse"}
    assert set(lib_embedmerge.__all__) == public
    for name in lib_embedmerge.__all__:
        assert getattr(lib_embedmerge, name) is not None
    assert set(dir(lib_embedmerge)) == set(lib_embedmerge.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        lib_embedmerge.nonsense  # noqa: B018 -- the access is the test
