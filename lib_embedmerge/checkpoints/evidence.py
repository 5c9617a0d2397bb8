"""What a model's files say about it besides its text encoders: signs in names, shapes, metadata and configuration.

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
"""Width of what the UNet attends to -> architecture."""

_BY_CHANNELS = {9: "inpainting", 8: "instruct-pix2pix", 32: "Mugen"}
"""Input channels of the UNet -> variant. 4 is the plain one. Source for 32: Forge Neo's loader, which makes it flow."""

_FLOW_CHANNELS = 32

_BY_DEPTHS = {
    (2, 2, 4, 4): "SSD-1B",
    (1, 1, 2, 2): "Segmind Vega",
    (2, 5): "KOALA-700M",
    (2, 6): "KOALA-1B",
}
"""Transformers in each block on the way down of an SDXL UNet -> smaller model. Source: ComfyUI's
comfy/supported_models.py."""

_WHOLE = (2, 2, 10, 10)
"""The same of SDXL itself."""

_DEPTH = re.compile(r"input_blocks\.(\d+)\.1\.transformer_blocks\.(\d+)\.")

_PREDICTIONS = {
    "v": "v", "v_prediction": "v", "epsilon": "epsilon", "eps": "epsilon", "edm": "edm", "flow": "flow",
    "flow_prediction": "flow", "rectified_flow": "flow",
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What was found; None where nothing tells.

    prediction: epsilon, v, edm or flow.  is_plain: whether nothing speaks against what web UIs take for granted where
    nothing tells, epsilon.  has_unet: whether this is a whole model rather than a text encoder by itself.
    variant: `base` where nothing special was seen.
    """

    architecture: Architecture | None = None
    has_unet: bool = False
    prediction: str | None = None
    zero_terminal_snr: bool = False
    variant: str = "base"
    is_plain: bool = True


def find_evidence_in_file(weights: Weights, path: Path) -> Evidence:
    """Off the names and shapes of a single file, its metadata, and a .yaml of the same name beside it."""
    names = weights.tensors
    context = next((w.shape[1] for n, w in names.items() if _is_context(n) and len(w.shape) == 2), None)
    architecture = _BY_CONTEXT.get(context or 0)
    return Evidence(
        architecture=architecture,
        has_unet=any(name.startswith((_UNET, "input_blocks.", "down_blocks.")) for name in names),
        prediction=_prediction_of_file(weights, path),
        zero_terminal_snr="ztsnr" in names,
        variant=_variant_of_file(weights, architecture),
        is_plain="rectified" not in path.name.lower(),  # for which Forge Neo samples SDXL as flow
    )


def find_evidence_in_folder(folder: Path) -> Evidence:
    """Off the configuration files of a diffusers folder."""
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    unet = read_json(folder / "unet" / "config.json")
    context, channels = unet.get("cross_attention_dim"), unet.get("in_channels")
    architecture = _BY_CONTEXT.get(context) if isinstance(context, int) else None
    variant = _BY_CHANNELS.get(channels, "base") if isinstance(channels, int) else "base"
    is_edm = str(scheduler.get("_class_name", "")).startswith("EDM")
    told = _PREDICTIONS.get(str(scheduler.get("prediction_type")))
    return Evidence(
        architecture=architecture,
        has_unet=(folder / "unet").is_dir(),
        prediction="edm" if is_edm else told,
        zero_terminal_snr=scheduler.get("rescale_betas_zero_snr") is True,
        variant="refiner" if variant == "base" and architecture is SDXL_REFINER else variant,
    )


def read_json(path: Path) -> Mapping[str, object]:
    """A configuration file's object; empty where the file is not there. CheckpointError where it is broken."""
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


def _is_context(name: str) -> bool:
    """The UNet's matrix that takes what the text encoders give, in ldm's and in diffusers' naming."""
    return name.endswith(".attn2.to_k.weight") and name.startswith((_UNET, "input_blocks.", "down_blocks."))


def _variant_of_file(weights: Weights, architecture: Architecture | None) -> str:
    names = weights.tensors
    channels = _input_channels(weights)
    if channels in _BY_CHANNELS:
        return _BY_CHANNELS[channels]
    if architecture is SDXL_REFINER:
        return "refiner"
    if "edm_vpred.sigma_max" in names:
        return "cosxl"
    if "edm_mean" in names and "edm_std" in names:
        return "playground-2.5"
    return _sdxl_variant(weights) if architecture is SDXL else "base"


def _sdxl_variant(weights: Weights) -> str:
    """By the size of the UNet. A file that was cut to its text encoders has none, and is not meant."""
    depths = _depths(weights)
    if depths in _BY_DEPTHS:
        return _BY_DEPTHS[depths]
    middle = f"{_UNET}middle_block."
    has_middle = any(name.startswith(middle) for name in weights.tensors)
    if depths != _WHOLE and has_middle and f"{middle}1.transformer_blocks.0.attn1.to_q.weight" not in weights.tensors:
        return "with a smaller UNet"
    return "base"


def _input_channels(weights: Weights) -> int | None:
    """Channels of what the UNet takes; None where that is not in the file."""
    names = weights.tensors
    entrance = names.get(f"{_UNET}input_blocks.0.0.weight") or names.get("input_blocks.0.0.weight")
    return entrance.shape[1] if entrance is not None and len(entrance.shape) == 4 else None


def _depths(weights: Weights) -> tuple[int, ...]:
    """How many transformers there are in each block of the UNet on the way down that has any."""
    depths: dict[int, int] = {}
    for name in weights.tensors:
        if match := _DEPTH.match(name.removeprefix(_UNET)):
            block, number = int(match[1]), int(match[2])
            depths[block] = max(depths.get(block, 0), number + 1)
    return tuple(depths[block] for block in sorted(depths))


def _prediction_of_file(weights: Weights, path: Path) -> str | None:
    names, metadata = weights.tensors, weights.metadata
    if "edm_vpred.sigma_max" in names or ("edm_mean" in names and "edm_std" in names):
        return "edm"
    if _input_channels(weights) == _FLOW_CHANNELS:
        return "flow"
    if "v_pred" in names:
        return "v"
    # The web UIs obey the .yaml, so it is asked before the metadata.
    if (told := _prediction_of_yaml(path.with_suffix(".yaml"))) is not None:
        return told
    for key in ("modelspec.prediction_type", "modelspec.predict_key"):
        if (told := _PREDICTIONS.get(metadata.get(key, "").strip().lower())) is not None:
            return told
    return None


def _prediction_of_yaml(path: Path) -> str | None:
    """By words alone: a model's .yaml names the class that scales the prediction, or its parameterization."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            text = file.read(_MAX_CONFIG).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return None
    text = "\n".join(line.split("#", 1)[0] for line in text.splitlines())
    given = re.search(r"""\bparameterization["']?\s*:\s*["']?(v|eps|epsilon)\b""", text)
    if re.search(r"\b(EDMScaling|VScalingWithEDMcNoise)\b", text):
        return "edm"
    if re.search(r"\bVScaling\b", text) or (given and given[1] == "v"):
        return "v"
    return "epsilon" if given or re.search(r"\bEpsScaling\b", text) else None
