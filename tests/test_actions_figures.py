"""Figures of vectors against torch written out; tokens, bands and strips; vectors that are not numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy
import pytest
import torch
from action_hosts import MODEL, SD1_MODEL, NoModelHost, write

from lib_embedmerge.actions import figures as figures_module
from lib_embedmerge.actions.figures import MAX_SHOWN, STRIP_CELLS, measure_source, measure_vectors
from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.groupings import GROUPINGS, Grouping
from lib_embedmerge.core.parts import Part
from lib_embedmerge.core.statistics import measure_vector
from lib_embedmerge.errors import EmbedMergeError, EvaluationError, ExpressionError, HostError
from lib_embedmerge.hosts.memory_host import MemoryEncoder, MemoryHost, MemoryModel
from lib_embedmerge.hosts.port import Host

CAT, DOG = 2368, 1929


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    folder = tmp_path_factory.mktemp("embeddings")
    write(folder / "mystyle4.safetensors", 4)
    made: Host = MemoryHost(MODEL, folder)
    return made


def whole(count: int) -> list[Part]:
    return [Part("embedding", "it", (None,) * count, 0)]


def test_the_figures_of_a_prompt(host: Host) -> None:
    left, right = measure_source(host, "a cat, mystyle4, <'cat'+'dog'>")
    assert (left.key, left.title, left.width, left.hidden) == ("clip_l", "CLIP-L", 768, 0)
    assert (right.key, right.title, right.width) == ("clip_g", "CLIP-G", 1280)
    for found, encoder in ((left, MODEL.encoders[0]), (right, MODEL.encoders[1])):
        texts = [part.part.text for part in found.parts]
        assert texts == ["a cat ,", "mystyle4", ",", "'cat' + 'dog'"]
        assert [row.number for row in found.vectors] == list(range(1, 10))
        assert [row.part for row in found.vectors] == [0, 0, 0, 1, 1, 1, 1, 2, 3]
        assert [row.token for row in found.vectors] == ["a</w>", "cat</w>", ",</w>", *[None] * 4, ",</w>", None]
        rows = to_numpy(encoder.vectors([320, CAT, 267]))
        assert found.parts[0].figures == measure_vector(rows)
        assert [row.figures for row in found.vectors[:3]] == [measure_vector(row) for row in rows]
        assert found.band == encoder.length_band()
        assert found.scale == pytest.approx(3 * found.band.mean / found.width**0.5)
        assert all(row.finite for row in found.vectors)
        assert [row.nearest[0].token for row in found.vectors[:2]] == ["a</w>", "cat</w>"]
        assert all(len(row.nearest) == 3 for row in found.vectors)
        # 'mystyle4' is 0.5 in every place: many times as long as a token.
        assert found.vectors[3].length_is_usual is False
        for row in found.vectors:
            in_band = found.band.low / 1.5 <= row.figures.len <= found.band.high * 1.5
            assert row.length_is_usual == (bool(row.token) or in_band)


def test_the_longest_token_of_a_model_is_usual_and_the_same_vector_scaled_is_not(host: Host) -> None:
    table = MODEL.encoders[0].vectors(range(MODEL.encoders[0].vocabulary_size))
    longest = int(numpy.linalg.norm(to_numpy(table), axis=1).argmax())
    (left, _) = measure_source(host, f"'',{longest}")
    assert left.band and left.vectors[0].figures.len > left.band.high
    assert left.vectors[0].length_is_usual is True
    (left, _) = measure_source(host, f"('',{longest})*1.6")
    assert left.vectors[0].length_is_usual is False


@pytest.mark.parametrize(
    ("source", "tokens"),
    [
        ("'cat'", ["cat</w>"]),
        ("'cat'*1", ["cat</w>"]),
        ("'cat'*1.0001", [None]),
        ("'cat'*2", [None]),
        ("'cat','dog':+1", ["dog</w>", "cat</w>"]),
        ("near('cat'*3+'dog'*0.1)", ["cat</w>"]),
        ("'cat'+'dog'-'dog'", ["cat</w>"]),
        ("'cat'*0", [None]),
        ("'',0", ["!"]),
        ("<'cat'*2> dog", [None, "dog</w>"]),
    ],
)
def test_a_vector_that_is_a_row_has_its_token(host: Host, source: str, tokens: list[str | None]) -> None:
    for found in measure_source(host, source):
        assert [row.token for row in found.vectors] == tokens


def test_a_row_that_was_added_to_the_vocabulary() -> None:
    generator = torch.Generator().manual_seed(3)
    encoder = MemoryEncoder("clip_l", torch.randn(49410, 768, generator=generator))
    (found,) = measure_vectors({"clip_l": encoder.vectors([49409, 320])}, MemoryModel([encoder]), whole(2), 1)
    assert [row.token for row in found.vectors] == ["#49409", "a</w>"]
    assert [row.nearest[0].token for row in found.vectors] == ["#49409", "a</w>"]


@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize("source", ["a red car, mystyle4, <'cat'+'dog'>", ",", ", , a", "a cat,", "cat"])
def test_every_vector_has_a_part(host: Host, by: Grouping, source: str) -> None:
    for found in measure_source(host, source, by, nearest=0):
        assert [row.number for row in found.vectors] == list(range(1, len(found.vectors) + 1))
        assert {row.part for row in found.vectors} == set(range(len(found.parts)))
        assert all(row.nearest == () for row in found.vectors)


@pytest.mark.parametrize("source", ["", "  ", "''", "'cat':0"])
def test_nothing_has_no_figures(host: Host, source: str) -> None:
    assert measure_source(host, source) == ()


def test_long_sources_are_shown_in_part(host: Host) -> None:
    for found in measure_source(host, "<'cat'+'dog'> " + "red car " * 100, "words", nearest=1):
        assert (len(found.vectors), found.hidden) == (MAX_SHOWN, 201 - MAX_SHOWN)
        assert len(found.parts) == MAX_SHOWN
    (left, _) = measure_source(host, "red car " * 100, "none", nearest=0)
    assert len(left.parts) == 1
    assert left.parts[0].figures == measure_vector(to_numpy(MODEL.encoders[0].vectors([736, 1615] * 100)))


@pytest.mark.parametrize(
    ("source", "error"),
    [("'cat'+", ExpressionError), ("a <'cat':76> b", EvaluationError), ("'cat'*1e", ExpressionError)],
)
def test_mistakes_are_raised(host: Host, source: str, error: type[EmbedMergeError]) -> None:
    with pytest.raises(error):
        measure_source(host, source)


def test_without_a_model_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No model is loaded"):
        measure_source(NoModelHost(tmp_path), "cat")


def test_vectors_without_a_model() -> None:
    vectors = {"clip_h": torch.randn(3, 1024, generator=torch.Generator().manual_seed(4))}
    for model in (None, SD1_MODEL):
        (found,) = measure_vectors(vectors, model, whole(3))
        assert (found.key, found.title, found.width, found.band) == ("clip_h", "CLIP-H", 1024, None)
        assert found.scale == pytest.approx(3 * vectors["clip_h"].norm(dim=1).median().item() / 32)
        assert [(row.nearest, row.token, row.length_is_usual) for row in found.vectors] == [((), None, None)] * 3


def test_vectors_that_are_not_numbers() -> None:
    rows = torch.full((5, 768), 0.1)
    rows[1, 4], rows[2, 5], rows[3], rows[4] = torch.nan, -torch.inf, torch.nan, 0.0
    for model in (None, MODEL):
        (found,) = measure_vectors({"clip_l": rows}, model, whole(5))
        assert [row.finite for row in found.vectors] == [True, False, False, False, True]
        assert [len(row.nearest) for row in found.vectors] == ([3, 0, 0, 0, 0] if model else [0] * 5)
        assert [row.length_is_usual for row in found.vectors[1:]] == ([False] * 4 if model else [None] * 4)
        assert math.isnan(found.vectors[1].figures.len)
        assert found.vectors[2].figures.min == -math.inf
        assert math.isnan(found.parts[0].figures.sum)
        assert math.isfinite(found.scale)
        assert math.isnan(found.vectors[1].strip[0])
        assert found.vectors[2].strip[0] == -math.inf
        assert [value for value in found.vectors[1].strip[1:] if math.isnan(value)] == []


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, 3e38, 1e-45])
def test_the_scale_is_a_positive_number(value: float) -> None:
    (found,) = measure_vectors({"clip_l": torch.full((2, 768), value)}, None, whole(2))
    assert 0 < found.scale < math.inf


def test_a_model_without_a_usable_row_has_no_band() -> None:
    model = MemoryModel([MemoryEncoder("clip_l", torch.full((5, 768), torch.nan))])
    (found,) = measure_vectors({"clip_l": torch.ones(1, 768)}, model, whole(1))
    assert found.band is None
    assert found.vectors[0].length_is_usual is None


def test_strips_hold_the_value_of_largest_magnitude() -> None:
    assert all(width % STRIP_CELLS == 0 for width in WIDTHS.values())
    row = torch.zeros(1, 768)
    row[0, :12] = torch.tensor([1.0, -3.0, 2.0] * 4)
    row[0, 12 * 63 + 11] = 100.0
    (found,) = measure_vectors({"clip_l": row}, None, whole(1))
    strip = found.vectors[0].strip
    assert len(strip) == STRIP_CELLS
    assert [value * found.scale for value in strip] == pytest.approx([-3.0, *[0.0] * 62, 100.0])
    assert strip[-1] > 1, "what is out of scale is not cut"


def test_the_table_is_read_for_lengths_on_the_way_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(MemoryEncoder, "nearest", lambda *_: asked.append("nearest") or [[]])
    original = MemoryEncoder.length_band
    monkeypatch.setattr(MemoryEncoder, "length_band", lambda self: asked.append("band") or original(self))
    figures_module.measure_vectors({"clip_l": torch.ones(1, 768)}, SD1_MODEL, whole(1))
    assert asked == ["nearest", "band"]
