"""Who may import whom (docs/architecture.md), and what the public surface is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lib_embedmerge

ROOT = Path(lib_embedmerge.__file__).parent

LONGEST = 320
"""Lines of a module."""

ROOMS = (
    "errors",
    "version",
    "lang",
    "tokenizer",
    "core",
    "files",
    "checkpoints",
    "embeddings",
    "recipes",
    "facade",
    "hosts",
    "actions",
    "api",
    "ui",
    "node_pack",
    "demo",
    "cli",
)
"""The rooms of the house, from the ground up. A room may import those below it, but for BARRED."""

BARRED = {
    "version": {"errors"},
    "lang": {"version"},
    "tokenizer": {"version", "lang"},
    "core": {"version", "tokenizer"},
    "files": {"version", "lang", "tokenizer"},
    "checkpoints": {"version", "lang"},
    "embeddings": {"lang", "checkpoints"},
    "recipes": {"version", "checkpoints"},
    "facade": {"errors", "version", "lang", "files"},
    "hosts": {"facade"},
    "api": {"version", "tokenizer", "files", "facade"},
    "ui": {"version", "checkpoints", "files", "embeddings", "facade"},
    "node_pack": {"version", "tokenizer", "facade", "api", "ui"},
    "cli": {"checkpoints", "embeddings", "recipes", "api", "node_pack"},
    "demo": set(ROOMS) - {"errors", "core", "files"},
}
"""A room -> rooms below it that it does without."""

MAY_IMPORT = {room: set(ROOMS[:number]) - BARRED.get(room, set()) for number, room in enumerate(ROOMS)} | {
    "__init__": {"errors", "version", "lang", "facade"},
    "__main__": {"cli"},
}

OUTSIDE = {
    # a package from outside -> the parts that may import it, wherever in a file
    "torch": {"core", "files", "checkpoints", "embeddings", "facade", "hosts", "node_pack"},
    "numpy": {"core", "files", "checkpoints", "demo", "embeddings", "recipes", "hosts", "actions"},
    "ftfy": {"tokenizer"},
    "rich": {"cli"},
    "safetensors": set(),
    "PIL": {"embeddings", "hosts", "node_pack"},
    "transformers": set(),
    "gradio": {"ui"},
    "fastapi": {"api", "hosts"},
    "pydantic": {"api"},
    "modules": {"hosts"},
    "backend": set(),
    "yaml": {"hosts"},
    "comfy": {"hosts"},
    "comfyui_version": {"hosts"},
    "folder_paths": {"hosts"},
    "nodes": {"hosts"},
    "server": set(),
    "aiohttp": {"node_pack"},
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


def test_a_room_is_barred_from_those_that_it_does_without() -> None:
    used = {(room, module.split(".")[1]) for _, room, module in IMPORTS if module.startswith("lib_embedmerge.")}
    unused = [(room, below) for room in ROOMS for below in MAY_IMPORT[room] if (room, below) not in used]
    assert sorted(unused) == []


def test_packages_from_outside_stay_where_they_belong() -> None:
    wrong = [
        f"{file} imports {module}"
        for file, part, module in IMPORTS
        if part not in OUTSIDE.get(module.split(".")[0], {part})
    ]
    assert wrong == []


@pytest.mark.process
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
            "from lib_embedmerge.hosts.webui import embedding_merge, prompt_hook, settings",
            ["modules", "torch", "numpy", "ftfy", "regex", "fastapi", "gradio", "lib_embedmerge.core"],
        ),
        (
            "import lib_embedmerge.node_pack.registration, lib_embedmerge.node_pack.reading_route",
            ["torch", "numpy", "regex", "aiohttp", "PIL", "lib_embedmerge.core", "lib_embedmerge.hosts"],
        ),
        ("import lib_embedmerge.core.infotext", ["torch", "numpy", "regex", "lib_embedmerge.lang"]),
        ("import lib_embedmerge.actions.comparing", ["transformers", "safetensors", "rich", "gradio"]),
        ("import lib_embedmerge.checkpoints.model", ["rich", "transformers", "safetensors", "ftfy"]),
        (
            "import lib_embedmerge.hosts.webui.host, lib_embedmerge.hosts.checkpoint_host",
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


def _modules() -> dict[str, Path]:
    """Module name -> file, for every module of the package."""
    modules = {}
    for path in ROOT.rglob("*.py"):
        parts = [ROOT.name, *path.relative_to(ROOT).with_suffix("").parts]
        modules[".".join(parts).removesuffix(".__init__")] = path
    return modules


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = _modules()
    names = {str(path.relative_to(ROOT)): name for name, path in modules.items()}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for file, _, imported in IMPORTS:
        target = imported if imported in modules else imported.rpartition(".")[0]
        if target in modules and target != names[file]:
            graph[names[file]].add(target)
    assert sum(map(len, graph.values())) > 500
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_module_has_a_name_of_its_own() -> None:
    modules = [name for name in _modules() if not name.endswith("__main__")]
    counts = Counter(name.rpartition(".")[2] for name in modules)
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_module_is_too_long_to_read_at_once() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in _modules().items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
