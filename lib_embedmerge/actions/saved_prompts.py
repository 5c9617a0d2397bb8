"""What was saved, as texts for prompts: the names of embeddings, or the source as inline expressions."""

from __future__ import annotations

from collections.abc import Sequence

from lib_embedmerge.core.calling import escape_name
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.lang.nodes import Inline
from lib_embedmerge.lang.source import Source, parse, read_prompt
from lib_embedmerge.lang.typed import escape_prompt


def join_names(names: Sequence[str]) -> str:
    """The names as a prompt calls them, separated by spaces. Brackets in them get a backslash."""
    return " ".join(map(escape_name, names))


def write_inline(source: Source, embeddings: Sequence[Embedding]) -> str:
    """The source as part of a prompt. A split expression becomes its pieces, because an expression in a prompt may
    not have more vectors than one embedding."""
    if source.kind == "prompt":
        return escape_prompt(source.text).strip()
    if len(embeddings) == 1:
        return _put_in_brackets(source.text.strip())
    return " ".join(_put_in_brackets(embedding.recipe or "") for embedding in embeddings)


def _put_in_brackets(expression: str) -> str:
    """An expression in angle brackets, or in curly brackets if its texts contain angle brackets, which could confuse
    other programs."""
    angle, curly = f"<{expression}>", "{" + expression + "}"
    nodes = parse(expression).nodes
    forms = [curly, angle] if set(expression) & set("<>") and not set(expression) & set("{}") else [angle, curly]
    # A name that Embedding Merge wrote, as 'EM_1', is plain text in a prompt unless it is in parentheses.
    return next((form for form in forms if _is_read_as(form, nodes)), f"<({expression})>")


def _is_read_as(form: str, nodes: Sequence[object]) -> bool:
    """Whether a prompt that consists of `form` is read as these nodes."""
    return [part.expression if isinstance(part, Inline) else part for part in read_prompt(form)] == list(nodes)
