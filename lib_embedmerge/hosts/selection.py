"""The checkpoint that is selected in a program that loads models by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SelectedCheckpoint:
    """The checkpoint that the next generation will use.

    title: the program's name for it.  file: the checkpoint.
    sha256: of the whole file, or None if the program does not know it.
    modules: other files, whose text encoders, if they have any, replace those of the checkpoint.
    model: the program's model object if this checkpoint with these files is in memory, else None.
    other: title of another checkpoint that is in memory instead, or None.
    """

    title: str
    file: Path
    sha256: str | None
    modules: tuple[Path, ...]
    model: Any  # whatever class the program has
    other: str | None
