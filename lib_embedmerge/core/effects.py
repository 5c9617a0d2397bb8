"""Effects as values, and in words. actions/measuring_effect.py measures them; docs/effect.md explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lib_embedmerge.core.effect_answers import EffectAnswer
from lib_embedmerge.core.percentages import format_percent

Band = Literal["same", "slight", "clear", "other"]

BANDS: tuple[tuple[float, Band], ...] = ((0.01, "same"), (0.1, "slight"), (0.5, "clear"))
"""(below this effect, its word). All others are `other`."""

WORDS: tuple[Band, ...] = (*(word for _, word in BANDS), "other")
"""All words for an effect, from the smallest to the largest."""

WHAT_IT_IS = (
    "It is measured from the weights: how differently the U-Nets read the text, as a share of what another subject "
    "would change. It does not say what a picture will look like."
)
"""What an effect is and what it is not, for people."""


@dataclass(frozen=True)
class TemplateEffect:
    """The effect in one template. template: the prompt with X for the embedding."""

    template: str
    effect: float


@dataclass(frozen=True)
class Effect:
    """How differently an embedding or a text acts on the models a and b.

    a, b: their names, as the user gave them.  effect: the root mean square of those in the templates.
    pooled: of the pooled vector; None for models that read none.
    yardstick: the median distance between unrelated texts on both models. Effects are shares of it.
    """

    a: str
    b: str
    effect: float
    pooled: float | None
    yardstick: float
    templates: tuple[TemplateEffect, ...]

    @property
    def band(self) -> Band:
        """The effect in one word."""
        return find_band(self.effect)

    @property
    def sentence(self) -> str:
        """The effect for people, in one sentence."""
        words = {
            "same": "acts the same on both models",
            "slight": "acts slightly differently on the second model",
            "clear": "acts clearly differently on the second model",
            "other": "acts on the second model as if it were another text",
        }
        return f"The text {words[self.band]}: {format_percent(self.effect)} of another subject."

    def as_json(self) -> EffectAnswer:
        """All fields as plain JSON data."""
        return {
            "a": self.a,
            "b": self.b,
            "effect": self.effect,
            "pooled": self.pooled,
            "yardstick": self.yardstick,
            "templates": [{"template": one.template, "effect": one.effect} for one in self.templates],
        }


def find_band(effect: float) -> Band:
    """An effect in one word."""
    return next((word for bound, word in BANDS if effect < bound), "other")
