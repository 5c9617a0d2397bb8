"""Fingerprints: hashes that identify a text encoder, whatever file, layout or precision it is stored in.

Specification: docs/model-tags.md, "Fingerprints". For every canonical weight (canonical.py), digest = sha256
over its values as float16, little-endian, in the orientation of transformers.
    token_table  = digest of the token table
    text_encoder = sha256 over the lines "<name> <digest>\\n" in the order of the names
The files are read once, front to back, in pieces. Two threads read and hash at the same time.
"""

from __future__ import annotations

import hashlib
import math
import queue
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy

from lib_embedmerge.checkpoints.canonical import TOKEN_TABLE, CanonicalWeight, find_canonical_weights, is_complete
from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.checkpoints.quantisation import find_scale
from lib_embedmerge.core.arrays import to_float16
from lib_embedmerge.core.ports import Fingerprint, Progress
from lib_embedmerge.core.statistics import measure_lengths
from lib_embedmerge.errors import CheckpointError

FINGERPRINT_SCHEMA = 1
"""Number of the definition above. Cached fingerprints of another number are not used."""

_THREADS = 2

_Report = Callable[[int], None]
"""A function that is called with the number of bytes that were read since its last call."""


@dataclass
class _Digests:
    """The digests of one encoder's weights.

    by_name: canonical name -> digest.  mean_length: of the rows of the token table.
    unknown: whether some layer has an unknown quantisation, so that there is no fingerprint of the whole encoder.
    """

    by_name: dict[str, str] = field(default_factory=dict)
    mean_length: float = 0.0
    unknown: bool = False


def fingerprint_encoders(
    sources: Sequence[EncoderSource], progress: Progress | None = None, *, tables_only: bool = False
) -> dict[str, Fingerprint]:
    """Encoder key -> fingerprint. Every weight is read once.

    progress: called in this thread with (bytes done, total bytes) after each piece of at most 16 MB.
    tables_only: whether to read only the token tables; then text_encoder is None.
    CheckpointError if a file cannot be read or a token table has an unknown dtype or quantisation.
    """
    digests = {source.key: _Digests() for source in sources}
    items = [
        (source.key, item)
        for source in sources
        for item in _list_weights(source, digests[source.key], tables_only=tables_only)
    ]
    items.sort(key=lambda entry: (entry[1].weight.file_position, entry[1].first))
    total = sum(item.count * _find_value_size(item) for _, item in items)
    results = _digest_all(items, total, progress)
    for (key, item), (digest, mean_length) in zip(items, results, strict=True):
        digests[key].by_name[item.name] = digest
        if item.name == TOKEN_TABLE:
            digests[key].mean_length = mean_length
    return {key: _make_fingerprint(key, of_encoder, tables_only=tables_only) for key, of_encoder in digests.items()}


def fingerprint_table(pieces: Iterable[numpy.ndarray]) -> Fingerprint:
    """The fingerprint of a token table; its text_encoder is None, because the layers are not known.

    pieces: the table in order, as arrays [n, width] of floating-point numbers.
    """
    digest = hashlib.sha256()
    lengths: list[float] = []
    for rows in pieces:
        lengths += _measure_finite_rows(rows)
        _add_values(digest, rows)
    return Fingerprint(digest.hexdigest(), None, _average(lengths))


def _list_weights(source: EncoderSource, digests: _Digests, *, tables_only: bool) -> list[CanonicalWeight]:
    """The weights to read for a fingerprint, the token table first. Sets `digests.unknown`.

    CheckpointError if the token table has an unknown dtype or quantisation.
    """
    table = CanonicalWeight(
        TOKEN_TABLE, source.table, 0, math.prod(source.table.shape), scale=find_scale(source.weights, source.table_name)
    )
    if tables_only:
        return [table]
    try:
        items = find_canonical_weights(source)
    except CheckpointError:  # a layer has an unknown quantisation; the token table can still be read
        digests.unknown = True
        return [table]
    return [table, *(item for item in items if item.name != TOKEN_TABLE)]


def _make_fingerprint(key: str, digests: _Digests, *, tables_only: bool) -> Fingerprint:
    """The fingerprint of an encoder, with its text_encoder only if all of its weights are known."""
    names = digests.by_name
    text_encoder = None
    if not tables_only and not digests.unknown and is_complete(key, set(names)):
        lines = "".join(f"{name} {names[name]}\n" for name in sorted(names))
        text_encoder = hashlib.sha256(lines.encode("ascii")).hexdigest()
    return Fingerprint(names[TOKEN_TABLE], text_encoder, digests.mean_length)


def _digest_all(
    items: Sequence[tuple[str, CanonicalWeight]], total: int, progress: Progress | None
) -> list[tuple[str, float]]:
    """(digest, mean length) of each item. `progress` is called in this thread, not in the workers."""
    from concurrent.futures import Future, ThreadPoolExecutor  # which most programs need not import

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
    finally:  # even if `progress` raises, which cancels the rest
        executor.shutdown(wait=True, cancel_futures=True)


def _digest(item: CanonicalWeight, report: _Report) -> tuple[str, float]:
    """sha256 hex of a weight's values as float16, and the mean length of the finite rows if it is a token table."""
    digest = hashlib.sha256()
    lengths: list[float] = []
    for values in item.pieces():
        if item.name == TOKEN_TABLE:
            lengths += _measure_finite_rows(values.reshape(-1, item.weight.shape[1]))
        _add_values(digest, values)
        report(len(values) * _find_value_size(item))
    return digest.hexdigest(), _average(lengths)


def _add_values(digest: hashlib._Hash, values: numpy.ndarray) -> None:
    """Add the values as float16 to a digest."""
    digest.update(numpy.ascontiguousarray(to_float16(values)).view(numpy.uint8).data)


def _measure_finite_rows(rows: numpy.ndarray) -> list[float]:
    """L2 lengths of the rows of [n, width] that are finite."""
    return [length for length in measure_lengths(rows).tolist() if math.isfinite(length)]


def _find_value_size(item: CanonicalWeight) -> int:
    """Bytes of one stored value, for the progress. An unknown dtype counts as 2; reading it fails later."""
    return {"F64": 8, "F32": 4, "F8_E4M3": 1, "F8_E5M2": 1}.get(item.weight.dtype, 2)


def _average(lengths: Sequence[float]) -> float:
    """The mean as float32; NaN for no lengths. fsum is exact, so the mean is the same for any pieces on any machine."""
    if not lengths:  # no row of the table is finite
        return math.nan
    mean = math.fsum(lengths) / len(lengths)  # no overflow: a finite length is below 1e155
    with numpy.errstate(over="ignore"):
        return float(numpy.float32(mean))
