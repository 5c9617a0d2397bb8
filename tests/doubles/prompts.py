"""modules.prompt_parser and modules.extra_networks: what web UIs read in a prompt before its texts are encoded.

Editing `[a:b:0.5]` and alternation `[a|b]` become a schedule of texts, AND splits a prompt into several, and attention
`(a:1.2)` and BREAK are read in each text. In the order and with the oddities of AUTOMATIC1111 v1.10.1.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

# Editing and alternation

_TOKENS = re.compile(r"\\.|[][():|]|[^][():|\\]+|\\")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")


class _NotParsed(Exception):  # noqa: N818 -- no error: the prompt then is one text
    pass


@dataclass
class _Edit:
    """`[before:after:when]`."""

    before: list[_Node]
    after: list[_Node]
    when: str


@dataclass
class _Alternation:
    choices: list[list[_Node]]


_Node = str | _Edit | _Alternation


@dataclass
class _Bracket:
    """One that is open. parts: what stands between its separators.  is_odd: whether brackets in it do not match."""

    opening: str
    parts: list[list[_Node]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)
    is_odd: bool = False

    def add(self, *nodes: _Node) -> None:
        self.parts[-1].extend(nodes)

    def literal(self, closing: str = "") -> list[_Node]:
        nodes: list[_Node] = [self.opening, *self.parts[0]]
        for separator, part in zip(self.separators, self.parts[1:], strict=True):
            nodes += [separator, *part]
        return [*nodes, closing]

    def closed(self, closing: str) -> tuple[list[_Node], bool]:
        """What it comes to, and whether it makes no sense and so is odd in what stands around it."""
        kinds = set(self.separators)
        if "|" in kinds:
            if closing != "]" or kinds != {"|"} or self.is_odd:
                raise _NotParsed
            return [_Alternation(self.parts)], False
        colons = len(self.separators)
        when = self.parts[-1][0] if len(self.parts[-1]) == 1 else None
        number = _NUMBER.fullmatch(when) if isinstance(when, str) else None
        if closing == "]" and colons in (1, 2) and number and not self.is_odd:
            before = self.parts[0] if colons == 2 else []
            return [_Edit(before, self.parts[-2], number.group(1))], False
        return self.literal(closing), colons > (closing == ")")


def _parsed(prompt: str) -> list[_Node]:
    stack = [_Bracket("")]
    for token in _TOKENS.findall(prompt):
        top = stack[-1]
        if token in ("(", "["):
            stack.append(_Bracket(token))
        elif token in (")", "]") and top.opening == {")": "(", "]": "["}[token]:
            stack.pop()
            nodes, is_odd = top.closed(token)
            stack[-1].add(*nodes)
            _odd(stack if is_odd else ())
        elif token in (")", "]"):
            top.add(token)
            _odd(stack)
        elif token in (":", "|") and top.opening:
            top.separators.append(token)
            top.parts.append([])
        elif token in ("|", "\\"):
            raise _NotParsed
        else:
            top.add(token)
    while len(stack) > 1:
        bracket = stack.pop()
        if "|" in bracket.separators:
            raise _NotParsed
        stack[-1].add(*bracket.literal())
    return stack[0].parts[0]


def _odd(brackets: Iterable[_Bracket]) -> None:
    for bracket in brackets:
        bracket.is_odd = True


def get_learned_conditioning_prompt_schedules(
    prompts: Sequence[str], base_steps: int, hires_steps: int | None = None, use_old_scheduling: bool = False
) -> list[list[list[Any]]]:
    """For each prompt its texts with the last step of each."""
    del use_old_scheduling
    return [_schedule(prompt, base_steps, hires_steps) for prompt in prompts]


def _schedule(prompt: str, base_steps: int, hires_steps: int | None) -> list[list[Any]]:
    steps = _Steps(base_steps, hires_steps)
    try:
        nodes = _parsed(prompt)
    except _NotParsed:
        return [[steps.count, prompt]]
    ends = {end for end in steps.ends(nodes) if end >= 1} | {steps.count}
    return [[end, steps.text(end, nodes)] for end in sorted(ends)]


class _Steps:
    """The steps of a pass: those of hires fix go on from the others, and fractions there from 1."""

    def __init__(self, base_steps: int, hires_steps: int | None) -> None:
        self.count = base_steps if hires_steps is None else hires_steps
        self._first = 0 if hires_steps is None else base_steps

    def _last(self, edit: _Edit) -> int:
        when = float(edit.when)
        is_fraction = "." in edit.when
        return min(self.count, int((when - bool(self._first)) * self.count if is_fraction else when - self._first))

    def ends(self, nodes: Iterable[_Node]) -> set[int]:
        """Where the text becomes another one."""
        found: set[int] = set()
        for node in nodes:
            if isinstance(node, _Edit):
                found |= {self._last(node)} | self.ends(node.before) | self.ends(node.after)
            elif isinstance(node, _Alternation):
                found |= set(range(1, self.count + 1)).union(*map(self.ends, node.choices))
        return found

    def text(self, step: int, nodes: Iterable[_Node]) -> str:
        return "".join(self._one(step, node) for node in nodes)

    def _one(self, step: int, node: _Node) -> str:
        if isinstance(node, _Edit):
            return self.text(step, node.before if step <= self._last(node) else node.after)
        if isinstance(node, _Alternation):
            return self.text(step, node.choices[(step - 1) % len(node.choices)])
        return node


# AND, conditioning


class SdConditioning(list[str]):
    """Prompts, and what else the encoding depends on."""

    def __init__(
        self,
        prompts: Iterable[str],
        is_negative_prompt: bool = False,
        width: int | None = None,
        height: int | None = None,
        copy_from: Any = None,
    ) -> None:
        super().__init__(prompts)
        other = prompts if copy_from is None else copy_from
        self.is_negative_prompt = is_negative_prompt or getattr(other, "is_negative_prompt", False)
        self.width = width or getattr(other, "width", None)
        self.height = height or getattr(other, "height", None)


class Scheduled(NamedTuple):
    """A text's conditioning, up to a step."""

    end_at_step: int
    cond: Any


class Composed(NamedTuple):
    """One of the prompts between ANDs."""

    schedules: list[Scheduled]
    weight: float


class Multicond(NamedTuple):
    """The conditioning of some prompts."""

    shape: tuple[int, ...]
    batch: list[list[Composed]]


def get_learned_conditioning(
    model: Any, prompts: Sequence[str], steps: int, hires_steps: int | None = None, use_old_scheduling: bool = False
) -> list[list[Scheduled]]:
    """All texts of a prompt are encoded together, and equal prompts once."""
    known: dict[str, list[Scheduled]] = {}
    schedules = _installed().get_learned_conditioning_prompt_schedules(prompts, steps, hires_steps, use_old_scheduling)
    for prompt, schedule in zip(prompts, schedules, strict=True):
        if prompt not in known:
            conds = model.get_learned_conditioning(SdConditioning([text for _, text in schedule], copy_from=prompts))
            rows = (
                {key: value[place] for key, value in conds.items()} if isinstance(conds, dict) else conds[place]
                for place in range(len(schedule))
            )
            known[prompt] = [Scheduled(end, row) for (end, _), row in zip(schedule, rows, strict=True)]
    return [known[prompt] for prompt in prompts]


def _installed() -> Any:
    """The module as it is installed, through which its functions call each other."""
    return sys.modules["modules.prompt_parser"]


_WEIGHT = re.compile(r"(.*?)(?:\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+)))?\s*", re.DOTALL)


def get_multicond_prompt_list(
    prompts: Sequence[str],
) -> tuple[list[list[tuple[int, float]]], SdConditioning, dict[str, int]]:
    """Each prompt split at AND, with weights like `:0.7`: places of texts, the texts, the place of each."""
    places: dict[str, int] = {}
    batch: list[list[tuple[int, float]]] = []
    for prompt in prompts:
        matches = (_WEIGHT.fullmatch(one) for one in re.split(r"\bAND\b", prompt))
        parts = [(match.group(1), float(match.group(2) or 1)) for match in matches if match]
        batch.append([(places.setdefault(text, len(places)), weight) for text, weight in parts])
    return batch, SdConditioning(places, copy_from=prompts), places


def get_multicond_learned_conditioning(
    model: Any, prompts: Sequence[str], steps: int, hires_steps: int | None = None, use_old_scheduling: bool = False
) -> Multicond:
    """The conditioning of each prompt, split at AND."""
    batch, flat, _ = _installed().get_multicond_prompt_list(prompts)
    conds = _installed().get_learned_conditioning(model, flat, steps, hires_steps, use_old_scheduling)
    return Multicond((len(prompts),), [[Composed(conds[place], weight) for place, weight in one] for one in batch])


# Attention, BREAK

BREAK = -1.0
"""The weight that tells the word from one in parentheses."""

_ATTENTION = re.compile(r"\\[][()\\]?|[][()]|:\s*([+-]?[.\d]+)\s*\)|[^][()\\:]+|:")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


def parse_prompt_attention(text: str) -> list[tuple[str, float]]:
    """Pieces of a text with their weights; neighbours of one weight are one piece."""
    found: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def weigh(start: int, weight: float) -> None:
        found[start:] = [(piece, one * weight) for piece, one in found[start:]]

    for match in _ATTENTION.finditer(text):
        token, weight = match.group(), match.group(1)
        if token.startswith("\\"):
            found.append((token[1:], 1.0))
        elif token in opened:
            opened[token].append(len(found))
        elif weight is not None and opened["("]:
            weigh(opened["("].pop(), float(weight))
        elif token == ")" and opened["("]:
            weigh(opened["("].pop(), 1.1)
        elif token == "]" and opened["["]:
            weigh(opened["["].pop(), 1 / 1.1)
        else:
            found += _split(token)
    for start in opened["("]:
        weigh(start, 1.1)
    for start in opened["["]:
        weigh(start, 1 / 1.1)
    return _merged(found or [("", 1.0)])


def _split(text: str) -> list[tuple[str, float]]:
    first, *others = _BREAK.split(text)
    return [(first, 1.0), *(piece for other in others for piece in (("BREAK", BREAK), (other, 1.0)))]


def _merged(pieces: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    merged: list[tuple[str, float]] = []
    for text, weight in pieces:
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + text, weight)
        else:
            merged.append((text, weight))
    return merged


# Extra networks


def parse_prompts(prompts: Iterable[str]) -> tuple[list[str], dict[str, list[Any]] | None]:
    """The prompts without `<lora:name:1>`, and what the first of them had."""
    texts, networks = [], None
    for prompt in prompts:
        text, found = parse_prompt(prompt)
        texts.append(text)
        networks = found if networks is None else networks
    return texts, networks


def parse_prompt(prompt: str) -> tuple[str, dict[str, list[Any]]]:
    """One prompt without its extra networks, and these by their kinds."""
    networks: dict[str, list[Any]] = defaultdict(list)

    def taken(match: re.Match[str]) -> str:
        networks[match.group(1)].append(SimpleNamespace(items=match.group(2).split(":")))
        return ""

    return re.sub(r"<(\w+):([^>]+)>", taken, prompt), networks
