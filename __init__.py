"""EmbedMerge's entry point in ComfyUI, which loads this file when the repository is in its folder `custom_nodes`.

It only registers nodes, a route and the folder with the script of the page. Outside of ComfyUI it does nothing.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

WEB_DIRECTORY = "./web"
NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]


def _import_package() -> None:
    """Import this repository's package under its own name, without a change of sys.path."""
    name, folder = "lib_embedmerge", Path(__file__).parent / "lib_embedmerge"
    if name in sys.modules:
        return
    spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _register() -> None:
    """Register everything with ComfyUI, whose server exists already."""
    from server import PromptServer

    _import_package()
    from lib_embedmerge.node_pack.queued_texts import keep_workflow
    from lib_embedmerge.node_pack.reading_route import add_reading_route
    from lib_embedmerge.node_pack.registration import NODE_CLASSES, NODE_TITLES

    NODE_CLASS_MAPPINGS.update(NODE_CLASSES)
    NODE_DISPLAY_NAME_MAPPINGS.update(NODE_TITLES)
    server = getattr(PromptServer, "instance", None)
    if server is not None:  # ComfyUI's own tests have none
        add_reading_route(server.routes)
        server.add_on_prompt_handler(keep_workflow)


if "folder_paths" in sys.modules and "server" in sys.modules:  # only ComfyUI has these
    _register()
