"""What the tab costs: a web UI's start, each pause in the typing, the vectors drawn; 2,000 embeddings in the library.

Run as `python -m benchmarks.tab CHECKPOINT`; prints JSON with seconds. Needs gradio.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING

import numpy

from benchmarks.sources import Sources

if TYPE_CHECKING:
    from lib_embedmerge.hosts.port import Host

_SEED = 9
_EMBEDDINGS = 2000
_REPEATS = 5


def measure_start() -> float:
    """Importing the tab and drawing it, in a process where gradio has drawn such widgets before, as a web UI has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gradio's own
        import gradio

        with gradio.Blocks(analytics_enabled=False):
            for widget in (gradio.Textbox, gradio.HTML, gradio.Radio, gradio.Checkbox, gradio.Dropdown, gradio.File):
                widget()
            gradio.Markdown("x")
            gradio.Button("x").click(lambda: None, [], [], queue=False)
            begun = perf_counter()
            from lib_embedmerge.ui.tab import WebuiTab

            WebuiTab(_no_host).render()
            return perf_counter() - begun


def measure_events(checkpoint: Path, embeddings: Path) -> dict[str, float]:
    """Answers while a prompt of 75 tokens is typed, and the vectors of it, the first time and again."""
    from lib_embedmerge.actions.values import ReadingOptions
    from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
    from lib_embedmerge.ui.handlers import Handlers

    host = CheckpointHost(embeddings, checkpoint=checkpoint)
    handlers = Handlers(lambda: host, prompts=True)
    prompt = f"{Sources(_SEED).words(70)}, <'cat'+'dog'*0.5>, cat"
    handlers.read_typed_text("0", "a", "parts", ReadingOptions())  # looks through the library
    typed = [
        _time(handlers.read_typed_text, "1", prompt[:end], "parts", ReadingOptions())
        for end in range(1, len(prompt) + 1)
    ]
    first = _time(handlers.draw_vectors, "2", prompt, "parts", ReadingOptions())
    again = [_time(handlers.draw_vectors, "3", prompt, "parts", ReadingOptions()) for _ in range(_REPEATS)]
    return {"answer": median(typed), "answer_p95": quantiles(typed, n=20)[-1], "first": first, "again": median(again)}


def _time(action: Callable[..., object], *arguments: object) -> float:
    begun = perf_counter()
    action(*arguments)
    return perf_counter() - begun


def _no_host() -> Host:
    raise AssertionError("nothing is asked of the host when the tab is drawn")


def _write_library(folder: Path) -> None:
    from lib_embedmerge.embeddings.embedding import Embedding

    vectors = {key: numpy.full((1, width), 0.01, numpy.float32) for key, width in (("clip_l", 768), ("clip_g", 1280))}
    data = Embedding("template", vectors).save(folder).read_bytes()
    for number in range(_EMBEDDINGS):
        (folder / f"style-{number:04}-of-mine.safetensors").write_bytes(data)


if __name__ == "__main__":
    found = {"start": measure_start()}
    with tempfile.TemporaryDirectory(prefix="embedmerge-library-") as folder:
        _write_library(Path(folder))
        found |= measure_events(Path(sys.argv[1]), Path(folder))
    print(json.dumps(found))
