"""The forms that embeddings come in: which tensors of a file are the vectors of which text encoder.

Works on what a file holds, not on files: torch tensors (from a pickle) or TensorInfo (a safetensors header), so that
everything that can be refused is refused before a number is read. Source: shared facts on formats, A1 and A2 (what each
tool writes and how the others fail on it). Opening files belongs to embedding.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L, MAX_VECTORS, WIDTHS, Architecture, architecture_of
from lib_embedmerge.errors import StorageError
from lib_embedmerge.storage.form_parts import (
    REMAKE,
    Stored,
    as_stored,
    numbers,
    row_count,
    shown,
    value_notes,
    wrong_width,
)
from lib_embedmerge.storage.safetensors_header import TensorInfo

if TYPE_CHECKING:
    import torch

MAX_ROWS = 4096
"""Vectors beyond which a file is no embedding: 55 full prompt chunks, and 33 MB in float32 for SDXL."""

_ENCODER_OF_WIDTH = {width: key for key, width in WIDTHS.items()}
_OUTPUTS = ("clip_l_out", "clip_g_out")
_PIVOTAL = ("text_encoders_0", "text_encoders_1")
_BUNDLE = "bundle_emb."
_PARAMS = "string_to_param"
_A1111_TOKENS = "string_to_token"
_MAX_NOTED = 12
_FOREIGN = (
    (re.compile(r"(model\.diffusion_model|cond_stage_model|conditioner\.embedders)\."), "a checkpoint"),
    (re.compile(r"(lora_(te|unet)|lycoris_|(unet|text_encoder)\..*lora)"), "a LoRA without embeddings"),
    (re.compile(r"(first_stage_model\.|decoder\.|encoder\.)"), "a VAE"),
    (re.compile(r"(text_model\.|transformer\.resblocks\.)"), "a text encoder"),
)
"""How the tensors of files begin that are often put among embeddings."""


@dataclass(frozen=True)
class Layout:
    """Where a file's vectors are, known from names and shapes alone.

    parts: encoder key -> the tensors whose rows are its vectors, in order.  count: vectors of each encoder.
    source: the form, for people.  bundled: the embedding's name inside a LoRA file, else None.
    notes: what a person should know, one sentence each.
    """

    parts: Mapping[str, tuple[Stored, ...]]
    architecture: Architecture
    count: int
    source: str
    bundled: str | None = None
    notes: tuple[str, ...] = ()


@dataclass
class _Found:
    """What a reader picked out of a file, not yet checked."""

    parts: dict[str, tuple[Stored, ...]]
    source: str
    notes: list[str] = field(default_factory=list)


def read_vectors(
    layout: Layout, read: Callable[[TensorInfo], torch.Tensor] | None = None
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The vectors that were recognised, encoder key -> float32 CPU tensor [n, width], and the notes on the file.

    read: gives the numbers of a TensorInfo. NaN and infinity are read, with a note.
    """
    import torch

    vectors: dict[str, torch.Tensor] = {}
    for key, parts in layout.parts.items():
        rows = [numbers(part, read).reshape(-1, WIDTHS[key]) for part in parts]
        vectors[key] = torch.cat(rows) if len(rows) > 1 else rows[0]
    return vectors, (*layout.notes, *value_notes(vectors))


def recognise(content: object, *, bundled: str | None = None) -> Layout:
    """Which tensors are the vectors, without reading any number.

    content: what a file holds: name -> tensor, TensorInfo or plain data; a pickle may also be a list or one tensor.
    bundled: which embedding of a LoRA file that bundles several.
    StorageError, which does not name the file, where the content is no sound embedding.
    """
    if isinstance(content, (list, tuple)):
        return _layout(_from_list(content))
    if (only := as_stored("the tensor", content)) is not None:
        content = {only.name: only.tensor}
    if not isinstance(content, Mapping):
        raise StorageError(f"It holds a {type(content).__name__}, not vectors.", hint=REMAKE)
    entries = _by_text(content)
    bundles = _bundles(entries)
    if not bundles and bundled is not None:
        raise StorageError(f"It bundles no embeddings, so there is no {shown(bundled)}.", hint="Leave out `bundled`.")
    name = _chosen(bundles, bundled) if bundles else None
    return _layout(_from_mapping(entries if name is None else bundles[name]), name)


def _by_text(content: Mapping[object, object]) -> dict[str, object]:
    """The content by names. A pickle's keys need not be texts, and str() of an int with many digits fails."""
    items = enumerate(content.items(), start=1)
    return {key if isinstance(key, str) else f"entry {index}": value for index, (key, value) in items}


def _bundles(entries: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """LoRA files carry embeddings as bundle_emb.<name>.<tensor>: name -> its tensors. A name may hold dots itself."""
    bundles: dict[str, dict[str, object]] = {}
    for key, value in entries.items():
        if not key.startswith(_BUNDLE):
            continue
        name, dot, tensor = key.removeprefix(_BUNDLE).rpartition(f".{_PARAMS}.")
        if dot:
            tensor = f"{_PARAMS}.{tensor}"
        else:
            name, _, tensor = key.removeprefix(_BUNDLE).rpartition(".")
        bundles.setdefault(name, {})[tensor] = value
    return bundles


def _chosen(bundles: Mapping[str, object], wanted: str | None) -> str:
    names = ", ".join(shown(name) for name in sorted(bundles)[:20]) + (", ..." if len(bundles) > 20 else "")
    if wanted is None and len(bundles) > 1:
        raise StorageError(f"It bundles {len(bundles)} embeddings: {names}.", hint="Choose one: bundled=NAME.")
    if wanted is not None and wanted not in bundles:
        raise StorageError(f"It bundles no embedding {shown(wanted)}, only {names}.", hint="Choose one of these.")
    return next(iter(bundles)) if wanted is None else wanted


def _from_mapping(entries: Mapping[str, object]) -> _Found:
    """The first form that fits. What is left over is noted, for it may be why another tool refuses the file."""
    tensors: dict[str, Stored] = {}
    params: dict[str, Stored] = {}
    plain: dict[str, object] = {}
    for key, value in entries.items():
        if key == _PARAMS and isinstance(value, Mapping):
            nested = {name: as_stored(f"{_PARAMS}[{name}]", tensor) for name, tensor in _by_text(value).items()}
            params |= {name: stored for name, stored in nested.items() if stored is not None}
        elif (stored := as_stored(key, value)) is None:
            plain[key] = value
        elif key.startswith(f"{_PARAMS}."):
            params[key] = stored
        else:
            tensors[key] = stored
    found = _from_params(params) or _from_encoders(tensors) or _from_one(tensors)
    if found is None:
        raise _unknown(tensors, has_params=_PARAMS in entries)
    found.notes += _leftovers(found, tensors) + _plain_notes(plain)
    return found


def _from_params(params: Mapping[str, Stored]) -> _Found | None:
    if not params:
        return None
    if len(params) > 1:
        message = f"{_PARAMS} holds {len(params)} embeddings; no web UI knows which one is meant."
        raise StorageError(message, hint=REMAKE)
    return _by_width(tuple(params.values()), f"{_PARAMS} (AUTOMATIC1111)")


def _from_encoders(tensors: Mapping[str, Stored]) -> _Found | None:
    """clip_l / clip_g, and pivotal tuning's text_encoders_0 / _1, whose widths tell the encoder."""
    named = {key: (tensors[key],) for key in (CLIP_L, CLIP_G) if key in tensors}
    if named:
        outputs = [key for key in _OUTPUTS if key in tensors]
        found = _Found(dict(named), "OneTrainer" if outputs else " and ".join(named))
        if outputs:
            found.notes.append(f"OneTrainer's output vectors ({' and '.join(outputs)}) are ignored.")
        if set(named) == {CLIP_L}:
            found.notes.append("Only CLIP-L has vectors: read as Stable Diffusion 1; SDXL web UIs skip such a file.")
        return found
    pivotal = tuple(tensors[key] for key in _PIVOTAL if key in tensors)
    return _by_width(pivotal, "text_encoders_0/1 (pivotal tuning)") if pivotal else None


def _from_one(tensors: Mapping[str, Stored]) -> _Found | None:
    name = "emb_params" if "emb_params" in tensors else next(iter(tensors), None)
    if name is None or name in _OUTPUTS or (name != "emb_params" and len(tensors) > 1):
        return None
    return _by_width((tensors[name],), name if name == "emb_params" else f"one tensor, {shown(name)}")


def _from_list(content: Sequence[object]) -> _Found:
    """A list of dicts, as ComfyUI reads it: the tensors of each width, one after the other."""
    stored = [
        as_stored(key, value)
        for item in content[: MAX_ROWS + 1]
        for key, value in _by_text(item if isinstance(item, Mapping) else {0: item}).items()
    ]
    tensors = [tensor for tensor in stored if tensor is not None]
    if not 0 < len(tensors) <= MAX_ROWS:
        raise StorageError(f"It holds a list with {len(tensors):,} tensors, which is no embedding.", hint=REMAKE)
    return _by_width(tensors, "a list of tensors", joined=True)


def _by_width(tensors: Sequence[Stored], source: str, *, joined: bool = False) -> _Found:
    """Encoders told by the tensors' last dimension. joined: several tensors of one width are one embedding."""
    parts: dict[str, tuple[Stored, ...]] = {}
    for tensor in tensors:
        width = tensor.shape[-1] if tensor.shape else 0
        key = _ENCODER_OF_WIDTH.get(width)
        if key is None:
            raise wrong_width(tensor, width)
        if key in parts and not joined:
            raise StorageError(f"{shown(tensor.name)} and another tensor are both {width} wide.", hint=REMAKE)
        # One vector is stored 1-D by diffusers.
        row = Stored(tensor.name, (1, width), tensor.dtype, tensor.floating, tensor.tensor)
        parts[key] = (*parts.get(key, ()), row if len(tensor.shape) == 1 else tensor)
    return _Found(parts, source)


def _layout(found: _Found, bundled: str | None = None) -> Layout:
    """Everything that can be known from shapes, checked."""
    counts = {key: sum(row_count(part, key) for part in parts) for key, parts in found.parts.items()}
    if len(set(counts.values())) > 1:
        message = "It has " + " and ".join(f"{n} vectors for {key}" for key, n in counts.items()) + "."
        raise StorageError(message, hint=f"Web UIs would shift or cut the prompt after it. {REMAKE}")
    count = next(iter(counts.values()))
    if count > MAX_ROWS:
        raise StorageError(f"It has {count:,} vectors; no embedding has over {MAX_ROWS:,}.", hint=REMAKE)
    architecture = architecture_of(set(counts))
    if architecture is None:
        message = f"It has vectors for {' and '.join(counts)}, which no model has together."
        raise StorageError(message, hint=REMAKE)
    if count > MAX_VECTORS:
        found.notes.append(f"{count} vectors are more than the {MAX_VECTORS} that a prompt chunk of a web UI holds.")
    source = found.source if bundled is None else f"{found.source}, bundled in a LoRA as {shown(bundled)}"
    return Layout(MappingProxyType(found.parts), architecture, count, source, bundled, tuple(found.notes))


def _unknown(tensors: Mapping[str, Stored], *, has_params: bool) -> StorageError:
    if any(name in tensors for name in _OUTPUTS):
        message = "It holds only OneTrainer's output vectors, which come after the text encoder."
        return StorageError(message, hint="Train it as an ordinary, input embedding.")
    for pattern, kind in _FOREIGN:
        if any(pattern.match(name) for name in tensors):
            return StorageError(f"It is {kind}, not an embedding.", hint="Move it to the folder for its kind.")
    if not tensors:
        return StorageError("It holds no vectors." if not has_params else f"{_PARAMS} holds no vectors.", hint=REMAKE)
    listed = ", ".join(shown(name) for name in sorted(tensors)[:4]) + (", ..." if len(tensors) > 4 else "")
    message = f"It has {len(tensors)} tensors ({listed}), and none has a name that an embedding's vectors have."
    return StorageError(message, hint="Known are clip_l, clip_g, emb_params, string_to_param and a single tensor.")


def _leftovers(found: _Found, tensors: Mapping[str, Stored]) -> list[str]:
    used = {part.name for parts in found.parts.values() for part in parts}
    extra = sorted(set(tensors) - used - {*_OUTPUTS, _A1111_TOKENS})
    return [f"The tensor {shown(name)} is ignored; some tools refuse a file with it." for name in extra[:_MAX_NOTED]]


def _plain_notes(plain: Mapping[str, object]) -> list[str]:
    """What A1111 and others keep beside the vectors in a .pt: name, step, sd_checkpoint_name, ..."""
    listed = [(key, str(value)) for key, value in plain.items() if _is_short(value)][:_MAX_NOTED]
    return [f"{shown(key, quote='')}: {shown(value, quote='')}" for key, value in listed]


def _is_short(value: object) -> bool:
    """A text or number. str() refuses to spell an int of thousands of digits, and no count of steps has them."""
    return isinstance(value, (str, float)) or (isinstance(value, int) and abs(value) < 10**18)
