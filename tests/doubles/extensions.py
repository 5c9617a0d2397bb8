"""Extensions that take prompts apart and encode pieces of them, in the ways of NegPiP and Regional Prompter, and others
that ask the web UI's functions themselves. Small stand-ins: what they do to prompts, and nothing to pictures.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from doubles.generation import Script, script_data
from doubles.prompts import get_learned_conditioning as held_from_before
from doubles.prompts import get_multicond_learned_conditioning as multicond_held_from_before

_NEGATIVE = re.compile(r"\(([^(:)]*):\s*(-\d+(?:\.\d+)?)\s*\)")


def _parser() -> Any:
    return sys.modules["modules.prompt_parser"]


def _first_encoder(model: Any) -> Any:
    for place in ("text_processing_engine_l", "text_processing_engine"):
        if hasattr(model, place):
            return getattr(model, place)
    return model.conditioner.embedders[0] if hasattr(model, "conditioner") else model.cond_stage_model


class NegPip(Script):
    """Encodes the text of each `(text:-1.2)` by itself and takes it out of the prompt."""

    def __init__(self) -> None:
        self.found: list[tuple[str, float, int]] = []
        """Text, weight, number of tokens."""
        self.conds: list[Any] = []

    def process_batch(self, p: Any, *_: Any, **__: Any) -> None:
        for prompts in (p.prompts, p.negative_prompts):
            for place, schedule in enumerate(_parser().get_learned_conditioning_prompt_schedules(prompts, p.steps)):
                for _, text in schedule:
                    for match in _NEGATIVE.finditer(text):
                        prompts[place] = prompts[place].replace(match.group(), "")
                        self._encode(p, match.group(1), float(match.group(2)))

    def _encode(self, p: Any, text: str, weight: float) -> None:
        _, count = _first_encoder(p.sd_model).tokenize_line(text)
        self.found.append((text, weight, count))
        wanted = _parser().SdConditioning([f"({text}:{-weight})"], width=p.width, height=p.height)
        self.conds.append(_parser().get_learned_conditioning(p.sd_model, wanted, p.steps)[0][0].cond)


class Regions(Script):
    """Makes BREAK of its own word, adds what is common to each region, and counts the regions; the infotext gets the
    prompt back as it was."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.regions: list[str] = []

    def process(self, p: Any, *_: Any) -> None:
        self.kept = list(p.all_prompts)
        p.all_prompts = [text.replace("ADDCOL", "BREAK").replace("AND", "BREAK") for text in p.all_prompts]
        text = _parser().get_learned_conditioning_prompt_schedules([p.all_prompts[0]], p.steps)[0][0][1]
        common, *self.regions = text.split("BREAK")
        self.regions = [f"{common.split(',')[0]}, {region}" for region in self.regions]
        p.all_prompts = [" BREAK ".join(self.regions)] * len(p.all_prompts)
        self.counts = [_first_encoder(p.sd_model).tokenize_line(region)[1] for region in self.regions]
        p.extra_generation_params["Regions"] = p.all_prompts[0]

    def process_batch(self, p: Any, *_: Any, **__: Any) -> None:
        p.all_prompts[:] = self.kept


class AsksFunctions(Script):
    """Encodes a text of its own in every way that there is. found: what came of it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: dict[str, Any] = {}

    def process_batch(self, p: Any, *_: Any, **__: Any) -> None:
        parser, model, steps = _parser(), p.sd_model, p.steps
        wanted = parser.SdConditioning([self.text], width=p.width, height=p.height)
        multicond = parser.get_multicond_learned_conditioning(model, wanted, steps)
        held = multicond_held_from_before(model, wanted, steps)
        self.found = {
            "parser": parser.get_learned_conditioning(model, wanted, steps)[0][0].cond,
            "parser, held": held_from_before(model, wanted, steps)[0][0].cond,
            "parser, with AND": multicond.batch[0][0].schedules[0].cond,
            "parser, with AND, held": held.batch[0][0].schedules[0].cond,
            "model": _first_row(model.get_learned_conditioning(wanted)),
        }
        self.count = _first_encoder(model).tokenize_line(self.text)[1]


def _first_row(conds: Any) -> Any:
    return {key: value[0] for key, value in conds.items()} if isinstance(conds, dict) else conds[0]


def installed(*scripts: type[Script]) -> list[SimpleNamespace]:
    """Entries of scripts.scripts_data, each an extension of its own, whose module holds what its class calls."""
    found = []
    for one in scripts:
        module = ModuleType(one.__module__)
        setattr(module, one.__name__, one)
        folder = f"/webui/extensions/{one.__name__}/scripts/{one.__name__}.py"
        found.append(script_data(one, folder, module))
    return found
