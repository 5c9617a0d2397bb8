"""The metric of a U-Net as a tensor: how much a difference of states matters to what its cross-attentions read."""

from __future__ import annotations

import torch
from torch import Tensor

from lib_embedmerge.checkpoints.cross_attention import open_text_reader
from lib_embedmerge.checkpoints.meter_cache import MeterCache
from lib_embedmerge.checkpoints.model import CheckpointModel
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.core.value_count import ValueCount


def load_metric(model: CheckpointModel, progress: Progress | None = None) -> Tensor:
    """M of checkpoints/text_metric.py for the states of a model: float32 [context, context], kept or made now.

    progress: called with (values read, values in all).  CheckpointError if the model has no U-Net.
    """
    reader = open_text_reader(model.path)
    cache = MeterCache()
    name = cache.fingerprint(reader)
    metric = cache.metric(reader, reader, (name, name), ValueCount(reader.count_values(), progress).add)
    return torch.from_numpy(metric.states.mean)


def measure_squares(differences: Tensor, metric: Tensor) -> Tensor:
    """The squared length of differences of states [positions, context] by the metric, summed."""
    return ((differences @ metric) * differences).sum()
