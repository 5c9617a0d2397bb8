"""Generation info of pictures whose expressions another extension took out of the prompts: puts them back.

The extension Embedding Merge (EM) left names such as <'EM_1'> in the prompts and wrote what they stand for into the
parameter `EmbeddingMerge: "<'EM_1'>=<'sky' + 'forest'>, {'EM_2'}={'blurry'}"`. An expression that came to no vectors
left neither a name nor an entry, so it is lost. How web UIs write and read the rest of such texts: A1111
modules/infotext_utils.py (`quote`, `parse_generation_parameters`) and processing.create_infotext.

Texts are of unknown origin and any length: nothing here raises, and the time is in proportion to the length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

PARAMETER = "EmbeddingMerge"
PROMPTS = ("Prompt", "Negative prompt", "Hires prompt", "Hires negative prompt")
"""What web UIs call the prompts in the parameters that they read off a picture."""

_LEAST_PARAMETERS = 3
"""In a line that is to be one of parameters, as in A1111."""

_NAME = r"<'EM_[0-9]+'>|\{'EM_[0-9]+'\}"
_ENTRY = re.compile(rf"({_NAME})=(?=[<{{]')")
# EM put one space on either side of a name, whatever had stood there.
_NAME_WITH_SPACES = re.compile(rf"( ?)({_NAME})( ?)")
_OPENING, _CLOSING = frozenset("([{|:"), frozenset(")]}|:,.;!?")
_ENDS = {"<": re.compile("['>]"), "{": re.compile("['}]")}

_NEGATIVE = "Negative prompt:"
_STEPS = re.compile(r"\s*Steps: ?[0-9]+\s*,")
_KEY = re.compile(r"\s*(\w[\w /-]*):\s*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def restore_prompts(params: Mapping[str, str]) -> dict[str, str]:
    """The prompts among parameters as a web UI reads them off a picture, those that change, with their expressions.

    EM's spaces around a name go where nobody writes one: at either end of a prompt, behind an opening bracket, before a
    closing one or a comma. Elsewhere what had stood there is not known, and one space reads as well as any.
    """
    expressions = _expressions(params.get(PARAMETER, ""))
    restored = {}
    for key in PROMPTS:
        prompt = params.get(key, "")
        if isinstance(prompt, str) and (text := _restored(prompt, expressions)) != prompt:
            restored[key] = text
    return restored


def find_source_in_infotext(text: str) -> str | None:
    """The positive prompt in generation info, its expressions restored; None where a text is no generation info.

    It is where a line begins with `Steps: 20,` and holds at least three parameters, as every web UI writes it. Before
    it stands the prompt, then perhaps the negative one; what follows, such as `Time taken`, is passed over.
    """
    lines = text.split("\n")
    found = next((place for place in range(len(lines) - 1, -1, -1) if _STEPS.match(lines[place])), None)
    if found is None:
        return None
    params = _parameters(lines[found])
    if len(params) < _LEAST_PARAMETERS:
        return None
    before = lines[:found]
    stop = next((place for place, line in enumerate(before) if line.lstrip().startswith(_NEGATIVE)), len(before))
    prompt = "\n".join(line.rstrip("\r") for line in before[:stop]).strip()
    return _restored(prompt, _expressions(params.get(PARAMETER, "")))


def _expressions(parameter: str) -> dict[str, str]:
    """Name -> expression, both with their brackets, as far as the parameter can be read.

    An expression goes to its closing bracket outside quotes, which is how EM had found it in the prompt, so none is cut
    where its text looks like the next entry.
    """
    text = _unquoted(parameter.strip()) if isinstance(parameter, str) else ""
    found: dict[str, str] = {}
    position = 0
    while match := _ENTRY.match(text, position):
        end = _end(text, match.end())
        if end is None:
            break
        found[match[1]] = text[match.end() : end]
        if not text.startswith(", ", end):
            break
        position = end + 2
    return found


def _end(text: str, start: int) -> int | None:
    """Behind the bracket that closes the one at `start`, None where there is none."""
    is_text = False
    for mark in _ENDS[text[start]].finditer(text, start + 1):
        if mark[0] == "'":
            is_text = not is_text
        elif not is_text:
            return mark.end()
    return None


def _restored(prompt: str, expressions: Mapping[str, str]) -> str:
    def expression(match: re.Match[str]) -> str:
        before, name, after = match.groups()
        if name not in expressions:
            return match[0]
        if match.start() == 0 or prompt[match.start() - 1] in _OPENING:
            before = ""
        if match.end() == len(prompt) or prompt[match.end()] in _CLOSING:
            after = ""
        return before + expressions[name] + after

    # In one go, so that an expression whose text holds another name stays as it was.
    return _NAME_WITH_SPACES.sub(expression, prompt) if expressions else prompt


def _parameters(line: str) -> dict[str, str]:
    """The parameters of a line, `key: value, key: "value, in quotes as in JSON"`."""
    found: dict[str, str] = {}
    position = 0
    while position < len(line):
        key = _KEY.match(line, position)
        value = _QUOTED.match(line, key.end()) if key else None
        comma = line.find(",", value.end() if value else key.end() if key else position)
        end = len(line) if comma < 0 else comma
        if key:
            found[key[1]] = _unquoted(line[key.end() : end].strip())
        position = end + 1
    return found


def _unquoted(text: str) -> str:
    """What a JSON string says; any other text as it is."""
    if not text.startswith('"'):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else text
