"""The forms of embedding files: which of a file's tensors are the vectors for which text encoder.

The functions take the content of a file, tensors from a pickle or TensorInfo from a safetensors header, so a file
is refused before any values are read. docs/embedding-files.md says what each tool writes and how other tools fail on
it. embedding_file.py opens files.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from lib_embedmerge.core.architecture import (
    CLIP_G,
    CLIP_L,
    MAX_VECTORS,
    OTHER_ENCODERS,
    WIDTHS,
    Architecture,
    find_architecture,
    find_encoder_title,
)
from lib_embedmerge.embeddings.form_bundles import PARAMS, choose_bundle, find_bundles, list_entries, name_entries
from lib_embedmerge.embeddings.form_layout import Layout
from lib_embedmerge.embeddings.form_parts import (
    REMAKE_HINT,
    StoredTensor,
    count_rows,
    describe_wrong_width,
    find_stored_tensor,
    shorten,
)
from lib_embedmerge.errors import Remedy, StorageError, format_count

if TYPE_CHECKING:
    pass

MAX_ROWS = 4096
"""Largest number of vectors in an embedding: 55 full prompt chunks, and 33 MB in float32 for SDXL."""

_MAX_LISTED = 4 * MAX_ROWS
"""Largest number of entries in all dicts of a list, which may contain one dict many times."""

_ENCODER_OF_WIDTH = {width: key for key, width in WIDTHS.items()}
_ENCODERS = (CLIP_L, CLIP_G, *OTHER_ENCODERS)
_OUTPUTS = frozenset(f"{key}_out" for key in _ENCODERS)
_PIVOTAL = ("text_encoders_0", "text_encoders_1")
_A1111_TOKENS = "string_to_token"
_T5_WIDTH = 4096
_MAX_SHOWN = 12
_NOT_TOKENS = frozenset(("*", "emb_params", "the tensor", PARAMS))
"""Names of single tensors that are not the token of the embedding."""

_OPTIMIZER = frozenset(("optimizer_state_dict", "optimizer", "param_groups", "state"))
_FOREIGN = (
    (re.compile(r"(model\.diffusion_model|cond_stage_model|conditioner\.embedders)\."), "a checkpoint"),
    (re.compile(r"(lora_(te|unet)|lycoris_|(unet|text_encoder)\..*lora)"), "a LoRA without embeddings"),
    (re.compile(r"(first_stage_model\.|decoder\.|encoder\.)"), "a VAE"),
    (re.compile(r"(text_model\.|transformer\.resblocks\.)"), "a text encoder"),
)
"""(beginning of tensor names, kind of file) for files that users often put among embeddings."""


@dataclass
class _Recognised:
    """The tensors of one form in a file, before their shapes are checked. Fields as in Layout."""

    parts: dict[str, tuple[StoredTensor, ...]]
    source: str
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    token: str | None = None


def recognise(content: object, *, bundled: str | None = None, uneven: bool = False) -> Layout:
    """Find the vectors in the content of a file, without reading values.

    content: name -> tensor, TensorInfo or plain data; from a pickle it may also be a list or a single tensor.
    bundled: the name of one embedding in a file that bundles several.
    uneven: whether CLIP encoders may have different numbers of vectors, which no program can use.
    StorageError, which does not name the file, if the content is not a valid embedding.
    """
    if isinstance(content, (list, tuple)):
        return _make_layout(_recognise_list(content), uneven=uneven)
    entries = list_entries(content)
    bundles = find_bundles(entries)
    if not bundles and bundled is not None:
        raise StorageError(
            f"It bundles no embeddings, so there is no {shorten(bundled)}.", remedy=Remedy.LEAVE_OUT_BUNDLED
        )
    name = choose_bundle(bundles, bundled) if bundles else None
    return _make_layout(_recognise_mapping(entries if name is None else bundles[name]), name, uneven=uneven)


def _recognise_mapping(entries: Mapping[str, object]) -> _Recognised:
    """Recognise the form of named entries. Tensors that are not used give warnings, because other tools may refuse
    the file.

    StorageError if the entries have no form of an embedding.
    """
    tensors: dict[str, StoredTensor] = {}
    params: dict[str, StoredTensor] = {}
    plain: dict[str, object] = {}
    for key, value in entries.items():
        if key == PARAMS and isinstance(value, Mapping):
            nested = {
                name: find_stored_tensor(f"{PARAMS}[{name}]", tensor) for name, tensor in name_entries(value).items()
            }
            params |= {name: stored for name, stored in nested.items() if stored is not None}
        elif (stored := find_stored_tensor(key, value)) is None:
            plain[key] = value
        elif key.startswith(f"{PARAMS}."):
            params[key] = stored
        else:
            tensors[key] = stored
    form = _recognise_params(params) or _recognise_encoders(tensors) or _recognise_single(tensors)
    if form is None:
        if not tensors and plain.keys() & _OPTIMIZER:
            message = "It contains only the state of an unfinished training, no vectors."
            raise StorageError(message, hint="Choose the embedding that was saved beside it.")
        raise _describe_unknown(tensors, has_params=PARAMS in entries)
    form.warnings += _warn_of_leftovers(form, tensors)
    form.facts = _find_facts(plain)
    return form


def _recognise_params(params: Mapping[str, StoredTensor]) -> _Recognised | None:
    """The form of AUTOMATIC1111: one tensor under its token in string_to_param. None if there is none.

    StorageError if there are several.
    """
    if not params:
        return None
    if len(params) > 1:
        message = f"{PARAMS} contains {len(params)} embeddings; web UIs cannot tell which one to use."
        raise StorageError(message, hint=REMAKE_HINT)
    form = _recognise_by_width(tuple(params.values()), f"{PARAMS} (AUTOMATIC1111)")
    form.token = _find_token(next(iter(params)).removeprefix(f"{PARAMS}."))
    return form


def _recognise_encoders(tensors: Mapping[str, StoredTensor]) -> _Recognised | None:
    """The forms with a tensor for each text encoder: named after it, or text_encoders_0 and _1 of pivotal tuning.

    In the latter the width tells the encoder. None if there are no such tensors.
    """
    found = [key for key in _ENCODERS if key in tensors] if not tensors.keys().isdisjoint(_ENCODERS) else []
    named = {key: (tensors[key],) for key in found if _is_usable(key, tensors[key])}
    if named:
        outputs = [key for key in _ENCODERS if f"{key}_out" in tensors] if len(tensors) > len(named) else []
        form = _Recognised({}, "OneTrainer" if outputs else " and ".join(named))
        form.parts = {
            key: (_make_row(stored) if key in OTHER_ENCODERS else stored,) for key, (stored,) in named.items()
        }
        if outputs:
            listed = " and ".join(f"{key}_out" for key in outputs)
            form.warnings.append(f"OneTrainer's output vectors ({listed}) are ignored.")
        if set(named) == {CLIP_L}:
            form.warnings.append("Only CLIP-L has vectors, as in Stable Diffusion 1. SDXL web UIs skip such a file.")
        return form
    pivotal = tuple(tensors[key] for key in _PIVOTAL if key in tensors)
    of_t5 = [tensor for tensor in pivotal if tensor.shape[-1:] == (_T5_WIDTH,)]
    if not pivotal or len(of_t5) == len(pivotal):
        return None
    form = _recognise_by_width(
        [tensor for tensor in pivotal if tensor.shape[-1:] != (_T5_WIDTH,)], "text_encoders_0/1 (pivotal tuning)"
    )
    form.parts |= {"t5": (_make_row(of_t5[0]),)} if of_t5 else {}
    return form


def _is_usable(key: str, stored: StoredTensor) -> bool:
    """Whether to take a tensor with the name of an encoder as its vectors.

    Always for CLIP, whose tensors are checked later. Tensors for other encoders are ignored if they are empty or
    something else, as some tools write them, because they would change the architecture of the file.
    """
    return key in WIDTHS or (stored.floating and len(stored.shape) in (1, 2) and 0 not in stored.shape)


def _make_row(stored: StoredTensor) -> StoredTensor:
    """The tensor, with one row if it is 1-D, because diffusers stores a single vector 1-D."""
    if len(stored.shape) != 1:
        return stored
    return StoredTensor(stored.name, (1, *stored.shape), stored.dtype, stored.floating, stored.tensor)


def _recognise_single(tensors: Mapping[str, StoredTensor]) -> _Recognised | None:
    """The forms with one tensor: emb_params, or the only tensor of a file under any name. None if there is neither."""
    name = "emb_params" if "emb_params" in tensors else next(iter(tensors), None)
    if name is None or name in _OUTPUTS or (name != "emb_params" and len(tensors) > 1):
        return None
    form = _recognise_by_width((tensors[name],), name if name == "emb_params" else f"one tensor, {shorten(name)}")
    form.token = _find_token(name)
    return form


def _find_token(name: str) -> str | None:
    """The token of an embedding by the name of its tensor; None if the name is not a token."""
    return None if name in _NOT_TOKENS or name.startswith("entry ") else name


def _recognise_list(content: Sequence[object]) -> _Recognised:
    """The form of a list of dicts or tensors, read like ComfyUI: tensors of one width are joined in order.

    StorageError if there is no tensor, or too many.
    """
    items = (item if isinstance(item, Mapping) else {0: item} for item in content[: MAX_ROWS + 1])
    entries = itertools.islice(((key, value) for item in items for key, value in item.items()), _MAX_LISTED + 1)
    values = [find_stored_tensor(key if isinstance(key, str) else "a tensor", value) for key, value in entries]
    tensors = [tensor for tensor in values if tensor is not None]
    if len(values) > _MAX_LISTED:
        raise StorageError(f"It contains a list with over {_MAX_LISTED:,} entries, not an embedding.", hint=REMAKE_HINT)
    if not 0 < len(tensors) <= MAX_ROWS:
        raise StorageError(f"It contains a list with {len(tensors):,} tensors, not an embedding.", hint=REMAKE_HINT)
    return _recognise_by_width(tensors, "a list of tensors", joined=True)


def _recognise_by_width(tensors: Sequence[StoredTensor], source: str, *, joined: bool = False) -> _Recognised:
    """Find the encoder of each tensor by its last dimension. StorageError if no encoder has that width.

    joined: whether to join several tensors of one width. If it is false, they are a StorageError.
    """
    parts: dict[str, tuple[StoredTensor, ...]] = {}
    for tensor in tensors:
        width = tensor.shape[-1] if tensor.shape else 0
        key = _ENCODER_OF_WIDTH.get(width)
        if key is None:
            raise describe_wrong_width(tensor, width)
        if key in parts and not joined:
            raise StorageError(f"{shorten(tensor.name)} and another tensor are both {width} wide.", hint=REMAKE_HINT)
        parts[key] = (*parts.get(key, ()), _make_row(tensor))
    return _Recognised(parts, source)


def _make_layout(form: _Recognised, bundled: str | None = None, *, uneven: bool = False) -> Layout:
    """The layout of the tensors, after checks of their shapes and dtypes. StorageError if one fails."""
    counts = {key: sum(count_rows(part, key) for part in parts) for key, parts in form.parts.items()}
    of_clip = {key: count for key, count in counts.items() if key in WIDTHS}
    filled = None
    if len(set(of_clip.values())) > 1:
        message = "It has " + " and ".join(f"{format_count(n, 'vector')} for {key}" for key, n in of_clip.items()) + "."
        if not uneven:
            raise StorageError(message, hint=f"Inspect it, and save a copy that can be used. {REMAKE_HINT}")
        filled = f"{message} Web UIs would shift or cut the prompt after it."
    count = max(of_clip.values(), default=next(iter(counts.values())))
    if (most := max(counts.values())) > MAX_ROWS:
        raise StorageError(f"It has {most:,} vectors; an embedding has at most {MAX_ROWS:,}.", hint=REMAKE_HINT)
    architecture = find_architecture(set(counts))
    if architecture is None:
        message = f"It has vectors for {' and '.join(counts)}; no model has these text encoders together."
        raise StorageError(message, hint=REMAKE_HINT)
    if count > MAX_VECTORS:
        form.warnings.append(f"It has {count} vectors, but a prompt chunk of a web UI holds only {MAX_VECTORS}.")
    if set(architecture.encoders) != set(of_clip):
        form.warnings.append(_describe_other_encoders(architecture, of_clip))
    is_of_lora = bundled is not None and bundled != form.token
    source = f"{form.source}, bundled in a LoRA as {shorten(bundled)}" if is_of_lora and bundled else form.source
    facts = MappingProxyType(form.facts)
    parts = MappingProxyType(form.parts)
    return Layout(parts, architecture, count, source, bundled, tuple(form.warnings), facts, form.token, filled)


def _describe_other_encoders(architecture: Architecture, of_clip: Collection[str]) -> str:
    """The warning about an embedding with vectors for text encoders of other models than Stable Diffusion."""
    others = " and ".join(find_encoder_title(key) for key in architecture.encoders if key not in of_clip)
    own = " and ".join(find_encoder_title(key) for key in of_clip)
    usable = f" SDXL models can use only its vectors for {own}." if own else ""
    return f"It is for {architecture.title}: it has vectors for {others}, which no SDXL model has.{usable}"


def _describe_unknown(tensors: Mapping[str, StoredTensor], *, has_params: bool) -> StorageError:
    """The error for a file that has no form of an embedding. has_params: whether it contains string_to_param."""
    if _OUTPUTS & tensors.keys():
        message = "It contains only OneTrainer's output vectors, which act after the text encoder."
        return StorageError(message, hint="Train it as an ordinary embedding, which acts before the text encoder.")
    for pattern, kind in _FOREIGN:
        if any(pattern.match(name) for name in tensors):
            return StorageError(f"It is {kind}, not an embedding.", hint="Move it to the folder for such files.")
    if not tensors:
        return StorageError(f"{PARAMS if has_params else 'It'} contains no vectors.", hint=REMAKE_HINT)
    listed = ", ".join(shorten(name) for name in sorted(tensors)[:4]) + (", ..." if len(tensors) > 4 else "")
    message = f"None of its {format_count(len(tensors), 'tensor')} ({listed}) has a name that embeddings use."
    return StorageError(
        message, hint="Embeddings use clip_l, clip_g, emb_params, string_to_param, or a single tensor of any name."
    )


def _warn_of_leftovers(form: _Recognised, tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Warnings about tensors that are not used."""
    used = {part.name for parts in form.parts.values() for part in parts}
    extra = sorted(set(tensors) - used - _OUTPUTS - {_A1111_TOKENS})
    return [f"The tensor {shorten(name)} is ignored; some programs refuse the file." for name in extra[:_MAX_SHOWN]]


def _find_facts(plain: Mapping[str, object]) -> dict[str, str]:
    """The facts that A1111 and others store besides the vectors in a .pt: name, step, sd_checkpoint_name, ..."""
    listed = [(key, str(value)) for key, value in plain.items() if _is_short(value)][:_MAX_SHOWN]
    return {shorten(key, quote=""): shorten(value, quote="") for key, value in listed}


def _is_short(value: object) -> bool:
    """Whether a value is a text or a number. Huge ints are excluded, because str() of them raises ValueError."""
    return isinstance(value, (str, float)) or (isinstance(value, int) and abs(value) < 10**18)
