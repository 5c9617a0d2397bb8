"""From a source text and a model to an embedding with its tag; or to several, where one cannot hold it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from lib_embedmerge.core.evaluate import Vectors, evaluate, outliner_of, texts_of
from lib_embedmerge.core.parts import cut_points
from lib_embedmerge.core.ports import Model, Progress
from lib_embedmerge.core.texts import EmbeddingRun, Texts
from lib_embedmerge.errors import EvaluationError
from lib_embedmerge.lang.nodes import PromptText
from lib_embedmerge.lang.source import Source, parse
from lib_embedmerge.storage.embedding import Embedding
from lib_embedmerge.storage.tag import Origin, UsedEmbedding, make_metadata

_NOT_IN_AN_EMBEDDING = (
    (re.compile(r"\([^()]*:\s*[0-9.]+\s*\)|\(\(|\[\["), "attention brackets are plain characters in an embedding"),
    (re.compile(r"\[[^\[\]]*:[^\[\]]*:\s*[0-9.]+\s*\]|\[[^\[\]]*\|"), "prompt editing is plain text in an embedding"),
    (re.compile(r"<\w+:[^>]+>"), "extra networks such as LoRA cannot be part of an embedding; their tag is plain text"),
    (re.compile(r"\b(?:AND|BREAK)\b"), "AND and BREAK are plain words in an embedding"),
    (re.compile(r"__[\w/*-]+__"), "wildcards are plain text in an embedding"),
    (
        re.compile(r"""^\s*["“”‘’`´][^"“”‘’`´]*["“”‘’`´]\s*[-+*/:,=]"""),
        "this is read as a prompt; for an expression, its texts stand in straight single quotes",
    ),
)
"""What a web UI would act on in a prompt, but which has no meaning among vectors."""


@dataclass(frozen=True)
class Wishes:
    """What the user says of an embedding beside its source.

    notes: free text.  negative: whether it is meant for negative prompts, None where not said.
    date: for the tag, None for now.  progress: called while the model is fingerprinted.
    """

    notes: str = ""
    negative: bool | None = None
    date: datetime | None = None
    progress: Progress | None = field(default=None, compare=False)


def build_embedding(model: Model, source: str, name: str, wishes: Wishes | None = None) -> Embedding:
    """The embedding that a source makes on a model, with its tag; not yet saved.

    Its `notes` say what in a prompt has no effect. Raises ExpressionError or EvaluationError for the source,
    StorageError for what a file cannot hold, CheckpointError where the model's file cannot be read.
    """
    read = parse(source)
    vectors = evaluate(read, model)
    return _tagged(model, read, vectors, _Named(name, source), wishes or Wishes())


def build_split(model: Model, source: str, name: str, wishes: Wishes | None = None) -> list[Embedding]:
    """As many embeddings as a source of any length needs: `name` alone, or `name-1`, `name-2`, ...

    They are cut as the web UIs cut prompts (core/parts.py), and one behind the other they are the whole. Each has a
    recipe of its own that gives its piece again.
    """
    read = parse(source)
    outline = outliner_of(model).outline(read)
    cuts = cut_points(outline, model.encoders[0].tokenizer.comma_id)
    if len(cuts) == 1:
        return [build_embedding(model, source, name, wishes)]
    vectors = evaluate(read, model, limit=None)
    whole = read.as_expression()
    embeddings = []
    for number, (start, end) in enumerate(cuts, 1):
        piece = {key: rows[start:end] for key, rows in vectors.items()}
        recipe = f"({whole}):-{start}:{end - start}"
        embeddings.append(_tagged(model, read, piece, _Named(f"{name}-{number}", recipe), wishes or Wishes()))
    return embeddings


@dataclass(frozen=True)
class _Named:
    name: str
    recipe: str


def _tagged(model: Model, source: Source, vectors: Vectors, named: _Named, wishes: Wishes) -> Embedding:
    if not len(next(iter(vectors.values()))):
        raise EvaluationError(
            "This makes no vectors, so there is nothing to save.",
            source=source.text,
            start=0,
            end=len(source.text),
            expected="a text or an expression that makes 1 to 75 vectors",
        )
    origin = Origin(
        name=named.name,
        model=model.facts,
        date=wishes.date or datetime.now(timezone.utc),
        fingerprints=model.fingerprints(wishes.progress),
        recipe=named.recipe,
        uses=used_embeddings(source, texts_of(model)),
        notes=wishes.notes,
        negative=wishes.negative,
    )
    return Embedding(named.name, vectors, make_metadata(origin), notes=prompt_notes(source))


def used_embeddings(source: Source, readings: Iterable[Texts]) -> Mapping[str, UsedEmbedding]:
    """What the tag records of each embedding that a source names."""
    used: dict[str, UsedEmbedding] = {}
    for texts in readings:
        for text in source.texts():
            for run in texts.runs(text):
                if isinstance(run, EmbeddingRun) and run.name not in used:
                    embedding = texts.embedding(run.name)
                    if isinstance(embedding, Embedding):
                        used[run.name] = embedding.used()
    return used


def prompt_notes(source: Source) -> tuple[str, ...]:
    """What a prompt holds that would act in a web UI but is only characters in an embedding, a sentence each."""
    # One text, in which an expression is a word: attention and editing stand around expressions too.
    prompt = "".join(part.text if isinstance(part, PromptText) else "expression" for part in source.parts)
    found = [(pattern.search(prompt), note) for pattern, note in _NOT_IN_AN_EMBEDDING]
    return tuple(f"{match[0][:40]!r}: {note}." for match, note in found if match)
