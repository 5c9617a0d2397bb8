"""How stored numbers become the model's: which dtypes hold values, and the scale that goes with scaled fp8.

Sources: ComfyUI's comfy/ops.py (`scale_weight`), and its newer `weight_scale` with `comfy_quant`.
Anything else is refused rather than read as wrong numbers.
"""

from __future__ import annotations

import json

import torch

from lib_embedmerge.checkpoints.weights import Weights
from lib_embedmerge.errors import CheckpointError, quote

_FP8 = {"F8_E4M3", "F8_E5M2"}
_VALUES = {"F64", "F32", "F16", "BF16", *_FP8}
_FP8_FORMATS = {"float8_e4m3fn", "float8_e5m2"}
_UNKNOWN_PARTS = (
    "weight_scale_2", "weight.absmax", "weight.quant_map", "SCB", "weight.SCB", "qweight", "scales",
    "weight_zero_point",
)  # fmt: skip
_HINT = "Use a float32, float16, bfloat16 or fp8 version of the file."
_MAX_QUANT_TEXT = 4096


def find_scale(weights: Weights, name: str) -> float:
    """What the stored values of a weight are multiplied with; 1.0 for most. CheckpointError for unknown quantisation.

    name: of the weight; its scale stands beside it, `<layer>.scale_weight` for `<layer>.weight`.
    """
    dtype = weights.tensors[name].dtype
    if dtype not in _VALUES:
        raise CheckpointError(
            f"{quote(weights.name)}: {quote(name)} is stored as {dtype}, which EmbedMerge cannot read.", hint=_HINT
        )
    if not name.endswith(".weight"):
        return 1.0
    layer = name.removesuffix("weight")
    for part in _UNKNOWN_PARTS:
        if layer + part in weights.tensors:
            raise CheckpointError(
                f"{quote(weights.name)}: {quote(name)} is quantised in a way that EmbedMerge does not know ({part}).",
                hint=_HINT,
            )
    if (quant := layer + "comfy_quant") in weights.tensors:
        _check_comfy_format(weights, quant, dtype)
    elif layer + "weight_scale" in weights.tensors and dtype not in _FP8:
        raise CheckpointError(f"{quote(weights.name)}: {quote(name)} has a scale but is {dtype}, not fp8.", hint=_HINT)
    scale = 1.0
    for part in ("scale_weight", "weight_scale"):
        if layer + part in weights.tensors:
            scale *= _single_value(weights, layer + part)
    return scale


def restore_values(stored: torch.Tensor, scale: float) -> torch.Tensor:
    """Stored numbers as values: the same shape in float32, float64 where stored so (or float16, unscaled)."""
    if scale == 1.0 and stored.dtype in {torch.float16, torch.float32, torch.float64}:
        return stored
    values = stored if stored.dtype == torch.float64 else stored.to(torch.float32)
    return values if scale == 1.0 else values * scale


def _single_value(weights: Weights, name: str) -> float:
    weight = weights.tensors[name]
    if weight.dtype not in _VALUES or weight.shape not in {(), (1,), (1, 1)}:
        message = f"{quote(weights.name)}: {quote(name)} is not a single number, so its quantisation is unknown."
        raise CheckpointError(message, hint=_HINT)
    return float(weight.read(0, 1).to(torch.float32)[0])


def _check_comfy_format(weights: Weights, name: str, dtype: str) -> None:
    """The layer's comfy_quant is a small JSON text in a uint8 tensor; fp8 is the only format with plain values."""
    weight = weights.tensors[name]
    form: object = None
    if weight.dtype == "U8" and len(weight.shape) == 1 and weight.shape[0] <= _MAX_QUANT_TEXT:
        text = bytes(weight.read(0, weight.shape[0]).numpy())
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        form = content.get("format") if isinstance(content, dict) else None
    if not isinstance(form, str) or form not in _FP8_FORMATS or dtype not in _FP8:
        message = (
            f"{quote(weights.name)}: {quote(name)} uses the quantisation {quote(form)}, which EmbedMerge does not know."
        )
        raise CheckpointError(message, hint=_HINT)
