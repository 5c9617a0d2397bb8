"""What is measured, and against what: each function gives the lines of one part of the report (README.md)."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from benchmarks.processes import BenchmarkError, interleaved, python, run, run_json
from benchmarks.reads import bytes_read
from benchmarks.report import Line

_MB = 1_000_000
_IMPORT_TORCH = "import torch"
_SOURCE = "'cat'+'dog'*0.5"
_MOST_READ_MB = 4.0
_MOST_BUILD_MS: Mapping[str, float] = {"same": 0.5, "short": 0.5, "long": 1.0}
_FRAME_MS = 1000 / 60
"""What fits between two pictures of a screen; slower than that would be seen while typing."""

_MOST_ANSWER_MS = 100.0
_MOST_START_MS = 100.0
_MOST_VECTORS_MS, _MOST_FIRST_VECTORS_MS = 250.0, 1200.0
_MOST_LIST, _MOST_FIT, _MOST_REBUILD = 1.0, 1.0, 30.0
_MOST_FIRST_HEADERS, _MOST_KEPT_HEADERS = 4.0, 0.5
_MOST_RESTORE = 60.0
_MOST_SHELF, _MOST_SHELF_AGAIN, _MOST_SHELF_MB = 1.0, 0.25, 2.5
_MOST_FIRST_EFFECT, _MOST_NEXT_EFFECT, _MOST_EFFECT_MB = 60.0, 3.0, 2000.0
_MEASURED_TEXTS = ("a red dress", "an old castle", "a robot in the rain", "three cats", "a red dress")
"""Texts whose effects are measured, the last one for the second time."""

_MOST_PLAIN_US = 20.0
_MOST_FIRST, _MOST_AGAIN, _MOST_EQUAL = 0.12, 0.005, 0.5
"""Of EM's time for the same prompts."""

_ROUNDS = 3
_SAME_WORK = 1e-6

_FIRST_ENCODE = """
from time import perf_counter
begun = perf_counter()
from lib_embedmerge.tokenizer import clip_tokenizer
clip_tokenizer().encode("a photo of a cat")
print(perf_counter() - begun)
"""
_TORCH_MODULES = """
import sys
from lib_embedmerge.cli import main
main(["parse", "'cat'+'dog'*0.5", "--json"])
print("torch modules:", sum(name.partition(".")[0] == "torch" for name in sys.modules))
"""


@dataclass(frozen=True)
class Setting:
    """The checkpoint, a folder for what is written, how often things are repeated, and the environment of children.

    em: the file of the extension Embedding Merge to compare with, where there is one.
    """

    checkpoint: Path
    folder: Path
    repeats: int
    builds: int
    environment: Mapping[str, str]
    em: Path | None = None


def fingerprinting(setting: Setting) -> Iterator[Line]:
    """The first fingerprints of a file, without and with a cache to keep them in; leaves them known."""
    arguments = str(setting.checkpoint), str(min(setting.repeats, 3))
    found = run_json("benchmarks.fingerprinting", *arguments, environment=setting.environment)
    size, seconds, plain = (found[key] for key in ("bytes", "fingerprint", "plain"))
    note = f"{size / _MB:,.0f} MB: {size / seconds / _MB:,.0f} MB/s against {size / plain / _MB:,.0f} MB/s"
    against = "reading it and sha256, one thread"
    yield Line("fingerprint.time", "fingerprinting, the first time", seconds, "s", against, plain, 1.5, note)


def build_command(setting: Setting) -> Iterator[Line]:
    """`build` as a whole process with the fingerprints known, against a Python that only imports torch."""
    arguments = ["build", _SOURCE, "--name", "benchmark", "--force", "--json"]
    arguments += ["--checkpoint", str(setting.checkpoint), "--output", str(setting.folder / "built")]
    run(python("-m", "lib_embedmerge", *arguments), setting.environment)  # fingerprints where nothing else did
    reads = bytes_read(setting.checkpoint, arguments, setting.environment)
    allowed = f"{_MOST_READ_MB:g} MB allowed"
    what = "build: read of the checkpoint"
    yield Line("build.read", what, reads.bytes / _MB, "MB", allowed, _MOST_READ_MB, 1.0, reads.note)
    found = interleaved(
        {"build": python("-m", "lib_embedmerge", *arguments), "torch": python("-c", _IMPORT_TORCH)},
        setting.repeats,
        setting.environment,
    )
    build, torch = found["build"], found["torch"]
    yield Line("build.time", "build: the whole process", build.seconds, "s", _IMPORT_TORCH, torch.seconds, 0.2)
    if build.peak is not None and torch.peak is not None:
        what = "build: peak memory"
        yield Line("build.memory", what, build.peak / _MB, "MB", _IMPORT_TORCH, torch.peak / _MB)


def parse_command(setting: Setting) -> Iterator[Line]:
    """`parse` as a whole process, against a Python that does nothing and one that imports torch."""
    found = interleaved(
        {
            "parse": python("-m", "lib_embedmerge", "parse", _SOURCE, "--json"),
            "pass": python("-c", "pass"),
            "torch": python("-c", _IMPORT_TORCH),
        },
        setting.repeats,
        setting.environment,
    )
    seconds = found["parse"].seconds
    yield Line("parse.time", "parse: the whole process", seconds, "s", _IMPORT_TORCH, found["torch"].seconds, 0.2)
    yield Line("parse.start", "parse: the whole process", seconds, "s", "python -c pass", found["pass"].seconds)
    modules = float(run(python("-c", _TORCH_MODULES), setting.environment).output.rsplit(":", 1)[1])
    yield Line("parse.torch", "parse: modules of torch imported", modules, "", "1 would be torch", 1.0, 0.0)


def many_builds(setting: Setting) -> Iterator[Line]:
    """Further builds in one process."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        arguments = str(setting.checkpoint), folder, str(setting.builds)
        found = run_json("benchmarks.builds", *arguments, environment=setting.environment)
    kinds = {
        "same": "1 to 4 of 200 words a text",
        "short": "1 to 4 of any words",
        "long": "1 to 75 tokens",
        "rare": "1 to 75, rare words",
    }
    for key, words in kinds.items():
        figures = found[key]
        note = (
            f"95 of 100 under {figures['p95']:.2f} ms; all threads {figures['processor']:.2f} ms on the average; "
            f"100,000 additions in Python took {figures['loop']:.1f} ms meanwhile"
        )
        what = f"{setting.builds:,} builds, {words}: each"
        most = _MOST_BUILD_MS.get(key)
        against, value, bound = ("1 ms", 1.0, None) if most is None else (f"{most:g} ms allowed", most, 1.0)
        yield Line(f"builds.{key}", what, figures["median"], "ms", against, value, bound, note)
    saved, plain = found["saved"], found["plain"]
    what = f"{setting.builds:,} builds, saved: each"
    yield Line("builds.saved", what, saved["median"], "ms", "writing the same bytes durably", plain["median"], 2.0)


def steps(setting: Setting) -> Iterator[Line]:
    """Parse and evaluate for a few kinds of sources; the tokenizer and the token counter."""
    repeats = str(40 * setting.repeats)
    found = run_json("benchmarks.steps", str(setting.checkpoint), repeats, environment=setting.environment)
    for name, times in found["forms"].items():
        for step in ("parse", "evaluate"):
            what = f"{step}: {name}"
            yield Line(f"steps.{step}", what, times[step], "us", "building that", times["build"], 1.0)
    whole = found["forms"]["75 tokens"]["build"]
    for key in ("seen", "new"):
        what = f"tokenizer: 75 words, {'seen before' if key == 'seen' else 'mostly new'}"
        yield Line(f"tokenizer.{key}", what, found["tokenizer"][key], "us", "building 75 tokens", whole)
    yield Line("steps.near", "build: near(), two tokens", found["near"], "us", "building 75 tokens", whole)
    yield from _counter(found["keystrokes"])


def first_text(setting: Setting) -> Iterator[Line]:
    """The first text that a process tokenizes, against importing torch in the same number of processes."""
    code = "from time import perf_counter as now; begun = now(); import torch; print(now() - begun)"
    first, torch = [], []
    for _ in range(setting.repeats):
        first.append(float(run(python("-c", _FIRST_ENCODE), setting.environment).output))
        torch.append(float(run(python("-c", code), setting.environment).output))
    middle = setting.repeats // 2
    what = "tokenizer: the first text of a process"
    yield Line("tokenizer.first", what, sorted(first)[middle], "s", _IMPORT_TORCH, sorted(torch)[middle], 0.5)


def tab(setting: Setting) -> Iterator[Line]:
    """The tab: drawn when a web UI starts, and its events."""
    found = run_json("benchmarks.tab", str(setting.checkpoint), environment=setting.environment)
    ms = {name: seconds * 1000 for name, seconds in found.items()}
    allowed = f"{_MOST_START_MS:g} ms allowed"
    what = "tab: imported and drawn at a web UI's start"
    yield Line("tab.start", what, ms["start"], "ms", allowed, _MOST_START_MS, 1.0)
    note = f"the median one takes {ms['answer']:.1f} ms; 2,000 embeddings in the library"
    what, allowed = "tab: 95 of 100 answers while 75 tokens are typed", f"{_MOST_ANSWER_MS:g} ms allowed"
    yield Line("tab.answer", what, ms["answer_p95"], "ms", allowed, _MOST_ANSWER_MS, 1.0, note)
    what = "tab: vectors of 75 tokens with nearest tokens, drawn"
    for line, figure, most in (("vectors", "again", _MOST_VECTORS_MS), ("tables", "first", _MOST_FIRST_VECTORS_MS)):
        yield Line(f"tab.{line}", what, ms[figure], "ms", f"{most:g} ms allowed", most, 1.0)
        what += ", the first time"


def library(setting: Setting) -> Iterator[Line]:
    """Thousands of embeddings: listed, measured against a model, rebuilt for ten."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        found = run_json("benchmarks.library", str(setting.checkpoint), folder, environment=setting.environment)
    rows = {
        "list": ("2,000 embeddings listed", _MOST_LIST),
        "fit": ("their fits, 1,000 by running the recipe", _MOST_FIT),
        "rebuild": ("1,000 recipes for 10 checkpoints", _MOST_REBUILD),
    }
    for key, (what, most) in rows.items():
        yield Line(f"library.{key}", f"library: {what}", found[key], "s", f"{most:g} s allowed", most, 1.0)


def headers(setting: Setting) -> Iterator[Line]:
    """The headers of 20,000 embeddings, the first time and from the cache."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        found = run_json("benchmarks.headers", str(setting.checkpoint), folder, environment=setting.environment)
    note = f"finding the files and the tokens of their names takes {found['find']:.2f} s more"
    rows = {
        "first": ("the first time", _MOST_FIRST_HEADERS),
        "again": ("from the cache", _MOST_KEPT_HEADERS),
        "page": ("as the page lists them", _MOST_SHELF),
        "reopened": ("as it lists them again", _MOST_SHELF_AGAIN),
    }
    for key, (when, most) in rows.items():
        what, allowed = f"headers of 20,000 embeddings, {when}", f"{most:g} s of the processor allowed"
        yield Line(f"headers.{key}", what, found[key], "s", allowed, most, 1.0, note)
        note = ""
    what, allowed = "headers of 20,000 embeddings, what the page gets", f"{_MOST_SHELF_MB:g} MB allowed"
    yield Line("headers.size", what, found["size"], "MB", allowed, _MOST_SHELF_MB, 1.0)


def restoring(setting: Setting) -> Iterator[Line]:
    """The texts of 500 embeddings that were made on another model."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        found = run_json("benchmarks.restoring", str(setting.checkpoint), folder, environment=setting.environment)
    what, note = "restore: the texts of 500 embeddings of another model", f"{found['right']:.0f} of them are right"
    yield Line("restore.find", what, found["seconds"], "s", f"{_MOST_RESTORE:g} s allowed", _MOST_RESTORE, 1.0, note)


def effects(setting: Setting) -> Iterator[Line]:
    """The meter on two models of full size: the first effect, that of other texts on the same pair, and one again."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        environment = {**setting.environment, "EMBEDMERGE_CACHE": str(Path(folder) / "cache")}
        run(python("-m", "benchmarks.meter_pair", folder), environment)
        pair = [str(Path(folder) / name) for name in ("a.safetensors", "b.safetensors")]
        times = [
            run(python("-m", "lib_embedmerge", "effect", text, "--checkpoint", *pair, "--json"), environment)
            for text in _MEASURED_TEXTS
        ]
    first, *others, again = times
    allowed = f"{_MOST_FIRST_EFFECT:g} s allowed"
    yield Line("effect.first", "effect: the first on two models", first.seconds, "s", allowed, _MOST_FIRST_EFFECT, 1.0)
    if first.peak is not None:
        allowed, most = f"{_MOST_EFFECT_MB:g} MB allowed", _MOST_EFFECT_MB
        yield Line("effect.memory", "effect: its peak memory", first.peak / _MB, "MB", allowed, most, 1.0)
    # Another text goes through both models' text encoders in eight templates, which takes what it takes.
    seconds, what = median(one.seconds for one in others), "effect: another text on them"
    yield Line("effect.other", what, seconds, "s", "the first", first.seconds, None)
    allowed = f"{_MOST_NEXT_EFFECT:g} s allowed"
    yield Line("effect.again", "effect: one again", again.seconds, "s", allowed, _MOST_NEXT_EFFECT, 1.0)


def inline(setting: Setting) -> Iterator[Line]:
    """Expressions in prompts while images are generated, and while prompts are typed."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        ours, em = _inline_times(setting, Path(folder) / "prompts.json")
    plain, first, again, equal = (_ms(ours[name]) for name in ("plain", "first", "again", "equal"))
    what, allowed = "inline: a prompt of 75 tokens without expressions", f"{_MOST_PLAIN_US:g} us allowed"
    yield Line("inline.plain", what, plain * 1000, "us", allowed, _MOST_PLAIN_US, 1.0)
    one = "50 different ones, first"
    yield Line("inline.first", "inline: 50 different ones, the first time", first, "ms", "1 ms", 1.0)
    yield Line("inline.again", "inline: the same prompt again", again, "ms", one, first)
    yield Line("inline.equal", "inline: 50 equal ones, the first time", equal, "ms", one, first)
    note = f"the median one takes {_ms(ours['count']):.2f} ms"
    what, most = "inline: 95 of 100 keystrokes after 10 of them", quantiles(ours["count"], n=20)[-1] * 1000
    yield Line("inline.counter", what, most, "ms", "one frame of a screen", _FRAME_MS, 1.0, note)
    if em:
        yield from _against_em(ours, em)


def _against_em(ours: Mapping[str, list[float]], em: Mapping[str, list[float]]) -> Iterator[Line]:
    rows = {
        "first": ("first", "50 different ones, the first time", _MOST_FIRST),
        "again": ("again", "the same prompt again", _MOST_AGAIN),
        "equal": ("equal", "50 equal ones, the first time", _MOST_EQUAL),
        "counter": ("keystroke", "a keystroke after 10 of them, counted", None),
    }
    for key, (name, what, bound) in rows.items():
        values = _ms(ours[name]), "ms", "Embedding Merge", _ms(em[name])
        yield Line(f"inline.{key}.em", f"inline: {what}", *values, bound)


def _inline_times(setting: Setting, prompts: Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of both extensions, by name, from processes that take turns; none of EM where its file is not given."""
    made = run(python("-m", "benchmarks.inline", "prompts", str(2 * setting.repeats)), setting.environment)
    prompts.write_text(made.output, encoding="utf-8")
    given = str(setting.checkpoint), str(prompts)
    commands = {"ours": ("ours", *given)} | ({"em": ("em", *given, str(setting.em))} if setting.em else {})
    found: dict[str, dict[str, list[float]]] = {"ours": {}, "em": {}}
    for _ in range(min(setting.repeats, _ROUNDS)):
        sums: list[list[float]] = []
        for name, arguments in commands.items():
            times = run_json("benchmarks.inline", *arguments, environment=setting.environment)
            sums.append(times.pop("vectors"))
            for key, seconds in times.items():
                found[name].setdefault(key, []).extend(seconds)
        check_same_work(sums)
    return found["ours"], found["em"]


def check_same_work(sums: list[list[float]]) -> None:
    """BenchmarkError unless each extension made the same embeddings of a prompt, as their sums tell."""
    first, *others = sums
    for other in others:
        pairs = zip(first, other, strict=False)
        if len(first) != len(other) or not all(math.isclose(a, b, rel_tol=_SAME_WORK) for a, b in pairs):
            raise BenchmarkError("The two extensions made other embeddings of the same prompt.")


def _ms(seconds: list[float]) -> float:
    return median(seconds) * 1000


def _counter(times: Mapping[str, float]) -> Iterator[Line]:
    note = f"{times['count']:.0f} keystrokes, the median one takes {times['median'] / 1000:.2f} ms"
    what = "token counter: 95 of 100 keystrokes within"
    yield Line("counter.keystroke", what, times["p95"] / 1000, "ms", "one frame of a screen", _FRAME_MS, 1.0, note)
