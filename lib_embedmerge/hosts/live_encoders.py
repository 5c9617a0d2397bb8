"""The text encoders of a model that a program has in memory, for as long as that model stays there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.hosts.checkpoint_files import CheckpointFile
from lib_embedmerge.hosts.live_fingerprints import LiveFingerprints
from lib_embedmerge.hosts.live_tables import LiveEncoder, LiveTable, read_version


@dataclass(frozen=True)
class LiveEncoders:
    """The text encoders of one model in memory.

    state: equal for two models only if they are from the same files and no table was overwritten in between.
    """

    state: object
    encoders: tuple[LiveEncoder, ...]
    fingerprints: LiveFingerprints

    def are_of(self, tables: Mapping[str, torch.nn.Module]) -> bool:
        """Whether these encoders have exactly these tables."""
        return all(encoder.table.is_table_of(tables[encoder.key]) for encoder in self.encoders)


def reuse_or_make_encoders(
    previous: LiveEncoders | None,
    tables: Mapping[str, torch.nn.Module],
    file: CheckpointFile | None,
    source: tuple[object, ...],
    own_rows: int | None = None,
) -> LiveEncoders:
    """The encoders for these tables: the previous ones if they have these tables with the same values, else new ones.

    file: of the model, for its fingerprints.  source: the files that the tables were loaded from.
    own_rows: as for LiveTable.
    """
    state = (source, {key: read_version(layer) for key, layer in tables.items()})
    if previous is not None and previous.state == state and previous.are_of(tables):
        return previous
    live_tables = {key: LiveTable(tables[key], own_rows) for key in WIDTHS if key in tables}
    fingerprints = LiveFingerprints(live_tables, file.model if file else None)
    encoders = tuple(LiveEncoder(key, table, fingerprints.mean_length) for key, table in live_tables.items())
    return LiveEncoders(state, encoders, fingerprints)
