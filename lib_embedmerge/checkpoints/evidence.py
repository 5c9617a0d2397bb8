"""What a model's files say about it besides its text encoders: signs in names, shapes, metadata and configuration.

Sources: shared facts on formats, C2 (single files) and diffusers' scheduler and UNet configurations (folders).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.checkpoints.weights import Weights
from lib_embedmerge.core.architecture import SD1, SD2, SDXL, SDXL_REFINER, Architecture
from lib_embedmerge.errors import CheckpointError
from lib_embedmerge.storage.disk_faults import disk_reason

_UNET = "model.diffusion_model."
_MAX_CONFIG = 4 * 1024 * 1024

_BY_CONTEXT = {768: SD1, 1024: SD2, 1280: SDXL_REFINER, 2048: SDXL}
"""Width of what the UNet attends to -> architecture."""

_BY_CHANNELS = {9: "inpainting", 8: "instruct-pix2pix"}
"""Input channels of the UNet -> variant. 4 is the plain one."""

_PREDICTIONS = {"v": "v", "v_prediction": "v", "epsilon": "epsilon", "eps": "epsilon", "edm": "edm"}


@dataclass(frozen=True)
class Evidence:
    """What was found; None where nothing tells.

    prediction: epsilon, v or edm.  has_unet: whether this is a whole model rather than a text encoder by itself.
    variant: `base` where nothing special was seen.
    """

    architecture: Architecture | None = None
    has_unet: bool = False
    prediction: str | None = None
    zero_terminal_snr: bool = False
    variant: str = "base"


def evidence_of_file(weights: Weights, path: Path) -> Evidence:
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
    )


def evidence_of_folder(folder: Path) -> Evidence:
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
        raise CheckpointError(f"{path.name!r} cannot be read: {disk_reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        message = f"{path.name!r} in {path.parent.name!r} is not valid JSON."
        raise CheckpointError(message, hint="The download did not finish; get the file again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name!r} in {path.parent.name!r} is not a JSON object.")
    return content


def _is_context(name: str) -> bool:
    """The UNet's matrix that takes what the text encoders give, in ldm's and in diffusers' naming."""
    return name.endswith(".attn2.to_k.weight") and name.startswith((_UNET, "input_blocks.", "down_blocks."))


def _variant_of_file(weights: Weights, architecture: Architecture | None) -> str:
    names = weights.tensors
    entrance = names.get(f"{_UNET}input_blocks.0.0.weight") or names.get("input_blocks.0.0.weight")
    if entrance is not None and len(entrance.shape) == 4 and entrance.shape[1] in _BY_CHANNELS:
        return _BY_CHANNELS[entrance.shape[1]]
    if architecture is SDXL_REFINER:
        return "refiner"
    if "edm_vpred.sigma_max" in names:
        return "cosxl"
    if "edm_mean" in names and "edm_std" in names:
        return "playground-2.5"
    middle = f"{_UNET}middle_block."
    # A file that was cut to its text encoders has no middle block at all and is not meant.
    if architecture is SDXL and f"{middle}1.transformer_blocks.0.attn1.to_q.weight" not in names:
        return "ssd-1b" if any(name.startswith(middle) for name in names) else "base"
    return "base"


def _prediction_of_file(weights: Weights, path: Path) -> str | None:
    names, metadata = weights.tensors, weights.metadata
    if "edm_vpred.sigma_max" in names or ("edm_mean" in names and "edm_std" in names):
        return "edm"
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
