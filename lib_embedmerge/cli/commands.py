"""What each command does: options in, one plain value out, which is also its JSON. Draws nothing but progress.

Heavy imports stand inside the commands that need them: `parse` and usage errors come without torch, in a tenth of the
time.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lib_embedmerge.cli.standard_input import read_source
from lib_embedmerge.errors import CheckpointError, ExpressionError, LookalikeError, StorageError, quote

if TYPE_CHECKING:
    from lib_embedmerge.core.outline import Outliner
    from lib_embedmerge.embeddings.embedding import Embedding
    from lib_embedmerge.facade import CheckpointModel
    from lib_embedmerge.lang.typed import Typed


Json = dict[str, Any]


class StoppedError(Exception):
    """Ctrl+C in the middle. result: what was done until then, as the command would have given it."""

    def __init__(self, result: object) -> None:
        super().__init__("interrupted")
        self.result = result


def build(options: argparse.Namespace) -> Json | list[Json]:
    """Make an embedding and save it; with --split a list of them, as many as the source needs."""
    from lib_embedmerge.cli.progress import progress_bar
    from lib_embedmerge.embeddings.names import without_suffix
    from lib_embedmerge.recipes.build import BuildOptions, build_embedding, build_split, list_split_names
    from lib_embedmerge.recipes.following import FollowingNames

    typed = _typed(options)
    options.name = without_suffix(options.name)
    folder = Path(options.output or options.embeddings or ".")
    model = _open(options)
    try:
        following = FollowingNames(model, quiet=True) if options.follow else None
        names = list_split_names(model, typed.source, options.name, following) if options.split else [options.name]
        # All that a file's name can be refused for comes before the work.
        warnings = [*typed.all_remarks, *model.facts.warnings, *_name_warnings(names, folder, options, model)]
        with progress_bar("Fingerprinting the model (only once)", quiet=options.json) as progress:
            wishes = BuildOptions(options.notes, options.negative or None, progress=progress, names=following)
            if options.split:
                embeddings = build_split(model, typed.source, options.name, wishes)
            else:
                embeddings = [build_embedding(model, typed.source, options.name, wishes)]
    except ExpressionError as error:
        raise typed.map_error(error) from error
    saved_as_json = [_save(embedding, folder, options, typed.kind, warnings) for embedding in embeddings]
    return saved_as_json if options.split else saved_as_json[0]


def _typed(options: argparse.Namespace) -> Typed:
    """The source that is to be built. ExpressionError for one that cannot be read, or hardly means what it reads."""
    from lib_embedmerge.actions.typed_input import read_to_build

    try:
        return read_to_build(read_source(options.source), options.attention, options.read_as)
    except LookalikeError as error:
        error.hint = f"{error.hint} To build it as a prompt anyway, add --as prompt."
        raise


def show(options: argparse.Namespace) -> Json:
    """An embedding's figures and tag; with a checkpoint its nearest tokens there, and whether it fits."""
    from lib_embedmerge.actions.json_answers import embedding_as_json
    from lib_embedmerge.cli.progress import progress_bar
    from lib_embedmerge.embeddings.embedding import load_embedding

    with _pointing_to("info", options.file):
        embedding = load_embedding(options.file, bundled=options.bundled)
    model = _open(options) if options.checkpoint else None
    if model is not None:
        with progress_bar("Fingerprinting the model (only once)", quiet=options.json) as progress:
            model.fingerprints(progress)
    return embedding_as_json(embedding, model, options.nearest)


def list_(options: argparse.Namespace) -> list[Json]:
    """Every embedding of a folder, by its header alone; with a checkpoint also how each fits."""
    from lib_embedmerge.actions.json_answers import listing_as_json
    from lib_embedmerge.cli.progress import progress_bar
    from lib_embedmerge.embeddings.library import EmbeddingFolder
    from lib_embedmerge.recipes.listing import list_embeddings
    from lib_embedmerge.tokenizer import clip_tokenizer

    entries = list_embeddings(EmbeddingFolder(options.embeddings or ".", clip_tokenizer()))
    model = _open(options) if options.checkpoint else None
    if model is not None:
        with progress_bar("Fingerprinting the model (only once)", quiet=options.json) as progress:
            model.fingerprints(progress)
    return listing_as_json(entries, model)


def rebuild(options: argparse.Namespace) -> list[Json]:
    """Variants of embeddings for other checkpoints: one result for each pair. StoppedError at Ctrl+C."""
    from lib_embedmerge.cli.progress import progress_bar
    from lib_embedmerge.facade import open_checkpoint
    from lib_embedmerge.recipes.rebuild import rebuild_for_each

    sources = _embedding_files(options.paths)
    checkpoints = list(dict.fromkeys(map(Path, options.checkpoint)))
    first = Path(options.paths[0])
    embeddings = options.embeddings or (first if first.is_dir() else first.parent)
    opened = functools.partial(open_checkpoint, embeddings=embeddings, device=options.device)
    folder = Path(options.output) if options.output else None
    results: list[Json] = []
    try:
        with progress_bar("Rebuilding", quiet=options.json, counted=True) as progress:
            for checkpoint, one in rebuild_for_each(sources, checkpoints, opened, folder):
                results.append(one.as_json(checkpoint))
                if progress:
                    progress(len(results), len(sources) * len(checkpoints))
    except KeyboardInterrupt as error:
        raise StoppedError(results) from error
    return results


def parse(options: argparse.Namespace) -> Json:
    """How a source is read: its kind, its canonical spelling and its parts with their token ids."""
    from lib_embedmerge.actions.json_answers import parsed_as_json
    from lib_embedmerge.lang.typed import read_typed

    typed = read_typed(read_source(options.source), options.attention, options.read_as)
    model = _open(options) if options.checkpoint else None
    return parsed_as_json(typed, _outliner(options, model), options.by, model)


def info(options: argparse.Namespace) -> Json:
    """What a checkpoint is, read off its file, and the fingerprints of its text encoders."""
    from lib_embedmerge.cli.progress import progress_bar
    from lib_embedmerge.core.statistics import finite_or_none

    with _pointing_to("show", options.checkpoint):
        model = _open(options)
    with progress_bar("Fingerprinting the model (only once)", quiet=options.json) as progress:
        fingerprints = model.fingerprints(progress)
    facts = model.facts
    return {
        "title": facts.title,
        "file": str(model.path),
        "layout": facts.layout,
        "architecture": facts.architecture.name,
        "variant": facts.variant,
        "prediction_type": facts.prediction_type,
        "zero_terminal_snr": facts.zero_terminal_snr,
        "text_encoder_files": list(facts.text_encoder_files),
        "encoders": {
            encoder.key: {
                "width": encoder.width,
                "vocabulary_size": encoder.vocabulary_size,
                "mean_length": finite_or_none(fingerprints[encoder.key].mean_length),
                "token_table": fingerprints[encoder.key].token_table,
                "text_encoder": fingerprints[encoder.key].text_encoder,
            }
            for encoder in model.encoders
        },
        "warnings": list(facts.warnings),
    }


def report(options: argparse.Namespace) -> Json:
    """What a bug report needs; with a checkpoint, what that is."""
    from lib_embedmerge.actions import reporting
    from lib_embedmerge.cli.progress import progress_bar

    if options.checkpoint is None:
        return reporting.report().as_json()
    try:
        model = _open(options)
        with progress_bar("Fingerprinting the model (only once)", quiet=options.json) as progress:
            model.fingerprints(progress)
    except CheckpointError as error:
        return reporting.report_of_fault(error, Path(options.checkpoint)).as_json()
    return reporting.report_on(model).as_json()


@contextlib.contextmanager
def _pointing_to(command: Literal["info", "show"], path: str) -> Iterator[None]:
    """Let an error about a file that another command is for say so."""
    try:
        yield
    except (CheckpointError, StorageError) as error:
        if _is_for(command, Path(path)):
            kind = "a checkpoint" if command == "info" else "an embedding"
            error.message = f"{quote(Path(path).name)} is {kind}."
            error.hint = f"Use: embedmerge {command} {quote(path)}"
        raise


def _is_for(command: str, path: Path) -> bool:
    from lib_embedmerge.embeddings.embedding import load_embedding
    from lib_embedmerge.facade import open_checkpoint

    try:
        (open_checkpoint if command == "info" else load_embedding)(path)
    except (CheckpointError, StorageError):
        return False
    return True


def exit_code_of_rebuild(results: Sequence[Json]) -> int:
    """The exit code of `rebuild`: 1 where no embedding is there for its checkpoint now."""
    from lib_embedmerge.recipes.rebuild import SKIPPED

    return int(all(result["status"] == SKIPPED for result in results))


def demo(options: argparse.Namespace) -> Json:
    """Make the demo checkpoint and an embedding on it; gives both, and the embedding as `show` does."""
    from lib_embedmerge.cli.progress import progress_bar
    from lib_embedmerge.demo import DEMO_NAME, DEMO_SOURCE, make_demo_checkpoint
    from lib_embedmerge.files.cache import demo_folder

    with progress_bar("Making the demo checkpoint (only once)", quiet=options.json) as progress:
        checkpoint = make_demo_checkpoint(progress)
    common = {"checkpoint": checkpoint, "text_encoder": [], "embeddings": None, "device": "cpu", "json": options.json}
    made = build(
        argparse.Namespace(
            **common,
            source=DEMO_SOURCE,
            name=DEMO_NAME,
            output=demo_folder(),
            dtype="float32",
            force=True,
            split=False,
            attention="drop",
            read_as="auto",
            follow=False,
            notes="",
            negative=False,
        )
    )
    assert isinstance(made, dict)
    embedding_as_json = show(argparse.Namespace(**common, file=made["file"], bundled=None, nearest=3))
    return {"checkpoint": str(checkpoint), "source": DEMO_SOURCE, "build": made, "show": embedding_as_json}


def _open(options: argparse.Namespace) -> CheckpointModel:
    from lib_embedmerge.facade import open_checkpoint

    return open_checkpoint(
        options.checkpoint,
        embeddings=options.embeddings,
        text_encoders=options.text_encoder,
        device=options.device,
    )


def _name_warnings(
    names: Sequence[str], folder: Path, options: argparse.Namespace, model: CheckpointModel
) -> list[str]:
    """What speaks against names beside the embeddings that are there. StorageError where one cannot be saved."""
    from lib_embedmerge.embeddings.embedding import check_not_existing
    from lib_embedmerge.embeddings.library import EmbeddingFolder
    from lib_embedmerge.embeddings.names import SUFFIX, check_name

    tokenizer = model.encoders[0].tokenizer
    folders = {folder, Path(options.embeddings or folder)}
    there = {name for one in folders if one.is_dir() for name in EmbeddingFolder(one, tokenizer).names()}
    warnings: list[str] = []
    for name in names:
        check = check_name(name, existing=there.union(names) - {name}, tokenizer=tokenizer)
        if check.error:
            raise StorageError(check.error, hint=f"This name works: {check.better}." if check.better else None)
        if not options.force:
            check_not_existing(folder / (name + SUFFIX))
        warnings += check.warnings
    return warnings


def _save(embedding: Embedding, folder: Path, options: argparse.Namespace, kind: str, warnings: Sequence[str]) -> Json:
    from lib_embedmerge.actions.json_answers import saved_as_json

    path = embedding.save(folder, dtype=options.dtype, overwrite=options.force)
    return saved_as_json(embedding, path, kind, [*warnings, *embedding.notes])


def _embedding_files(paths: Sequence[str]) -> list[Path]:
    """The files, and those of the folders, each once."""
    from lib_embedmerge.embeddings.library import EmbeddingFolder
    from lib_embedmerge.tokenizer import clip_tokenizer

    found: dict[Path, None] = {}
    for path in map(Path, paths):
        files = EmbeddingFolder(path, clip_tokenizer()).files() if path.is_dir() else [path]
        found |= dict.fromkeys(files)
    return list(found)


def _outliner(options: argparse.Namespace, model: CheckpointModel | None) -> Outliner:
    """How texts are read: as the model reads them, or as any SDXL model does where none is given."""
    from lib_embedmerge.core.outliners import make_outliner, make_outliner_without_model

    if model is not None:
        return make_outliner(model)

    from lib_embedmerge.core.texts import NoEmbeddings
    from lib_embedmerge.tokenizer import clip_tokenizer

    tokenizer = clip_tokenizer()
    if not options.embeddings:
        return make_outliner_without_model(tokenizer, NoEmbeddings())
    from lib_embedmerge.embeddings.library import EmbeddingFolder

    return make_outliner_without_model(tokenizer, EmbeddingFolder(options.embeddings, tokenizer))
