"""Files that hold several embeddings: which there are, and which tensors belong to each.

What one embedding's tensors are is forms.py's matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lib_embedmerge.embeddings.form_parts import REMAKE, as_stored, shorten
from lib_embedmerge.errors import Remedy, StorageError

PARAMS = "string_to_param"
"""Where the original textual inversion and AUTOMATIC1111 keep the vectors, by token."""

_BUNDLE = "bundle_emb."
_PLACEHOLDER = re.compile(r"<[^<>]+>")
_MAX_PLACEHOLDERS = 1000


def list_bundled_names(content: object) -> tuple[str, ...]:
    """The names by which a file of several embeddings calls them; none for a file of one. content: as `recognise`."""
    if isinstance(content, (list, tuple)):
        return ()
    return tuple(sorted(find_bundles(list_entries(content))))


def list_entries(content: object) -> dict[str, object]:
    """A file's content by names, a tensor alone too. StorageError where it is neither."""
    if (only := as_stored("the tensor", content)) is not None:
        content = {only.name: only.tensor}
    if not isinstance(content, Mapping):
        raise StorageError(f"It contains a value of the type {type(content).__name__}, not vectors.", hint=REMAKE)
    return by_text(content)


def by_text(content: Mapping[object, object]) -> dict[str, object]:
    """The content by names. A pickle's keys need not be texts, and str() of an int with many digits fails."""
    items = enumerate(content.items(), start=1)
    return {key if isinstance(key, str) else f"entry {index}": value for index, (key, value) in items}


def find_bundles(entries: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The embeddings of a file of several: name -> its tensors.

    LoRA files carry them as bundle_emb.<name>.<tensor>, where a name may hold dots itself; and trainings of several
    words at once give one tensor for each, under the word that stands for it: `<s0>`, `<s1>`.
    """
    if len(entries) > 1 and all(_PLACEHOLDER.fullmatch(key) for key in entries):
        tensors = {key: stored for key, value in entries.items() if (stored := as_stored(key, value)) is not None}
        if len(tensors) == len(entries) <= _MAX_PLACEHOLDERS and all(
            len(one.shape) in (1, 2) for one in tensors.values()
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
    """The name of the embedding that is meant. StorageError where it is not clear, or not there."""
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
