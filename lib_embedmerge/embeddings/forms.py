"""The forms that embeddings come in: which tensors of a file are the vectors of which text encoder.

Works on what a file holds, not on files: torch tensors (from a pickle) or TensorInfo (a safetensors header), so that
everything that can be refused is refused before a number is read. docs/embedding-files.md says what each
tool writes and how the others fail on it. Opening files belongs to embedding.py.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
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
from lib_embedmerge.embeddings.form_bundles import PARAMS, by_text, choose_bundle, find_bundles, list_entries
from lib_embedmerge.embeddings.form_parts import (
    REMAKE,
    Stored,
    as_stored,
    check_numbers,
    count_rows,
    describe_values,
    describe_wrong_width,
    shorten,
)
from lib_embedmerge.errors import Remedy, StorageError, format_count
from lib_embedmerge.files.safetensors_header import TensorInfo

if TYPE_CHECKING:
    import torch

MAX_ROWS = 4096
"""Vectors beyond which a file is no embedding: 55 full prompt chunks, and 33 MB in float32 for SDXL."""

_MAX_LISTED = 4 * MAX_ROWS
"""Entries of a list's dicts that are looked at; the list may name one dict again and again."""

_ENCODER_OF_WIDTH = {width: key for key, width in WIDTHS.items()}
_ENCODERS = (CLIP_L, CLIP_G, *OTHER_ENCODERS)
_OUTPUTS = frozenset(f"{key}_out" for key in _ENCODERS)
_PIVOTAL = ("text_encoders_0", "text_encoders_1")
_A1111_TOKENS = "string_to_token"
_T5_WIDTH = 4096
_MAX_NOTED = 12
_UNNAMED = frozenset(("*", "emb_params", "the tensor", PARAMS))
"""What single tensors are called that are not called by their token."""

_OPTIMIZER = frozenset(("optimizer_state_dict", "optimizer", "param_groups", "state"))
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
    source: the form, for people.  bundled: the embedding's name inside a file of several, else None.
    warnings: what a person should know, one sentence each.
    facts: what the file says beside its vectors, such as `step`.
    token: what it calls itself in a text, `<cat-toy>`; None where it does not say.
    """

    parts: Mapping[str, tuple[Stored, ...]]
    architecture: Architecture
    count: int
    source: str
    bundled: str | None = None
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    token: str | None = None


@dataclass
class _Found:
    """What a reader picked out of a file, not yet checked."""

    parts: dict[str, tuple[Stored, ...]]
    source: str
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    token: str | None = None


def read_vectors(
    layout: Layout, read: Callable[[TensorInfo], torch.Tensor] | None = None
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The vectors that were recognised, encoder key -> float32 CPU tensor [n, width], and warnings about the file.

    read: gives the numbers of a TensorInfo. NaN and infinity are read, with a warning.
    """
    import torch

    vectors = {key: rows.to(torch.float32) for key, rows in read_stored(layout, read).items()}
    return vectors, (*layout.warnings, *describe_values(vectors))


def read_stored(layout: Layout, read: Callable[[TensorInfo], torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The same vectors, bit for bit in the dtype in which they are stored; of several parts, in that of the finest."""
    import torch

    vectors: dict[str, torch.Tensor] = {}
    for key, parts in layout.parts.items():
        rows = [check_numbers(part, read).reshape(-1, part.shape[-1]) for part in parts]
        vectors[key] = torch.cat(rows) if len(rows) > 1 else rows[0]
    return vectors


def recognise(content: object, *, bundled: str | None = None) -> Layout:
    """Which tensors are the vectors, without reading any number.

    content: what a file holds: name -> tensor, TensorInfo or plain data; a pickle may also be a list or one tensor.
    bundled: which embedding of a file that bundles several.
    StorageError, which does not name the file, where the content is no sound embedding.
    """
    if isinstance(content, (list, tuple)):
        return _layout(_from_list(content))
    entries = list_entries(content)
    bundles = find_bundles(entries)
    if not bundles and bundled is not None:
        raise StorageError(
            f"It bundles no embeddings, so there is no {shorten(bundled)}.", remedy=Remedy.LEAVE_OUT_BUNDLED
        )
    name = choose_bundle(bundles, bundled) if bundles else None
    return _layout(_from_mapping(entries if name is None else bundles[name]), name)


def _from_mapping(entries: Mapping[str, object]) -> _Found:
    """The first form that fits. What is left over is noted, for it may be why another tool refuses the file."""
    tensors: dict[str, Stored] = {}
    params: dict[str, Stored] = {}
    plain: dict[str, object] = {}
    for key, value in entries.items():
        if key == PARAMS and isinstance(value, Mapping):
            nested = {name: as_stored(f"{PARAMS}[{name}]", tensor) for name, tensor in by_text(value).items()}
            params |= {name: stored for name, stored in nested.items() if stored is not None}
        elif (stored := as_stored(key, value)) is None:
            plain[key] = value
        elif key.startswith(f"{PARAMS}."):
            params[key] = stored
        else:
            tensors[key] = stored
    found = _from_params(params) or _from_encoders(tensors) or _from_one(tensors)
    if found is None:
        if not tensors and plain.keys() & _OPTIMIZER:
            message = "It contains only the state of an unfinished training, no vectors."
            raise StorageError(message, hint="Choose the embedding that was saved beside it.")
        raise _unknown(tensors, has_params=PARAMS in entries)
    found.warnings += _leftovers(found, tensors)
    found.facts = _facts(plain)
    return found


def _from_params(params: Mapping[str, Stored]) -> _Found | None:
    if not params:
        return None
    if len(params) > 1:
        message = f"{PARAMS} contains {len(params)} embeddings; web UIs cannot tell which one to use."
        raise StorageError(message, hint=REMAKE)
    found = _by_width(tuple(params.values()), f"{PARAMS} (AUTOMATIC1111)")
    found.token = _token(next(iter(params)).removeprefix(f"{PARAMS}."))
    return found


def _from_encoders(tensors: Mapping[str, Stored]) -> _Found | None:
    """Tensors called by their text encoders, and pivotal tuning's text_encoders_0 / _1, whose widths tell those."""
    named = {key: (stored,) for key in _ENCODERS if (stored := tensors.get(key)) and _is_usable(key, stored)}
    if named:
        outputs = [key for key in _ENCODERS if f"{key}_out" in tensors]
        found = _Found({}, "OneTrainer" if outputs else " and ".join(named))
        found.parts = {key: (_as_row(stored) if key in OTHER_ENCODERS else stored,) for key, (stored,) in named.items()}
        if outputs:
            listed = " and ".join(f"{key}_out" for key in outputs)
            found.warnings.append(f"OneTrainer's output vectors ({listed}) are ignored.")
        if set(named) == {CLIP_L}:
            found.warnings.append("Only CLIP-L has vectors, as in Stable Diffusion 1. SDXL web UIs skip such a file.")
        return found
    pivotal = tuple(tensors[key] for key in _PIVOTAL if key in tensors)
    of_t5 = [one for one in pivotal if one.shape[-1:] == (_T5_WIDTH,)]
    if not pivotal or len(of_t5) == len(pivotal):
        return None
    found = _by_width([one for one in pivotal if one.shape[-1:] != (_T5_WIDTH,)], "text_encoders_0/1 (pivotal tuning)")
    found.parts |= {"t5": (_as_row(of_t5[0]),)} if of_t5 else {}
    return found


def _is_usable(key: str, stored: Stored) -> bool:
    """Whether a tensor with an encoder's name is to be its vectors. CLIP's must be, and are checked; what other tools
    leave empty or fill with something else for another encoder makes no other architecture of the file."""
    return key in WIDTHS or (stored.floating and len(stored.shape) in (1, 2) and 0 not in stored.shape)


def _as_row(stored: Stored) -> Stored:
    """One vector is stored 1-D by diffusers."""
    if len(stored.shape) != 1:
        return stored
    return Stored(stored.name, (1, *stored.shape), stored.dtype, stored.floating, stored.tensor)


def _from_one(tensors: Mapping[str, Stored]) -> _Found | None:
    name = "emb_params" if "emb_params" in tensors else next(iter(tensors), None)
    if name is None or name in _OUTPUTS or (name != "emb_params" and len(tensors) > 1):
        return None
    found = _by_width((tensors[name],), name if name == "emb_params" else f"one tensor, {shorten(name)}")
    found.token = _token(name)
    return found


def _token(name: str) -> str | None:
    return None if name in _UNNAMED or name.startswith("entry ") else name


def _from_list(content: Sequence[object]) -> _Found:
    """A list of dicts, as ComfyUI reads it: the tensors of each width, one after the other."""
    items = (item if isinstance(item, Mapping) else {0: item} for item in content[: MAX_ROWS + 1])
    entries = itertools.islice(((key, value) for item in items for key, value in item.items()), _MAX_LISTED + 1)
    looked_at = [as_stored(key if isinstance(key, str) else "a tensor", value) for key, value in entries]
    tensors = [tensor for tensor in looked_at if tensor is not None]
    if len(looked_at) > _MAX_LISTED:
        raise StorageError(f"It contains a list with over {_MAX_LISTED:,} entries, not an embedding.", hint=REMAKE)
    if not 0 < len(tensors) <= MAX_ROWS:
        raise StorageError(f"It contains a list with {len(tensors):,} tensors, not an embedding.", hint=REMAKE)
    return _by_width(tensors, "a list of tensors", joined=True)


def _by_width(tensors: Sequence[Stored], source: str, *, joined: bool = False) -> _Found:
    """Encoders told by the tensors' last dimension. joined: several tensors of one width are one embedding."""
    parts: dict[str, tuple[Stored, ...]] = {}
    for tensor in tensors:
        width = tensor.shape[-1] if tensor.shape else 0
        key = _ENCODER_OF_WIDTH.get(width)
        if key is None:
            raise describe_wrong_width(tensor, width)
        if key in parts and not joined:
            raise StorageError(f"{shorten(tensor.name)} and another tensor are both {width} wide.", hint=REMAKE)
        parts[key] = (*parts.get(key, ()), _as_row(tensor))
    return _Found(parts, source)


def _layout(found: _Found, bundled: str | None = None) -> Layout:
    """Everything that can be known from shapes, checked."""
    counts = {key: sum(count_rows(part, key) for part in parts) for key, parts in found.parts.items()}
    of_clip = {key: count for key, count in counts.items() if key in WIDTHS}
    if len(set(of_clip.values())) > 1:
        message = "It has " + " and ".join(f"{format_count(n, 'vector')} for {key}" for key, n in of_clip.items()) + "."
        raise StorageError(message, hint=f"Web UIs would shift or cut the prompt after it. {REMAKE}")
    count = next(iter(counts.values()))
    if (most := max(counts.values())) > MAX_ROWS:
        raise StorageError(f"It has {most:,} vectors; an embedding has at most {MAX_ROWS:,}.", hint=REMAKE)
    architecture = find_architecture(set(counts))
    if architecture is None:
        message = f"It has vectors for {' and '.join(counts)}; no model has these text encoders together."
        raise StorageError(message, hint=REMAKE)
    if count > MAX_VECTORS:
        found.warnings.append(f"It has {count} vectors, but a prompt chunk of a web UI holds only {MAX_VECTORS}.")
    if set(architecture.encoders) != set(of_clip):
        found.warnings.append(_for_others(architecture, of_clip))
    is_of_lora = bundled is not None and bundled != found.token
    source = f"{found.source}, bundled in a LoRA as {shorten(bundled)}" if is_of_lora and bundled else found.source
    facts = MappingProxyType(found.facts)
    parts = MappingProxyType(found.parts)
    return Layout(parts, architecture, count, source, bundled, tuple(found.warnings), facts, found.token)


def _for_others(architecture: Architecture, of_clip: Collection[str]) -> str:
    """What there is to say of an embedding with vectors for encoders that no model here has."""
    others = " and ".join(find_encoder_title(key) for key in architecture.encoders if key not in of_clip)
    own = " and ".join(find_encoder_title(key) for key in of_clip)
    usable = f" SDXL models can use only its vectors for {own}." if own else ""
    return f"It is for {architecture.title}: it has vectors for {others}, which no SDXL model has.{usable}"


def _unknown(tensors: Mapping[str, Stored], *, has_params: bool) -> StorageError:
    if _OUTPUTS & tensors.keys():
        message = "It contains only OneTrainer's output vectors, which act after the text encoder."
        return StorageError(message, hint="Train it as an ordinary embedding, which acts before the text encoder.")
    for pattern, kind in _FOREIGN:
        if any(pattern.match(name) for name in tensors):
            return StorageError(f"It is {kind}, not an embedding.", hint="Move it to the folder for such files.")
    if not tensors:
        return StorageError(f"{PARAMS if has_params else 'It'} contains no vectors.", hint=REMAKE)
    listed = ", ".join(shorten(name) for name in sorted(tensors)[:4]) + (", ..." if len(tensors) > 4 else "")
    message = f"None of its {format_count(len(tensors), 'tensor')} ({listed}) has a name that embeddings use."
    return StorageError(
        message, hint="Embeddings use clip_l, clip_g, emb_params, string_to_param, or a single tensor of any name."
    )


def _leftovers(found: _Found, tensors: Mapping[str, Stored]) -> list[str]:
    used = {part.name for parts in found.parts.values() for part in parts}
    extra = sorted(set(tensors) - used - _OUTPUTS - {_A1111_TOKENS})
    return [f"The tensor {shorten(name)} is ignored; some programs refuse the file." for name in extra[:_MAX_NOTED]]


def _facts(plain: Mapping[str, object]) -> dict[str, str]:
    """What A1111 and others keep beside the vectors in a .pt: name, step, sd_checkpoint_name, ..."""
    listed = [(key, str(value)) for key, value in plain.items() if _is_short(value)][:_MAX_NOTED]
    return {shorten(key, quote=""): shorten(value, quote="") for key, value in listed}


def _is_short(value: object) -> bool:
    """A text or number. str() refuses to spell an int of thousands of digits, and no count of steps has them."""
    return isinstance(value, (str, float)) or (isinstance(value, int) and abs(value) < 10**18)
