"""What the meter keeps between runs, in the folder `effect` of the cache: metrics of U-Nets, and states of texts.

Everything is kept by what it was made of, so that a copy of a checkpoint under another name needs nothing again. The
oldest files go when all of them together are larger than 2 GB. A file that is damaged or missing is made again, and a
folder that cannot be written to only costs time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from lib_embedmerge.checkpoints.cross_attention import TextReader
from lib_embedmerge.checkpoints.text_metric import PairForm, PairMetric, Report, make_metric
from lib_embedmerge.core.ports import Fingerprint, Progress
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.atomic_file import write_atomically
from lib_embedmerge.files.cache import FileFacts, cache_folder
from lib_embedmerge.files.safetensors_file import encode_safetensors, read_header, read_tensor
from lib_embedmerge.files.stored_values import store

_SCHEMA = "1"
"""Number of the definitions in text_metric.py and encoder_states.py. Files of another number are not used."""

_LIMIT = 2 * 1024**3
"""Largest size of all files together, in bytes."""

_PASSING = 4
"""How many states are kept in memory only. Those of an embedding on SDXL take about 5 MB."""

_SUFFIX = ".safetensors"
_PARTS = ("mean", "cross", "gap")

Arrays = dict[str, numpy.ndarray]


@dataclass(frozen=True)
class StatesKey:
    """What states of texts depend on: the text encoders, the layer that is taken, and the vectors.

    name: sha256 of all of that, in hex; None if an encoder has no fingerprint, so that the states are not kept.
    """

    name: str | None


def make_states_key(
    fingerprints: Mapping[str, Fingerprint], skip: int, chunks: Sequence[Mapping[str, numpy.ndarray]]
) -> StatesKey:
    """The key of the states of some chunks. fingerprints: of the model.  skip, chunks: as for StateMaker."""
    digest = hashlib.sha256(f"{_SCHEMA} {skip} {len(chunks)}\n".encode())
    for key in sorted(fingerprints):
        if (whole := fingerprints[key].text_encoder) is None:
            return StatesKey(None)
        # The table gives the rows of start, end and padding, and the other weights the rest.
        digest.update(f"{key} {whole} {fingerprints[key].token_table}\n".encode())
        for chunk in chunks:
            digest.update(f"{chunk[key].shape}\n".encode())
            digest.update(numpy.ascontiguousarray(chunk[key], dtype="<f4").tobytes())
    return StatesKey(digest.hexdigest())


class MeterCache:
    """The kept metrics and states."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: None means the folder `effect` of the cache folder, looked up again at each use."""
        self._chosen = folder
        self._passing: dict[str, Arrays] = {}

    @property
    def _folder(self) -> Path:
        return self._chosen or cache_folder() / "effect"

    def fingerprint(self, reader: TextReader, progress: Progress | None = None) -> str:
        """The fingerprint of what reads text in a U-Net. It is measured once for each file, at the disk's speed."""
        facts = FileFacts(self._folder)
        known = facts.get(reader.files) if reader.files else None
        if known and isinstance(found := known.get("text_reader"), str):
            return found
        measured = reader.fingerprint(progress)
        if reader.files:
            facts.put(reader.files, {"text_reader": measured})
        return measured

    def has_fingerprint(self, reader: TextReader) -> bool:
        """Whether `fingerprint` would return without reading any weights."""
        known = FileFacts(self._folder).get(reader.files) if reader.files else None
        return known is not None and isinstance(known.get("text_reader"), str)

    def has_metric(self, first: str, second: str) -> bool:
        """Whether the metric of two U-Nets is kept. first, second: their fingerprints."""
        return self._find_path(_name_metric(first, second)).is_file()

    def metric(self, a: TextReader, b: TextReader, prints: tuple[str, str], report: Report | None = None) -> PairMetric:
        """The metric of two U-Nets, kept or made now. prints: the fingerprints of a and b.

        report, errors: as for `make_metric`; a kept metric reports nothing.
        """
        first, second = prints
        if first > second:
            return self.metric(b, a, (second, first), report).swap()
        name = _name_metric(first, second)
        kept = self._read(name)
        if kept is not None and (metric := _to_metric(kept)) is not None:
            return metric
        made = make_metric(a, None if first == second else b, report)
        self._write(name, _from_metric(made))
        return made

    def has_states(self, key: StatesKey) -> bool:
        """Whether the states of this key are kept."""
        if key.name is None:
            return False
        return key.name in self._passing or self._find_path(f"states-{key.name}").is_file()

    def states(self, key: StatesKey, compute: Callable[[], Arrays], *, passing: bool = False) -> Arrays:
        """The arrays that are kept under a key, or those that `compute` gives, which are kept from now on.

        passing: whether they are not written, but kept in memory until some others were asked for.
        """
        if key.name is None:
            return compute()
        if key.name in self._passing:
            arrays = self._passing.pop(key.name)
            self._keep_passing(key.name, arrays)
            return arrays
        name = f"states-{key.name}"
        kept = self._read(name)
        if kept is not None and "hidden" in kept:
            return kept
        made = compute()
        if passing:
            self._keep_passing(key.name, made)
        else:
            self._write(name, made)
        return made

    def _keep_passing(self, name: str, arrays: Arrays) -> None:
        self._passing[name] = arrays  # as the last one
        while len(self._passing) > _PASSING:
            del self._passing[next(iter(self._passing))]

    def _find_path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"

    def _read(self, name: str) -> Arrays | None:
        path = self._find_path(name)
        try:
            header = read_header(path)
            if header.metadata.get("schema") != _SCHEMA:
                return None
            arrays = {key: read_tensor(path, info).to_float32() for key, info in header.tensors.items()}
        except (StorageError, OSError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the oldest use goes first
        return arrays

    def _write(self, name: str, arrays: Mapping[str, numpy.ndarray]) -> None:
        tensors = {key: store(numpy.ascontiguousarray(values, dtype=numpy.float32)) for key, values in arrays.items()}
        data = encode_safetensors(tensors, {"schema": _SCHEMA})
        path = self._find_path(name)
        with contextlib.suppress(OSError, StorageError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data, overwrite=True)
            self._drop_oldest(path)

    def _drop_oldest(self, newest: Path) -> None:
        """Delete the files that were not used for longest, until the rest is small enough."""
        files = [(path.stat(), path) for path in self._folder.glob(f"*{_SUFFIX}")]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
            if total <= _LIMIT:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= stat.st_size


def _name_metric(first: str, second: str) -> str:
    first, second = sorted((first, second))
    return f"metric-{first[:32]}-{second[:32]}"


def _from_metric(metric: PairMetric) -> Arrays:
    arrays: Arrays = {}
    for start, form in (("states", metric.states), ("pooled", metric.pooled)):
        if form is not None:
            values = (form.mean, form.cross, form.gap)
            arrays |= {
                f"{start}.{part}": array for part, array in zip(_PARTS, values, strict=True) if array is not None
            }
    return arrays


def _to_metric(arrays: Arrays) -> PairMetric | None:
    """The metric in the arrays of a file; None if there is none."""
    forms = {
        start: PairForm(arrays[f"{start}.mean"], arrays.get(f"{start}.cross"), arrays.get(f"{start}.gap"))
        for start in ("states", "pooled")
        if f"{start}.mean" in arrays
    }
    return PairMetric(forms["states"], forms.get("pooled")) if "states" in forms else None
