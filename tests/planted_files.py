"""Files of planted tables: checkpoints, and embeddings of several tools made on a model that is not at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy
import torch
from checkpoint_files import TABLE
from models import encoders, write_sdxl
from planted_tables import Planted, Tables
from safetensors.numpy import save_file

PLANTED_ROWS = 6000


def write_planted_sdxl(path: Path, tables: Mapping[str, numpy.ndarray]) -> Path:
    """An SDXL checkpoint with these token tables."""
    given = {key: dict(tensors) for key, tensors in encoders().items()}
    for key, table in tables.items():
        given[key][TABLE] = torch.from_numpy(table).to(given[key][TABLE].dtype)
    return write_sdxl(path, given)


def as_stored(planted: Planted) -> Planted:
    """The tables as a file in float16 has them."""
    rounded = {key: table.astype(numpy.float16).astype(numpy.float32) for key, table in planted.tables.items()}
    return Planted(rounded, planted.near)


def write_sdxl_embedding(path: Path, vectors: Tables) -> Path:
    """A file for SDXL, without a tag."""
    save_file({key: numpy.ascontiguousarray(rows) for key, rows in vectors.items()}, path)
    return path


def write_sd1_embedding(path: Path, rows: numpy.ndarray) -> Path:
    """A file of AUTOMATIC1111 for SD1: a pickle."""
    vectors = torch.from_numpy(numpy.ascontiguousarray(rows))
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": path.stem}, path)
    return path
