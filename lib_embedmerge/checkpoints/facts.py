"""What is put together when a checkpoint is opened: its architecture, the encoders that serve it, and its facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib_embedmerge.checkpoints.evidence import Evidence
from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.checkpoints.refusals import refuse_without_encoders
from lib_embedmerge.checkpoints.sources import Source, join_encoders
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

_ALONE = {
    SD1: (
        "This is only CLIP-L, so it is treated as Stable Diffusion 1. For SDXL, add CLIP-G.",
        "Other models, such as Flux and SD3, use CLIP-L too.",
    ),
    SDXL_REFINER: ("This is only CLIP-G, so it is treated as the SDXL refiner. For SDXL, add CLIP-L.",),
    SD2: (),
    SDXL: (),
}  # fmt: skip


@dataclass(frozen=True)
class Assembled:
    """A model's facts and its encoders, in the order of the architecture."""

    facts: ModelFacts
    encoders: tuple[EncoderSource, ...]


def assemble(source: Source, replacements: Sequence[Source] = ()) -> Assembled:
    """A checkpoint, and text encoder files that stand in for its own or supply those it lacks.

    CheckpointError where encoders are missing, do not make a model, or a given one has no place in it.
    """
    given = join_encoders(replacements)
    encoders = {**source.encoders, **given}
    if not encoders:
        refuse_without_encoders(source.weights or Weights({}))
    architecture = _architecture(source, encoders)
    _check_encoders(source, architecture, encoders, given)
    used = tuple(encoders[key] for key in architecture.encoders)
    evidence = source.evidence
    alone = not evidence.has_unet and not given
    facts = ModelFacts(
        title=source.title,
        file_name=source.file_name,
        architecture=architecture,
        prediction_type=evidence.prediction or _usual_prediction(architecture, evidence),
        zero_terminal_snr=evidence.zero_terminal_snr,
        variant="refiner" if architecture is SDXL_REFINER and evidence.variant == "base" else evidence.variant,
        layout=_layout_title(source, used),
        text_encoder_files=tuple(replacement.file_name for replacement in replacements),
        warnings=_ALONE[architecture] if alone else (),
    )
    return Assembled(facts, used)


def _usual_prediction(architecture: Architecture, evidence: Evidence) -> str | None:
    """What web UIs take for granted of a model whose files say nothing: None where they would ask further, or where
    there is no UNet to predict anything."""
    return "epsilon" if architecture is not SD2 and evidence.has_unet and evidence.is_plain else None


def _architecture(source: Source, encoders: Mapping[str, EncoderSource]) -> Architecture:
    """What the UNet says, where there is one; else what the encoders make together."""
    if source.evidence.architecture is not None:
        return source.evidence.architecture
    found = find_architecture(set(encoders)) or (SDXL if set(SDXL.encoders) <= set(encoders) else None)
    if found is None:
        titles = " and ".join(ENCODER_TITLES[key] for key in encoders)
        message = f"{quote(source.file_name)} contains {titles}; EmbedMerge knows no model with these text encoders."
        raise CheckpointError(message, expected="CLIP-L and CLIP-G (SDXL), or one of CLIP-L, CLIP-G and CLIP-H")
    return found


def _check_encoders(
    source: Source,
    architecture: Architecture,
    encoders: Mapping[str, EncoderSource],
    given: Mapping[str, EncoderSource],
) -> None:
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


def _layout_title(source: Source, encoders: Sequence[EncoderSource]) -> str:
    titles = [source.layout] if source.layout else [encoder.layout.title for encoder in encoders]
    dtypes = [_DTYPE_TITLES.get(encoder.table.dtype, encoder.table.dtype) for encoder in encoders]
    return ", ".join([" + ".join(dict.fromkeys(titles)), " + ".join(dict.fromkeys(dtypes))])
