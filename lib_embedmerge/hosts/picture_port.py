"""What the faces ask of a program that makes pictures from prompts. A protocol and values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lib_embedmerge.core.prompt_frames import PromptFrame
from lib_embedmerge.errors import HostError

DEFAULT_STEPS, DEFAULT_SIDE, DEFAULT_GUIDANCE = 20, 1024, 7.0
MAX_STEPS, MIN_SIDE, MAX_SIDE, MAX_GUIDANCE = 150, 64, 2048, 30.0
SIDE_STEP = 8
"""Pixels of which width and height are multiples."""
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class PictureSettings:
    """How a picture is made, as the tab txt2img of a web UI says it.

    sampler, scheduler: their names in the program; empty for the program's first one.
    width, height: in pixels.  guidance: the CFG scale.  seed: at least 0.
    """

    prompts: PromptFrame
    sampler: str = ""
    scheduler: str = ""
    steps: int = DEFAULT_STEPS
    width: int = DEFAULT_SIDE
    height: int = DEFAULT_SIDE
    guidance: float = DEFAULT_GUIDANCE
    seed: int = 0


class SkippedError(HostError):
    """Raised if the user has the program leave out one picture."""


class PictureMaker(Protocol):
    """The part of a program that makes pictures, one at a time, in turn with the program's own generations."""

    def samplers(self) -> Sequence[str]:
        """Names of the samplers that a user can choose."""
        ...

    def schedulers(self) -> Sequence[str]:
        """Names of the schedulers that a user can choose; empty if the program has none."""
        ...

    def make(self, settings: PictureSettings, embedding: str | None, is_stopped: Callable[[], bool]) -> bytes | None:
        """Wait for the program's other generations, and make a picture: a PNG. None if it was interrupted.

        embedding: the name of an embedding in the prompts, which the program must know; None if there is none.
        is_stopped: whether the picture is no longer wanted; asked when its turn has come.
        HostError with a sentence if the program does not make it; SkippedError if the user skips it there.
        """
        ...

    def write_grid(self, tab: Mapping[str, str], embeddings: Sequence[str], checkpoints: Sequence[str]) -> str | None:
        """A text that sets up a grid of pictures, embeddings by checkpoints, if the program's txt2img reads it.

        None if the program makes no such grids.
        tab: the settings of its tab txt2img, which stay.  embeddings: names.  checkpoints: titles, as in the host.
        """
        ...

    def interrupt(self) -> None:
        """Stop the picture that is being made. Other generations of the program go on."""
        ...

    @property
    def share(self) -> float | None:
        """How much of the picture is made, 0 to 1; None if none is being made, also while it waits for its turn."""
        ...
