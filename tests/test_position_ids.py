"""Position ids that a merge has damaged, and the warning of `embedmerge info`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoint_files import make_encoders, save, sgm_tensors

from lib_embedmerge import open_checkpoint
from lib_embedmerge.cli import main

IDS = "conditioner.embedders.0.transformer.text_model.embeddings.position_ids"


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return dict(sgm_tensors(make_encoders(rows=600)))


def test_info_warns_of_broken_ones(
    tensors: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = torch.arange(77).reshape(1, 77).half()
    ids[0, 41], ids[0, 50] = 40, 49.97
    path = save(tmp_path / "merged.safetensors", {**tensors, IDS: ids})
    assert main(["info", str(path), "--json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert warning.startswith(
        "The position ids of CLIP-L are broken, which happens in merges: number 41 is 40, and 2 of 77 are wrong."
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float16, torch.bfloat16, torch.float32])
def test_sound_ones_of_any_kind(tensors: dict[str, torch.Tensor], dtype: torch.dtype, tmp_path: Path) -> None:
    path = save(tmp_path / "sound.safetensors", {**tensors, IDS: torch.arange(77).reshape(1, 77).to(dtype)})
    assert open_checkpoint(path).list_broken_parts() == []


def test_a_checkpoint_without_them_and_one_with_something_else(
    tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    without = {name: values for name, values in tensors.items() if name != IDS}
    assert open_checkpoint(save(tmp_path / "none.safetensors", without)).list_broken_parts() == []
    for other in (torch.zeros(0), torch.zeros(20_000)):
        path = save(tmp_path / "other.safetensors", {**without, IDS: other})
        assert open_checkpoint(path).list_broken_parts() == []
