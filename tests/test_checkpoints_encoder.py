"""A text encoder of a file: which bytes are read, how fast rows come, and what searches of the vocabulary find."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy
import pytest
import torch
from arrays import assert_close, equal
from checkpoint_files import TABLE, Tensors, save, write_sparse_sdxl
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_embedmerge.checkpoints import table as table_module
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.ports import NearestToken
from lib_embedmerge.errors import CheckpointError
from lib_embedmerge.facade import CheckpointModel, open_checkpoint
from lib_embedmerge.files import safetensors_file

L_PREFIX, G_NAME = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.token_embedding.weight"


def encoder_of(path: Path, table: torch.Tensor) -> CheckpointEncoder:
    return open_checkpoint(save(path, {TABLE: table})).encoders[0]


@pytest.fixture(scope="module")
def tables() -> Tensors:
    generator = torch.Generator().manual_seed(4)
    return {
        L_PREFIX + TABLE: (torch.randn(49408, 768, generator=generator) * 0.02).to(torch.float16),
        G_NAME: (torch.randn(49408, 1280, generator=generator) * 0.02).to(torch.float16),
    }


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory, tables: Tensors) -> Path:
    """6.9 GB on paper, with real tables; on disk 200 MB."""
    path = tmp_path_factory.mktemp("big") / "model.safetensors"
    write_sparse_sdxl(path, tables)
    assert path.stat().st_size > 6_800_000_000
    return path


def bytes_read() -> int:
    """All bytes that this process has asked the system for so far."""
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        if line.startswith("rchar: "):
            return int(line.split()[1])
    raise AssertionError("no rchar")


@pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc")
def test_of_a_full_size_file_only_the_header_and_the_rows_are_read(big: Path, tables: Tensors) -> None:
    ids = [*range(40000, 40040), *range(7, 42)]
    open_checkpoint(big).encoders[0].vectors([1])  # whatever Python imports on the way
    counting = bytes_read()
    cost_of_counting = bytes_read() - counting
    with big.open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    before = bytes_read()
    model = open_checkpoint(big)
    opened = bytes_read() - before - cost_of_counting
    for encoder in model.encoders:
        encoder.vectors(ids)
    read = bytes_read() - before - 2 * cost_of_counting
    rows = 75 * (768 + 1280) * 2
    assert header <= opened <= header + 2000
    assert header + rows <= read <= header + rows + 2000 < 1_000_000
    for encoder, name in zip(model.encoders, tables, strict=True):
        assert equal(encoder.vectors(ids), tables[name][ids].to(torch.float32))


def test_a_row_comes_off_the_disk_once(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = safetensors_file._read_into
    monkeypatch.setattr(
        safetensors_file,
        "_read_into",
        lambda target, path, file, start: sizes.append(len(target)) or original(target, path, file, start),
    )
    model = open_checkpoint(big)
    sizes.clear()
    ids = list(range(100, 1300, 12))
    for _ in range(3):
        for encoder in model.encoders:
            encoder.vectors(ids)
            encoder.vectors(ids[::-1] + ids)
    assert sum(sizes) == len(ids) * (768 + 1280) * 2


def test_kept_rows_are_the_right_ones_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "_KEPT_ROWS", 8)
    table = torch.randn(60, 768)
    encoder = encoder_of(tmp_path / "clip_l.safetensors", table)
    generator = torch.Generator().manual_seed(6)
    for size in (3, 8, 5, 9, 20, 1, 0, 8, 7) * 8:  # more than fit come straight from the file
        ids = torch.randint(0, 60, (size,), generator=generator).tolist()
        vectors = to_numpy(encoder.vectors(ids))
        assert equal(vectors, table[ids]) and vectors.shape == (size, 768)
        vectors[:] = 0  # belongs to the caller
    assert len(encoder._table._kept) == 8 and len(encoder._table._slots) <= 8


def test_the_cache_grows_with_its_rows(tmp_path: Path) -> None:
    table = torch.randn(700, 768)
    encoder = encoder_of(tmp_path / "clip_l.safetensors", table)
    for end, room in ((10, 256), (256, 256), (257, 512), (700, 700)):
        assert equal(encoder.vectors(range(end)), table[:end])
        assert len(encoder._table._kept) == room and len(encoder._table._slots) == end


def test_rows_are_read_once_until_the_cache_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "_KEPT_ROWS", 3)
    encoder = encoder_of(tmp_path / "clip_l.safetensors", torch.randn(10, 768))
    read: list[list[int]] = []
    original = encoder._table._restore
    monkeypatch.setattr(encoder._table, "_restore", lambda ids: read.append(list(ids)) or original(ids))
    for ids in ([2, 1], [1, 2, 1], [3, 1], [4], [1, 4], [2], [2, 4, 1]):  # 4 has no room, so all others go
        encoder.vectors(ids)
    assert read == [[1, 2], [3], [4], [1], [2]]


def test_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "_KEPT_ROWS", 6)
    table = torch.randn(40, 768)
    encoder = encoder_of(tmp_path / "clip_l.safetensors", table)
    wrong: list[list[int]] = []

    def ask(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(100):
            ids = torch.randint(0, 40, (4,), generator=generator).tolist()
            if not equal(encoder.vectors(ids), table[ids]):
                wrong.append(ids)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_ids_outside_the_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip_l{suffix}"
    if suffix == ".ckpt":
        torch.save({TABLE: torch.ones(5, 768)}, path)
    else:
        save(path, {TABLE: torch.ones(5, 768)})
    encoder = open_checkpoint(path).encoders[0]
    for row in (5, 49407, -1):
        with pytest.raises(CheckpointError, match=f"Token {row} is outside the table of CLIP-L of 'clip_l{suffix}'"):
            encoder.vectors([0, row])
    assert encoder.vectors([]).shape == (0, 768)
    assert encoder.vectors([4]).shape == (1, 768)


def test_what_is_nan_stays_nan(tmp_path: Path) -> None:
    table = torch.ones(5, 768, dtype=torch.float16)
    table[2, 3], table[3, 4] = torch.nan, torch.inf
    rows = encoder_of(tmp_path / "clip_l.safetensors", table).vectors(range(5))
    assert_close(rows, table.to(torch.float32), rtol=0, atol=0, equal_nan=True)


def test_the_constants_of_each_encoder(big: Path) -> None:
    clip_l, clip_g = open_checkpoint(big).encoders
    assert (clip_l.key, clip_l.width, clip_l.vocabulary_size, clip_l.padding_id) == ("clip_l", 768, 49408, 49407)
    assert (clip_g.key, clip_g.width, clip_g.vocabulary_size, clip_g.padding_id) == ("clip_g", 1280, 49408, 0)
    assert clip_l.tokenizer.encode("cat") == [2368] and clip_l.tokenizer is clip_g.tokenizer


# Searches.


@pytest.fixture(scope="module")
def full(big: Path) -> CheckpointModel:
    return open_checkpoint(big)


@pytest.mark.slow
def test_nearest_is_what_plain_arithmetic_finds(full: CheckpointModel, tables: Tensors) -> None:
    generator = torch.Generator().manual_seed(8)
    for encoder, name in zip(full.encoders, tables, strict=True):
        vectors = torch.randn(2, encoder.width, generator=generator)
        table = tables[name].to(torch.float32)
        lengths = torch.linalg.vector_norm(table, dim=1)
        for vector, found in zip(vectors, encoder.nearest(vectors, 5), strict=True):
            best = torch.topk(table @ vector / lengths / vector.norm(), 5)
            assert [near.id for near in found] == best.indices.tolist()
            assert [near.cosine for near in found] == pytest.approx(best.values.tolist(), abs=1e-6)
            assert [near.token for near in found] == [encoder.tokenizer.token(near.id) for near in found]


def test_a_row_is_nearest_to_itself_whatever_its_length(full: CheckpointModel) -> None:
    encoder = full.encoders[0]
    rows = to_numpy(encoder.vectors([2368, 320]))
    found = encoder.nearest(numpy.concatenate([rows, rows * 1e-30, rows * 1e30, -rows]))
    assert [[near.id for near in best] for best in found[:6]] == [[2368], [320]] * 3
    assert all(best[0].cosine == pytest.approx(1.0, abs=1e-6) and best[0].cosine <= 1.0 for best in found[:6])
    assert all(best[0].id not in (2368, 320) for best in found[6:])


def test_the_same_rows_are_found(full: CheckpointModel) -> None:
    generator = torch.Generator().manual_seed(9)
    for encoder in full.encoders:
        ids = torch.randint(0, 49408, (20,), generator=generator).tolist()
        rows = to_numpy(encoder.vectors(ids))
        close = rows + 1e-9  # rounds to the same float16
        other = rows.copy()
        other[:, 5] += 0.001
        assert encoder.find_equal_rows(rows) == ids == encoder.find_equal_rows(close)
        assert encoder.find_equal_rows(other) == [None] * 20
        assert encoder.find_equal_rows(rows[:0]) == []


def test_ties_zeros_and_nan(tmp_path: Path) -> None:
    table = torch.randn(12, 768, generator=torch.Generator().manual_seed(1)).to(torch.float16)
    table[9] = table[7] = table[2]
    table[4] = table[2] * 2  # the same direction, not the same row
    table[0], table[1], table[3] = 0.0, torch.nan, torch.inf
    encoder = encoder_of(tmp_path / "clip_l.safetensors", table)
    row = table[2].to(torch.float32)
    asked = torch.stack([row, torch.zeros(768), torch.full((768,), torch.nan), torch.full((768,), torch.inf), -row])
    found = encoder.nearest(asked, 4)
    assert [near.id for near in found[0]] == [2, 4, 7, 9]
    assert found[1:4] == [[], [], []]
    assert len(found[4]) == 4 and not {0, 1, 3} & {near.id for near in found[4]}
    everything = encoder.nearest(asked[:1], 100)[0]
    assert sorted(near.id for near in everything) == [2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert encoder.nearest(asked[:1], 0) == [[]]
    assert encoder.find_equal_rows(asked) == [2, None, None, None, None]
    assert encoder.find_equal_rows(table[[9, 4, 0, 1, 3]].to(torch.float32)) == [2, 4, None, None, None]


def test_signs_of_zero_are_bytes_too(tmp_path: Path) -> None:
    table = torch.ones(3, 768)
    table[1, 0], table[2, 0] = 0.0, -0.0
    assert encoder_of(tmp_path / "clip_l.safetensors", table).find_equal_rows(table) == [0, 1, 2]


def test_rows_with_one_key_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy

    monkeypatch.setattr(
        "lib_embedmerge.checkpoints.search._hash_rows", lambda halves: numpy.zeros(len(halves), dtype=numpy.uint64)
    )
    table = torch.randn(6, 768).to(torch.float16).to(torch.float32)
    encoder = encoder_of(tmp_path / "clip_l.safetensors", table)
    assert encoder.find_equal_rows(table[[5, 3]]) == [5, 3]
    assert encoder.find_equal_rows(table[[5]] * 2) == [None]


def test_a_table_without_a_direction(tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path / "clip_l.safetensors", torch.zeros(4, 768))
    assert encoder.nearest(torch.ones(1, 768), 2) == [[]]
    assert encoder.find_equal_rows(torch.zeros(1, 768)) == [None]


def test_a_row_that_was_added_to_the_vocabulary(tmp_path: Path) -> None:
    table = torch.zeros(49410, 768, dtype=torch.float16)
    table[49409, 1], table[320, 2] = 1.0, 1.0
    encoder = encoder_of(tmp_path / "clip_l.safetensors", table)
    found = encoder.nearest(table[[49409, 320]].to(torch.float32))
    assert found == [[NearestToken(49409, "#49409", 1.0)], [NearestToken(320, "a</w>", 1.0)]]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.floats(width=32), min_size=1, max_size=8), min_size=1, max_size=3))
def test_any_vectors_can_be_asked_for(tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    vectors = torch.tensor([(row * 768)[:768] for row in rows])
    encoder = encoder_of(path, torch.cat([torch.eye(3, 768), vectors]))
    for best in encoder.nearest(vectors, 2):
        assert all(-1.0 <= near.cosine <= 1.0 for near in best)
    for index, found in enumerate(encoder.find_equal_rows(vectors)):
        assert found is None or found <= 3 + index
