"""Put words in place of expressions while scripts of other extensions take the prompts of a generation apart.

NegPiP searches prompts for `(text:-1.2)`, and Regional Prompter cuts them at BREAK and at commas, so they must not see
the brackets, colons and commas of expressions. Such extensions are recognised by the web UI's functions that they call
to count or encode text. Extensions that write prompts, such as Dynamic Prompts, call none of these and see what was
typed. This module is imported when a web UI starts, so it imports nothing heavy.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from lib_embedmerge.hosts.patching import Patches
from lib_embedmerge.hosts.prompt_words import StandInWords
from lib_embedmerge.hosts.webui.settings import handles_inline
from lib_embedmerge.lang.openings import may_have_expressions
from lib_embedmerge.lang.stand_ins import PREFIX

_READING_FUNCTIONS = frozenset(
    {"tokenize_line", "get_learned_conditioning", "get_multicond_learned_conditioning", "get_prompt_lengths"}
)
"""The web UIs' functions that count or encode prompts."""

_CALLBACKS = (
    "before_process", "process", "before_process_batch", "after_extra_networks_activate", "process_batch",
    "process_before_every_sampling", "before_hr",
)  # fmt: skip
"""The methods of a script that a web UI calls before sampling. In later ones it may write the prompts for people."""

PROMPT_ATTRIBUTES = tuple(
    f"{which}{negative}{name}"
    for negative in ("", "negative_")
    for which, name in (
        ("", "prompt"), ("hr_", "prompt"), ("main_", "prompt"), ("all_", "prompts"), ("all_hr_", "prompts"),
        ("", "prompts"), ("hr_", "prompts"),
    )
)  # fmt: skip
"""The attributes of a StableDiffusionProcessing that hold prompts: a text, a list of texts, or None."""


_LAST_CALLBACK = "process_batch"
"""The last of these methods before the prompts are encoded."""

_MISTAKE = "_embedmerge_mistake"
"""An attribute of a StableDiffusionProcessing that keeps a mistake until that method of all scripts has been called. If
a script raised it, the web UI would only print it and continue."""


def install(patches: Patches, words: StandInWords, check: Callable[[Any], None]) -> None:
    """Wrap the scripts of such extensions, if there are any. To be called when all extensions are loaded.

    words: replace the expressions in the prompts.
    check: raises an exception for a mistake in the prompts of a StableDiffusionProcessing. It stops the generation
        before one of the extensions can misread the expression with the mistake.
    """
    from modules import scripts

    def call_covered(original: Callable[..., Any], script: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        with _cover_prompts(p, words):
            return original(script, p, *args, **kwargs)

    def check_and_call(original: Callable[..., Any], script: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        if _MISTAKE not in vars(p) and _store_mistake(p, check):
            return None
        return call_covered(original, script, p, *args, **kwargs)

    def call_all_and_raise(original: Callable[..., Any], runner: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(runner, p, *args, **kwargs)
        if (mistake := vars(p).pop(_MISTAKE, None)) is not None:
            raise mistake
        return result

    script_classes = list(_find_reading_scripts())
    for script_class in script_classes:
        for name in _CALLBACKS:
            if getattr(script_class, name, None) not in (None, getattr(scripts.Script, name, None)):
                patches.wrap(script_class, name, check_and_call if name == _LAST_CALLBACK else call_covered)
    if script_classes:
        patches.wrap(scripts.ScriptRunner, _LAST_CALLBACK, call_all_and_raise)


def _store_mistake(p: Any, check: Callable[[Any], None]) -> bool:
    """Check the prompts of p, store a mistake in the attribute _MISTAKE, and return whether there is one."""
    try:
        check(p)
    except Exception as error:
        if not getattr(error, "is_mistake_in_prompt", False):  # so that its class need not be imported
            raise
        setattr(p, _MISTAKE, error)
    return _MISTAKE in vars(p)


def _find_reading_scripts() -> Iterator[type]:
    """The classes of scripts whose extensions count or encode prompts."""
    from modules import scripts

    file_of_scripts = getattr(scripts, "__file__", None)
    root = Path(file_of_scripts).resolve().parents[1] if file_of_scripts else None
    by_prefix: dict[str, list[Any]] = {}
    for script in scripts.scripts_data:
        folder = str(script.basedir)
        by_prefix.setdefault(folder + os.sep, []).append(script)
    by_prefix = {prefix: own for prefix, own in by_prefix.items() if Path(prefix).resolve() != root}
    imported = _find_modules(tuple(by_prefix))
    for prefix, own_scripts in by_prefix.items():
        reads = any(_calls_reading_function(module) for file, module in imported if file.startswith(prefix))
        for script in own_scripts:
            if reads or _calls_reading_function(script.module):
                yield script.script_class


def _find_modules(prefixes: tuple[str, ...]) -> list[tuple[str, ModuleType]]:
    """(file, module) for the imported modules whose files begin with one of these texts."""
    modules = [item for item in list(sys.modules.values()) if isinstance(item, ModuleType)]
    files = [(vars(module).get("__file__"), module) for module in modules]
    return [(file, module) for file, module in files if isinstance(file, str) and file.startswith(prefixes)]


def _calls_reading_function(module: Any) -> bool:
    """Whether any function or method in a module calls one of _READING_FUNCTIONS, by name."""
    content = dict(vars(module))
    classes = (value for value in content.values() if isinstance(value, type) and value.__module__ == module.__name__)
    namespaces = [content, *map(vars, classes)]
    functions = (function for namespace in namespaces for function in _find_functions(namespace))
    return any(_READING_FUNCTIONS & _find_names(function.__code__) for function in functions)


def _find_functions(namespace: Mapping[str, object]) -> Iterator[FunctionType]:
    return (value for value in list(namespace.values()) if isinstance(value, FunctionType))


def _find_names(code: CodeType) -> set[str]:
    """The names that a function and the functions inside it use."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_find_names, inner))


@contextmanager
def _cover_prompts(p: Any, words: StandInWords) -> Iterator[None]:
    """In this block, the prompts of p have words in place of expressions.

    Afterwards the expressions are back, also in texts that the script has made from the prompts.
    """
    typed = _cover(p, words) if handles_inline() else {}
    if not typed:
        yield
        return
    try:
        yield
    finally:
        _uncover(p, words, typed)


def _cover(p: Any, words: StandInWords) -> dict[str, str]:
    """Put words into the prompts of p; text with words -> the typed text. Empty if there is no expression."""
    typed: dict[str, str] = {}

    def cover(text: str) -> str:
        covered = words.cover(text)
        if covered != text:
            typed[covered] = text
        return covered

    _replace_prompts(p, may_have_expressions, cover)
    return typed


def _uncover(p: Any, words: StandInWords, typed: Mapping[str, str]) -> None:
    """Put the expressions back into the prompts and infotext parameters of p. typed: the result of `_cover`."""

    def uncover(text: str) -> str:
        return typed[text] if text in typed else words.uncover(text)

    _replace_prompts(p, lambda text: PREFIX in text, uncover)
    parameters = p.extra_generation_params
    for key, value in list(parameters.items()):
        if isinstance(value, str):
            parameters[key] = uncover(value)
        elif isinstance(value, list):
            parameters[key] = [uncover(item) if isinstance(item, str) else item for item in value]


def _replace_prompts(p: Any, applies_to: Callable[[str], bool], replace: Callable[[str], str]) -> None:
    """Replace the prompts of p for which `applies_to` is true.

    Lists are changed in place, because web UIs pass the same lists to scripts by other ways too.
    """
    for name in PROMPT_ATTRIBUTES:
        value = getattr(p, name, None)
        if isinstance(value, str) and applies_to(value):
            setattr(p, name, replace(value))
        elif isinstance(value, list):
            for index, text in enumerate(value):
                if isinstance(text, str) and applies_to(text):
                    value[index] = replace(text)
