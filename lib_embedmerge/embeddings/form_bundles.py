"""Files that contain several embeddings: their names, and the tensors of each.

forms.py finds the vectors among the tensors of one embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lib_embedmerge.embeddings.form_parts import REMAKE_HINT, find_stored_tensor, shorten
from lib_embedmerge.errors import Remedy, StorageError

PARAMS = "string_to_param"
"""The key under which the original textual inversion and AUTOMATIC1111 store vectors by token."""

_BUNDLE = "bundle_emb."
_PLACEHOLDER = re.compile(r"<[^<>]+>")
_MAX_PLACEHOLDERS = 1000


def list_bundled_names(content: object) -> tuple[str, ...]:
    """The names of the embeddings in a file of several; none for a file of one. content: as in `forms.recognise`."""
    if isinstance(content, (list, tuple)):
        return ()
    return tuple(sorted(find_bundles(list_entries(content))))


def list_entries(content: object) -> dict[str, object]:
    """A file's content as name -> value; a single tensor is one entry. StorageError if it is neither."""
    if (single := find_stored_tensor("the tensor", content)) is not None:
        content = {single.name: single.tensor}
    if not isinstance(content, Mapping):
        raise StorageError(f"It contains a value of the type {type(content).__name__}, not vectors.", hint=REMAKE_HINT)
    return name_entries(content)


def name_entries(content: Mapping[object, object]) -> dict[str, object]:
    """The entries with text keys: `entry 1` and so on for other keys, because str() of a huge int raises ValueError."""
    items = enumerate(content.items(), start=1)
    return {key if isinstance(key, str) else f"entry {index}": value for index, (key, value) in items}


def find_bundles(entries: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The embeddings in a file of several: name -> entries. Empty for a file of one embedding.

    LoRA files contain them as bundle_emb.<name>.<tensor>, where a name may contain dots. A training of several tokens
    gives one tensor for each, under the placeholder token: `<s0>`, `<s1>`.
    """
    if len(entries) > 1 and all(_PLACEHOLDER.fullmatch(key) for key in entries):
        tensors = {
            key: stored for key, value in entries.items() if (stored := find_stored_tensor(key, value)) is not None
        }
        if len(tensors) == len(entries) <= _MAX_PLACEHOLDERS and all(
            len(tensor.shape) in (1, 2) for tensor in tensors.values()
        ):
            return {key: {key: value} for key, value in entries.items()}
    bundles: dict[str, dict[str, object]] = {}
    for key, value in entries.items():
        if not key.startswith(_BUNDLE):
            continue
        name, dot, tensor = key.removeprefix(_BUNDLE).rpartition(f".{PARAMS}.")
        if dot:
            tensor = f"{PARAMS}.{tensor}"
        else:
            name, _, tensor = key.removeprefix(_BUNDLE).rpartition(".")
        bundles.setdefault(name, {})[tensor] = value
    return bundles


def choose_bundle(bundles: Mapping[str, object], wanted: str | None) -> str:
    """The name of the embedding to use: `wanted`, or the only one.

    StorageError if the file has no embedding of that name, or several and `wanted` is None.
    """
    names = ", ".join(shorten(name) for name in sorted(bundles)[:20]) + (", ..." if len(bundles) > 20 else "")
    if wanted is None and len(bundles) > 1:
        raise StorageError(
            f"It bundles {len(bundles)} embeddings: {names}.",
            hint="Choose one of them.",
            remedy=Remedy.CHOOSE_BUNDLED,
        )
    if wanted is not None and wanted not in bundles:
        raise StorageError(f"It contains no embedding {shorten(wanted)}, only {names}.", hint="Choose one of these.")
    return next(iter(bundles)) if wanted is None else wanted
