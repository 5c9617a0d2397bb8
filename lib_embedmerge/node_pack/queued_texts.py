"""Check the texts of all nodes after the node EmbedMerge before a queue runs, so that a mistake is found at once.

ComfyUI shows a node only its own inputs when it validates them. The server passes each workflow to a handler before,
which keeps it for the validation in the same task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

_workflow: ContextVar[Mapping[str, Any] | None] = ContextVar("embedmerge_workflow", default=None)
"""The workflow that is being validated: id of a node -> its class and inputs."""


def keep_workflow(request: dict[str, Any]) -> dict[str, Any]:
    """For the server: keep the workflow of a request, which is returned as it is."""
    workflow = request.get("prompt")
    _workflow.set(workflow if isinstance(workflow, dict) else None)
    return request


def check_texts_after(node: str, literal: str) -> str | bool:
    """For VALIDATE_INPUTS: the first mistake in the texts of nodes that a node's CLIP reaches, or True.

    node: its id.  literal: the value of `on_mistake` with which mistakes are ignored.
    """
    from lib_embedmerge.node_pack.node_inputs import check_text

    workflow = _workflow.get()
    if workflow is None or _read_inputs(workflow, node).get("on_mistake") == literal:
        return True
    for other in _find_nodes_after(workflow, node):
        for value in _read_inputs(workflow, other).values():
            if isinstance(value, str) and (mistake := check_text(value)) is not True:
                title = workflow[other].get("_meta", {}).get("title") or workflow[other].get("class_type", "")
                return f"{title}: {mistake}"
    return True


def _find_nodes_after(workflow: Mapping[str, Any], node: str) -> Iterator[str]:
    """The ids of the nodes that get the CLIP of a node, directly or through others."""
    reached, waiting = {node}, [node]
    while waiting:
        source = waiting.pop()
        for other in workflow:
            links = (value for name, value in _read_inputs(workflow, other).items() if "clip" in name.lower())
            if other not in reached and any(isinstance(link, list) and link[:1] == [source] for link in links):
                reached.add(other)
                waiting.append(other)
                yield other


def _read_inputs(workflow: Mapping[str, Any], node: str) -> Mapping[str, Any]:
    described = workflow.get(node)
    inputs = described.get("inputs") if isinstance(described, dict) else None
    return inputs if isinstance(inputs, dict) else {}
