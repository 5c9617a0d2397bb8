"""Find the embeddings in a source that were made for another model than the one the source is built on.

Their vectors are those of the other model, so the result mixes two models. The user may want that, so it is no error,
but a sentence tells them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model, NamedEmbedding, Progress
from lib_embedmerge.core.texts import TextReader
from lib_embedmerge.embeddings.tag import ModelTag, read_tag
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.lang.source import Source


@dataclass(frozen=True)
class ForeignEmbedding:
    """An embedding that was made for another model and has other vectors on the model in use.

    made_for: title of the other model.  sentence: for the user, with what to do about it.
    """

    name: str
    made_for: str
    sentence: str


def find_foreign_embeddings(
    source: Source, text_readers: Iterable[TextReader], model: Model, progress: Progress | None = None
) -> list[ForeignEmbedding]:
    """The embeddings in a source that were made for another model, each once.

    Only embeddings with a tag can be found. An embedding that cannot be loaded is left out; evaluation reports it.
    progress: called while the model is fingerprinted, which happens if a named embedding has a tag.
    """
    named = {embedding.name: embedding for texts in text_readers for embedding in _load_named(source, texts)}
    return find_foreign(named.values(), model, progress)


def find_foreign(
    embeddings: Iterable[NamedEmbedding], model: Model, progress: Progress | None = None
) -> list[ForeignEmbedding]:
    """Those of some embeddings that were made for another model; progress as in `find_foreign_embeddings`."""
    named = {embedding.name: embedding for embedding in embeddings}
    tags = {name: read_tag(embedding.metadata) for name, embedding in named.items() if not embedding.follows_recipe}
    tagged = {name: tag for name, tag in tags.items() if tag is not None and tag.token_tables}
    if tagged:
        model.fingerprints(progress)
    checked = (_check_embedding(named[name], tag, model) for name, tag in tagged.items())
    return [embedding for embedding in checked if embedding is not None]


def find_followed_embeddings(source: Source, text_readers: Iterable[TextReader]) -> list[str]:
    """The names in a source whose embeddings were made again from their recipes, each once."""
    named = (embedding for texts in text_readers for embedding in _load_named(source, texts))
    return list(dict.fromkeys(embedding.name for embedding in named if embedding.follows_recipe))


def _load_named(source: Source, texts: TextReader) -> Iterator[NamedEmbedding]:
    """The embeddings that a source names and that can be loaded."""
    for name in texts.find_names(source.texts()):
        with contextlib.suppress(StorageError):  # evaluation reports it
            yield texts.embedding(name)


def _check_embedding(embedding: NamedEmbedding, tag: ModelTag, model: Model) -> ForeignEmbedding | None:
    """The report on an embedding if it was made for another model and its vectors matter there; else None."""
    from lib_embedmerge.recipes.fit import fit_by_tag  # only sources that name embeddings need it

    if not {encoder.key for encoder in model.encoders} <= set(embedding.vectors) or fit_by_tag(tag, model):
        return None
    made_for, here = tag.made_for or "another model", model.facts.title
    advice = _advise(embedding, tag, model)
    if advice is None:
        return None
    sentence = f"{quote(embedding.name)} was made for {made_for}, not {here}. {advice}"
    return ForeignEmbedding(embedding.name, made_for, sentence)


def _advise(embedding: NamedEmbedding, tag: ModelTag, model: Model) -> str | None:
    """What the user can do about an embedding of another model; None if its recipe gives the same vectors here."""
    from lib_embedmerge.recipes.fit import fit_by_recipe
    from lib_embedmerge.recipes.run import RECIPE_ERRORS, run_recipe

    if not tag.recipe:
        return (
            "It has no recipe, so it cannot be made for this model, and the result mixes the vectors of two models. "
            "Use an embedding that was made for this model."
        )
    try:
        fresh = run_recipe(tag.recipe, tag.uses, model)
    except RECIPE_ERRORS as error:
        return (
            f"Its recipe does not work on this model ({error.message}), so the result mixes the vectors of two models."
        )
    if fit_by_recipe(embedding.vectors, fresh).status != FitStatus.DIFFERS:
        return None
    return (
        "Its recipe gives different vectors on this model. Use its recipe or rebuild it; otherwise the result mixes "
        "the vectors of two models."
    )
