"""How programs call an embedding in a prompt."""

from __future__ import annotations

from lib_embedmerge.core.calling import COMFYUI, SWARMUI, WEBUIS, list_calls


def test_each_program_has_its_own_way() -> None:
    found = list_calls("catdog")
    assert found[WEBUIS] == "catdog"
    assert found[COMFYUI] == "embedding:catdog"
    assert found[SWARMUI] == "<embed:catdog>"
    assert found["InvokeAI"] == "<catdog>"


def test_brackets_are_escaped_where_they_mean_attention() -> None:
    assert list_calls("cat(x)")[WEBUIS] == r"cat\(x\)"
    assert list_calls("cat(x)")[COMFYUI] == r"embedding:cat\(x\)"


def test_pieces_stand_side_by_side_without_commas() -> None:
    assert list_calls("x-1", "x-2")[COMFYUI] == "embedding:x-1 embedding:x-2"
