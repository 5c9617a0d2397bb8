"""Assembly of a model from the files that a user gave: its architecture, its text encoders and its facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib_embedmerge.checkpoints.evidence import Evidence
from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.checkpoints.refusals import refuse_without_encoders
from lib_embedmerge.checkpoints.sources import CheckpointSource, join_encoders
from lib_embedmerge.checkpoints.weights import Weights
from lib_embedmerge.core.architecture import (
    ENCODER_TITLES,
    SD1,
    SD2,
    SDXL,
    SDXL_REFINER,
    Architecture,
    find_architecture,
)
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.errors import CheckpointError, Remedy, quote

_DTYPE_TITLES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "fp8 e4m3", "F8_E5M2": "fp8 e5m2",
}  # fmt: skip

_WARNINGS_ALONE = {
    SD1: (
        "This is only CLIP-L, so it is treated as Stable Diffusion 1. For SDXL, add CLIP-G.",
        "Other models, such as Flux and SD3, use CLIP-L too.",
    ),
    SDXL_REFINER: ("This is only CLIP-G, so it is treated as the SDXL refiner. For SDXL, add CLIP-L.",),
    SD2: (),
    SDXL: (),
}  # fmt: skip


"""Warnings about a text encoder that was opened without a UNet and without a second encoder."""


@dataclass(frozen=True)
class AssembledModel:
    """A model's facts, and its encoders in the order of the architecture."""

    facts: ModelFacts
    encoders: tuple[EncoderSource, ...]


def assemble_model(source: CheckpointSource, replacements: Sequence[CheckpointSource] = ()) -> AssembledModel:
    """Make a model of a checkpoint.

    replacements: text encoder files that replace the checkpoint's own encoders or supply missing ones.
    CheckpointError if encoders are missing, no known model has them, or the architecture does not use a replacement.
    """
    given = join_encoders(replacements)
    encoders = {**source.encoders, **given}
    if not encoders:
        refuse_without_encoders(source.weights or Weights({}))
    architecture = _choose_architecture(source, encoders)
    _check_encoders(source, architecture, encoders, given)
    used = tuple(encoders[key] for key in architecture.encoders)
    evidence = source.evidence
    alone = not evidence.has_unet and not given
    facts = ModelFacts(
        title=source.title,
        file_name=source.file_name,
        architecture=architecture,
        prediction_type=evidence.prediction or _assume_prediction(architecture, evidence),
        zero_terminal_snr=evidence.zero_terminal_snr,
        variant="refiner" if architecture is SDXL_REFINER and evidence.variant == "base" else evidence.variant,
        layout=_describe_layout(source, used),
        text_encoder_files=tuple(replacement.file_name for replacement in replacements),
        warnings=_WARNINGS_ALONE[architecture] if alone else (),
    )
    return AssembledModel(facts, used)


def _assume_prediction(architecture: Architecture, evidence: Evidence) -> str | None:
    """The prediction type that web UIs assume if a model's files do not tell.

    None if there is no UNet, or if web UIs find the type by trying, as for Stable Diffusion 2.
    """
    return "epsilon" if architecture is not SD2 and evidence.has_unet else None


def _choose_architecture(source: CheckpointSource, encoders: Mapping[str, EncoderSource]) -> Architecture:
    """The architecture of the UNet, or without a UNet the one that has these encoders. CheckpointError if none has."""
    if source.evidence.architecture is not None:
        return source.evidence.architecture
    architecture = find_architecture(set(encoders)) or (SDXL if set(SDXL.encoders) <= set(encoders) else None)
    if architecture is None:
        titles = " and ".join(ENCODER_TITLES[key] for key in encoders)
        message = f"{quote(source.file_name)} contains {titles}; EmbedMerge knows no model with these text encoders."
        raise CheckpointError(message, expected="CLIP-L and CLIP-G (SDXL), or one of CLIP-L, CLIP-G and CLIP-H")
    return architecture


def _check_encoders(
    source: CheckpointSource,
    architecture: Architecture,
    encoders: Mapping[str, EncoderSource],
    given: Mapping[str, EncoderSource],
) -> None:
    """CheckpointError if an encoder of the architecture is missing, or one of `given` is not among them."""
    for key in architecture.encoders:
        if key not in encoders:
            message = (
                f"{quote(source.file_name)} is a model for {architecture.title} without its text encoder "
                f"{ENCODER_TITLES[key]}."
            )
            raise CheckpointError(
                message, hint=f"Give the {key} file too, or the full checkpoint.", remedy=Remedy.GIVE_TEXT_ENCODERS
            )
    for key, encoder in given.items():
        if key not in architecture.encoders:
            message = (
                f"{quote(encoder.weights.name)} contains {ENCODER_TITLES[key]}, which {architecture.title} does not "
                "use."
            )
            hint = "Give only " + " and ".join(ENCODER_TITLES[used] for used in architecture.encoders) + "."
            raise CheckpointError(message, hint=hint)


def _describe_layout(source: CheckpointSource, encoders: Sequence[EncoderSource]) -> str:
    """How the encoders are stored, for people: `single file, float16`."""
    titles = [source.layout] if source.layout else [encoder.layout.title for encoder in encoders]
    dtypes = [_DTYPE_TITLES.get(encoder.table.dtype, encoder.table.dtype) for encoder in encoders]
    return ", ".join([" + ".join(dict.fromkeys(titles)), " + ".join(dict.fromkeys(dtypes))])
