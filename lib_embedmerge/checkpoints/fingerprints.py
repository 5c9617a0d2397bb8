"""Fingerprints: hashes that tell one text encoder from another, whatever file, layout or precision it is stored in.

Specification: docs/model-tags.md, "Fingerprints". For every canonical weight (see canonical), digest = sha256
over its values as float16, little-endian, in the orientation of transformers.
    token_table  = digest of the token table
    text_encoder = sha256 over the lines "<name> <digest>\\n" in the order of the names
Reading goes through the files once, front to back, in pieces; sha256 and reads run in two threads beside each other.
"""

from __future__ import annotations

import hashlib
import math
import queue
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy
import torch

from lib_embedmerge.checkpoints.canonical import TOKEN_TABLE, CanonicalWeight, canonical_weights, is_complete
from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.checkpoints.quantisation import find_scale
from lib_embedmerge.core.ports import Fingerprint, Progress
from lib_embedmerge.errors import CheckpointError

FINGERPRINT_SCHEMA = 1
"""Goes up when the definition above changes; cached fingerprints of another one are made anew."""

_THREADS = 2

_Report = Callable[[int], None]


@dataclass
class _Digests:
    """What is known of one encoder so far. unknown: some layer is stored in a way that cannot be read as values."""

    by_name: dict[str, str] = field(default_factory=dict)
    mean_length: float = 0.0
    unknown: bool = False


def fingerprint_encoders(
    sources: Sequence[EncoderSource], progress: Progress | None = None, *, tables_only: bool = False
) -> dict[str, Fingerprint]:
    """Encoder key -> fingerprint, all weights read once.

    progress: called in this thread with (bytes done, bytes in all), at each piece of at most 16 MB.
    tables_only: leaves the layers unread and text_encoder None.
    CheckpointError where a file cannot be read or the token table's numbers are of no known kind.
    """
    digests = {source.key: _Digests() for source in sources}
    items = [
        (source.key, item)
        for source in sources
        for item in _items(source, digests[source.key], tables_only=tables_only)
    ]
    items.sort(key=lambda entry: (entry[1].weight.place, entry[1].first))
    total = sum(item.count * _item_size(item) for _, item in items)
    results = _run(items, total, progress)
    for (key, item), (digest, mean_length) in zip(items, results, strict=True):
        digests[key].by_name[item.name] = digest
        if item.name == TOKEN_TABLE:
            digests[key].mean_length = mean_length
    return {key: _fingerprint(key, found, tables_only=tables_only) for key, found in digests.items()}


def fingerprint_table(pieces: Iterable[torch.Tensor]) -> Fingerprint:
    """The fingerprint of a token table alone, given as tensors [n, width] that together are the table, on any device.

    text_encoder is None: of the layers nothing is known.
    """
    digest = hashlib.sha256()
    lengths: list[float] = []
    for rows in pieces:
        lengths += _finite_lengths(rows.cpu())
        _update(digest, rows.cpu())
    return Fingerprint(digest.hexdigest(), None, _mean_as_float32(lengths))


def _items(source: EncoderSource, digests: _Digests, *, tables_only: bool) -> list[CanonicalWeight]:
    table = CanonicalWeight(
        TOKEN_TABLE, source.table, 0, math.prod(source.table.shape), scale=find_scale(source.weights, source.table_name)
    )
    if tables_only:
        return [table]
    try:
        items = canonical_weights(source)
    except CheckpointError:  # an unknown quantisation of a layer; the token table is still good
        digests.unknown = True
        return [table]
    return [table, *(item for item in items if item.name != TOKEN_TABLE)]


def _fingerprint(key: str, digests: _Digests, *, tables_only: bool) -> Fingerprint:
    names = digests.by_name
    text_encoder = None
    if not tables_only and not digests.unknown and is_complete(key, set(names)):
        lines = "".join(f"{name} {names[name]}\n" for name in sorted(names))
        text_encoder = hashlib.sha256(lines.encode("ascii")).hexdigest()
    return Fingerprint(names[TOKEN_TABLE], text_encoder, digests.mean_length)


def _run(
    items: Sequence[tuple[str, CanonicalWeight]], total: int, progress: Progress | None
) -> list[tuple[str, float]]:
    """(digest, mean length) of each item. The workers only count; `progress` is called from here."""
    counts: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="embedmerge-fingerprint")
    try:
        futures: list[Future[tuple[str, float]]] = [executor.submit(_digest, item, counts.put) for _, item in items]
        for future in futures:
            future.add_done_callback(lambda _: counts.put(None))
        done, running = 0, len(futures)
        while running:
            count = counts.get()
            if count is None:
                running -= 1
                continue
            done += count
            if progress is not None:
                progress(done, total)
        return [future.result() for future in futures]
    finally:  # also where `progress` raises to stop it all
        executor.shutdown(wait=True, cancel_futures=True)


def _digest(item: CanonicalWeight, report: _Report) -> tuple[str, float]:
    """sha256 hex of the item's values as float16, and for a token table the mean length of its finite rows."""
    digest = hashlib.sha256()
    lengths: list[float] = []
    for values in item.pieces():
        if item.name == TOKEN_TABLE:
            lengths += _finite_lengths(values.reshape(-1, item.weight.shape[1]))
        _update(digest, values)
        report(len(values) * _item_size(item))
    return digest.hexdigest(), _mean_as_float32(lengths)


def _update(digest: hashlib._Hash, values: torch.Tensor) -> None:
    half = values.to(torch.float16).contiguous()  # too large a value becomes infinite, as it does in torch
    digest.update(half.view(torch.uint8).numpy().data)


def _finite_lengths(rows: torch.Tensor) -> list[float]:
    lengths = torch.linalg.vector_norm(rows.to(torch.float64), dim=1).tolist()
    return [length for length in lengths if math.isfinite(length)]


def _item_size(item: CanonicalWeight) -> int:
    """Bytes of one stored value, for the progress; an unknown dtype fails later, when it is read."""
    return {"F64": 8, "F32": 4, "F8_E4M3": 1, "F8_E5M2": 1}.get(item.weight.dtype, 2)


def _mean_as_float32(lengths: Sequence[float]) -> float:
    """fsum is exact, so the mean depends neither on the pieces nor on the machine."""
    if not lengths:  # a table without one usable row
        return math.nan
    mean = math.fsum(lengths) / len(lengths)  # no overflow: a finite length is below 1e155
    with numpy.errstate(over="ignore"):
        return float(numpy.float32(mean))
