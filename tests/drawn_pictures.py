"""A picture maker without a model: it draws the colour of the prompt. As slow as a test wants it."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.picture_port import PictureSettings, SkippedError

TIMEOUT = 60


@dataclass
class DrawnPictures:
    """A hosts.picture_port.PictureMaker.

    made: the settings of all pictures, with the embedding.  is_free: cleared while another generation runs.
    may_go_on: cleared to hold a picture in the middle.  seconds: that a picture takes.
    refused: words of prompts for which there is no picture.  has_grid: whether there are grids.
    ignores_stop: whether a picture is made although it is no longer wanted.  skipped: numbers of pictures that are.
    """

    seconds: float = 0
    made: list[tuple[PictureSettings, str | None]] = field(default_factory=list)
    is_free: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    refused: tuple[str, ...] = ()
    has_grid: bool = True
    ignores_stop: bool = False
    skipped: tuple[int, ...] = ()
    share: float | None = None

    def __post_init__(self) -> None:
        self.is_free.set()
        self.may_go_on.set()
        self._interrupted = threading.Event()

    def samplers(self) -> Sequence[str]:
        return ["Euler", "DPM++ 2M"]

    def schedulers(self) -> Sequence[str]:
        return ["Automatic", "Karras"]

    def make(self, settings: PictureSettings, embedding: str | None, is_stopped: Callable[[], bool]) -> bytes | None:
        assert self.is_free.wait(TIMEOUT)
        self._interrupted.clear()
        self.share = 0.5
        try:
            if is_stopped() and not self.ignores_stop:
                return None
            self.made.append((settings, embedding))
            self.reached.set()
            if self._interrupted.wait(self.seconds):
                return None
            while not self.may_go_on.wait(0.01):
                if self._interrupted.is_set():
                    return None
            if len(self.made) - 1 in self.skipped:
                raise SkippedError("The picture was skipped.")
            if any(word in settings.prompts.prompt for word in self.refused):
                raise HostError("The web UI could not make the picture: RuntimeError: refused.")
            return draw(settings)
        finally:
            self.share = None

    def write_grid(self, tab: Mapping[str, str], embeddings: Sequence[str], checkpoints: Sequence[str]) -> str | None:
        return (
            f"{tab.get('prompt')}\nX: {', '.join(embeddings)}, Y: {', '.join(checkpoints)}" if self.has_grid else None
        )

    def interrupt(self) -> None:
        self._interrupted.set()


def draw(settings: PictureSettings) -> bytes:
    """A PNG whose colours depend on the prompt, with a circle."""
    digest = hashlib.sha256(settings.prompts.prompt.encode()).digest()
    picture = Image.new("RGB", (settings.width, settings.height), (digest[0], digest[1], digest[2]))
    box = (settings.width // 4, settings.height // 4, settings.width * 3 // 4, settings.height * 3 // 4)
    ImageDraw.Draw(picture).ellipse(box, (digest[3], digest[4], digest[5]))
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()
