"""Draw the results of commands with rich. Texts from files and prompts are printed as plain text."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lib_embedmerge.cli.comparison_tables import draw_comparison
from lib_embedmerge.cli.converting_tables import draw_conversions
from lib_embedmerge.cli.effect_tables import draw_effects, draw_groups, draw_shortened, draw_tokens
from lib_embedmerge.cli.library_tables import draw_rebuilds, draw_recovery, draw_restored
from lib_embedmerge.cli.optimising_tables import draw_optimised
from lib_embedmerge.cli.plain_text import as_plain_text
from lib_embedmerge.core.answers import (
    BuildAnswer,
    DemoAnswer,
    FitAnswer,
    InfoAnswer,
    ListedEmbedding,
    ParseAnswer,
    ServeAnswer,
    ShowAnswer,
)
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.errors import format_count

_FIGURES = ("min", "max", "sum", "abs", "len", "std")
_LONG = 60
_FIRST_VECTORS = 3
"""Vectors that `show` draws without --vectors."""

_STYLES: Mapping[str, str] = {"good": "green", "warning": "yellow", "bad": "red", "quiet": ""}
"""Tone of a fit -> style of rich."""


def draw(options: argparse.Namespace, result: Any) -> None:
    """Print the result of a command to standard output. options: the options of the command."""
    functions: dict[str, Callable[[Any], RenderableType]] = {
        "build": partial(_draw_builds, verbose=getattr(options, "verbose", False)),
        "show": partial(
            _draw_embedding, verbose=getattr(options, "verbose", False), vectors=getattr(options, "vectors", False)
        ),
        "list": _draw_listing,
        "rebuild": draw_rebuilds,
        "parse": _draw_reading,
        "info": _draw_checkpoint,
        "recover": draw_recovery,
        "restore": draw_restored,
        "convert": draw_conversions,
        "compare": partial(draw_comparison, verbose=getattr(options, "verbose", False)),
        "effect": draw_effects,
        "groups": draw_groups,
        "tokens": draw_tokens,
        "shorten": draw_shortened,
        **dict.fromkeys(("compress", "port", "repair"), draw_optimised),
        "report": _draw_report,
        "serve": _draw_page,
        "demo": _draw_demo,
    }
    # Nothing is cropped, because a cropped command or path could not be copied.
    Console().print(functions[options.name_of_command](result), crop=False)


def _draw_page(result: ServeAnswer) -> RenderableType:
    rows = {"page": result["url"], "checkpoint": result["checkpoint"], "embeddings": result["embeddings"]}
    return Group(_draw_pairs("EmbedMerge", rows), as_plain_text("Ctrl+C stops it."))


def _draw_lines(text: str) -> Text:
    return Text("\n").join(map(as_plain_text, text.split("\n")))


def _draw_builds(result: BuildAnswer | list[BuildAnswer], *, verbose: bool) -> RenderableType:
    """How the source was read, then the files that were saved."""
    results = result if isinstance(result, list) else [result]
    first = results[0]
    count = sum(build["vectors"] for build in results)
    kind = "an expression" if first["kind"] == "expression" else "a prompt"
    pieces: list[RenderableType] = [
        as_plain_text(f"Read as {kind}: {format_count(count, 'vector')} for each text encoder.")
    ]
    warnings = dict.fromkeys(warning for build in results for warning in build["warnings"])
    pieces += _draw_warnings(list(warnings))
    for build in results:
        path = as_plain_text(f"Saved {build['file']}")
        path.no_wrap, path.overflow = True, "ignore"  # to be copied in one piece
        pieces += [path, _draw_pairs("", _make_saved_rows(build))]
        if verbose:
            pieces.append(_draw_pairs("Metadata", build["tag"]))
    return Group(*pieces)


def _make_saved_rows(result: BuildAnswer) -> dict[str, object]:
    return {
        "vectors": result["vectors"],
        "made for": result["tag"].get("modelspec.merged_from"),
        "recipe": result["source"],
        "in a prompt": "; ".join(f"{program}: {call}" for program, call in result["calls"].items()),
    }


def _draw_embedding(result: ShowAnswer, *, verbose: bool = False, vectors: bool = False) -> RenderableType:
    """Whether an embedding fits, four lines of facts, and then its vectors."""
    metadata = result["metadata"]
    facts = {
        "name": result["name"],
        "vectors": f"{result['vectors']} for {result['architecture']}",
        "made for": metadata.get("modelspec.merged_from"),
        "recipe": metadata.get("embedmerge.recipe") or "none",
    }
    drawings: list[RenderableType] = [*_draw_fit(result["fit"]), _draw_pairs("Embedding", facts)]
    drawings += _draw_warnings(result["notes"])
    if result["facts"]:
        drawings.append(_draw_pairs("Other data in the file", result["facts"]))
    if name := result["suggested_name"]:
        drawings.append(as_plain_text(f"To name it after its token: embedmerge convert FILE --name {name}"))
    if verbose and metadata:
        drawings.append(_draw_pairs("Metadata", metadata))
    for key, encoder in result["encoders"].items():
        rows = encoder["rows"] if vectors else encoder["rows"][:_FIRST_VECTORS]
        drawings.append(_draw_statistics(key, rows))
    if not vectors and result["vectors"] > _FIRST_VECTORS:
        drawings.append(
            as_plain_text(f"The first {_FIRST_VECTORS} of {result['vectors']} vectors; --vectors shows all.")
        )
    return Group(*drawings)


def _style_status(fit: FitAnswer) -> tuple[str, str]:
    """The status of a fit, and the style for it."""
    status = FitStatus(fit["status"])
    return str(status), _STYLES[status.tone]


def _draw_fit(fit: FitAnswer | None) -> list[RenderableType]:
    if fit is None:
        return []
    line = Text.assemble("Fit: ", _style_status(fit), ". ", as_plain_text(fit["detail"]))
    lines: list[RenderableType] = [Text.assemble(line, " ", fit["advice"])]
    if fit["text"]:
        lines.append(Text.assemble("Its text: ", as_plain_text(fit["text"])))
    return lines


def _draw_listing(result: list[Any]) -> RenderableType:
    table = Table(title=format_count(len(result), "embedding"), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("vectors", justify="right")
    for column in ("name", "for", "made for", "fit", "recipe"):
        table.add_column(column, overflow="fold")
    labels = _make_labels(result)
    if has_groups := any("group" in entry for entry in result):
        table.add_column("table", justify="right")
    for entry, label in zip(result, labels, strict=True):
        cells = (label, entry["architecture"] or "", entry["made_for"] or "")
        fit = Text(*_style_status(entry["fit"])) if entry["fit"] else Text()
        group = [str(entry.get("group") or "")] if has_groups else []
        recipe = as_plain_text(_shorten(entry["recipe"] or ""))
        table.add_row(str(entry["vectors"] or ""), *map(as_plain_text, cells), fit, recipe, *group)
    warnings = [entry["reason"] for entry in result if entry["reason"]]
    warnings += [f"{entry['name']}: {warning}" for entry in result for warning in entry.get("warnings", ())]
    return Group(table, *_draw_warnings(warnings))


def _make_labels(entries: Sequence[ListedEmbedding]) -> list[str]:
    """The label of each embedding in a list: its name, or its file if several have the same name."""
    counts = Counter(entry["name"].casefold() for entry in entries)
    folders = [Path(entry["file"]).parent for entry in entries]
    root = Path(os.path.commonpath(folders)) if folders else Path()
    return [
        Path(entry["file"]).relative_to(root).as_posix() if counts[entry["name"].casefold()] > 1 else entry["name"]
        for entry in entries
    ]


def _shorten(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def _draw_statistics(key: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=key, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right")
    for figure in _FIGURES:
        table.add_column(figure, justify="right", no_wrap=True)
    has_nearest = any(row["nearest"] for row in rows)
    if has_nearest:
        table.add_column("nearest (cosine, token, id)")
    for number, row in enumerate(rows, 1):
        nearest = "\n".join(f"{near['cosine']:.3f} {near['text']} {near['id']}" for near in row["nearest"])
        figures = (_draw_figure(row[figure]) for figure in _FIGURES)
        table.add_row(str(number), *figures, *([_draw_lines(nearest)] if has_nearest else []))
    return table


def _draw_figure(value: float | None) -> RenderableType:
    return Text("not finite", style="red") if value is None else f"{value:.5f}"


def _draw_reading(result: ParseAnswer) -> RenderableType:
    table = Table(
        title=f"{result['kind']}, {format_count(result['vectors'], 'vector')}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("vectors", justify="right")
    for column in ("what", "text", "token ids"):
        table.add_column(column)
    for part in result["parts"]:
        first, last = part["first"] + 1, part["first"] + part["vectors"]
        ids = ", ".join("-" if token is None else str(token) for token in part["ids"])
        table.add_row(
            str(first) if first == last else f"{first}-{last}", part["kind"], as_plain_text(part["text"]), ids
        )
    return Group(
        table, Text.assemble("canonical: ", as_plain_text(result["canonical"])), *_draw_warnings(result["warnings"])
    )


def _draw_checkpoint(result: InfoAnswer) -> RenderableType:
    table = Table(title="Text encoders", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("key", "width", "tokens", "mean length", "token table", "all weights"):
        table.add_column(column)
    for key, encoder in result["encoders"].items():
        hashes = [(encoder[name] or "not known")[:16] for name in ("token_table", "text_encoder")]
        figures = (str(encoder["width"]), str(encoder["vocabulary_size"]), _draw_figure(encoder["mean_length"]))
        table.add_row(key, *figures, *hashes)
    facts = {key: value for key, value in result.items() if key not in ("encoders", "warnings")}
    return Group(_draw_pairs("Checkpoint", facts), table, *_draw_warnings(result["warnings"]))


def _draw_report(result: Mapping[str, Any]) -> RenderableType:
    from lib_embedmerge.actions.reporting import make_rows

    lines = [as_plain_text(f"{label}: {value}") for label, value in make_rows(result).items()]
    for line in lines:
        line.no_wrap, line.overflow = True, "ignore"  # to be copied in one piece
    return Group(*lines)


def _draw_demo(result: DemoAnswer) -> RenderableType:
    program = "embedmerge" if shutil.which("embedmerge") else f'"{sys.executable}" -m lib_embedmerge'
    steps = (
        f"{program} build \"'cat'+'dog'*0.5\" --checkpoint your-model.safetensors --name catdog-1",
        f"{program} parse \"a photo of <'cat'+'dog'>\" --by tokens",
        f"{program} info your-model.safetensors",
    )
    return Group(
        Text.assemble("Made a small SDXL checkpoint of random numbers: ", as_plain_text(result["checkpoint"])),
        Text.assemble(
            "Made an embedding from ",
            as_plain_text(result["source"]),
            ": ",
            as_plain_text(result["build"]["file"]),
            "\n",
        ),
        _draw_embedding(result["show"]),
        Text("\nNow try it with a model of your own:"),
        *(Text(f"  {step}", no_wrap=True, overflow="ignore") for step in steps),
    )


def _draw_pairs(title: str, rows: Mapping[str, object]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=box.SIMPLE)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in rows.items():
        table.add_row(as_plain_text(key), as_plain_text(_format_value(value)))
    return table


def _format_value(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not known" if value is None else value


def _draw_warnings(warnings: Sequence[str]) -> list[Text]:
    return [Text.assemble(("warning: ", "yellow"), as_plain_text(warning)) for warning in warnings]
