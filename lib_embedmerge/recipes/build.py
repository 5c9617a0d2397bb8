"""Build an embedding with its tag from a source text and a model, or several if one cannot hold all vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.cutting import TokenizedText
from lib_embedmerge.core.evaluate import Vectors, evaluate, make_text_readers
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.parts import Part, find_cut_points, find_parts, join_outline
from lib_embedmerge.core.ports import EmbeddingNames, Model, NamedEmbedding, Progress
from lib_embedmerge.core.spelling import spell
from lib_embedmerge.core.texts import TextReader, TokenRun
from lib_embedmerge.embeddings.embedding import Embedding, hash_vectors
from lib_embedmerge.embeddings.tag import UsedEmbedding, read_tag_or_empty
from lib_embedmerge.embeddings.tag_writing import Origin, make_metadata
from lib_embedmerge.errors import EvaluationError, ExpressionError, quote
from lib_embedmerge.lang.nodes import PromptText
from lib_embedmerge.lang.printer import print_concatenation, print_text
from lib_embedmerge.lang.prompt_notes import find_prompt_notes
from lib_embedmerge.lang.source import Source, parse
from lib_embedmerge.recipes.foreign_embeddings import find_followed_embeddings, find_foreign_embeddings


@dataclass(frozen=True)
class BuildOptions:
    """The user's choices for an embedding, apart from its source and name.

    notes: free text.  negative: whether it is meant for negative prompts, or None if the user did not say.
    date: for the tag; None for now.  progress: called while the model is fingerprinted.
    names: the embeddings that the source may name; None for those of the model, as their files store them.
    """

    notes: str = ""
    negative: bool | None = None
    date: datetime | None = None
    progress: Progress | None = field(default=None, compare=False)
    names: EmbeddingNames | None = field(default=None, compare=False)


def build_embedding(model: Model, source: str | Source, name: str, options: BuildOptions | None = None) -> Embedding:
    """The embedding that a source makes on a model, with its tag. It is not saved yet.

    source: a text in the language, or the result of parsing one.

    The embedding's `warnings` list the parts of a prompt that have no effect in it, and the embeddings of other models
    that the source names. ExpressionError or EvaluationError for a fault of the source, StorageError for what a file
    cannot hold, CheckpointError if the model's file cannot be read.
    """
    options = options or BuildOptions()
    parsed = _parse_once(source)
    text_readers = make_text_readers(model, options.names)
    vectors = evaluate(parsed, model, text_readers=text_readers)
    description = _describe(name, parsed, text_readers, model, options.progress)
    return _make_embedding(model, parsed, vectors, description, options)


def list_split_names(model: Model, source: str | Source, name: str, names: EmbeddingNames | None = None) -> list[str]:
    """The names that `build_split` would give: `name` alone if one embedding holds the source. Computes no vectors.

    source: as for `build_embedding`.  names: as in `BuildOptions`.
    """
    return _number_names(name, len(_SplitSource(model, _parse_once(source), names).runs))


def build_split(model: Model, source: str | Source, name: str, options: BuildOptions | None = None) -> list[Embedding]:
    """As many embeddings as a source of any length needs: `name` alone, or `name-1`, `name-2`, ...

    The vectors are cut where the web UIs cut prompts (core/parts.py); the embeddings in order hold all of them. Each
    has its own recipe, which makes its vectors again. Arguments and errors are those of `build_embedding`; also raises
    EvaluationError if a piece has no recipe.
    """
    options = options or BuildOptions()
    parsed = _parse_once(source)
    split = _SplitSource(model, parsed, options.names)
    if len(split.runs) == 1:
        return [build_embedding(model, parsed, name, options)]
    recipes = [split.write_recipe(start, end) for start, end in split.runs]
    text_readers = make_text_readers(model, options.names)
    vectors = evaluate(parsed, model, text_readers=text_readers, limit=None)
    whole = _describe(name, parsed, text_readers, model, options.progress)
    embeddings = []
    for piece_name, recipe, (start, end) in zip(_number_names(name, len(recipes)), recipes, split.runs, strict=True):
        piece = {key: rows[start:end] for key, rows in vectors.items()}
        description = replace(whole, name=piece_name, recipe=recipe)
        embeddings.append(_make_embedding(model, parsed, piece, description, options))
    return embeddings


def _parse_once(source: str | Source) -> Source:
    """The parsed source; a text is parsed, a `Source` is returned unchanged."""
    return source if isinstance(source, Source) else parse(source)


def _number_names(name: str, count: int) -> list[str]:
    """`name` alone, or `name-1` and so on. All numbers have the same length, so that no name begins with another."""
    return [name] if count == 1 else [f"{name}-{number:0{len(str(count))}}" for number in range(1, count + 1)]


class _SplitSource:
    """A source split into runs of at most 75 vectors. runs: (start, end) of each, as indices of vectors."""

    def __init__(self, model: Model, source: Source, names: EmbeddingNames | None) -> None:
        self._source = source
        self._outliner = make_outliner(model, make_text_readers(model, names)[0])
        self._tokenizer = self._outliner.texts.tokenizer
        self._segments = find_parts(source, self._outliner)
        self._typed = {
            part.first: typed for part, typed in zip(self._segments, self._find_typed_texts(), strict=True) if typed
        }
        self._outline = join_outline(self._segments)
        self.runs = find_cut_points(self._segments, self._tokenizer.comma_id)

    def _find_typed_texts(self) -> Iterator[tuple[TokenizedText, int] | None]:
        """For each segment that is a text: the typed text that it lies in, and the index of its first token there.

        None for an embedding or an expression.
        """
        for node in self._source.nodes:
            if not isinstance(node, PromptText):
                yield None
                continue
            text, first = TokenizedText(node.text, self._tokenizer), 0
            for run in self._outliner.texts.runs(node.text):
                yield (text, first) if isinstance(run, TokenRun) else None
                first += len(run.ids)

    def write_recipe(self, start: int, end: int) -> str:
        """A source that makes the vectors [start:end]. EvaluationError if there is none."""
        if self._source.kind == "expression":
            recipe = _cut_expression(self._source.as_expression(), start, end)
        else:
            pieces = (self._write_piece(segment, start, end) for segment in self._segments)
            recipe = print_concatenation([piece for piece in pieces if piece is not None])
        try:
            outline = self._outliner.outline(parse(recipe))
        except ExpressionError as error:
            raise self._make_error(f"This cannot be split: {error.message}") from error
        if outline != self._outline[start:end]:
            raise self._make_error("This cannot be split: its pieces would be read differently.")
        return recipe

    def _write_piece(self, segment: Part, start: int, end: int) -> str | None:
        """The part of a segment within [start:end] as an expression, or None if no vector of it lies there."""
        first, stop = max(start - segment.first, 0), min(end - segment.first, len(segment.ids))
        if first >= stop:
            return None
        if segment.kind == "text":
            typed, first_token = self._typed[segment.first]
            text = typed.find_text(first_token + first, first_token + stop)
            ids = [token for token in segment.ids[first:stop] if token is not None]
            return spell(ids, self._tokenizer) if text is None else print_text(text)
        whole = print_text(segment.text) if segment.kind == "embedding" else segment.text
        return whole if stop - first == len(segment.ids) else _cut_expression(whole, first, stop)

    def _make_error(self, message: str) -> EvaluationError:
        text = self._source.text
        return EvaluationError(message, source=text, start=0, end=len(text), hint="Split the text by hand.")


def _cut_expression(expression: str, start: int, end: int) -> str:
    """An expression for the vectors [start:end] of another expression."""
    return f"({expression}):-{start}:{end - start}"


@dataclass(frozen=True)
class _Description:
    """The name of an embedding, and what it is made from.

    uses: name -> record of each embedding that the recipe names.
    warnings: sentences for the user on those embeddings.
    """

    name: str
    recipe: str
    uses: Mapping[str, UsedEmbedding]
    warnings: tuple[str, ...] = ()


def _describe(
    name: str, source: Source, text_readers: Sequence[TextReader], model: Model, progress: Progress | None
) -> _Description:
    """The description of the embedding `name` that a source makes on a model."""
    foreign = {
        embedding.name: embedding for embedding in find_foreign_embeddings(source, text_readers, model, progress)
    }
    uses = {
        used: replace(record, made_for=foreign[used].made_for) if used in foreign else record
        for used, record in find_used_embeddings(source, text_readers).items()
    }
    followed = [
        f"The recipe of {quote(used)} was used on {model.facts.title}, not its saved vectors."
        for used in find_followed_embeddings(source, text_readers)
    ]
    return _Description(name, source.text, uses, (*(embedding.sentence for embedding in foreign.values()), *followed))


def _make_embedding(
    model: Model, source: Source, vectors: Vectors, description: _Description, options: BuildOptions
) -> Embedding:
    """The embedding with these vectors and its tag. EvaluationError if there are no vectors."""
    if not len(next(iter(vectors.values()))):
        raise EvaluationError(
            "This makes no vectors, so there is nothing to save.",
            source=source.text,
            start=0,
            end=len(source.text),
            expected="a text or an expression that makes 1 to 75 vectors",
        )
    origin = Origin(
        name=description.name,
        model=model.facts,
        date=options.date or datetime.now(timezone.utc),
        fingerprints=model.fingerprints(options.progress),
        recipe=description.recipe,
        uses=description.uses,
        notes=options.notes,
        negative=options.negative,
    )
    warnings = (*description.warnings, *find_prompt_notes(source))
    on_cpu = {key: to_numpy(rows) for key, rows in vectors.items()}
    return Embedding(description.name, on_cpu, make_metadata(origin), warnings=warnings, own=True)


def find_used_embeddings(source: Source, text_readers: Iterable[TextReader]) -> Mapping[str, UsedEmbedding]:
    """Name -> its entry in the tag, for every embedding that a source names.

    A name without an entry is plain text when the recipe is run again (run.py).
    text_readers: of the model's text encoders.
    """
    used: dict[str, UsedEmbedding] = {}
    for texts in text_readers:
        for name in texts.find_names(source.texts()):
            if name not in used:
                used[name] = record_used_embedding(texts.embedding(name))
    return used


def record_used_embedding(embedding: NamedEmbedding) -> UsedEmbedding:
    """The entry of a tag for an embedding that its recipe names."""
    tag = read_tag_or_empty(embedding.metadata)
    count = len(next(iter(embedding.vectors.values())))
    follows = embedding.follows_recipe
    return UsedEmbedding(hash_vectors(embedding.vectors), tag.recipe, tag.uses, count, follows=follows)
