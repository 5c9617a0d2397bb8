"""The checkpoint file of the active model, and whether effects can be measured on it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lib_embedmerge.checkpoints.cross_attention import open_text_reader
from lib_embedmerge.core.arrays import require_torch
from lib_embedmerge.errors import CheckpointError, EmbedMergeError, HostError
from lib_embedmerge.files.stamps import Stamp, read_stamp
from lib_embedmerge.hosts.port import Host


def find_active_checkpoint(host: Host) -> Path:
    """The file or folder of the active model. HostError if it has none of its own, and the errors of `host.active`."""
    checkpoint = host.active().checkpoint
    if checkpoint is None:
        message = "The active model is not in one checkpoint file, so what its U-Net reads cannot be measured."
        raise HostError(message, hint="Select a checkpoint with its own text encoders.")
    return checkpoint


def find_meter_fault(host: Host) -> str | None:
    """Why effects cannot be measured on the active model, in a sentence or two; None if they can. Reads a header."""
    try:
        require_torch("Measuring what a text does is")
        checkpoint = find_active_checkpoint(host)
    except EmbedMergeError as error:
        return error.advice
    return _find_unet_fault(checkpoint, read_stamp(checkpoint))


@lru_cache(maxsize=16)
def _find_unet_fault(checkpoint: Path, _stamp: Stamp | None) -> str | None:
    """Why the U-Net of a checkpoint cannot be measured. _stamp: of the file, which is opened again if it changes."""
    try:
        open_text_reader(checkpoint)
    except CheckpointError as error:
        return error.advice
    return None
