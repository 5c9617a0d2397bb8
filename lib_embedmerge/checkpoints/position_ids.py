"""Find broken position ids of text encoders: numbers that some checkpoints store, and that merging tools damage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy

from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.files.stored_values import find_numpy_type

_TABLE = "token_embedding.weight"
_IDS = "position_ids"
_MOST = 10_000
"""More position ids than any encoder has; a larger tensor of that name is something else."""


def warn_of_position_ids(sources: Sequence[EncoderSource]) -> Iterator[str]:
    """One sentence for each text encoder whose position ids are not 0, 1, 2 and so on. Most checkpoints have none.

    CheckpointError if the file cannot be read.
    """
    for source in sources:
        name = source.table_name.removesuffix(_TABLE) + _IDS
        weight = source.weights.tensors.get(name)
        count = math.prod(weight.shape) if weight else 0
        if weight is None or not 0 < count <= _MOST or find_numpy_type(weight.dtype) is None:
            continue
        ids = weight.read(0, count).to_floats()
        if len(wrong := numpy.flatnonzero(ids.reshape(-1) != numpy.arange(count))):
            title = ENCODER_TITLES[source.key]
            yield (
                f"The position ids of {title} are broken, which happens in merges: number {wrong[0]} is "
                f"{float(ids.reshape(-1)[wrong[0]]):g}, and {len(wrong)} of {count} are wrong. Programs that read them "
                "put words in wrong places, which changes images. The vectors of embeddings do not depend on them."
            )
