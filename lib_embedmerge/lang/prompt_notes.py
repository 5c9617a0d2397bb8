"""What a prompt holds that would act in a web UI but is only characters in an embedding."""

from __future__ import annotations

import re

from lib_embedmerge.errors import quote
from lib_embedmerge.lang.nodes import PromptText
from lib_embedmerge.lang.source import Source

_NOT_IN_AN_EMBEDDING = (
    (re.compile(r"\([^()]*:\s*[+-]?[.\d]+\s*\)|\(\(|\[\["), "attention brackets are plain characters in an embedding"),
    (
        re.compile(r"\[[^\[\]]*:\s*[+-]?[.\d]+\s*\]|\[[^\[\]]*\|[^\[\]]*\]"),
        "prompt editing is plain text in an embedding; write only one of its texts",
    ),
    (
        re.compile(r"<\w+:[^>]+>"),
        "extra networks such as LoRA cannot be part of an embedding; the tag is read as plain text",
    ),
    (re.compile(r"\b(?:AND|BREAK)\b"), "AND and BREAK are plain words in an embedding"),
    (re.compile(r"__[\w/*-]+__"), "wildcards are plain text in an embedding"),
    (
        re.compile(r"\{[^{}]*\|[^{}]*\}|\$\$|\$\{"),
        "choices of Dynamic Prompts are plain text in an embedding; write only one of them",
    ),
    (re.compile(r"\{\{|\}\}"), "braces change attention only in NovelAI; they are plain characters in an embedding"),
    (
        re.compile(r"\bembedding:[^\s,]+", re.IGNORECASE),
        "only ComfyUI needs embedding: before the name; here write the name alone",
    ),
    (
        re.compile(r"\bnegative prompt:|\bsteps: ?\d+, ?[a-z]\w*", re.IGNORECASE),
        "these are the generation parameters of a picture; keep only the prompt",
    ),
    (
        re.compile(r"""^\s*["“”‘’`´][^"“”‘’`´]*["“”‘’`´]\s*[-+*/:,=]"""),
        "this is read as a prompt; for an expression, put its texts in straight single quotes",
    ),
)
"""What a web UI, or another program, would act on in a prompt."""

_SHOWN = 40


def find_prompt_notes(source: Source) -> tuple[str, ...]:
    """What a prompt holds that would act in a web UI but is only characters in an embedding, a sentence each."""
    # One text, in which an expression is a word: attention and editing stand around expressions too.
    prompt = "".join(part.text if isinstance(part, PromptText) else "expression" for part in source.parts)
    found = [(pattern.search(prompt), note) for pattern, note in _NOT_IN_AN_EMBEDDING]
    return tuple(f"{quote(match[0].strip()[:_SHOWN])}: {note}." for match, note in found if match)
