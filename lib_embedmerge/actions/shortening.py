"""Shorten a prompt to as many vectors as fit: leave out what matters least on a model, and say what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lib_embedmerge.actions.measuring_effect import EffectRequest, open_metered
from lib_embedmerge.actions.meter import MeteredModel, Vectors
from lib_embedmerge.actions.weighing_tokens import LeavingOut, Piece
from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.effect_answers import ShortenAnswer
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.operations import concatenate
from lib_embedmerge.core.outline import Outline
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.phrases import choose_to_drop, list_kept, split_phrases, split_words
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.errors import StorageError
from lib_embedmerge.lang.source import Source, parse_prompt
from lib_embedmerge.lang.typed import escape_prompt, read_typed

_ROUNDS = 4
"""How often more is left out, if the shortened text turns out to have too many vectors still."""


@dataclass(frozen=True)
class Shortened:
    """A prompt that was shortened.

    text: as it is typed; equal to the given one if that was short enough.  dropped: what was left out, in order.
    vectors: how many it has.  before: how many it had.
    effect: of the text in place of the longer one.  cutting: of the longer one's first vectors, as many as fit.
    """

    text: str
    vectors: int
    before: int
    dropped: tuple[str, ...] = field(default=())
    effect: float = 0.0
    cutting: float = 0.0

    def as_json(self) -> ShortenAnswer:
        """All fields as plain JSON data."""
        return {
            "text": self.text,
            "vectors": self.vectors,
            "before": self.before,
            "dropped": list(self.dropped),
            "effect": self.effect,
            "cutting": self.cutting,
        }


def shorten(
    source: str,
    path: str,
    most: int = MAX_VECTORS,
    request: EffectRequest | None = None,
    progress: Progress | None = None,
) -> Shortened:
    """Shorten a typed prompt to at most `most` vectors on a checkpoint.

    Whole phrases between commas are left out, or words if no phrase fits. Of two choices the one with the smaller
    effect is taken: what is least missed, or what comes last.
    request: its embeddings, clip_skip, device, attention and follow are used.
    progress: called with (values read, values in all).
    Errors are those of `measure_effects`; StorageError for an expression, or if nothing would be left.
    """
    request = request or EffectRequest()
    (model,) = open_metered([path], request)
    prompt = read_typed(source, request.attention).parsed
    if prompt.kind == "expression":
        raise StorageError("Only a prompt can be shortened.", hint="Write :75 after an expression to cut it.")
    if not 1 <= most <= MAX_VECTORS:
        raise StorageError(f"A text cannot be shortened to {most} vectors.", expected=f"1 to {MAX_VECTORS}")
    outline = _outline(model, prompt)
    if len(outline) <= most:
        return Shortened(source, len(outline), len(outline))
    whole = LeavingOut(model, evaluate(prompt, model.model, limit=None), progress)
    pieces, between, costs = _split(model, prompt, most, progress)
    choices = [_choose_cheapest(model, pieces, between, costs, most), _choose_first(model, pieces, between, most)]
    measured: list[tuple[float, list[int]]] = []
    for kept in choices:
        if kept and all(kept != other for _, other in measured):
            shorter = parse_prompt(between.join(pieces[index] for index in kept))
            ours = _outline(model, shorter)
            measured.append((whole.compare(evaluate(shorter, model.model, limit=None), outline, ours), kept))
    if not measured:
        raise StorageError("No part of this text can be left out so that the rest fits.", hint="Shorten it by hand.")
    effect, kept = min(measured)
    text = between.join(pieces[index] for index in kept)
    cut: Vectors = {key: rows[:most] for key, rows in whole.vectors.items()}
    return Shortened(
        text if request.attention == "keep" else escape_prompt(text),
        len(_outline(model, parse_prompt(text))),
        len(outline),
        tuple(piece for index, piece in enumerate(pieces) if index not in kept),
        effect,
        whole.compare(cut, outline, outline[:most]),
    )


def _outline(model: MeteredModel, prompt: Source) -> Outline:
    return make_outliner(model.model).outline(prompt)


def _split(
    model: MeteredModel, prompt: Source, most: int, progress: Progress | None
) -> tuple[list[str], str, list[float]]:
    """(pieces, what is between them, what leaving out each of them costs): phrases, or words if no phrase fits."""
    pieces, between = split_phrases(prompt), ", "
    if min(_count(model, piece) for piece in pieces) > most:
        pieces, between = split_words(prompt), " "
    return pieces, between, _weigh(model, pieces, between, progress)


def _choose_cheapest(
    model: MeteredModel, pieces: Sequence[str], between: str, costs: Sequence[float], most: int
) -> list[int]:
    """The pieces to keep so that those that are left out cost least, if costs add up. Empty if none can be kept."""
    sizes = [_count(model, piece) + len(between.strip()) for piece in pieces]
    excess = _count(model, between.join(pieces)) - most
    for _ in range(_ROUNDS):
        kept = list(list_kept(len(pieces), choose_to_drop(sizes, costs, excess)))
        missing = _count(model, between.join(pieces[index] for index in kept)) - most
        if missing <= 0:
            return kept
        excess += missing  # tokens merged differently than in the pieces
    return []


def _choose_first(model: MeteredModel, pieces: Sequence[str], between: str, most: int) -> list[int]:
    """The first pieces that fit, which no later ones influence. Empty if not even one fits."""
    fitting = [count for count in range(1, len(pieces)) if _count(model, between.join(pieces[:count])) <= most]
    return list(range(max(fitting, default=0)))


def _count(model: MeteredModel, prompt: str) -> int:
    return len(_outline(model, parse_prompt(prompt)))


def _weigh(model: MeteredModel, pieces: Sequence[str], between: str, progress: Progress | None) -> list[float]:
    """The square of the effect of leaving out each piece."""
    parts: list[Piece] = []
    texts: list[Vectors] = []
    first = 0
    for number, piece in enumerate(pieces):
        text = piece + (between.rstrip() if number + 1 < len(pieces) else "")
        vectors = evaluate(parse_prompt(text), model.model, limit=None)
        count = len(next(iter(vectors.values())))
        parts.append(Piece(first, count))
        texts.append(vectors)
        first += count
    joined = {key: concatenate([vectors[key] for vectors in texts]) for key in texts[0]}
    return [effect**2 for effect in LeavingOut(model, joined, progress).measure(parts)]
