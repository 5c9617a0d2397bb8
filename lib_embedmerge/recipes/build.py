"""From a source text and a model to an embedding with its tag; or to several, where one cannot hold it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from lib_embedmerge.core.cutting import TokenizedText
from lib_embedmerge.core.evaluate import Vectors, evaluate, make_text_readers
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.parts import Part, find_cut_points, find_parts
from lib_embedmerge.core.ports import EmbeddingNames, Model, NamedEmbedding, Progress
from lib_embedmerge.core.spelling import spell
from lib_embedmerge.core.texts import EmbeddingRun, TextReader, TokenRun
from lib_embedmerge.embeddings.embedding import Embedding, hash_vectors
from lib_embedmerge.embeddings.tag import ModelTag, UsedEmbedding, read_tag
from lib_embedmerge.embeddings.tag_writing import Origin, make_metadata
from lib_embedmerge.errors import EvaluationError, ExpressionError, quote
from lib_embedmerge.lang.nodes import PromptText
from lib_embedmerge.lang.printer import print_concatenation, print_text
from lib_embedmerge.lang.prompt_notes import find_prompt_notes
from lib_embedmerge.lang.source import Source, parse
from lib_embedmerge.recipes.mixing import find_followed_embeddings, find_mixed_embeddings


@dataclass(frozen=True)
class BuildOptions:
    """What the user says of an embedding beside its source.

    notes: free text.  negative: whether it is meant for negative prompts, None where not said.
    date: for the tag, None for now.  progress: called while the model is fingerprinted.
    names: the embeddings that the source can name, None for the model's as they are in their files.
    """

    notes: str = ""
    negative: bool | None = None
    date: datetime | None = None
    progress: Progress | None = field(default=None, compare=False)
    names: EmbeddingNames | None = field(default=None, compare=False)


def build_embedding(model: Model, source: str | Source, name: str, options: BuildOptions | None = None) -> Embedding:
    """The embedding that a source makes on a model, with its tag; not yet saved.

    source: a text in the language, or one that is parsed already.

    Its `warnings` say what in a prompt has no effect. Raises ExpressionError or EvaluationError for the source,
    StorageError for what a file cannot hold, CheckpointError where the model's file cannot be read.
    """
    options = options or BuildOptions()
    read = source if isinstance(source, Source) else parse(source)
    readings = make_text_readers(model, options.names)
    vectors = evaluate(read, model, text_readers=readings)
    return _tagged(model, read, vectors, _Named.of(name, read, readings, model, options.progress), options)


def list_split_names(model: Model, source: str | Source, name: str, names: EmbeddingNames | None = None) -> list[str]:
    """The names that build_split would give: `name` alone where one embedding holds the source. Computes no vectors.

    source: as in build_embedding.  names: as in BuildOptions.
    """
    read = source if isinstance(source, Source) else parse(source)
    return _names(name, len(_Cut(model, read, names).runs))


def build_split(model: Model, source: str | Source, name: str, options: BuildOptions | None = None) -> list[Embedding]:
    """As many embeddings as a source of any length needs: `name` alone, or `name-1`, `name-2`, ...

    They are cut as the web UIs cut prompts (core/parts.py), and one after the other they are the whole. Each has a
    recipe of its own that gives its piece again. Raises as build_embedding.
    """
    options = options or BuildOptions()
    read = source if isinstance(source, Source) else parse(source)
    cut = _Cut(model, read, options.names)
    if len(cut.runs) == 1:
        return [build_embedding(model, read, name, options)]
    recipes = [cut.recipe(start, end) for start, end in cut.runs]
    readings = make_text_readers(model, options.names)
    vectors = evaluate(read, model, text_readers=readings, limit=None)
    whole = _Named.of(name, read, readings, model, options.progress)
    embeddings = []
    for piece_name, recipe, (start, end) in zip(_names(name, len(recipes)), recipes, cut.runs, strict=True):
        piece = {key: rows[start:end] for key, rows in vectors.items()}
        named = replace(whole, name=piece_name, recipe=recipe)
        embeddings.append(_tagged(model, read, piece, named, options))
    return embeddings


def _names(name: str, count: int) -> list[str]:
    """Numbered with equally many digits, so that no name is the beginning of another."""
    return [name] if count == 1 else [f"{name}-{number:0{len(str(count))}}" for number in range(1, count + 1)]


class _Cut:
    """A source cut into runs of at most 75 vectors. runs: (first, end) of each."""

    def __init__(self, model: Model, source: Source, names: EmbeddingNames | None) -> None:
        self._source = source
        self._outliner = make_outliner(model, make_text_readers(model, names)[0])
        self._tokenizer = self._outliner.texts.tokenizer
        self._segments = find_parts(source, self._outliner)
        self._typed = {
            part.first: typed for part, typed in zip(self._segments, self._typed_texts(), strict=True) if typed
        }
        self._outline = tuple(token for segment in self._segments for token in segment.ids)
        self.runs = find_cut_points(self._outline, self._segments, self._tokenizer.comma_id)

    def _typed_texts(self) -> Iterator[tuple[TokenizedText, int] | None]:
        """For each segment that is a text, what was typed there and its first token; None for any other."""
        for node in self._source.nodes:
            if not isinstance(node, PromptText):
                yield None
                continue
            text, first = TokenizedText(node.text, self._tokenizer), 0
            for run in self._outliner.texts.runs(node.text):
                yield (text, first) if isinstance(run, TokenRun) else None
                first += len(run.ids)

    def recipe(self, start: int, end: int) -> str:
        """A source that gives the vectors start..end. EvaluationError where none can be written."""
        if self._source.kind == "expression":
            recipe = _cut_expression(self._source.as_expression(), start, end)
        else:
            pieces = (self._piece(segment, start, end) for segment in self._segments)
            recipe = print_concatenation([piece for piece in pieces if piece is not None])
        try:
            gives = self._outliner.outline(parse(recipe))
        except ExpressionError as error:
            raise self._error(f"This cannot be split: {error.message}") from error
        if gives != self._outline[start:end]:
            raise self._error("This cannot be split: its pieces would be read differently.")
        return recipe

    def _piece(self, segment: Part, start: int, end: int) -> str | None:
        """What of a segment lies within start..end, as an expression."""
        first, last = max(start - segment.first, 0), min(end - segment.first, len(segment.ids))
        if first >= last:
            return None
        if segment.kind == "text":
            typed, token = self._typed[segment.first]
            text = typed.find_text(token + first, token + last)
            ids = [token for token in segment.ids[first:last] if token is not None]
            return spell(ids, self._tokenizer) if text is None else print_text(text)
        whole = print_text(segment.text) if segment.kind == "embedding" else segment.text
        return whole if last - first == len(segment.ids) else _cut_expression(whole, first, last)

    def _error(self, message: str) -> EvaluationError:
        text = self._source.text
        return EvaluationError(message, source=text, start=0, end=len(text), hint="Split the text by hand.")


def _cut_expression(expression: str, start: int, end: int) -> str:
    return f"({expression}):-{start}:{end - start}"


@dataclass(frozen=True)
class _Named:
    """What an embedding is called and made from. warnings: what to say of the embeddings that its recipe names."""

    name: str
    recipe: str
    uses: Mapping[str, UsedEmbedding]
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, name: str, read: Source, readings: Sequence[TextReader], model: Model, progress: Progress | None
    ) -> _Named:
        """With the embeddings that a source names, as they are read there."""
        mixed = {one.name: one for one in find_mixed_embeddings(read, readings, model, progress)}
        uses = {
            used: replace(found, made_for=mixed[used].made_for) if used in mixed else found
            for used, found in find_used_embeddings(read, readings).items()
        }
        followed = [
            f"The recipe of {quote(used)} was used on {model.facts.title}, not its saved vectors."
            for used in find_followed_embeddings(read, readings)
        ]
        return cls(name, read.text, uses, (*(one.sentence for one in mixed.values()), *followed))


def _tagged(model: Model, source: Source, vectors: Vectors, named: _Named, options: BuildOptions) -> Embedding:
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
        date=options.date or datetime.now(timezone.utc),
        fingerprints=model.fingerprints(options.progress),
        recipe=named.recipe,
        uses=named.uses,
        notes=options.notes,
        negative=options.negative,
    )
    return Embedding(named.name, vectors, make_metadata(origin), warnings=(*named.warnings, *find_prompt_notes(source)))


def find_used_embeddings(source: Source, readings: Iterable[TextReader]) -> Mapping[str, UsedEmbedding]:
    """What the tag records of each embedding that a source names: of every one, since other names are plain text to
    those who run the recipe (recipes.py)."""
    used: dict[str, UsedEmbedding] = {}
    for texts in readings:
        for text in source.texts():
            for run in texts.runs(text):
                if isinstance(run, EmbeddingRun) and run.name not in used:
                    embedding = texts.embedding(run.name)
                    used[run.name] = record_used_embedding(embedding)
    return used


def record_used_embedding(embedding: NamedEmbedding) -> UsedEmbedding:
    """What a tag records of an embedding that its recipe names."""
    tag = read_tag(embedding.metadata) or ModelTag()
    count = len(next(iter(embedding.vectors.values())))
    follows = embedding.follows_recipe
    return UsedEmbedding(hash_vectors(embedding.vectors), tag.recipe, tag.uses, count, follows=follows)
