"""Preview pictures of embeddings: what is asked for, what was made, and which pictures the user wants to keep."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from lib_embedmerge.actions.managing import find_paths
from lib_embedmerge.core.ports import Model
from lib_embedmerge.core.prompt_frames import PLACEHOLDER, PromptFrame
from lib_embedmerge.embeddings.embedding import open_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.preview_writing import write_previews
from lib_embedmerge.embeddings.previews import find_preview
from lib_embedmerge.errors import HostError, StorageError, format_count, quote
from lib_embedmerge.hosts.picture_port import (
    DEFAULT_GUIDANCE,
    DEFAULT_SIDE,
    DEFAULT_STEPS,
    MAX_GUIDANCE,
    MAX_SEED,
    MAX_SIDE,
    MAX_STEPS,
    MIN_SIDE,
    SIDE_STEP,
    PictureMaker,
    PictureSettings,
)
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.recipes.fit import fit_by_architecture

MAX_SUBJECTS = 100
"""How many embeddings get a picture in one job, since the page shows all of them."""

MAX_GRID = 8
"""How many checkpoints a grid takes if the user has not chosen any."""

MAX_PROMPT = 4000

DEFAULT_PROMPT = f"detailed picture, {PLACEHOLDER}"


@dataclass(frozen=True)
class Subject:
    """An embedding that gets a picture.

    path: the file whose card shows it.  name: what the prompt calls: the embedding itself, or one of its versions.
    reason: why there can be no picture, None if there can.
    """

    path: Path
    name: str
    reason: str | None = None


class MadePicture(NamedTuple):
    """One picture of a job. subject: None for the picture without any embedding.

    picture: a PNG file, or None.  reason: why there is no picture.  has_other: whether the embedding had one before.
    """

    subject: Subject | None
    picture: Path | None = None
    reason: str | None = None
    has_other: bool = False


@dataclass(frozen=True)
class KeptPreviews:
    """What became of the pictures that a user wants to keep.

    names: of the embeddings that have their new picture.  replaced: how many old pictures are in the trash.
    faults: a sentence for each picture that could not be saved.
    """

    names: list[str] = field(default_factory=list)
    replaced: int = 0
    faults: list[str] = field(default_factory=list)


def find_maker(host: Host) -> PictureMaker:
    """What makes the host's pictures. HostError if it makes none."""
    if host.pictures is None:
        raise HostError(f"{host.title} makes no pictures.", hint="Use the tab in a web UI with txt2img.")
    return host.pictures


def read_settings(fields: Mapping[str, str]) -> PictureSettings:
    """The settings from the fields of a page.

    fields: `prompt`, `negative_prompt`, `sampler`, `scheduler`, `steps`, `width`, `height`, `guidance`, `seed`. A seed
        that is empty or negative is drawn.
    HostError with a sentence about the first field that cannot be used.
    """
    frame = PromptFrame(fields.get("prompt", ""), fields.get("negative_prompt", ""))
    for title, text in zip(("The prompt", "The negative prompt"), frame, strict=True):
        if len(text) > MAX_PROMPT:
            raise HostError(f"{title} has {len(text):,} characters.", hint=f"Write at most {MAX_PROMPT:,}.")
    sides = {name: _read_whole(fields, name, MIN_SIDE, MAX_SIDE) for name in ("width", "height")}
    for name, side in sides.items():
        if side % SIDE_STEP:
            raise HostError(f"The {name} is not a multiple of {SIDE_STEP}.", hint=f"{side - side % SIDE_STEP} is one.")
    seed = fields.get("seed", "").strip()
    return PictureSettings(
        prompts=frame,
        sampler=fields.get("sampler", ""),
        scheduler=fields.get("scheduler", ""),
        steps=_read_whole(fields, "steps", 1, MAX_STEPS),
        guidance=_read_number(fields, "guidance", "The CFG scale", 1, MAX_GUIDANCE),
        seed=secrets.randbelow(MAX_SEED)
        if not seed or seed.startswith("-")
        else _read_whole(fields, "seed", 0, MAX_SEED),
        **sides,
    )


def complete_fields(found: Mapping[str, str], samplers: Sequence[str], schedulers: Sequence[str]) -> dict[str, str]:
    """The fields of `read_settings` from those of another page. A value that cannot be used becomes the default.

    samplers, schedulers: those that can be chosen.
    """
    fields = {
        "prompt": DEFAULT_PROMPT,
        "negative_prompt": "",
        "sampler": next(iter(samplers), ""),
        "scheduler": next(iter(schedulers), ""),
        "steps": str(DEFAULT_STEPS),
        "width": str(DEFAULT_SIDE),
        "height": str(DEFAULT_SIDE),
        "guidance": f"{DEFAULT_GUIDANCE:g}",
        "seed": "",
    }
    choices = {"sampler": samplers, "scheduler": schedulers}
    for name, value in found.items():
        if name not in fields or not value.strip() or value not in choices.get(name, [value]):
            continue
        try:
            read_settings({**fields, name: value})
        except HostError:
            continue
        fields[name] = "" if name == "seed" and value.startswith("-") else value
    return fields


def _read_whole(fields: Mapping[str, str], name: str, least: int, most: int) -> int:
    """A whole number from a field. HostError if it is none between these."""
    title = "The number of steps" if name == "steps" else f"The {name}"
    number = _read_number(fields, name, title, least, most)
    if number != int(number):
        raise HostError(f"{title} is not a whole number.", hint=f"Write a number from {least:,} to {most:,}.")
    return int(number)


def _read_number(fields: Mapping[str, str], name: str, title: str, least: float, most: float) -> float:
    typed = fields.get(name, "").strip()
    hint = f"Write a number from {_format(least)} to {_format(most)}."
    try:
        number = float(typed)
    except ValueError:
        raise HostError(f"{title} is not a number: {quote(typed[:40])}.", hint=hint) from None
    if not math.isfinite(number) or not least <= number <= most:
        raise HostError(f"{title} cannot be {_format(number)}.", hint=hint)
    return number


def _format(number: float) -> str:
    """A number for people: whole ones with all digits, as in `4,294,967,295`."""
    is_short = math.isfinite(number) and number == int(number) and abs(number) < 1e15
    return f"{int(number):,}" if is_short else f"{number:g}"


def find_subjects(host: Host, pairs: Sequence[tuple[str, str]]) -> list[Subject]:
    """The embeddings that are to get pictures on the active model.

    pairs: the place of each embedding, and that of the file that is used in the prompt: itself or one of its versions.
    HostError if there are none or too many, or there is no model. StorageError if one no longer exists.
    """
    if len(pairs) > MAX_SUBJECTS:
        message = f"{format_count(len(pairs), 'embedding')} are too many."
        raise HostError(message, hint=f"Choose at most {MAX_SUBJECTS} at a time.")
    paths = find_paths(host, list(dict.fromkeys(place for pair in pairs for place in pair)))
    library, model = host.library(), host.active().model
    names = {library.path(name): name for name in library.names()}
    of_place = {path: path for path in paths}

    def find(place: str) -> Path:
        return of_place[Path(library.folder, place)]

    subjects = {}
    for place, used_place in pairs:
        path, used = find(place), find(used_place)
        name = names.get(used, used.stem)
        subjects[path] = Subject(path, name, _find_refusal(library, used, model))
    return list(subjects.values())


def _find_refusal(library: EmbeddingFolder, path: Path, model: Model) -> str | None:
    """Why a prompt cannot use the embedding in a file on a model; None if it can."""
    if not_found := library.files().get(path):
        return f"Prompts do not find it: {not_found.removesuffix('.')}."
    try:
        misfit = fit_by_architecture(open_embedding(path), model)
    except StorageError as error:
        return error.message
    return misfit.detail if misfit else None


def write_grid(host: Host, places: Sequence[str], tab: Mapping[str, str]) -> str:
    """A text with which the host's txt2img sets up a grid: some embeddings by checkpoints.

    The checkpoints are all that the host has, or the active one alone if there are more than MAX_GRID.
    tab: the settings of txt2img.  HostError if the host makes no such grids, `places` is empty, or there are
    more than MAX_GRID checkpoints and none is active. StorageError if an
    embedding no longer exists.
    """
    paths, library = find_paths(host, places), host.library()
    names = {library.path(name): name for name in library.names()}
    checkpoints = host.checkpoints()
    if len(checkpoints) > MAX_GRID:
        checkpoints = _find_active(host, checkpoints)
    grid = find_maker(host).write_grid(tab, [names.get(path, path.stem) for path in paths], list(checkpoints))
    if grid is None:
        raise HostError(f"{host.title} has no script X/Y/Z plot with EmbedMerge's axes.")
    return grid


def _find_active(host: Host, checkpoints: Mapping[str, Path]) -> dict[str, Path]:
    """The active one of the host's checkpoints, with its title. HostError if none of them is."""
    active = host.active()
    if active.checkpoint is not None:
        whole = active.checkpoint.resolve()
        found = {title: path for title, path in checkpoints.items() if path.resolve() == whole}
    else:  # other files supply its text encoders
        found = {title: path for title, path in checkpoints.items() if path.name == active.model.facts.file_name}
    if len(found) == 1:
        return found
    message = f"{len(checkpoints):,} checkpoints are too many for a grid, and the active model is none of them."
    raise HostError(message, hint="Select one of the checkpoints.")


def keep_previews(
    host: Host, results: Sequence[MadePicture], numbers: Sequence[int]
) -> tuple[KeptPreviews, frozenset[int]]:
    """Make pictures the previews of their embeddings. Gives what became of them, and the numbers of those that are.

    results: of a job.  numbers: those of the results that the user has chosen.  HostError if none is chosen.
    """
    chosen = [number for number in dict.fromkeys(numbers) if number < len(results) and results[number].picture]
    if not any(results[number].subject for number in chosen):
        raise HostError("No picture is chosen.", hint="Choose the pictures to keep.")
    library = host.library()
    numbers_of: dict[Path, dict[Path, int]] = {}  # folder -> embedding -> number of its picture
    for number in chosen:
        if subject := results[number].subject:
            numbers_of.setdefault(library.find_top_folder(subject.path), {})[subject.path] = number
    kept = KeptPreviews()
    saved: set[int] = set()
    for folder, by_path in numbers_of.items():
        pictures = {path: picture for path, number in by_path.items() if (picture := results[number].picture)}
        try:
            written = write_previews(folder, pictures, library.files())
        except StorageError as error:
            count = format_count(len(pictures), "picture")
            kept.faults.append(f"{count} could not be saved: {error.advice}")
            continue
        kept.faults.extend(f"{path.stem}: {error.advice}" for path, error in written.faults.items())
        paths = [path for path in by_path if path not in written.faults]
        kept.names.extend(path.stem for path in paths)
        saved.update(by_path[path] for path in paths)
        kept = replace(kept, replaced=kept.replaced + (len(written.deletion.files) if written.deletion else 0))
    return kept, frozenset(saved)


def has_preview(path: Path) -> bool:
    """Whether web UIs show a picture for an embedding already."""
    return find_preview(path) is not None
