"""Find syntax in a prompt that would act in a web UI but is only characters in an embedding."""

from __future__ import annotations

import re

from lib_embedmerge.errors import quote
from lib_embedmerge.lang.nodes import PromptText
from lib_embedmerge.lang.source import Source

_NOTES = (
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
"""(pattern of syntax that a web UI or another program would act on, note about it)."""

_MAX_SHOWN = 40


def find_prompt_notes(source: Source) -> tuple[str, ...]:
    """Notes on syntax in a prompt that would act in a web UI but has no effect in an embedding, one sentence each."""
    # Expressions count as words, because attention and editing may also be around them.
    prompt = "".join(part.text if isinstance(part, PromptText) else "expression" for part in source.parts)
    matches = [(pattern.search(prompt), note) for pattern, note in _NOTES]
    return tuple(f"{quote(match[0].strip()[:_MAX_SHOWN])}: {note}." for match, note in matches if match)
