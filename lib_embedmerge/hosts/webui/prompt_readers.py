"""Extensions that take a generation's prompts apart and have pieces of them counted or encoded: while one of their
scripts has its turn, words stand in the prompts in place of expressions.

NegPiP looks for `(text:-1.2)` in them, Regional Prompter cuts them at BREAK and at commas: a bracket, colon or comma
inside an expression is not for them. They are known by what they do: by the functions of the web UI's that they call.
Extensions that write prompts, as Dynamic Prompts, call none of these, and see what was typed. Light: it is in place
from the start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from lib_embedmerge.hosts.webui.patching import Patches
from lib_embedmerge.hosts.webui.prompt_words import StandInWords
from lib_embedmerge.hosts.webui.settings import handles_inline
from lib_embedmerge.lang.source import may_have_expressions
from lib_embedmerge.lang.stand_ins import PREFIX

_READING = frozenset(
    {"tokenize_line", "get_learned_conditioning", "get_multicond_learned_conditioning", "get_prompt_lengths"}
)
"""Functions of web UIs by which prompts are counted and encoded."""

_TURNS = (
    "before_process", "process", "before_process_batch", "after_extra_networks_activate", "process_batch",
    "process_before_every_sampling", "before_hr",
)  # fmt: skip
"""A script's turns up to the sampling. In later ones it may write the prompts down, for people."""

PROMPTS = tuple(
    f"{which}{negative}{name}"
    for negative in ("", "negative_")
    for which, name in (
        ("", "prompt"), ("hr_", "prompt"), ("main_", "prompt"), ("all_", "prompts"), ("all_hr_", "prompts"),
        ("", "prompts"), ("hr_", "prompts"),
    )
)  # fmt: skip
"""Where a StableDiffusionProcessing has prompts: a text, a list of texts, or None."""


_LAST = "process_batch"
"""The turn right before the prompts are encoded."""

_MISTAKE = "_embedmerge_mistake"
"""Of a StableDiffusionProcessing, until all scripts have had that turn: web UIs only print what one of them raises."""


def install(patches: Patches, words: StandInWords, check: Callable[[Any], None]) -> None:
    """Take hold, where there are such extensions; when all are loaded.

    check: raises for a mistake in the prompts of a StableDiffusionProcessing, which then stops the generation before
        such an extension takes the mistaken piece for something else.
    """
    from modules import scripts

    def turn(original: Callable[..., Any], script: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        with _covered(p, words):
            return original(script, p, *args, **kwargs)

    def last_turn(original: Callable[..., Any], script: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        if _MISTAKE not in vars(p) and _keeps_mistake(p, check):
            return None
        return turn(original, script, p, *args, **kwargs)

    def all_last_turns(original: Callable[..., Any], runner: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(runner, p, *args, **kwargs)
        if (mistake := vars(p).pop(_MISTAKE, None)) is not None:
            raise mistake
        return result

    found = list(_reading_scripts())
    for script_class in found:
        for name in _TURNS:
            if getattr(script_class, name, None) not in (None, getattr(scripts.Script, name, None)):
                patches.wrap(script_class, name, last_turn if name == _LAST else turn)
    if found:
        patches.wrap(scripts.ScriptRunner, _LAST, all_last_turns)


def _keeps_mistake(p: Any, check: Callable[[Any], None]) -> bool:
    try:
        check(p)
    except Exception as error:
        if not getattr(error, "is_mistake_in_prompt", False):  # the class itself is not imported for this
            raise
        setattr(p, _MISTAKE, error)
    return _MISTAKE in vars(p)


def _reading_scripts() -> Iterator[type]:
    from modules import scripts

    place = getattr(scripts, "__file__", None)
    root = Path(place).resolve().parents[1] if place else None
    imported = [(vars(one).get("__file__"), one) for one in list(sys.modules.values()) if isinstance(one, ModuleType)]
    for found in scripts.scripts_data:
        folder = Path(found.basedir)
        if folder.resolve() == root:  # the web UI's own: everything lies in this folder
            continue
        # A script's own module, and those of its extension that it has imported.
        inside = f"{folder}{os.sep}"
        own = (one for file, one in imported if isinstance(file, str) and file.startswith(inside))
        modules = [found.module, *own]
        if any(map(_reads, modules)):
            yield found.script_class


def _reads(module: Any) -> bool:
    """Whether any function in it calls one of those by name."""
    content = dict(vars(module))
    places = [content, *(vars(one) for one in content.values() if _is_own_class(one, module))]
    return any(_READING & _names_in(function.__code__) for place in places for function in _functions(place))


def _is_own_class(value: object, module: Any) -> bool:
    return isinstance(value, type) and value.__module__ == module.__name__


def _functions(place: Mapping[str, object]) -> Iterator[FunctionType]:
    return (value for value in list(place.values()) if isinstance(value, FunctionType))


def _names_in(code: CodeType) -> set[str]:
    """The names of what a function, and those inside it, calls."""
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


@contextmanager
def _covered(p: Any, words: StandInWords) -> Iterator[None]:
    """Words in place of expressions in the prompts of p; in the end what was typed is back, also in what the
    script has made of them."""
    typed = _cover(p, words) if handles_inline() else {}
    if not typed:
        yield
        return
    try:
        yield
    finally:
        _uncover(p, words, typed)


def _cover(p: Any, words: StandInWords) -> dict[str, str]:
    """Text with words -> as it was typed; empty where there is no expression."""
    typed: dict[str, str] = {}

    def cover(text: str) -> str:
        covered = words.covered(text)
        if covered != text:
            typed[covered] = text
        return covered

    _replace_prompts(p, may_have_expressions, cover)
    return typed


def _uncover(p: Any, words: StandInWords, typed: Mapping[str, str]) -> None:
    def uncover(text: str) -> str:
        return typed[text] if text in typed else words.uncovered(text)

    _replace_prompts(p, lambda text: PREFIX in text, uncover)
    parameters = p.extra_generation_params
    for key, value in list(parameters.items()):
        if isinstance(value, str):
            parameters[key] = uncover(value)
        elif isinstance(value, list):
            parameters[key] = [uncover(one) if isinstance(one, str) else one for one in value]


def _replace_prompts(p: Any, concerns: Callable[[str], bool], replace: Callable[[str], str]) -> None:
    """In lists in their place: web UIs give scripts the same ones by other ways too."""
    for name in PROMPTS:
        value = getattr(p, name, None)
        if isinstance(value, str) and concerns(value):
            setattr(p, name, replace(value))
        elif isinstance(value, list):
            for place, text in enumerate(value):
                if isinstance(text, str) and concerns(text):
                    value[place] = replace(text)
