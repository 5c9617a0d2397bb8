"""Opening what a user names, a file, a folder or several files, and finding the text encoders in it.

This module knows which files a folder may contain; layouts.py knows the layouts inside a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.checkpoints.evidence import Evidence, find_evidence_in_file, find_evidence_in_folder, read_json
from lib_embedmerge.checkpoints.layouts import EncoderSource, find_encoders
from lib_embedmerge.checkpoints.refusals import refuse_foreign, refuse_pipeline, refuse_without_encoders
from lib_embedmerge.checkpoints.weights import Weights, join_weights, open_weights
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.endings import WEIGHTS
from lib_embedmerge.errors import CheckpointError, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault

_PART_FILES = (
    "model.safetensors.index.json", "model.safetensors",
    "model.safetensors.index.fp16.json", "model.fp16.safetensors",
    "pytorch_model.bin.index.json", "pytorch_model.bin",
    "pytorch_model.bin.index.fp16.json", "pytorch_model.fp16.bin",
)  # fmt: skip
"""Files that may contain a text encoder in a diffusers folder. The first that exists is used."""

_UNET_FILES = (
    "diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.fp16.json", "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin.index.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin",
)  # fmt: skip
"""Files that may contain the U-Net of a diffusers folder, in its folder `unet`. The first that exists is used."""

_PARTS = ("text_encoder", "text_encoder_2")
_MAX_FOLDER_FILES = 200
_MAX_SHARDS = 1000


@dataclass(frozen=True)
class CheckpointSource:
    """A file, a folder or several files that a user named.

    title, file_name: for people.  encoders: encoder key -> text encoder; may be empty for a single file.
    evidence: about the UNet.  layout: how a folder is stored, for people; None for files, whose encoders tell.
    weights: of a single file, to explain why it has no encoder.
    """

    title: str
    file_name: str
    encoders: Mapping[str, EncoderSource]
    evidence: Evidence
    layout: str | None = None
    weights: Weights | None = None


def open_source(path: Path) -> CheckpointSource:
    """Open a file or a folder. CheckpointError if it is missing, damaged, or another kind of model."""
    if path.is_dir():
        return _open_folder(path)
    if path.name.endswith(".index.json"):
        return _make_source(path, _open_index(path))
    return _make_source(path, open_weights(path))


def open_unet_weights(path: Path) -> Weights:
    """The weights with the U-Net: those of a file, or those in the folder `unet` of a diffusers folder.

    CheckpointError if they are missing or damaged. Whether there is a U-Net among the weights of a file is not checked.
    """
    if path.name.endswith(".index.json"):
        return _open_index(path)
    if not path.is_dir():
        return open_weights(path)
    folder = path.resolve()
    weights = _open_part(folder / "unet", _UNET_FILES)
    if weights is None:
        message = f"{quote(folder.name)} is a folder without a U-Net."
        raise CheckpointError(message, expected="a diffusers folder with a file in its folder unet")
    return weights


def open_pair(paths: Sequence[Path]) -> CheckpointSource:
    """Open several files with text encoders as one model.

    CheckpointError if one cannot be opened or is a whole model, or if two contain the same encoder.
    """
    sources = [open_source(path) for path in paths]
    for source in sources:
        if source.evidence.has_unet:
            hint = "Name the checkpoint alone and give the other files as text_encoders."
            raise CheckpointError(f"{quote(source.file_name)} is a whole model, not a text encoder.", hint=hint)
    encoders = join_encoders(sources)
    title = " + ".join(source.title for source in sources)
    file_name = " + ".join(source.file_name for source in sources)
    return CheckpointSource(title, file_name, encoders, Evidence())


def join_encoders(sources: Sequence[CheckpointSource]) -> dict[str, EncoderSource]:
    """Encoder key -> text encoder, for all encoders of some sources.

    CheckpointError if a source has no encoder, or if two contain the same one.
    """
    joined: dict[str, EncoderSource] = {}
    for source in sources:
        if not source.encoders:
            refuse_without_encoders(source.weights or Weights({}))
        for key, encoder in source.encoders.items():
            if key in joined:
                both = f"{quote(joined[key].weights.name)} and {quote(encoder.weights.name)}"
                raise CheckpointError(f"Both {both} contain {ENCODER_TITLES[key]}.", hint="Choose one of them.")
            joined[key] = encoder
    return joined


def _make_source(path: Path, weights: Weights) -> CheckpointSource:
    """A single file as a source. CheckpointError if it is another kind of model."""
    refuse_foreign(weights)
    evidence = find_evidence_in_file(weights, path)
    return CheckpointSource(
        path.name.removesuffix(path.suffix), path.name, find_encoders(weights), evidence, weights=weights
    )


def _open_folder(folder: Path) -> CheckpointSource:
    """Open a diffusers folder, a folder with one model, or one with separate text encoder files."""
    folder = folder.resolve()  # because `.` has no name
    if (folder / "model_index.json").is_file() or any((folder / part).is_dir() for part in _PARTS):
        return _open_diffusers(folder)
    if (weights := _open_part(folder)) is not None:
        refuse_foreign(weights)
        return CheckpointSource(folder.name, folder.name, find_encoders(weights), Evidence(), "model folder", weights)
    return _open_loose_files(folder)


def _open_diffusers(folder: Path) -> CheckpointSource:
    """Open a diffusers folder. CheckpointError if it has no text encoders, or is another kind of model."""
    index = read_json(folder / "model_index.json")
    refuse_pipeline(folder.name, str(index.get("_class_name", "")), _list_encoder_classes(index))
    encoders: dict[str, EncoderSource] = {}
    for part in _PARTS:
        if (weights := _open_part(folder / part)) is not None:
            refuse_foreign(weights)
            found_here = find_encoders(weights)
            if not found_here:
                refuse_without_encoders(weights)
            encoders.update(found_here)
    if not encoders:
        message = f"{quote(folder.name)} is a diffusers folder without text encoder files."
        raise CheckpointError(message, hint="Download the folders text_encoder and text_encoder_2 too.")
    return CheckpointSource(folder.name, folder.name, encoders, find_evidence_in_folder(folder), "diffusers folder")


def _list_encoder_classes(index: Mapping[str, object]) -> list[str]:
    """Class names of all text encoders in a model_index.json, which has [null, null] for parts that are left out."""
    entries = [entry for name, entry in index.items() if name.startswith("text_encoder")]
    return [entry[1] for entry in entries if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)]


def _open_part(folder: Path, files: Sequence[str] = _PART_FILES) -> Weights | None:
    """The weights of a model in its folder, such as `text_encoder`; None if the folder has none of these files."""
    for name in files:
        path = folder / name
        if path.is_file():
            return _open_index(path) if ".index." in name else open_weights(path)
    return None


def _open_index(path: Path) -> Weights:
    """The weights of all shards that an index file names.

    CheckpointError if one is missing, or is not in the folder of the index file, because such a file is not trusted.
    """
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"{quote(path.name)} lists no files.", hint="The download did not finish. Download the file again."
        )
    names = list(dict.fromkeys(weight_map.values()))
    for name in names:
        if not isinstance(name, str) or not name or Path(name).name != name or set(name) & set("/\\:\0"):
            raise CheckpointError(f"{quote(path.name)} lists a file outside its folder: {quote(name)}.")
    if len(names) > _MAX_SHARDS:
        raise CheckpointError(f"{quote(path.name)} lists {len(names)} files; no model has that many.")
    return join_weights([open_weights(path.parent / name) for name in sorted(names)])


def _open_loose_files(folder: Path) -> CheckpointSource:
    """Open a folder with separate text encoder files, such as clip_l and clip_g. Other files in it are ignored."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in WEIGHTS and path.is_file())
    except OSError as error:
        raise CheckpointError(
            f"The folder {quote(folder.name)} cannot be read: {describe_disk_fault(error)}."
        ) from error
    if not paths:
        message = f"{quote(folder.name)} contains no model files."
        raise CheckpointError(
            message, hint="Choose a checkpoint file, a diffusers folder, or a folder with clip_l and clip_g."
        )
    if len(paths) > _MAX_FOLDER_FILES:
        raise CheckpointError(f"{quote(folder.name)} contains {len(paths)} model files.", hint="Choose one of them.")
    sources = [source for path in paths if (source := _open_encoder_file(path)) is not None]
    if not sources:
        message = f"{quote(folder.name)} contains no separate text encoder files."
        raise CheckpointError(message, hint=f"Choose a file inside, such as {quote(folder / paths[0].name)}.")
    return CheckpointSource(folder.name, folder.name, join_encoders(sources), Evidence(), "folder of text encoders")


def _open_encoder_file(path: Path) -> CheckpointSource | None:
    """Open a file, or return None if it is not a separate text encoder."""
    try:
        source = open_source(path)
    except CheckpointError:
        return None
    return source if source.encoders and not source.evidence.has_unet else None
