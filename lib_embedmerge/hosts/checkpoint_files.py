"""The file of a program's selected checkpoint, and the files whose text encoders it uses in place of its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.checkpoints.model import CheckpointModel, open_checkpoint
from lib_embedmerge.checkpoints.sources import open_source
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.errors import CheckpointError


@dataclass(frozen=True)
class CheckpointFile:
    """An opened checkpoint file: its model, or the error that says why there is none.

    The error is a copy, and is copied again to be raised: an exception that was raised keeps the frames alive that it
    passed, and the model with them.
    """

    model: CheckpointModel | None
    error: CheckpointError | None = None

    @classmethod
    def open(cls, checkpoint: Path, modules: Sequence[Path]) -> CheckpointFile:
        """Open a checkpoint, with the text encoders in `modules` in place of its own. Never raises."""
        try:
            encoders = [module for module in modules if has_encoders(module)]
            return cls(open_checkpoint(checkpoint, text_encoders=encoders))
        except CheckpointError as error:
            return cls(None, copy.copy(error))


def has_encoders(module: Path) -> bool:
    """Whether a file has text encoders. Forge's list of additional modules also contains VAEs."""
    try:
        return bool(open_source(module).encoders)
    except CheckpointError:
        return False


def warn_of_encoder_files(facts: ModelFacts) -> tuple[str, ...]:
    """A warning if text encoders come from other files than the checkpoint."""
    files = facts.text_encoder_files
    return (f"The text encoders come from {' and '.join(files)}, not from the checkpoint.",) if files else ()
