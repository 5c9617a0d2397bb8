"""The entry in ComfyUI: it registers nodes and a route there, and does nothing anywhere else."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from lib_embedmerge.node_pack.registration import NODE_CLASSES, NODE_TITLES

ROOT = Path(__file__).parents[1]

IN_COMFYUI = """
    import sys, time, importlib.util
    from types import ModuleType, SimpleNamespace
    sys.path = [path for path in sys.path if path and path != ROOT]
    routes, handlers = {}, []
    routes_of = SimpleNamespace(post=lambda path: lambda handler: routes.__setitem__(path, handler))
    aiohttp = ModuleType("aiohttp")
    aiohttp.web = SimpleNamespace(json_response=None)
    sys.modules["aiohttp"] = aiohttp
    if IS_COMFYUI:
        server = ModuleType("server")
        instance = SimpleNamespace(routes=routes_of, add_on_prompt_handler=handlers.append)
        server.PromptServer = SimpleNamespace(instance=instance)
        sys.modules["server"], sys.modules["folder_paths"] = server, ModuleType("folder_paths")
    before, path_before = set(sys.modules), list(sys.path)
    start = time.perf_counter()
    spec = importlib.util.spec_from_file_location("custom_nodes_x_embedmerge", ROOT + "/__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    took = time.perf_counter() - start
    import json
    print(json.dumps({
        "nodes": sorted(module.NODE_CLASS_MAPPINGS), "titles": sorted(module.NODE_DISPLAY_NAME_MAPPINGS),
        "web": module.WEB_DIRECTORY, "routes": sorted(routes), "handlers": len(handlers),
        "path": sys.path == path_before, "took": took,
        "heavy": sorted({"torch", "numpy", "regex", "PIL"} & set(sys.modules)),
        "file": getattr(sys.modules.get("lib_embedmerge"), "__file__", None),
    }))
"""


def load_entry(*, is_comfyui: bool, folder: Path) -> Any:
    """What the entry does in a Python of its own. folder: where that runs."""
    code = f"ROOT, IS_COMFYUI = {str(ROOT)!r}, {is_comfyui}\n" + textwrap.dedent(IN_COMFYUI)
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


@pytest.mark.process
def test_in_comfyui_it_registers_nodes_and_a_route(tmp_path: Path) -> None:
    loaded = load_entry(is_comfyui=True, folder=tmp_path)
    assert loaded["nodes"] == loaded["titles"] == sorted(NODE_CLASSES)
    assert loaded["routes"] == ["/embedmerge/read"]
    assert loaded["handlers"] == 1
    assert (ROOT / loaded["web"] / "embedmerge.js").is_file()
    assert Path(loaded["file"]) == ROOT / "lib_embedmerge" / "__init__.py"
    assert loaded["path"], "sys.path was changed"
    assert loaded["heavy"] == []
    assert loaded["took"] < 0.5  # 0.02 s alone; ComfyUI itself says how long it took


@pytest.mark.process
def test_elsewhere_it_does_nothing(tmp_path: Path) -> None:
    loaded = load_entry(is_comfyui=False, folder=tmp_path)
    assert loaded["nodes"] == loaded["titles"] == loaded["routes"] == []
    assert loaded["file"] is None


def test_web_uis_and_pytest_do_not_take_it_for_theirs() -> None:
    entry = (ROOT / "__init__.py").read_text(encoding="utf-8")
    assert "modules" not in entry.replace("sys.modules", "")
    assert "__init__" not in sys.modules


@pytest.mark.parametrize("node", NODE_CLASSES)
def test_the_description_of_a_node_is_whole(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_embedmerge.node_pack.making_nodes.list_embedding_names", lambda: ["a"])
    monkeypatch.setattr("lib_embedmerge.node_pack.inspecting_nodes.list_embedding_names", lambda: ["a"])
    described: Any = NODE_CLASSES[node]
    assert NODE_TITLES[node]
    assert described.DESCRIPTION.endswith(".")
    assert callable(getattr(described, described.FUNCTION))
    assert len(described.RETURN_TYPES) == len(described.OUTPUT_TOOLTIPS)
    inputs = described.INPUT_TYPES()
    json.dumps(inputs)  # ComfyUI sends it to the page
    for options in (*inputs["required"].values(), *inputs.get("optional", {}).values()):
        if isinstance(options[0], list):
            assert options[1].get("default", options[0][0]) in options[0]
        assert options[0] != "STRING" or not options[1].get("dynamicPrompts", False)  # it would remove { and }


def test_example_workflows_use_nodes_that_exist() -> None:
    files = sorted((ROOT / "examples").glob("*.json"))
    assert len(files) >= 3
    for file in files:
        workflow = json.loads(file.read_text(encoding="utf-8"))
        ours = [node for node in workflow["nodes"] if node["type"].startswith("EmbedMerge")]
        assert ours, file
        links = {link[0]: link for link in workflow["links"]}
        for node in workflow["nodes"]:
            for place in node.get("inputs", []):
                assert place.get("link") is None or links[place["link"]][3] == node["id"], file
        for node in ours:
            assert node["type"] in NODE_CLASSES
