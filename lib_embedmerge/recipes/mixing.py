"""Embeddings that a source names and that were made for another model than the one it is built on.

Their vectors are those of the other model, so what the source makes of them mixes two models. That can be meant, and is
said in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model, NamedEmbedding, Progress
from lib_embedmerge.core.texts import EmbeddingRun, TextReader
from lib_embedmerge.embeddings.tag import ModelTag, read_tag
from lib_embedmerge.errors import EmbedMergeError, StorageError, quote
from lib_embedmerge.lang.source import Source
from lib_embedmerge.recipes.fit import fit_by_recipe, fit_by_tag
from lib_embedmerge.recipes.run import run_recipe


@dataclass(frozen=True)
class MixedEmbedding:
    """An embedding whose vectors are those of another model.

    made_for: the other model's title.  sentence: what to tell the user, with the way out.
    """

    name: str
    made_for: str
    sentence: str


def find_mixed_embeddings(
    source: Source, readings: Iterable[TextReader], model: Model, progress: Progress | None = None
) -> list[MixedEmbedding]:
    """The embeddings in a source that were made for another model, each once.

    progress: called while the model is fingerprinted, where a name has a tag and the fingerprints are not known yet.
    """
    found = {embedding.name: embedding for texts in readings for embedding in _named(source, texts)}
    tags = {name: read_tag(embedding.metadata) for name, embedding in found.items() if not embedding.follows_recipe}
    tagged = {name: tag for name, tag in tags.items() if tag is not None and tag.token_tables}
    if tagged:
        model.fingerprints(progress)
    mixed = (_mixed(found[name], tag, model) for name, tag in tagged.items())
    return [embedding for embedding in mixed if embedding is not None]


def find_followed_embeddings(source: Source, readings: Iterable[TextReader]) -> list[str]:
    """The names in a source whose embeddings were made again from their recipes, each once."""
    found = (embedding for texts in readings for embedding in _named(source, texts))
    return list(dict.fromkeys(embedding.name for embedding in found if embedding.follows_recipe))


def _named(source: Source, texts: TextReader) -> Iterator[NamedEmbedding]:
    for text in source.texts():
        for run in texts.runs(text):
            if isinstance(run, EmbeddingRun):
                try:
                    yield texts.embedding(run.name)
                except StorageError:  # said where it is evaluated
                    continue


def _mixed(embedding: NamedEmbedding, tag: ModelTag, model: Model) -> MixedEmbedding | None:
    if not {one.key for one in model.encoders} <= set(embedding.vectors) or fit_by_tag(tag, model):
        return None
    made_for, here = tag.made_for or "another model", model.facts.title
    way = _way_out(embedding, tag, model)
    if way is None:
        return None
    return MixedEmbedding(
        embedding.name, made_for, f"{quote(embedding.name)} was made for {made_for}, not {here}. {way}"
    )


def _way_out(embedding: NamedEmbedding, tag: ModelTag, model: Model) -> str | None:
    """What can be done about it; None where nothing has to be."""
    if not tag.recipe:
        return "It has no recipe, so it cannot be made for this model: the result mixes the vectors of two models."
    try:
        fresh = run_recipe(tag.recipe, tag.uses, model)
    except EmbedMergeError as error:
        return (
            f"Its recipe does not work on this model ({error.message}), so the result mixes the vectors of two models."
        )
    if fit_by_recipe(embedding.vectors, fresh).status != FitStatus.DIFFERS:
        return None
    return (
        "Its recipe gives different vectors on this model. Follow its recipe or rebuild it; otherwise the result mixes "
        "the vectors of two models."
    )
