"""Expressions in prompts: all that is done around the web UI's own encoding, on a stand-in of it (webui.py).

Run as `python -m benchmarks.inline prompts COUNT` for prompts, and with a file of these as
`python -m benchmarks.inline ours CHECKPOINT PROMPTS` and `python -m benchmarks.inline em CHECKPOINT PROMPTS EM`, where
EM is the other extension's file, which is run as it is. All print JSON, times in seconds. Needs transformers and
fastapi, which web UIs bring.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.sources import Sources
from benchmarks.webui import Prompts, StableDiffusionProcessing, Webui, install_module, slow_tokenizer
from lib_embedmerge import open_checkpoint
from lib_embedmerge.core.arrays import to_tensor

EXPRESSIONS = 50
_COUNTED = 10
"""Expressions in the prompt that is typed."""

_WARM_UP = 3
_PLAIN_REPEATS = 200
_SEED = 11
_LONG_AGO = 1_000_000_000

_FORMS = (
    "'{}'+'{}'",
    "'{} {}'+'{}'*0.5",
    "'{}'*1.2",
    "'{}'-'{}'+'{}'/2",
    "'{}'/2+'{} {}'/2",
    "'{} {} {}'*0.8",
    "'{}'+'{}'+'{}'=/3",
    "'{} {}':-1+'{}'",
)
"""Forms that EM knows too."""


def make_prompts(count: int) -> dict[str, Any]:
    """Prompts of words as often as in texts.

    plain: without expressions, of some 75 tokens.  different, equal: `count` and the warm-up of 50 expressions each,
    those of different all different.  typed: 10 expressions, and what is typed after them.
    """
    words = Sources(_SEED).words
    expressions = _different(words)

    def prompt(found: Sequence[str]) -> str:
        return f"a photo of {', '.join(found)}, {words(5)}"

    number = count + _WARM_UP
    return {
        "plain": [_plain(words) for _ in range(count)],
        "different": [prompt([next(expressions) for _ in range(EXPRESSIONS)]) for _ in range(number)],
        "equal": [prompt([next(expressions)] * EXPRESSIONS) for _ in range(number)],
        "typed": [prompt([next(expressions) for _ in range(_COUNTED)]), f", {words(20)}"],
    }


def _different(words: Callable[[int], str]) -> Iterator[str]:
    seen = set()
    while True:
        for form in _FORMS:
            expression = f"<{form.format(*words(3).split())}>"
            if expression not in seen:
                seen.add(expression)
                yield expression


def _plain(words: Callable[[int], str]) -> str:
    return (
        f"{words(15)}, a dog's tail, ({words(3)}:1.2), {{{words(2)}|winter's {words(1)}}}, {words(15)}, "
        f"[{words(2)}:{words(2)}:0.5], don't {words(10)} <lora:some_style:0.8> <lora:another's:1>"
    )


def measure_ours(webui: Webui, prompts: Mapping[str, Any]) -> dict[str, list[float]]:
    """What EmbedMerge takes. webui: installed."""
    from lib_embedmerge.hosts.webui.host import WebuiHost
    from lib_embedmerge.hosts.webui.prompt_hook import PromptHook
    from lib_embedmerge.hosts.webui.token_counter import count_expressions

    host = WebuiHost()
    seam = PromptHook(lambda: host)

    def prepare(prompt: str) -> float:
        with torch.no_grad():  # as the web UI encodes prompts; EM works before that
            return _seconds(StableDiffusionProcessing(prompt).setup_conds)

    def count(prompt: str) -> str:
        params = SimpleNamespace(prompt=prompt, styles=[], is_positive=True)
        count_expressions(params, host)
        counted: str = params.prompt
        return counted

    def count_whole(prompt: str) -> object:
        return webui.hijack.get_prompt_lengths(count(prompt))

    used: list[Any] = []
    typed = _keystrokes(prompts["typed"])
    seam.install()
    try:
        found = _prepared(prepare, prompts)
        last = StableDiffusionProcessing(prompts["different"][0])
        last.setup_conds(lambda given: used.extend(webui.embeddings_in(given[0])))
        return found | {
            "plain": _plain_times(prompts["plain"]),
            "count": [_seconds(count, prompt) for prompt in typed],
            "keystroke": [_seconds(count_whole, prompt) for prompt in typed],
            "vectors": _sums(used),
        }
    finally:
        seam.remove()


def measure_em(webui: Webui, prompts: Mapping[str, Any], file: Path) -> dict[str, list[float]]:
    """What EM takes for the same prompts: its `process`, and the token counter that it wraps. webui: installed."""
    prepared: list[str] = []
    with contextlib.redirect_stdout(sys.stderr):
        extension = _load(file)

        def prepare(prompt: str) -> float:
            p = StableDiffusionProcessing(prompt)
            seconds = _seconds(extension, p, None)
            prepared.append(p.all_prompts[0])
            extension(p, p)  # its postprocess
            return seconds

        found = _prepared(prepare, prompts)
        prepare(prompts["different"][0])
        count = webui.hijack.get_prompt_lengths
        return found | {
            "keystroke": [_seconds(count, prompt) for prompt in _keystrokes(prompts["typed"])],
            "vectors": _sums(webui.embeddings_in(prepared[-1])),
        }


def _prepared(prepare: Callable[[str], float], prompts: Mapping[str, Any]) -> dict[str, list[float]]:
    """Each prompt for the first time and, of those that differ, once more; the warm-up is not told."""
    first, again = [], []
    for prompt in prompts["different"]:
        first.append(prepare(prompt))
        again.append(prepare(prompt))
    equal = [prepare(prompt) for prompt in prompts["equal"]]
    return {"first": first[_WARM_UP:], "again": again[_WARM_UP:], "equal": equal[_WARM_UP:]}


def _plain_times(prompts: Sequence[str]) -> list[float]:
    """Each prompt many times: its median."""
    times = []
    for prompt in prompts:
        p, required, caches = StableDiffusionProcessing(prompt), Prompts([prompt]), [[None, None]]
        seconds = [_seconds(p.get_conds_with_caching, None, required, 20, caches, None) for _ in range(_PLAIN_REPEATS)]
        times.append(median(seconds))
    return times


def _keystrokes(typed: Sequence[str]) -> list[str]:
    before, tail = typed
    return [before + tail[:end] for end in range(1, len(tail) + 1)]


def _seconds(action: Callable[..., object], *arguments: Any) -> float:
    begun = perf_counter()
    action(*arguments)
    return perf_counter() - begun


def _sums(embeddings: Sequence[Any]) -> list[float]:
    """Of each embedding the sum of its numbers' sizes, to see that both extensions do the same work."""
    return [sum(float(rows.double().abs().sum()) for rows in embedding.vec.values()) for embedding in embeddings]


@contextlib.contextmanager
def _webui(checkpoint: Path) -> Iterator[Webui]:
    encoders = open_checkpoint(checkpoint).encoders
    tables = {encoder.key: to_tensor(encoder.vectors(range(encoder.vocabulary_size))).half() for encoder in encoders}
    with tempfile.TemporaryDirectory(prefix="embedmerge-webui-") as folder:
        webui = Webui(checkpoint, tables, slow_tokenizer(Path(folder)))
        embeddings = Path(folder) / "embeddings"
        embeddings.mkdir()
        os.utime(embeddings, (_LONG_AGO, _LONG_AGO))  # a folder of this moment is looked through at each prompt
        webui.install(embeddings)
        yield webui


def _load(file: Path) -> Callable[[Any, Any], None]:
    """EM's entry. It wants gradio and open_clip, but not for this."""
    for name in ("gradio", "open_clip", "open_clip.tokenizer"):
        install_module(name, {})
    spec = importlib.util.spec_from_file_location("embedding_merge", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entry: Callable[[Any, Any], None] = module._webui_embedding_merge_.embedding_merge_extension
    return entry


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """What the command line asks for."""
    kind, *rest = arguments
    if kind == "prompts":
        return make_prompts(int(rest[0]))
    checkpoint, prompts = Path(rest[0]), json.loads(Path(rest[1]).read_text(encoding="utf-8"))
    with _webui(checkpoint) as webui:
        return measure_ours(webui, prompts) if kind == "ours" else measure_em(webui, prompts, Path(rest[2]))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
