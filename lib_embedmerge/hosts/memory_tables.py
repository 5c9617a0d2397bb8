"""What the token tables of all programs with a model in memory have in common: where to compute with them, and how."""

from __future__ import annotations

import torch

from lib_embedmerge.core.arrays import CPU, Array, to_numpy


def find_compute_device(table: torch.Tensor) -> str:
    """The device to compute on with a token table: its own if that is a CUDA device, else the CPU.

    Other devices, such as those of MPS and DirectML, have no float64.
    """
    return str(table.device) if table.device.type == "cuda" else CPU


def describe_precision(table: torch.Tensor) -> str:
    """The dtype and device of a token table, for people: `float16 on cuda:0`."""
    return f"{str(table.dtype).removeprefix('torch.')} on {table.device}"


def place_rows(rows: torch.Tensor) -> Array:
    """Rows of a table on the device to compute on: an array of numpy on the CPU, maybe a view; else a copy."""
    # A copy is a normal tensor even if the table is an inference tensor, as in Forge, which only inference may use.
    return to_numpy(rows) if find_compute_device(rows) == CPU else rows.clone()
