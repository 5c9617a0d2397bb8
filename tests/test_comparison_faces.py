"""`embedmerge compare` and the view of what it finds."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoint_files import TABLE, make_encoders, prefixed, save, unet, write_layout
from hypothesis import given
from hypothesis import strategies as st
from models import with_other_layers, with_rows_scaled, write_sdxl
from runnable_encoders import runnable_encoder
from test_views import EVIL, LONG
from test_views_harmless import Page, check

from lib_embedmerge.cli import main
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.differences import (
    Comparison,
    LayerDistance,
    LayersDifference,
    OutputDifference,
    TableDifference,
    TokenDistance,
)
from lib_embedmerge.ui.views.comparison_view import LEVELS, MAX_PAIRS, comparison_view

BASE = make_encoders()

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("faces")
    others = {"a": BASE, "b": with_rows_scaled(BASE, [320, 9]), "c": with_other_layers(BASE)}
    return [str(write_sdxl(folder / f"{name}.safetensors", one)) for name, one in others.items()]


# The command line


def test_json(paths: list[str], capsys: Captured) -> None:
    assert main(["compare", *paths, "--top", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(Path(one["a"]).stem, Path(one["b"]).stem) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    first, second, _ = found
    assert first["a"] == paths[0]
    assert {key: table["rows_differing"] for key, table in first["token_table"].items()} == {"clip_l": 2, "clip_g": 2}
    table = first["token_table"]["clip_l"]
    assert (table["equal"], table["max_distance"]) == (False, pytest.approx(2 / 3))
    assert table["top"] == [{"id": 9, "token": "*", "distance": pytest.approx(2 / 3)}]
    assert first["text_encoder"]["clip_g"]["equal"] is True
    assert (first["outputs"], first["outputs_rebuilt"], first["needs_rebuild"]) == (None, None, None)
    layers = {layer["name"]: layer["distance"] for layer in second["text_encoder"]["clip_l"]["layers"]}
    assert {name for name, distance in layers.items() if distance} == {"layer 0"}
    assert second["verdict"].startswith(
        "Token tables are equal, so embeddings made on either model are correct for both; "
    )


def test_json_of_outputs(tmp_path: Path, capsys: Captured) -> None:
    encoders = [runnable_encoder("clip_l", seed) for seed in (0, 1)]
    tensors = [prefixed("cond_stage_model.transformer.", one) | unet("sd1") for one in encoders]
    paths = [str(save(tmp_path / f"{place}.safetensors", one)) for place, one in enumerate(tensors)]
    rows = {"emb_params": encoders[0][TABLE][[320]].float()}
    tag = {"embedmerge.schema": "1", "embedmerge.recipe": "'a'"}
    embedding = save(tmp_path / "some-x.safetensors", rows, tag)
    assert main(["compare", *paths, "--embedding", str(embedding), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["needs_rebuild"] is True
    assert set(found["outputs"]["clip_l"]) == {"relative_l2", "cosine"}
    assert 0 < found["outputs_rebuilt"]["clip_l"]["relative_l2"] < 2
    assert main(["compare", *paths, "--embedding", str(embedding)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "This embedding needs a rebuild" in shown
    assert "outputs, rebuilt distance cosine pooled cosine" in shown


def test_tables(paths: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["compare", *paths[:2]]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{paths[0]} and {paths[1]}" in shown
    assert "Token tables differ in 2 of 600 tokens (CLIP-L) and 2 of 600 tokens (CLIP-G)" in shown
    assert re.search("token table, at most 67% 67% .* layer 1 0% 0% .* text_projection 0%", shown)
    assert "CLIP-L: tokens that differ most token id distance" in shown
    assert "a 320 67%" in shown


def test_tables_of_what_is_hardly_known(tmp_path: Path, paths: list[str], capsys: Captured) -> None:
    other = write_layout("sd2", tmp_path, BASE).path
    assert main(["compare", paths[0], str(other)]) == 0
    assert "They have no text encoder in common" in capsys.readouterr().out
    broken = with_rows_scaled(BASE, [320], float("nan"))
    assert main(["compare", paths[0], str(write_sdxl(tmp_path / "nan.safetensors", broken))]) == 0
    assert re.search(r"a +320 +not known", capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [[], ["a"], ["a", "b", "--source", "x", "--embedding", "y"], ["a", "b", "--top", "-1"]],
    ids=["none", "one", "text and embedding", "negative"],
)
def test_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", *arguments])
    assert stop.value.code == 2


def test_a_source_from_standard_input(paths: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"'a'+\n")))
    assert main(["compare", *paths[:2], "--source", "-", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "'a'+"[error["start"] : error["end"]] == "+"


def test_faults(paths: list[str], capsys: Captured) -> None:
    assert main(["compare", paths[0], "gone.safetensors"]) == 1
    assert "gone.safetensors" in capsys.readouterr().err
    assert main(["compare", *paths[:2], "--source", "<'a'+>", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["message"]


# The view


def layers(*distances: float | None) -> LayersDifference:
    return LayersDifference(False, 0.05, tuple(LayerDistance(f"layer {i}", d) for i, d in enumerate(distances)))


TABLES = {
    "clip_l": TableDifference(False, 49408, 2, 0.4, (TokenDistance(7, "cat</w>", None), TokenDistance(8, "art", 0.4))),
    "clip_g": TableDifference(True, 49408, 0, 0.0, ()),
}
PAIR = Comparison("x/a.safetensors", r"x\b.ckpt", TABLES, {"clip_l": layers(0.0, 0.02), "clip_g": layers(0.5)})


def cells(page: Page) -> list[tuple[str, str]]:
    """(shade, tooltip) of the cells of the maps."""
    found = [one for tag, one in page.found if tag == "td" and one.get("class", "").startswith("embedmerge-level-")]
    return [(one["class"].removeprefix("embedmerge-level-"), one["title"]) for one in found]


def test_a_pair() -> None:
    page = check(comparison_view([PAIR]))
    assert page.text.startswith("a – b Token tables differ in 2 of 49,408 tokens (CLIP-L), so ")
    assert cells(page) == [
        ("6", "2 of 49,408 tokens differ, by at most 40%"),
        ("4", "all layers together: 5.0%"),
        ("equal", "layer 0: 0%"),
        ("3", "layer 1: 2.0%"),
        ("equal", "All tokens are equal"),
        ("4", "all layers together: 5.0%"),
        ("6", "layer 0: 50%"),
    ]
    assert "Tokens that differ most: a – b" in page.text
    assert "cat7CLIP-Lnot known" in page.text
    assert "art8CLIP-L40%" in page.text
    assert "pooled" not in page.text


@pytest.mark.parametrize(
    ("distance", "level"),
    [
        (None, "unknown"),
        (0.0, "equal"),
        (1e-12, "0"),
        *((level * 0.99, str(place)) for place, level in enumerate(LEVELS)),
        *((level, str(place + 1)) for place, level in enumerate(LEVELS)),
        (2.0, str(len(LEVELS))),
    ],
)
def test_every_distance_has_a_shade_of_the_legend(distance: float | None, level: str) -> None:
    page = check(comparison_view([replace(PAIR, text_encoder={"clip_l": layers(distance), "clip_g": layers()})]))
    assert cells(page)[2][0] == level
    legend = [one["class"] for tag, one in page.found if tag == "span" and "embedmerge-level" in one.get("class", "")]
    assert f"embedmerge-level-{level}" in legend
    assert len(legend) == len(set(legend)) == len(LEVELS) + 3


def test_every_shade_has_its_rule() -> None:
    style = (Path(__file__).parents[1] / "style.css").read_text(encoding="utf-8")
    for level in ("equal", "unknown", *map(str, range(len(LEVELS) + 1))):
        assert f".embedmerge-level-{level}" in style


def test_outputs() -> None:
    outputs = {"clip_l": OutputDifference(0.031, 0.5), "clip_g": OutputDifference(None, None, -0.25)}
    rebuilt = {"clip_l": OutputDifference(0.3, 0.25), "clip_g": OutputDifference(0.2, 0.1, 0.9)}
    asked = replace(PAIR, outputs=outputs, outputs_rebuilt=rebuilt, needs_rebuild=True)
    page = check(comparison_view([asked, PAIR]))
    assert ("4", "output: 3.1%") in cells(page)
    assert ("unknown", "output: not known") in cells(page)
    assert ("6", "rebuilt: 30%") in cells(page)
    assert "a – bCLIP-Gas it isnot knownnot known−0.2500" in page.text
    assert "a – bCLIP-Lrebuilt30%0.2500" in page.text
    assert "differ by 3.1% (CLIP-L) as it is, and by 30% (CLIP-L) and 20% (CLIP-G) when rebuilt." in page.text


def test_many_are_a_matrix_and_a_sentence_each() -> None:
    same = {
        key: replace(table, equal=True, rows_differing=0, max_distance=0.0, top=()) for key, table in TABLES.items()
    }
    pairs = [
        PAIR,
        replace(PAIR, b="x/c.safetensors", token_table=same, warnings=("Look.",)),
        Comparison("x/a.safetensors", "d", {}, {}),
    ]
    page = check(comparison_view(pairs))
    matrix = [cell for cell in cells(page) if cell[1].startswith(("Token tables", "They have"))]
    shades = [shade for shade, _ in matrix]
    assert shades == ["6", "equal", "unknown", "6", "equal", "unknown"]  # a row for each of a, b, c and d
    assert matrix[0][1] == PAIR.verdict
    assert page.text.count("Token tables are equal, so ") == 1
    assert page.text.index("a – b Token tables differ") < page.text.index("Distances, layer by layer")
    assert [tag for tag, _ in page.found].count("details") == 3  # tokens, warnings, and all layers
    assert "Look." in page.text


def test_names_that_are_the_same_are_shown_whole() -> None:
    page = check(comparison_view([replace(PAIR, a="x/m.safetensors", b="y/m.safetensors")]))
    assert "x/m.safetensors – y/m.safetensors" in page.text


@pytest.mark.parametrize(
    ("tables", "layers_equal", "kind"),
    [
        ({}, True, "quiet"),
        ({"clip_g": True}, True, "good"),
        ({"clip_g": True}, False, "note"),
        ({"clip_g": False}, True, "warning"),
    ],
    ids=["nothing shared", "equal", "layers differ", "tables differ"],
)
def test_the_colour_of_a_verdict(tables: dict[str, bool], layers_equal: bool, kind: str) -> None:
    made = Comparison(
        "a",
        "b",
        {key: replace(TABLES[key], equal=equal) for key, equal in tables.items()},
        {key: LayersDifference(layers_equal, 0.1) for key in tables},
    )
    page = check(comparison_view([made]))
    assert page.values("class")[1] == f"embedmerge-note embedmerge-is-{kind}"


def test_nothing_and_very_many() -> None:
    assert check(comparison_view([])).text == ""
    page = check(comparison_view([PAIR] * (MAX_PAIRS + 3)))
    assert "and 3 pairs more" in page.text


@pytest.mark.parametrize("evil", [EVIL, LONG], ids=["evil", "long"])
def test_hostile_texts(evil: str) -> None:
    tables = {"clip_l": replace(TABLES["clip_l"], top=(TokenDistance(1, evil, 0.1),))}
    made = Comparison(evil, evil + "/", tables, {"clip_l": layers(0.1)}, warnings=(evil,))
    markup = comparison_view([made])
    check(markup)
    assert len(markup) < 60_000


@given(
    st.text(),
    st.text(),
    st.one_of(st.none(), st.floats(0, 2)),
    st.sampled_from([True, False, None]),
    st.sampled_from(sorted(ENCODER_TITLES)),
)
def test_any_text_and_figure(a: str, b: str, distance: float | None, equal: bool | None, key: str) -> None:
    made = Comparison(
        a,
        b,
        {key: TableDifference(bool(equal), 5, 1, distance, (TokenDistance(1, b, distance),))},
        {key: LayersDifference(equal, distance, (LayerDistance("layer 0", distance),))},
        {key: OutputDifference(distance, distance, distance)},
        {key: OutputDifference(distance, distance)},
        equal,
        (a,),
    )
    check(comparison_view([made]))
    json.dumps(made.as_json(), allow_nan=False)
