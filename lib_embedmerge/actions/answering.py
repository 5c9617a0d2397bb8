"""Answers while a user types: the active model, and how the text is read. No vectors are computed.

`read_typed_text` runs after each pause in the typing and caches nothing. With 75 tokens and 2,000 embeddings it took
0.5 to 2 ms on two cores, depending on the grouping; only the first reading of such a folder takes 140 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lib_embedmerge.actions.json_answers import describe_mixed_models
from lib_embedmerge.actions.values import Answer, ReadingOptions, Status
from lib_embedmerge.core.architecture import ENCODER_TITLES, MAX_VECTORS, SD1
from lib_embedmerge.core.groupings import Grouping
from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.parts import Part, find_cut_points, find_parts, join_outline
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.errors import EmbedMergeError, ExpressionError
from lib_embedmerge.hosts.host_outliners import find_active_model, make_host_outliner
from lib_embedmerge.hosts.host_parts import describe_missing_parts
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.choices import Attention
from lib_embedmerge.lang.nodes import BrokenInline, PromptPart
from lib_embedmerge.lang.prompt_notes import find_prompt_notes
from lib_embedmerge.lang.source import MAX_LENGTH, Source, parse, read_prompt
from lib_embedmerge.lang.typed import Typed, read_typed

Kind = Literal["expression", "prompt"]


def describe_model(host: Host) -> Status:
    """The active model in words, or the error that says why there is none; and what does not work in the program."""
    missing = describe_missing_parts(host.parts)
    try:
        active = host.active()
        facts = active.model.facts
        encoders = tuple(f"{ENCODER_TITLES.get(e.key, e.key)} {e.width}" for e in active.model.encoders)
    except EmbedMergeError as error:
        return Status(warnings=tuple(missing), error=error)
    return Status(
        title=facts.title,
        family=facts.family,
        prediction=_describe_prediction(facts),
        encoders=encoders,
        vectors_from=active.vectors_from,
        warnings=tuple(dict.fromkeys((*missing, *active.warnings, *facts.warnings))),
    )


def read_typed_text(host: Host, source: str, by: Grouping = "parts", reading: ReadingOptions | None = None) -> Answer:
    """How a typed text is read on the active model, or as on any SDXL model if there is none. Never raises.

    If a prompt has a mistake, the answer has its other parts.
    """
    if not source.strip():
        return Answer(source, "nothing", 0, MAX_VECTORS, by)
    reading = reading or ReadingOptions()
    model = find_active_model(host)  # describe_model says why there is none
    typed = _read_as_source(source, reading.attention)
    outliner = make_host_outliner(host, model, follow=reading.follow)
    result = _read(typed.source, outliner, by)
    warnings = [*typed.remarks, *result.warnings]
    if model is None:
        warnings += _warn_without_model(typed.source, host)
    elif result.error is None:
        warnings += describe_mixed_models(typed.parsed, outliner, model)
    return Answer(
        source=source,
        kind=typed.kind if typed.is_rewritten else result.kind,
        count=result.count,
        limit=MAX_VECTORS,
        by=by,
        parts=result.parts,
        error=typed.map_error(result.error) if isinstance(result.error, ExpressionError) else result.error,
        warnings=tuple(warnings),
        rewritten=typed.source if typed.is_rewritten else None,
        meant=typed.meant,
    )


def _read_as_source(source: str, attention: Attention) -> Typed:
    """The typed text as a source; unchanged if it has a mistake, which `_read` finds."""
    try:
        return read_typed(source, attention)
    except ExpressionError:
        return Typed(source, source)


@dataclass(frozen=True)
class _Reading:
    """How a source is read: the fields are those of Answer."""

    kind: Kind
    count: int = 0
    parts: tuple[Part, ...] = ()
    error: EmbedMergeError | None = None
    warnings: tuple[str, ...] = ()


def _read(source: str, outliner: Outliner, by: Grouping) -> _Reading:
    try:
        read = parse(source)
    except ExpressionError as error:
        return _read_mistaken(source, error, outliner, by)
    try:
        count, parts = _find_parts(read, outliner, by)
        warnings = _warn_of_excess(read, outliner) if count > MAX_VECTORS else ()
        return _Reading(read.kind, count, parts, None, (*warnings, *find_prompt_notes(read)))
    except EmbedMergeError as error:
        if read.kind == "expression":
            return _Reading("expression", error=error)
        return _read_rest_of_prompt(source, read.parts, error, outliner, by)


def _read_mistaken(source: str, error: ExpressionError, outliner: Outliner, by: Grouping) -> _Reading:
    """A text that `parse` refuses. Its error does not say whether the text is an expression or a prompt."""
    if len(source) > MAX_LENGTH:
        return _Reading(_read(source[:MAX_LENGTH], outliner, by).kind, error=error)
    parts = read_prompt(source)
    first = next((part.error for part in parts if isinstance(part, BrokenInline)), None)
    # The error of a prompt is the one of its first broken expression. The error of an expression is never the same.
    if first is None or (first.message, first.start, first.end) != (error.message, error.start, error.end):
        return _Reading("expression", error=error)
    return _read_rest_of_prompt(source, parts, error, outliner, by)


def _read_rest_of_prompt(
    source: str, parts: Sequence[PromptPart], error: EmbedMergeError, outliner: Outliner, by: Grouping
) -> _Reading:
    """The parts of a prompt without mistakes, and its first mistake; `error` if no single part has one."""
    good: list[PromptPart] = []
    mistakes: list[EmbedMergeError] = []
    for part in parts:
        mistake = _find_mistake(part, source, outliner)
        if mistake:
            mistakes.append(mistake)
        else:
            good.append(part)
    try:
        count, rest = _find_parts(Source("prompt", source, tuple(good)), outliner, by)
    except EmbedMergeError:  # too much together, or a file was removed meanwhile
        count, rest = 0, ()
    return _Reading("prompt", count, rest, next(iter(mistakes), error))


def _find_parts(read: Source, outliner: Outliner, by: Grouping) -> tuple[int, tuple[Part, ...]]:
    """The number of vectors, and the parts. By comma the parts contain fewer vectors, since commas are in none."""
    segments = find_parts(read, outliner)
    parts = segments if by == "parts" else find_parts(read, outliner, by)
    return sum(len(segment.ids) for segment in segments), tuple(parts)


def _find_mistake(part: PromptPart, source: str, outliner: Outliner) -> EmbedMergeError | None:
    if isinstance(part, BrokenInline):
        return part.error
    try:
        outliner.part(source, part)
    except EmbedMergeError as error:
        return error
    return None


def _warn_of_excess(read: Source, outliner: Outliner) -> tuple[str, ...]:
    """A warning about a source with more vectors than one embedding can hold."""
    segments = find_parts(read, outliner)
    outline = join_outline(segments)
    pieces = len(find_cut_points(segments, outliner.texts.tokenizer.comma_id))
    cut = (
        f", or write :{MAX_VECTORS} after it to keep the first {MAX_VECTORS}"
        if read.kind == "expression"
        else ", or shorten it"
    )
    first = f"This makes {len(outline)} vectors; one embedding holds at most {MAX_VECTORS}."
    return (f"{first} Split it into {pieces} embeddings when saving{cut}.",)


def _warn_without_model(source: str, host: Host) -> tuple[str, ...]:
    """A warning that there is no model, if SDXL and other models read the source differently."""
    as_sdxl = make_host_outliner(host, None)
    as_others = replace(as_sdxl, encoders=SD1.encoders)
    errors = [_read(source, outliner, "none").error for outliner in (as_sdxl, as_others)]
    if (errors[0] is None) == (errors[1] is None):
        return ()
    return ("No model is loaded, so this is read as for SDXL.",)


def _describe_prediction(facts: ModelFacts) -> str:
    words = (facts.prediction_type, "zero terminal SNR" if facts.zero_terminal_snr else None)
    return ", ".join(word for word in words if word) or "not known"
