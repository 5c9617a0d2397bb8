"""What the checks need beside a host: the program's own answers, by which the host's are judged."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch


class Tools(Protocol):
    """One program, asked without EmbedMerge. None, or False, where it has no such thing."""

    def files(self) -> tuple[Path, tuple[Path, ...]]:
        """The checkpoint that prompts will be encoded with, and the files that stand in for its text encoders."""
        ...

    def own_tokenize(self, key: str, text: str) -> list[int] | None:
        """The program's own token ids for that encoder, without start and end."""
        ...

    def own_rows(self, key: str, ids: Sequence[int]) -> torch.Tensor | None:
        """What the program's own layer makes of these ids, [n, width], in its dtype."""
        ...

    def spliced_vectors(self, name: str) -> Mapping[str, torch.Tensor] | None:
        """What stands in the place of that name at the text encoders' input, in their dtype: encoder key -> [n, width].

        AssertionError where the program does not know the name.
        """
        ...

    def finds(self, name: str) -> bool | None:
        """Whether a prompt that holds this name finds an embedding; None where no model is in memory to read one."""
        ...

    def remember_conditionings(self) -> bool:
        """Fill the program's memory of conditionings, as a generation does."""
        ...

    def remembers_conditionings(self) -> bool:
        """Whether it would use them for the same prompt again."""
        ...

    def switch_model(self) -> bool:
        """Make another checkpoint of the same architecture the active one; a second call goes back."""
        ...

    def load_another(self) -> Iterator[str]:
        """Have other checkpoints in memory one by one while the selected one stays so, as hires fix and the refiner
        leave them: the file names. In the end the selected one is in memory again.
        """
        ...

    def loaded(self) -> Sequence[weakref.ref[torch.nn.Module]]:
        """The token tables' layers that are in memory now."""
        ...

    def forget(self, path: Path) -> None:
        """Remove an embedding's file, and what the program knows of it."""
        ...
