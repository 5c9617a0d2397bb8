"""Searching a token table, kept in memory or gone through each time: the same answers to the last bit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from checkpoint_files import TABLE, save
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_embedmerge import open_checkpoint
from lib_embedmerge.checkpoints import search as search_module
from lib_embedmerge.checkpoints.directions import measure_lengths
from lib_embedmerge.checkpoints.search import TableSearch
from lib_embedmerge.core.architecture import SD1
from lib_embedmerge.hosts.memory_host import MemoryEncoder, MemoryModel, MemoryTable

WIDTH = 8


class CountedTable(MemoryTable):
    """Counts how often the whole table is gone through."""

    passes = 0

    def pieces(self):  # type: ignore[no-untyped-def]  # as in MemoryTable
        object.__setattr__(self, "passes", self.passes + 1)
        yield from super().pieces()


def searches(table: torch.Tensor) -> list[TableSearch]:
    """The searches of numpy with and without a copy of the table, and that of torch without one."""
    of_numpy = MemoryTable(table.numpy())
    with_copy = TableSearch(of_numpy, copy_on="cpu")
    with_copy._load_directions()
    return [
        with_copy,
        TableSearch(of_numpy, copy_on=None),
        TableSearch(MemoryTable(table), copy_on=None),
    ]


class InterruptedTable(MemoryTable):
    """A table in two pieces, between which another thread measures the lengths of its rows."""

    search: TableSearch

    def pieces(self):  # type: ignore[no-untyped-def]  # as in MemoryTable
        half = self.count // 2
        for first, rows in list(super().pieces()):
            yield first, rows[:half]
            if self.search._lengths is None:
                self.search._lengths = measure_lengths(rows)
            yield first + half, rows[half:]


def test_lengths_that_another_thread_measures_in_the_middle_of_a_search() -> None:
    rows = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(3)).numpy()
    table = InterruptedTable(rows)
    search = TableSearch(table, copy_on=None)
    object.__setattr__(table, "search", search)
    (best,) = search.nearest(rows[30:31], 1)
    assert [row for row, _ in best] == [30]
    assert search.length_band() == TableSearch(MemoryTable(rows), copy_on=None).length_band()


values = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e-38, 1e-30, 3e38])
rows = st.lists(values, min_size=WIDTH, max_size=WIDTH)
plain_rows = st.lists(st.integers(-3, 3).map(float), min_size=WIDTH, max_size=WIDTH)


@settings(max_examples=150)
@given(
    st.lists(rows | plain_rows, min_size=1, max_size=12),
    st.lists(rows | plain_rows, min_size=1, max_size=4),
    st.integers(0, 14),
)
def test_all_ways_find_the_same(table: list[list[float]], asked: list[list[float]], count: int) -> None:
    kept, *others = searches(torch.tensor(table + table[:2]))
    vectors = torch.tensor(asked + table[:1])
    found = kept.nearest(vectors, count)
    for other in others:
        assert found == other.nearest(vectors, count)
        assert kept.find_equal_rows(vectors) == other.find_equal_rows(vectors)
        assert str(kept.length_band()) == str(other.length_band())
    for best in found:
        assert best == sorted(best, key=lambda pair: (-pair[1], pair[0]))
        for row, cosine in best:
            assert -1.0 <= cosine <= 1.0
            assert all(map(math.isfinite, (table + table[:2])[row])) and any((table + table[:2])[row])


@settings(max_examples=60)
@given(st.lists(rows | plain_rows, min_size=1, max_size=12), st.lists(rows | plain_rows, min_size=1, max_size=4))
def test_a_vector_and_its_opposite_together(table: list[list[float]], asked: list[list[float]]) -> None:
    vectors = torch.tensor(asked)
    for search, alone in zip(searches(torch.tensor(table)), searches(torch.tensor(table)), strict=True):
        together = search.nearest(torch.cat([vectors, -vectors]), 3)
        assert together == [*alone.nearest(vectors, 3), *alone.nearest(-vectors, 3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_all_ways_find_the_same_in_a_table_of_many_pieces(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_embedmerge.hosts.memory_host.PIECE_ROWS", 64)
    monkeypatch.setattr(search_module, "_EXACT_ROWS", 7)
    monkeypatch.setattr(search_module, "_BLOCK", 5)
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(500, 768, generator=generator)
    table[100:140] = table[3]  # many equal ones
    table[200], table[201, 5], table[202] = 0.0, torch.nan, torch.inf
    table[300] *= 1e-5
    table = table.to(dtype).float()
    vectors = torch.randn(12, 768, generator=generator)
    vectors[4] = table[3]
    kept, unkept, of_torch = searches(table)
    found = unkept.nearest(vectors, 20)
    assert found == kept.nearest(vectors, 20) == of_torch.nearest(vectors, 20)
    assert [row for row, _ in found[4]] == [3, *range(100, 119)]
    assert not {200, 201, 202} & {row for best in unkept.nearest(vectors, 500) for row, _ in best}


def test_nothing_is_kept_but_lengths() -> None:
    table = CountedTable(torch.randn(50, WIDTH).numpy())
    search = TableSearch(table, copy_on=None)
    search.nearest(torch.randn(3, WIDTH), 2)
    assert table.passes == 1
    search.nearest(torch.randn(3, WIDTH), 2)
    search.length_band()
    assert table.passes == 2
    assert search._directions is None
    assert search._lengths is not None and search._lengths.shape == (50,)


def test_lengths_are_measured_on_the_way() -> None:
    table = CountedTable(torch.randn(50, WIDTH).numpy())
    search = TableSearch(table, copy_on="cpu")
    search.nearest(torch.randn(3, WIDTH), 2)
    assert search.length_band() is search.length_band()
    assert (table.passes, search._directions) == (1, None)
    for _ in range(3):
        search.nearest(torch.randn(3, WIDTH), 2)
    assert table.passes == 2  # for the copy


def test_the_band_of_lengths_is_percentiles_and_mean_of_finite_rows() -> None:
    lengths = [float(length) for length in range(101)]
    table = torch.zeros(103, WIDTH)
    table[:101, 3] = torch.tensor(lengths)
    table[101], table[102, 0] = torch.nan, -torch.inf
    for search in searches(table[torch.randperm(103, generator=torch.Generator().manual_seed(2))]):
        band = search.length_band()
        assert (band.low, band.mean, band.high) == (1.0, 50.0, 99.0)


def test_a_table_without_a_finite_row_has_no_band() -> None:
    for search in searches(torch.full((3, WIDTH), torch.nan)):
        band = search.length_band()
        assert all(math.isnan(value) for value in (band.low, band.mean, band.high))
        assert search.nearest(torch.ones(1, WIDTH), 2) == [[]]


def test_a_checkpoint_measures_its_own(tmp_path: Path) -> None:
    table = torch.randn(300, 768, generator=torch.Generator().manual_seed(5)) * 0.1
    save(tmp_path / "clip_l.safetensors", {TABLE: table})
    (encoder,) = open_checkpoint(tmp_path / "clip_l.safetensors").encoders
    band = encoder.length_band()
    lengths = table.double().norm(dim=1)
    assert (band.low, band.high) == pytest.approx((lengths.quantile(0.01).item(), lengths.quantile(0.99).item()))
    assert band.mean == encoder.mean_length()


def test_a_model_in_memory_measures_its_own() -> None:
    encoder = MemoryEncoder("clip_l", torch.randn(20, 768))
    model = MemoryModel([encoder], architecture=SD1)
    told: list[tuple[int, int]] = []
    assert model.fingerprints(lambda done, total: told.append((done, total))) == {"clip_l": encoder.fingerprint}
    assert told == [(1, 1)]
    assert encoder.mean_length() == encoder.length_band().mean == encoder.fingerprint.mean_length
    assert encoder.find_equal_rows(encoder.vectors([4, 2])) == [4, 2]
