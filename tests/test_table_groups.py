"""Files grouped by the table that they must come from, and labels that contradict it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from lib_embedmerge.cli import main
from lib_embedmerge.recipes.table_groups import find_label, group_by_table, hash_rows


def rows(*numbers: int) -> frozenset[bytes]:
    tables = numpy.random.default_rng(0).standard_normal((50, 768)).astype(numpy.float32)
    return hash_rows({"clip_l": tables[list(numbers)]})


def test_equal_vectors_are_one_table() -> None:
    names = ["SDXL-a", "SDXL-b", "Pony-c", "other", "SD1.5-d", "SD1.5-e"]
    found = group_by_table(names, [rows(1, 2), rows(2, 3), rows(3, 4), rows(9), rows(11, 12), rows(12)])
    assert found.groups == (1, 1, 1, None, 2, 2)
    assert found.contradictions == {
        2: "It is called Pony, but its vectors were made with the same model as those of SDXL-a and 1 other, "
        "which is called SDXL."
    }


def test_a_tie_names_all() -> None:
    found = group_by_table(["Pony-x", "SDXL-x"], [rows(1, 2), rows(1, 2)])
    assert sorted(found.contradictions) == [0, 1]
    assert found.contradictions[1].endswith("those of Pony-x, which is called Pony.")


def test_different_vectors_for_one_token_are_two_tables() -> None:
    files = [rows(1, 2), rows(1, 3)]
    tokens = [{267: b"one", 5: b"a"}, {267: b"one", 5: b"b"}]
    assert group_by_table(["a", "b"], files).groups == (1, 1)
    assert group_by_table(["a", "b"], files, tokens).groups == (None, None)


def test_zero_vectors_say_nothing() -> None:
    assert hash_rows({"clip_l": numpy.zeros((3, 768), numpy.float32)}) == frozenset()


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Pony-EyeDetail", "Pony"),
        ("SDXL_hands", "SDXL"),
        ("SD1.5-SkinDetail", "SD1"),
        ("hands-sd15", "SD1"),
        ("noobai_style", "NoobAI"),
        ("illustriousXL-b", "Illustrious"),
        ("EyeDetail", None),
        ("ponytail", None),
        ("compony", None),
    ],
)
def test_labels(name: str, label: str | None) -> None:
    assert find_label(name) == label


def test_a_list_with_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = numpy.random.default_rng(0).standard_normal((6, 2048)).astype(numpy.float32)
    for name, ids in (("Pony-a", [0, 1]), ("SDXL-b", [1, 2]), ("SDXL-c", [2, 3]), ("other", [5])):
        parts = {"clip_l": table[ids, :768], "clip_g": table[ids, 768:]}
        save_file({key: numpy.ascontiguousarray(rows) for key, rows in parts.items()}, tmp_path / f"{name}.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    assert main(["list", "--embeddings", str(tmp_path), "--groups", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {name: entry["group"] for name, entry in found.items()} == {
        "Pony-a": 1, "SDXL-b": 1, "SDXL-c": 1, "other": None, "torn": None,
    }  # fmt: skip
    assert [name for name, entry in found.items() if entry["warnings"]] == ["Pony-a"]
    assert main(["list", "--embeddings", str(tmp_path), "--groups"]) == 0
    assert "It is called Pony" in " ".join(capsys.readouterr().out.split())
