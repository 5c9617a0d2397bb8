"""Conversion of stored numbers to the model's values: the dtypes that can be read, and the scales of scaled fp8.

Sources: ComfyUI's comfy/ops.py (`scale_weight`), and its newer `weight_scale` with `comfy_quant`.
Any other quantisation is refused, so that no wrong values are read.
"""

from __future__ import annotations

import json

import numpy

from lib_embedmerge.checkpoints.weights import Weights
from lib_embedmerge.errors import CheckpointError, quote
from lib_embedmerge.files.stored_values import StoredValues

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
    """The factor that turns the stored values of a weight into the model's values; 1.0 for most weights.

    name: the weight, `<layer>.weight`. The scale is a tensor of its own, such as `<layer>.scale_weight`.
    CheckpointError for an unknown dtype or quantisation.
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
            scale *= _read_single_value(weights, layer + part)
    return scale


def restore_values(stored: StoredValues, scale: float) -> numpy.ndarray:
    """The model's values for stored numbers, in the same shape: float64 for float64, otherwise float32.

    float16 without a scale stays float16.
    """
    values = stored.to_floats()
    if scale == 1.0:
        return values
    wide = values if values.dtype == numpy.float64 else values.astype(numpy.float32)
    with numpy.errstate(over="ignore", invalid="ignore"):
        scaled: numpy.ndarray = wide * wide.dtype.type(scale)
    return scaled


def _read_single_value(weights: Weights, name: str) -> float:
    """The value of a tensor with one element. CheckpointError if it has more elements or an unknown dtype."""
    weight = weights.tensors[name]
    if weight.dtype not in _VALUES or weight.shape not in {(), (1,), (1, 1)}:
        message = f"{quote(weights.name)}: {quote(name)} is not a single number, so its quantisation is unknown."
        raise CheckpointError(message, hint=_HINT)
    return float(weight.read(0, 1).to_float32()[0])


def _check_comfy_format(weights: Weights, name: str, dtype: str) -> None:
    """CheckpointError if a layer's comfy_quant names a format other than fp8, the only one that can be read.

    name: the tensor comfy_quant, a small JSON text as uint8.  dtype: of the layer's weight.
    """
    weight = weights.tensors[name]
    quantisation: object = None
    if weight.dtype == "U8" and len(weight.shape) == 1 and weight.shape[0] <= _MAX_QUANT_TEXT:
        text = bytes(weight.read(0, weight.shape[0]).view_bytes())
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        quantisation = content.get("format") if isinstance(content, dict) else None
    if not isinstance(quantisation, str) or quantisation not in _FP8_FORMATS or dtype not in _FP8:
        stored = f"{quote(weights.name)}: {quote(name)}"
        message = f"{stored} uses the quantisation {quote(quantisation)}, which EmbedMerge does not know."
        raise CheckpointError(message, hint=_HINT)
