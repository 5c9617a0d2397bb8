"""Checkpoint files for the doubles, with the tables that a web UI would have in memory after loading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from checkpoint_files import TABLE, Tensors, make_encoders, prefixed, save, sgm_tensors, to_open_clip, unet
from filelock import FileLock

ROWS = 49408
_FEW = 3000
_SEED = 7


@dataclass(frozen=True)
class Checkpoint:
    """A file, and its token tables as float16: encoder key -> [rows, width]. Nobody may change these."""

    path: Path
    tables: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoints:
    """Two full-size SDXL models, `alpha` and `beta`; `one` (SD1), `two` (SD2) and `refiner` with 3000 tokens."""

    folder: Path
    by_name: Mapping[str, Checkpoint]

    def __getitem__(self, name: str) -> Checkpoint:
        return self.by_name[name]


@cache
def make_checkpoints(folder: Path) -> Checkpoints:
    """0.4 GB on disk and 0.4 GB in memory, in a few seconds; made once for a folder. The processes of a parallel run
    may share the folder: one writes the files, and the others wait for them."""
    generator = torch.Generator().manual_seed(_SEED)
    small = make_encoders(rows=1)
    alpha = {
        key: (torch.randn(ROWS, width, generator=generator) * 0.02).half()
        for key, width in (("clip_l", 768), ("clip_g", 1280))
    }
    beta = {key: table.roll(1000, 0) for key, table in alpha.items()}
    few = {key: table[:_FEW].clone() for key, table in alpha.items()}
    few["clip_h"] = few["clip_g"][:, :1024].contiguous()
    made = {
        "alpha": (alpha, sgm_tensors(_full(small, alpha))),
        "beta": (beta, sgm_tensors(_full(small, beta))),
        "one": ({"clip_l": few["clip_l"]}, _sd1(_full(small, few))),
        "two": ({"clip_h": few["clip_h"]}, _sd2(_full(small, few))),
        "refiner": ({"clip_g": few["clip_g"]}, _refiner(_full(small, few))),
    }
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{name}.safetensors" for name in made}
    with FileLock(folder / "writing.lock", timeout=600):
        for name, path in paths.items():
            if not path.exists():
                save(path, made[name][1])
    return Checkpoints(folder, {name: Checkpoint(path, made[name][0]) for name, path in paths.items()})


def write_clip_l(path: Path, table: torch.Tensor) -> Path:
    """A text encoder's file of its own, as Forge's additional modules are."""
    return save(path, make_encoders(rows=1)["clip_l"] | {TABLE: table})


def _full(small: Mapping[str, Tensors], tables: Mapping[str, torch.Tensor]) -> dict[str, Tensors]:
    return {key: tensors | ({TABLE: tables[key]} if key in tables else {}) for key, tensors in small.items()}


def _sd1(encoders: Mapping[str, Tensors]) -> Tensors:
    return prefixed("cond_stage_model.transformer.", encoders["clip_l"]) | unet("sd1")


def _sd2(encoders: Mapping[str, Tensors]) -> Tensors:
    return prefixed("cond_stage_model.model.", to_open_clip(encoders["clip_h"])) | unet("sd2")


def _refiner(encoders: Mapping[str, Tensors]) -> Tensors:
    return prefixed("conditioner.embedders.0.model.", to_open_clip(encoders["clip_g"])) | unet("sdxl-refiner")
