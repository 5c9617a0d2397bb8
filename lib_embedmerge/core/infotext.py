"""Restore the expressions in the generation info of pictures that the extension Embedding Merge (EM) made.

EM replaces expressions in prompts by names such as <'EM_1'> and writes their meaning into the parameter
`EmbeddingMerge: "<'EM_1'>=<'sky' + 'forest'>, {'EM_2'}={'blurry'}"`. An expression without vectors leaves neither a
name nor an entry, so it is lost. Web UIs write and read the rest of these texts in A1111's modules/infotext_utils.py
(`quote`, `parse_generation_parameters`) and processing.create_infotext.

Texts may have any origin and length: nothing here raises, and the time is proportional to the length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

PARAMETER = "EmbeddingMerge"
PROMPTS = ("Prompt", "Negative prompt", "Hires prompt", "Hires negative prompt")
"""Names of the prompts among the parameters that web UIs read from a picture."""

_LEAST_PARAMETERS = 3
"""Parameters that a line must have at least to count as generation info, as in A1111."""

_NAME = r"<'EM_[0-9]+'>|\{'EM_[0-9]+'\}"
_ENTRY = re.compile(rf"({_NAME})=(?=[<{{]')")
# EM puts one space on either side of a name, whatever was there before.
_NAME_WITH_SPACES = re.compile(rf"( ?)({_NAME})( ?)")
_OPENING, _CLOSING = frozenset("([{|:"), frozenset(")]}|:,.;!?")
_ENDS = {"<": re.compile("['>]"), "{": re.compile("['}]")}

_NEGATIVE = "Negative prompt:"
_STEPS = re.compile(r"\s*Steps: ?[0-9]+\s*,")
_KEY = re.compile(r"\s*(\w[\w /-]*):\s*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def restore_prompts(params: Mapping[str, str]) -> dict[str, str]:
    """The prompts in which expressions were restored, by name; prompts without any are left out.

    params: the parameters that a web UI has read from a picture.
    The spaces that EM put around a name are removed where nobody writes one: at either end of a prompt, after an
    opening bracket, and before a closing bracket or a comma. Elsewhere they stay: the original spaces are not known.
    """
    expressions = _find_expressions(params.get(PARAMETER, ""))
    restored = {}
    for key in PROMPTS:
        prompt = params.get(key, "")
        if isinstance(prompt, str) and (text := _restore(prompt, expressions)) != prompt:
            restored[key] = text
    return restored


def find_source_in_infotext(text: str) -> str | None:
    """The positive prompt in generation info, with its expressions restored; None if the text is no generation info.

    Generation info has a line that begins like `Steps: 20,` and has at least three parameters, as every web UI writes
    it. Before this line are the prompt and perhaps the negative prompt; lines after it, such as `Time taken`, are
    ignored.
    """
    lines = text.split("\n")
    steps_line = next((number for number in range(len(lines) - 1, -1, -1) if _STEPS.match(lines[number])), None)
    if steps_line is None:
        return None
    params = _parse_parameters(lines[steps_line])
    if len(params) < _LEAST_PARAMETERS:
        return None
    before = lines[:steps_line]
    stop = next((number for number, line in enumerate(before) if line.lstrip().startswith(_NEGATIVE)), len(before))
    prompt = "\n".join(line.rstrip("\r") for line in before[:stop]).strip()
    return _restore(prompt, _find_expressions(params.get(PARAMETER, "")))


def _find_expressions(parameter: str) -> dict[str, str]:
    """Name -> expression, both with their brackets, up to the first entry that cannot be read.

    An expression ends at its closing bracket outside quotes, as EM finds it in a prompt, so a text that looks like the
    next entry does not end it.
    """
    text = _unquote(parameter.strip()) if isinstance(parameter, str) else ""
    expressions: dict[str, str] = {}
    position = 0
    while match := _ENTRY.match(text, position):
        end = _find_end(text, match.end())
        if end is None:
            break
        expressions[match[1]] = text[match.end() : end]
        if not text.startswith(", ", end):
            break
        position = end + 2
    return expressions


def _find_end(text: str, start: int) -> int | None:
    """The offset after the bracket that closes the one at `start`, outside quotes, or None if there is none."""
    is_in_quotes = False
    for mark in _ENDS[text[start]].finditer(text, start + 1):
        if mark[0] == "'":
            is_in_quotes = not is_in_quotes
        elif not is_in_quotes:
            return mark.end()
    return None


def _restore(prompt: str, expressions: Mapping[str, str]) -> str:
    """The prompt with each name replaced by its expression. Names that have none stay."""

    def expression(match: re.Match[str]) -> str:
        before, name, after = match.groups()
        if name not in expressions:
            return match[0]
        if match.start() == 0 or prompt[match.start() - 1] in _OPENING:
            before = ""
        if match.end() == len(prompt) or prompt[match.end()] in _CLOSING:
            after = ""
        return before + expressions[name] + after

    # In one pass, so that names inside the texts of expressions stay as they are.
    return _NAME_WITH_SPACES.sub(expression, prompt) if expressions else prompt


def _parse_parameters(line: str) -> dict[str, str]:
    """The parameters in a line such as `key: value, key: "value, in quotes as in JSON"`."""
    parameters: dict[str, str] = {}
    position = 0
    while position < len(line):
        key = _KEY.match(line, position)
        value = _QUOTED.match(line, key.end()) if key else None
        comma = line.find(",", value.end() if value else key.end() if key else position)
        end = len(line) if comma < 0 else comma
        if key:
            parameters[key[1]] = _unquote(line[key.end() : end].strip())
        position = end + 1
    return parameters


def _unquote(text: str) -> str:
    """The content of a JSON string; any other text unchanged."""
    if not text.startswith('"'):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else text
