"""Results as plain text, for ComfyUI's text boxes and messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lib_embedmerge.errors import EmbedMergeError, Remedies, Remedy, escape_unprintable, format_count, quote
from lib_embedmerge.hosts.mistake_sentences import describe_position, make_sentence
from lib_embedmerge.lang.nodes import PromptText
from lib_embedmerge.lang.source import read_prompt

if TYPE_CHECKING:
    from lib_embedmerge.actions.saving_values import Saved
    from lib_embedmerge.actions.values import Answer, EncoderFigures, Inspection
    from lib_embedmerge.hosts.comfyui.text_counting import Counted, TextReading

REMEDIES: Remedies = {
    Remedy.OVERWRITE: "To overwrite it, set if_it_exists to “replace it”.",
    Remedy.READ_AS_PROMPT: "To build it as a prompt anyway, set read_as to “prompt”.",
}
"""How a node words what can be done about an error."""


def make_error_sentence(error: EmbedMergeError, text: str) -> str:
    """An error in one or more sentences, with its place. text: what the text is called."""
    error.word_remedy(REMEDIES)
    if error.source is None or error.start is None:
        return escape_unprintable(error.advice)
    return make_sentence(error, describe_position(error.start, text, _find_expression(error.source, error.start)))


def _find_expression(source: str, start: int) -> str:
    """The expression in a text that has a mistake at `start`, with its brackets; the whole text if it is one itself."""
    parts = (part for part in read_prompt(source) if not isinstance(part, PromptText))
    found = next((part for part in parts if part.start <= start <= part.end), None)
    return source if found is None else source[found.start : found.end]


def describe_counts(counts: Mapping[str, Counted]) -> str:
    """The tokens of each text encoder in lines. counts: name of an encoder for people -> its tokens."""
    lines: dict[str, list[str]] = {}
    for title, counted in counts.items():
        lines.setdefault(describe_count(counted), []).append(title)
    return "\n".join(f"{' and '.join(titles)}: {line}" for line, titles in lines.items())


def describe_count(counted: Counted) -> str:
    """The tokens of a text: `12 of 75 tokens, 2 of them vectors of embeddings`."""
    chunks = f" in {format_count(counted.chunks, 'chunk')}" if counted.chunks > 1 else ""
    line = f"{counted.tokens:,} of {counted.chunks * 75:,} tokens{chunks}"
    return f"{line}, {counted.vectors:,} of them vectors of embeddings" if counted.vectors else line


def describe_names(reading: TextReading) -> str:
    """The embeddings that a text calls, and the names that nothing has; empty if there are none."""
    found = f"Embeddings: {_join(reading.embeddings)}." if reading.embeddings else ""
    lost = f"No embedding has this name: {_join(reading.lost)}." if reading.lost else ""
    return "\n".join(filter(None, (found, lost)))


def describe_answer(answer: Answer) -> str:
    """How the source of an embedding is read, in lines."""
    if answer.kind == "nothing":
        return ""
    meant = answer.meant
    lines = [f"Read as {answer.kind}: {format_count(answer.count, 'vector')} of {answer.limit}.", *answer.warnings]
    if meant is not None and meant.is_certain:
        lines.append(f"{meant.reason} Did you mean {meant.source} ?")
    return "\n".join(lines)


def describe_saved(saved: Saved, *, is_old: bool = False) -> str:
    """A saved embedding. is_old: whether the file was there before with the same contents."""
    lines = []
    for file in saved.files:
        vectors = format_count(file.vectors, "vector")
        action = "already exists with these vectors" if is_old else "is saved"
        lines.append(f"{file.path.name} {action}: {vectors} for each text encoder.")
        lines.append(f"Recipe: {file.source}" if file.source else "")
        lines.append(f"Made for: {file.tag.get('modelspec.merged_from', '')}")
    return "\n".join(filter(None, (*lines, *saved.warnings)))


def describe_inspection(inspection: Inspection) -> str:
    """An embedding: whether it fits, where it comes from, and the tokens next to its vectors."""
    tag = inspection.tag
    facts = {
        "name": inspection.name,
        "file": inspection.file_name,
        "vectors": f"{inspection.count:,} for {inspection.architecture}",
        "made for": (tag.made_for if tag else None) or "",
        "recipe": inspection.recipe or "",
        "notes": (tag.notes if tag else None) or "",
    }
    width = max(map(len, facts))
    lines = [describe_fit(inspection), ""]
    lines += (f"{title:<{width}}  {escape_unprintable(value)}" for title, value in facts.items() if value)
    lines += inspection.warnings
    for encoder in inspection.encoders:
        lines += ["", f"{encoder.title}: length, and the nearest tokens with their cosine"]
        lines += (f"{number:>3}  {length:7.4f}  {tokens}" for number, length, tokens in list_vectors(encoder))
        lines += [f"... and {encoder.hidden:,} more"] if encoder.hidden else []
    return "\n".join(lines)


def describe_fit(inspection: Inspection) -> str:
    """Whether an embedding fits the model, in sentences."""
    if inspection.fit is None:
        why = inspection.fit_error.message if inspection.fit_error else ""
        return f"Whether it fits is unknown. {why}".strip()
    fit = inspection.fit
    return f"Fit: {fit.status}. {fit.detail} {fit.advice}"


def list_vectors(encoder: EncoderFigures) -> Iterable[tuple[int, float, str]]:
    """(number, length, nearest tokens) of each vector."""
    for vector in encoder.vectors:
        tokens = ", ".join(f"{_spell(near.token)} {near.cosine:.3f}" for near in vector.nearest)
        yield vector.number, vector.figures.len, tokens or "none"


def _spell(token: str) -> str:
    return escape_unprintable(token.removesuffix("</w>"))


def _join(names: Iterable[str]) -> str:
    return ", ".join(map(quote, names))
