"""The fields of the answers about effects: of `effect`, `groups`, `tokens` and `shorten`, as those in answers.py."""

from __future__ import annotations

from typing import Annotated, TypedDict


class TemplateEffectAnswer(TypedDict):
    """The effect in one template."""

    template: Annotated[str, "The prompt, with X for the embedding or text."]
    effect: float


class EffectAnswer(TypedDict):
    """How differently an embedding or a text acts on two models."""

    a: str
    b: str
    effect: Annotated[float, "A share of what an unrelated text would change: 0.02 is 2 % of another subject."]
    pooled: Annotated[float | None, "The same for the pooled vector; null for models that read none."]
    yardstick: Annotated[float, "The median distance of unrelated texts on these models, to which effects are shares."]
    templates: list[TemplateEffectAnswer]


class OtherModelAnswer(TypedDict):
    """The effect of an embedding on another model."""

    checkpoint: str
    effect: Annotated[float | None, "As in `effect`; null if it could not be measured."]
    reason: Annotated[str | None, "Why it could not."]


class LibraryEffectAnswer(TypedDict):
    """What an embedding of the library does on other models than the active one."""

    name: str
    file: str
    effects: list[OtherModelAnswer]


class GroupAnswer(TypedDict):
    """Checkpoints that can share a file."""

    members: list[str]
    medoid: Annotated[str, "The member for which a file is best made: the one closest to all others."]
    largest_effect: Annotated[float, "The largest effect between two of the members; 0 for a single one."]


class TokenAnswer(TypedDict):
    """What a token of a prompt matters."""

    token: str
    start: Annotated[int, "Where it begins in the text."]
    end: int
    effect: Annotated[float, "The effect of leaving it out, as a share of what an unrelated text would change."]
    quick: Annotated[float, "The same, estimated from one gradient."]


class ShortenAnswer(TypedDict):
    """A prompt that was shortened."""

    text: Annotated[str, "As it is typed."]
    vectors: int
    before: Annotated[int, "How many vectors it had."]
    dropped: Annotated[list[str], "What was left out, in order."]
    effect: Annotated[float, "The effect of the shortened text in place of the whole one, on the same model."]
    cutting: Annotated[float, "The effect of only the first vectors, as many as fit, in place of the whole text."]
