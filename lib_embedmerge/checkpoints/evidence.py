"""What the files of a model tell about its UNet: from the names and shapes of tensors, metadata and configuration.

Sources: docs/embedding-files.md (single files), and diffusers' scheduler and UNet configurations (folders).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.checkpoints.weights import Weights
from lib_embedmerge.core.architecture import SD1, SD2, SDXL, SDXL_REFINER, Architecture
from lib_embedmerge.errors import CheckpointError, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault

_UNET = "model.diffusion_model."
_MAX_CONFIG = 4 * 1024 * 1024

_BY_CONTEXT = {768: SD1, 1024: SD2, 1280: SDXL_REFINER, 2048: SDXL}
"""Width of the text vectors that the UNet attends to -> architecture."""

_BY_CHANNELS = {9: "inpainting", 8: "instruct-pix2pix", 32: "Mugen"}
"""Input channels of the UNet -> variant; the base model has 4. Source for 32: the loader of Forge Neo, which samples
such a model as flow."""

_FLOW_CHANNELS = 32

_RECTIFIED = "rectified"
"""Part of the name of an SDXL model that was trained as rectified flow."""

_BY_DEPTHS = {
    (2, 2, 4, 4): "SSD-1B",
    (1, 1, 2, 2): "Segmind Vega",
    (2, 5): "KOALA-700M",
    (2, 6): "KOALA-1B",
}
"""Transformers in each input block of a UNet -> smaller model of the SDXL family. Source: ComfyUI's
comfy/supported_models.py."""

_SDXL_DEPTHS = (2, 2, 10, 10)
"""Transformers in each input block of the UNet of SDXL."""

_DEPTH = re.compile(r"input_blocks\.(\d+)\.1\.transformer_blocks\.(\d+)\.")

_PREDICTIONS = {
    "v": "v", "v_prediction": "v", "epsilon": "epsilon", "eps": "epsilon", "edm": "edm", "flow": "flow",
    "flow_prediction": "flow", "rectified_flow": "flow",
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What the files of a model tell about its UNet.

    architecture: None if the files do not tell.  has_unet: False for separate text encoders.
    prediction: `epsilon`, `v`, `edm` or `flow`; None if the files do not tell.
    variant: such as `inpainting`; `base` if nothing unusual was found.
    """

    architecture: Architecture | None = None
    has_unet: bool = False
    prediction: str | None = None
    zero_terminal_snr: bool = False
    variant: str = "base"


def find_evidence_in_file(weights: Weights, path: Path) -> Evidence:
    """From a single file: its tensors' names and shapes, its metadata, and a .yaml beside it of the same name."""
    names = weights.tensors
    context = next((w.shape[1] for n, w in names.items() if _is_context_weight(n) and len(w.shape) == 2), None)
    architecture = _BY_CONTEXT.get(context or 0)
    return Evidence(
        architecture=architecture,
        has_unet=any(name.startswith((_UNET, "input_blocks.", "down_blocks.")) for name in names),
        prediction=_find_prediction(weights, path, architecture),
        zero_terminal_snr="ztsnr" in names,
        variant=_find_variant(weights, architecture),
    )


def find_evidence_in_folder(folder: Path) -> Evidence:
    """Evidence from the configuration files of a diffusers folder. CheckpointError if one is broken."""
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    unet = read_json(folder / "unet" / "config.json")
    context, channels = unet.get("cross_attention_dim"), unet.get("in_channels")
    architecture = _BY_CONTEXT.get(context) if isinstance(context, int) else None
    variant = _BY_CHANNELS.get(channels, "base") if isinstance(channels, int) else "base"
    is_edm = str(scheduler.get("_class_name", "")).startswith("EDM")
    prediction = _PREDICTIONS.get(str(scheduler.get("prediction_type")))
    return Evidence(
        architecture=architecture,
        has_unet=(folder / "unet").is_dir(),
        prediction="edm" if is_edm else prediction,
        zero_terminal_snr=scheduler.get("rescale_betas_zero_snr") is True,
        variant="refiner" if variant == "base" and architecture is SDXL_REFINER else variant,
    )


def read_json(path: Path) -> Mapping[str, object]:
    """The JSON object in a configuration file; empty if there is no such file. CheckpointError if it is broken."""
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_CONFIG))
    except OSError as error:
        raise CheckpointError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error
    except (ValueError, RecursionError) as error:
        message = f"{quote(path.name)} in {quote(path.parent.name)} is not valid JSON."
        raise CheckpointError(message, hint="The download did not finish. Download the file again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{quote(path.name)} in {quote(path.parent.name)} is not a JSON object.")
    return content


def _is_context_weight(name: str) -> bool:
    """Whether a tensor is a matrix of the UNet that takes text vectors, in the naming of ldm or diffusers."""
    return name.endswith(".attn2.to_k.weight") and name.startswith((_UNET, "input_blocks.", "down_blocks."))


def _find_variant(weights: Weights, architecture: Architecture | None) -> str:
    """The variant of a model in a single file; `base` if nothing unusual was found."""
    names = weights.tensors
    channels = _count_input_channels(weights)
    if channels in _BY_CHANNELS:
        return _BY_CHANNELS[channels]
    if architecture is SDXL_REFINER:
        return "refiner"
    if "edm_vpred.sigma_max" in names:
        return "cosxl"
    if "edm_mean" in names and "edm_std" in names:
        return "playground-2.5"
    return _find_sdxl_variant(weights) if architecture is SDXL else "base"


def _find_sdxl_variant(weights: Weights) -> str:
    """The variant of an SDXL model by the size of its UNet; `base` for files from which the UNet was removed."""
    depths = _count_transformers(weights)
    if depths in _BY_DEPTHS:
        return _BY_DEPTHS[depths]
    middle = f"{_UNET}middle_block."
    has_middle = any(name.startswith(middle) for name in weights.tensors)
    has_attention = f"{middle}1.transformer_blocks.0.attn1.to_q.weight" in weights.tensors
    if depths != _SDXL_DEPTHS and has_middle and not has_attention:
        return "with a smaller UNet"
    return "base"


def _count_input_channels(weights: Weights) -> int | None:
    """Number of input channels of the UNet; None if the file does not tell."""
    names = weights.tensors
    entry = names.get(f"{_UNET}input_blocks.0.0.weight") or names.get("input_blocks.0.0.weight")
    return entry.shape[1] if entry is not None and len(entry.shape) == 4 else None


def _count_transformers(weights: Weights) -> tuple[int, ...]:
    """Number of transformers in each input block of the UNet that has any, in order."""
    depths: dict[int, int] = {}
    for name in weights.tensors:
        if match := _DEPTH.match(name.removeprefix(_UNET)):
            block, number = int(match[1]), int(match[2])
            depths[block] = max(depths.get(block, 0), number + 1)
    return tuple(depths[block] for block in sorted(depths))


def _find_prediction(weights: Weights, path: Path, architecture: Architecture | None) -> str | None:
    """The prediction type that a single file, the .yaml beside it or, for rectified flow, its name tells, or None."""
    names, metadata = weights.tensors, weights.metadata
    if "edm_vpred.sigma_max" in names or ("edm_mean" in names and "edm_std" in names):
        return "edm"
    if _count_input_channels(weights) == _FLOW_CHANNELS:
        return "flow"
    if "v_pred" in names:
        return "v"
    # The web UIs obey the .yaml, so it takes precedence over the metadata.
    if (prediction := _read_prediction(path.with_suffix(".yaml"))) is not None:
        return prediction
    for key in ("modelspec.prediction_type", "modelspec.predict_key"):
        if (prediction := _PREDICTIONS.get(metadata.get(key, "").strip().lower())) is not None:
            return prediction
    # Nothing in such files differs from other SDXL models. Forge Neo samples them as flow if the name says so.
    is_rectified = architecture is SDXL and _RECTIFIED in path.name.lower()
    return "flow" if is_rectified else None


def _read_prediction(path: Path) -> str | None:
    """The prediction type in a model's .yaml, which names the class that scales it, or its parameterization.

    None if it cannot be read or does not say. The text is searched, not parsed.
    """
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            text = file.read(_MAX_CONFIG).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return None
    text = "\n".join(line.split("#", 1)[0] for line in text.splitlines())
    parameterization = re.search(r"""\bparameterization["']?\s*:\s*["']?(v|eps|epsilon)\b""", text)
    if re.search(r"\b(EDMScaling|VScalingWithEDMcNoise)\b", text):
        return "edm"
    if re.search(r"\bVScaling\b", text) or (parameterization and parameterization[1] == "v"):
        return "v"
    return "epsilon" if parameterization or re.search(r"\bEpsScaling\b", text) else None
