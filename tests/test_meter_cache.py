"""What the meter keeps between runs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest
from checkpoint_files import save, text_unet

from lib_embedmerge.checkpoints import meter_cache
from lib_embedmerge.checkpoints.cross_attention import open_text_reader
from lib_embedmerge.checkpoints.meter_cache import MeterCache, StatesKey, make_states_key
from lib_embedmerge.core.ports import Fingerprint


def key(name: str) -> StatesKey:
    return StatesKey(name)


def make(value: float) -> dict[str, numpy.ndarray]:
    return {"hidden": numpy.full((2, 77, 8), value, dtype=numpy.float32)}


def test_states_are_made_once(tmp_path: Path) -> None:
    cache = MeterCache(tmp_path)
    assert not cache.has_states(key("a"))
    assert cache.states(key("a"), lambda: make(1.5))["hidden"].max() == 1.5
    assert cache.has_states(key("a"))
    assert (cache.states(key("a"), lambda: make(9))["hidden"] == 1.5).all()
    assert cache.states(key("b"), lambda: make(2))["hidden"].max() == 2
    assert cache.states(StatesKey(None), lambda: make(3))["hidden"].max() == 3
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_the_least_used_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MeterCache(tmp_path)
    for number, name in enumerate("abc"):
        cache.states(key(name), lambda: make(1))
        os.utime(tmp_path / f"states-{name}.safetensors", (1000 + number, 1000 + number))
    cache.states(key("a"), lambda: make(9))  # which makes it the last used
    size = (tmp_path / "states-a.safetensors").stat().st_size
    monkeypatch.setattr(meter_cache, "_LIMIT", 3 * size)
    cache.states(key("d"), lambda: make(4))
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["states-a", "states-c", "states-d"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert MeterCache(tmp_path / "file" / "folder").states(key("a"), lambda: make(7))["hidden"].max() == 7


def test_keys_depend_on_everything() -> None:
    prints = {"clip_l": Fingerprint("t", "e", 1.0)}
    rows = numpy.ones((2, 4), dtype=numpy.float32)
    names = [
        make_states_key(prints, 1, [{"clip_l": rows}]).name,
        make_states_key(prints, 2, [{"clip_l": rows}]).name,
        make_states_key(prints, 1, [{"clip_l": rows}, {"clip_l": rows}]).name,
        make_states_key(prints, 1, [{"clip_l": rows * 2}]).name,
        make_states_key({"clip_l": Fingerprint("t", "f", 1.0)}, 1, [{"clip_l": rows}]).name,
        make_states_key({"clip_l": Fingerprint("u", "e", 1.0)}, 1, [{"clip_l": rows}]).name,
        make_states_key(prints, 1, [{"clip_l": rows.reshape(1, 8)}]).name,
    ]
    assert len(set(names)) == len(names)
    assert names[0] == make_states_key(prints, 1, [{"clip_l": rows.copy()}]).name
    assert make_states_key({"clip_l": Fingerprint("t", None, 1.0)}, 1, [{"clip_l": rows}]).name is None


def test_a_metric_is_kept_for_both_orders_and_for_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MeterCache(tmp_path / "cache")
    names = {"a": 0, "b": 1, "copy": 0}
    readers = {
        name: open_text_reader(save(tmp_path / f"{name}.safetensors", text_unet("sd1", seed=seed, inner=8)))
        for name, seed in names.items()
    }
    prints = {name: cache.fingerprint(reader) for name, reader in readers.items()}
    assert prints["a"] == prints["copy"] != prints["b"]
    there = cache.metric(readers["a"], readers["b"], (prints["a"], prints["b"]))
    monkeypatch.setattr(meter_cache, "make_metric", None)
    assert cache.has_metric(prints["b"], prints["copy"])
    back = cache.metric(readers["b"], readers["copy"], (prints["b"], prints["copy"]))
    x, y = (numpy.random.default_rng(seed).standard_normal((3, 768)).astype(numpy.float32) for seed in (1, 2))
    assert back.states.measure(y, x) == pytest.approx(there.states.measure(x, y), rel=1e-6)
    assert back.states.measure(x, y) != pytest.approx(there.states.measure(x, y), rel=1e-3)


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    cache = MeterCache(tmp_path / "cache")
    path = tmp_path / "a.safetensors"
    first = cache.fingerprint(open_text_reader(save(path, text_unet("sd1", inner=8))))
    again = MeterCache(tmp_path / "cache").fingerprint(open_text_reader(path))
    save(path, text_unet("sd1", seed=1, inner=8))
    os.utime(path, (1, 1))
    assert first == again != cache.fingerprint(open_text_reader(path))
