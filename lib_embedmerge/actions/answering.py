"""What is said while someone types: which model is active, and how the text is read. Computes no vectors.

`answer` runs on each keystroke. It keeps nothing between calls: 75 tokens beside 2,000 embeddings took half a
millisecond to two on two cores, by grouping; only the first look at such a folder takes 140.
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
from lib_embedmerge.core.parts import Part, find_cut_points, find_parts
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.errors import EmbedMergeError, ExpressionError
from lib_embedmerge.hosts.host_outliners import find_active_model, make_host_outliner
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.choices import Attention
from lib_embedmerge.lang.nodes import BrokenInline, PromptPart
from lib_embedmerge.lang.prompt_notes import find_prompt_notes
from lib_embedmerge.lang.source import MAX_LENGTH, Source, parse, read_prompt
from lib_embedmerge.lang.typed import Typed, read_typed

Kind = Literal["expression", "prompt"]


def describe_model(host: Host) -> Status:
    """The active model in words, or why there is none."""
    try:
        active = host.active()
        facts = active.model.facts
        encoders = tuple(f"{ENCODER_TITLES.get(e.key, e.key)} {e.width}" for e in active.model.encoders)
    except EmbedMergeError as error:
        return Status(error=error)
    return Status(
        title=facts.title,
        family=facts.architecture.title + ("" if facts.variant in ("base", "refiner") else f" {facts.variant}"),
        prediction=_prediction(facts),
        encoders=encoders,
        vectors_from=active.vectors_from,
        warnings=tuple(dict.fromkeys((*active.warnings, *facts.warnings))),
    )


def read_typed_text(host: Host, source: str, by: Grouping = "parts", reading: ReadingOptions | None = None) -> Answer:
    """How a text that is typed is read on the active model, or as on any SDXL model where there is none. Never raises.

    Of a prompt with a mistake the parts that can be read are counted and given.
    """
    if not source.strip():
        return Answer(source, "nothing", 0, MAX_VECTORS, by)
    reading = reading or ReadingOptions()
    model = find_active_model(host)  # `status` says why there is none
    typed = _typed(source, reading.attention)
    outliner = make_host_outliner(host, model, follow=reading.follow)
    found = _read(typed.source, outliner, by)
    warnings = [*typed.remarks, *found.warnings]
    if model is None:
        warnings += _warn_without_model(typed.source, host)
    elif found.error is None:
        warnings += describe_mixed_models(typed.parsed, outliner, model)
    return Answer(
        source=source,
        kind=typed.kind if typed.is_rewritten else found.kind,
        count=found.count,
        limit=MAX_VECTORS,
        by=by,
        parts=found.parts,
        error=typed.map_error(found.error) if isinstance(found.error, ExpressionError) else found.error,
        warnings=tuple(warnings),
        rewritten=typed.source if typed.is_rewritten else None,
        meant=typed.meant,
    )


def _typed(source: str, attention: Attention) -> Typed:
    """The text as a source; one with a mistake, which `_read` finds, as it is."""
    try:
        return read_typed(source, attention)
    except ExpressionError:
        return Typed(source, source)


@dataclass(frozen=True)
class _Reading:
    kind: Kind
    count: int = 0
    parts: tuple[Part, ...] = ()
    error: EmbedMergeError | None = None
    warnings: tuple[str, ...] = ()


def _read(source: str, outliner: Outliner, by: Grouping) -> _Reading:
    try:
        read = parse(source)
    except ExpressionError as error:
        return _mistaken(source, error, outliner, by)
    try:
        count, parts = _grouped(read, outliner, by)
        warnings = _too_many(read, outliner) if count > MAX_VECTORS else ()
        return _Reading(read.kind, count, parts, None, (*warnings, *find_prompt_notes(read)))
    except EmbedMergeError as error:
        if read.kind == "expression":
            return _Reading("expression", error=error)
        return _rest_of_prompt(source, read.parts, error, outliner, by)


def _mistaken(source: str, error: ExpressionError, outliner: Outliner, by: Grouping) -> _Reading:
    """A text that `parse` refuses, which does not tell as what."""
    if len(source) > MAX_LENGTH:
        return _Reading(_read(source[:MAX_LENGTH], outliner, by).kind, error=error)
    parts = read_prompt(source)
    first = next((part.error for part in parts if isinstance(part, BrokenInline)), None)
    # A prompt is refused for its first broken expression; what an expression is refused for never reads the same.
    if first is None or (first.message, first.start, first.end) != (error.message, error.start, error.end):
        return _Reading("expression", error=error)
    return _rest_of_prompt(source, parts, error, outliner, by)


def _rest_of_prompt(
    source: str, parts: Sequence[PromptPart], error: EmbedMergeError, outliner: Outliner, by: Grouping
) -> _Reading:
    """What of a prompt can be read, with the first of its mistakes; `error` where each part can be read by itself."""
    good: list[PromptPart] = []
    mistakes: list[EmbedMergeError] = []
    for part in parts:
        mistake = _mistake_in(part, source, outliner)
        if mistake:
            mistakes.append(mistake)
        else:
            good.append(part)
    try:
        count, rest = _grouped(Source("prompt", source, tuple(good)), outliner, by)
    except EmbedMergeError:  # too much at once, or a file that vanished just now
        count, rest = 0, ()
    return _Reading("prompt", count, rest, next(iter(mistakes), error))


def _grouped(read: Source, outliner: Outliner, by: Grouping) -> tuple[int, tuple[Part, ...]]:
    """The number of vectors, and the parts, which are fewer where commas are left out of them."""
    segments = find_parts(read, outliner)
    parts = segments if by == "parts" else find_parts(read, outliner, by)
    return sum(len(segment.ids) for segment in segments), tuple(parts)


def _mistake_in(part: PromptPart, source: str, outliner: Outliner) -> EmbedMergeError | None:
    if isinstance(part, BrokenInline):
        return part.error
    try:
        outliner.part(source, part)
    except EmbedMergeError as error:
        return error
    return None


def _too_many(read: Source, outliner: Outliner) -> tuple[str, ...]:
    """What to do about a source that one embedding cannot hold."""
    segments = find_parts(read, outliner)
    outline = tuple(token for segment in segments for token in segment.ids)
    pieces = len(find_cut_points(outline, segments, outliner.texts.tokenizer.comma_id))
    cut = f", or cut it with :{MAX_VECTORS}" if read.kind == "expression" else ", or shorten it"
    first = f"This makes {len(outline)} vectors; one embedding holds at most {MAX_VECTORS}."
    return (f"{first} Split it into {pieces} embeddings when saving{cut}.",)


def _warn_without_model(source: str, host: Host) -> tuple[str, ...]:
    """That a model is missing, where models differ in how they read the source."""
    as_sdxl = make_host_outliner(host, None)
    as_others = replace(as_sdxl, encoders=SD1.encoders)
    errors = [_read(source, one, "none").error for one in (as_sdxl, as_others)]
    if (errors[0] is None) == (errors[1] is None):
        return ()
    return ("No model is loaded, so this is read as for SDXL.",)


def _prediction(facts: ModelFacts) -> str:
    words = (facts.prediction_type, "zero terminal SNR" if facts.zero_terminal_snr else None)
    return ", ".join(word for word in words if word) or "not known"
