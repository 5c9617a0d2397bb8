"""Checkpoints compared: the report is what was planted, to the row and to the layer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from checkpoint_files import TABLE, Tensors, make_encoders, prefixed, save, scaled_fp8, unet, write_layout
from hypothesis import given
from hypothesis import strategies as st
from models import write_sdxl
from runnable_encoders import reference, runnable_encoder

from lib_embedmerge import Embedding, open_checkpoint
from lib_embedmerge.actions.comparing import CompareRequest, compare_models
from lib_embedmerge.core.differences import (
    Comparison,
    LayerDistance,
    LayersDifference,
    OutputDifference,
    TableDifference,
    TokenDistance,
    format_percent,
    relative_distance,
)
from lib_embedmerge.errors import CheckpointError, EvaluationError, ExpressionError, StorageError

Encoders = dict[str, Tensors]

BASE = make_encoders()
KEYS = ("clip_l", "clip_g")
LAYER_1 = "text_model.encoder.layers.1."
NAMES_L = ["embeddings.position", "layer 0", "layer 1", "final_layer_norm"]
NAMES_G = [*NAMES_L, "text_projection"]


def changed(base: Encoders, change: Callable[[str, torch.Tensor], torch.Tensor], key: str = "") -> Encoders:
    """The encoders, all or the one of that key, with `change` made to each weight by name."""
    return {
        one: {name: change(name, tensor.clone()) for name, tensor in tensors.items()} if key in {"", one} else tensors
        for one, tensors in base.items()
    }


def with_rows(rows: dict[int, float], key: str = "") -> Encoders:
    """The base with rows of the token table multiplied."""

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        for row, factor in rows.items() if name == TABLE else ():
            tensor[row] *= factor
        return tensor

    return changed(BASE, change, key)


def scaled(part: str, factor: float, key: str = "") -> Encoders:
    """The base with all weights multiplied whose name has this in it."""
    return changed(BASE, lambda name, tensor: tensor * factor if part in name else tensor, key)


def compared(folder: Path, *encoders: Encoders, **request: Any) -> Comparison:
    paths = [write_sdxl(folder / f"{place}.safetensors", one) for place, one in enumerate(encoders)]
    (found,) = compare_models(paths, CompareRequest(**request))
    json.dumps(found.as_json(), allow_nan=False)
    return found


# Token tables


def test_a_model_and_itself(tmp_path: Path) -> None:
    found = compared(tmp_path, BASE, BASE)
    for key, names in (("clip_l", NAMES_L), ("clip_g", NAMES_G)):
        assert found.token_table[key] == TableDifference(True, 600, 0, 0.0, ())
        assert found.text_encoder[key] == LayersDifference(True, 0.0, tuple(LayerDistance(name, 0.0) for name in names))
    assert (found.outputs, found.outputs_rebuilt, found.needs_rebuild, found.warnings) == (None, None, None, ())
    assert found.verdict == (
        "Token tables are equal, so embeddings made on either model are correct for both; "
        "the other layers are equal too."
    )


def test_planted_rows_are_found(tmp_path: Path) -> None:
    # Doubling is exact in float16: |a - 2a| over the mean of |a| and |2a| is 2/3; a half is as far, four times is 6/5.
    found = compared(tmp_path, BASE, with_rows({7: 2.0, 320: 4.0, 599: 0.5}, "clip_g"))
    assert found.token_table["clip_l"].equal
    table = found.token_table["clip_g"]
    assert (table.equal, table.rows, table.rows_differing) == (False, 600, 3)
    assert table.max_distance == pytest.approx(6 / 5)
    assert [(one.id, one.token) for one in table.top] == [(320, "a</w>"), (7, "("), (599, "the")]
    assert [one.distance for one in table.top] == [pytest.approx(x) for x in (6 / 5, 2 / 3, 2 / 3)]
    assert all(layers.equal for layers in found.text_encoder.values())
    assert found.verdict.startswith("Token tables differ in 3 of 600 tokens (CLIP-G), so ")
    assert found.verdict.endswith("; the other layers are equal.")


@pytest.mark.parametrize("top", [0, 2, 100])
def test_as_many_tokens_as_asked_for(tmp_path: Path, top: int) -> None:
    rows = {row: 1.0 + row / 8 for row in range(1, 25)}
    table = compared(tmp_path, BASE, with_rows(rows), top=top).token_table["clip_l"]
    assert table.rows_differing == 24
    assert [one.id for one in table.top] == sorted(rows, reverse=True)[:top]


def test_rows_of_no_numbers(tmp_path: Path) -> None:
    found = compared(tmp_path, BASE, with_rows({3: math.nan, 5: math.inf, 9: 2.0, 11: 0.0}, "clip_l"))
    table = found.token_table["clip_l"]
    assert [(one.id, one.distance) for one in table.top] == [(3, None), (5, None), (11, 2.0), (9, pytest.approx(2 / 3))]
    assert table.max_distance == 2.0
    both = compared(tmp_path, with_rows({3: math.nan}), with_rows({3: math.nan}))
    assert both.token_table["clip_l"].equal
    alone = compared(tmp_path, BASE, with_rows({3: math.nan})).token_table["clip_l"]
    assert (alone.rows_differing, alone.max_distance) == (1, None)


def test_tables_of_other_lengths(tmp_path: Path) -> None:
    longer = changed(BASE, lambda name, tensor: torch.cat([tensor, tensor[:2]]) if name == TABLE else tensor, "clip_l")
    found = compared(tmp_path, BASE, longer)
    assert found.token_table["clip_l"] == TableDifference(False, 600, 0, 0.0, ())
    assert found.warnings == ("CLIP-L has 600 tokens in one and 602 in the other; shared tokens are compared.",)
    assert found.verdict.startswith("Token tables are equal, except for tokens that only one model has; ")


def test_a_token_that_was_added(tmp_path: Path) -> None:
    tables = [torch.zeros(49410, 768, dtype=torch.float16) for _ in range(2)]
    tables[1][49409] = 1
    paths = [
        save(tmp_path / f"{place}.safetensors", BASE["clip_l"] | {TABLE: table}) for place, table in enumerate(tables)
    ]
    (found,) = compare_models(paths)
    assert found.token_table["clip_l"].top == (TokenDistance(49409, "#49409", 2.0),)


# Layers


@pytest.mark.parametrize(
    ("part", "layer", "is_whole"),
    [
        ("position_embedding", "embeddings.position", True),
        ("layers.0.", "layer 0", True),
        ("layers.1.", "layer 1", True),
        ("final_layer_norm", "final_layer_norm", True),
        ("text_projection", "text_projection", True),
        ("layers.1.mlp.fc1", "layer 1", False),
    ],
)
def test_a_planted_layer_is_found(tmp_path: Path, part: str, layer: str, is_whole: bool) -> None:
    found = compared(tmp_path, BASE, scaled(part, 2.0, "clip_g"))
    assert all(table.equal for table in found.token_table.values())
    assert found.text_encoder["clip_l"].equal
    layers = found.text_encoder["clip_g"]
    distances = {one.name: one.distance for one in layers.layers}
    assert list(distances) == NAMES_G
    assert {name for name, distance in distances.items() if distance} == {layer}
    assert layers.equal is False
    assert layers.distance is not None
    if is_whole:
        assert distances[layer] == pytest.approx(2 / 3, rel=1e-6)
    weights = [tensor.double() for name, tensor in BASE["clip_g"].items() if name != TABLE]
    planted = [tensor.double() for name, tensor in BASE["clip_g"].items() if part in name]
    gap, whole = (math.sqrt(sum(t.square().sum().item() for t in some)) for some in (planted, weights))
    other = math.sqrt(whole**2 + 3 * gap**2)
    assert layers.distance == pytest.approx(2 * gap / (whole + other), rel=1e-6)
    assert f"the other layers differ by {format_percent(layers.distance)} (CLIP-G)" in found.verdict


@pytest.mark.parametrize(
    "layout", ["diffusers", "diffusers, sharded", "pair, open_clip", "pair, old CLIPSave", "sgm, ckpt"]
)
def test_layouts_do_not_matter(tmp_path: Path, layout: str) -> None:
    (tmp_path / "other").mkdir()
    other = write_layout(layout, tmp_path / "other", scaled("layers.1.", 2.0, "clip_g")).path
    base = write_sdxl(tmp_path / "base.safetensors", BASE)
    # A sequence of encoder files is opened as a folder of them here.
    path = other[0].parent if isinstance(other, list) else other
    (found,) = compare_models([base, path])
    assert found.text_encoder["clip_l"].equal
    distances = {one.name: one.distance for one in found.text_encoder["clip_g"].layers}
    assert distances == {name: pytest.approx(2 / 3) if name == "layer 1" else 0.0 for name in NAMES_G}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_precision_does_not_matter(tmp_path: Path, dtype: torch.dtype) -> None:
    wide = changed(BASE, lambda _, tensor: tensor.to(dtype) * (1 + 1e-6))
    found = compared(tmp_path, BASE, wide)
    assert all(one.equal for one in found.token_table.values())
    assert all(one.equal for one in found.text_encoder.values())


def test_fp8_is_compared_by_its_true_values(tmp_path: Path) -> None:
    plain = changed(BASE, lambda _, tensor: tensor.to(torch.float8_e4m3fn).half() * 2)
    stored = {key: scaled_fp8(tensors, 2.0, newer=True) for key, tensors in plain.items()}
    for key in KEYS:
        save(tmp_path / "fp8" / f"{key}.safetensors", stored[key])
    (found,) = compare_models([write_sdxl(tmp_path / "plain.safetensors", plain), tmp_path / "fp8"])
    assert all(one.equal for one in found.token_table.values())
    assert all(one.equal for one in found.text_encoder.values())


def test_layers_of_no_numbers(tmp_path: Path) -> None:
    broken = scaled("layers.1.mlp.fc1.weight", math.nan, "clip_l")
    found = compared(tmp_path, BASE, broken).text_encoder["clip_l"]
    assert (found.equal, found.distance) == (False, None)
    assert [one.distance for one in found.layers] == [0.0, 0.0, None, 0.0]
    same = compared(tmp_path, broken, broken)
    assert same.text_encoder["clip_l"] == LayersDifference(True, 0.0, tuple(LayerDistance(n, 0.0) for n in NAMES_L))
    for value in (math.inf, torch.tensor(0x7D01, dtype=torch.int16).view(torch.float16)):  # a signalling NaN

        def filled(name: str, tensor: torch.Tensor, value: Any = value) -> torch.Tensor:
            return torch.full_like(tensor, value) if "layers.1." in name else tensor

        odd = changed(BASE, filled, "clip_l")
        found = compared(tmp_path, scaled("layers.1.", -math.inf), odd).text_encoder["clip_l"]
        assert found.layers[2].distance is None
    verdict = compared(tmp_path, BASE, broken).verdict
    assert "the other layers differ, so the effect may differ." in verdict


def test_encoders_of_other_forms(tmp_path: Path) -> None:
    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return torch.zeros(9, 4).half() if name == f"{LAYER_1}mlp.fc1.weight" else tensor

    shorter = changed(BASE, change, "clip_l")
    shorter["clip_g"] = {name: tensor for name, tensor in BASE["clip_g"].items() if LAYER_1 not in name}
    found = compared(tmp_path, BASE, shorter)
    assert [one.distance for one in found.text_encoder["clip_l"].layers] == [0.0, 0.0, None, 0.0]
    assert [one.distance for one in found.text_encoder["clip_g"].layers] == [0.0, 0.0, None, 0.0, 0.0]
    assert [note.split(" have")[0] for note in found.warnings] == ["Some layers of CLIP-L", "Some layers of CLIP-G"]


def test_layers_that_hold_no_values(tmp_path: Path) -> None:
    odd = {key: {**BASE[key], f"{LAYER_1}mlp.fc1.weight": torch.zeros(8, 4, dtype=torch.int8)} for key in BASE}
    found = compared(tmp_path, BASE, odd)
    assert all(table.equal for table in found.token_table.values())
    assert found.text_encoder == dict.fromkeys(KEYS, LayersDifference(None, None))
    assert len(found.warnings) == 2
    assert all("stored as I8" in note for note in found.warnings)
    assert found.verdict.endswith("; the other layers of CLIP-L and CLIP-G could not be compared.")


def test_what_is_known_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_sdxl(tmp_path / f"{name}.safetensors", BASE) for name in "ab"]
    (measured,) = compare_models(paths)
    for path in paths:
        open_checkpoint(path).fingerprints()
    for name in ("compare_tables", "compare_layers"):
        monkeypatch.delattr(f"lib_embedmerge.actions.comparing.{name}")
    progress: list[tuple[int, int]] = []
    assert compare_models(paths, progress=lambda *step: progress.append(step)) == (measured,)
    assert progress[-1][0] == progress[-1][1]


# Several checkpoints


def test_every_pair_in_order(tmp_path: Path) -> None:
    paths = [
        write_sdxl(tmp_path / "a.safetensors", BASE),
        str(write_sdxl(tmp_path / "b.safetensors", with_rows({9: 2.0}))),
        write_layout("sd1", tmp_path / "c", BASE).path,
        write_layout("sd2", tmp_path / "d", BASE).path,
    ]
    assert not any(isinstance(path, list) for path in paths)
    found = compare_models(paths)  # type: ignore[arg-type] # paths as texts, in a list of either
    names = [str(path) for path in paths]
    assert [(one.a, one.b) for one in found] == [
        (names[a], names[b]) for a, b in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    ]
    assert [list(one.token_table) for one in found] == [list(KEYS), ["clip_l"], [], ["clip_l"], [], []]
    assert [list(one.token_table) for one in found] == [list(one.text_encoder) for one in found]
    assert (
        found[2].verdict
        == "They have no text encoder in common, so an embedding for one cannot be used with the other."
    )
    assert found[1].token_table["clip_l"].equal
    assert found[3].token_table["clip_l"].rows_differing == 1


def test_order_changes_nothing(tmp_path: Path) -> None:
    other = with_rows({9: 3.0, 11: 0.1})
    there, back = compared(tmp_path, BASE, other), compared(tmp_path, other, BASE)
    assert there.token_table == back.token_table
    assert there.text_encoder == back.text_encoder


def test_progress_and_its_end(tmp_path: Path) -> None:
    paths = [write_sdxl(tmp_path / f"{place}.safetensors", BASE) for place in range(3)]
    steps: list[tuple[int, int]] = []
    compare_models(paths, progress=lambda *step: steps.append(step))
    total = 3 * sum(tensor.numel() for key in KEYS for tensor in BASE[key].values())
    assert steps[-1] == (total, total)
    assert steps == sorted(steps)

    def stop(done: int, _: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_models(paths, progress=stop)


# Outputs


@pytest.fixture(scope="module")
def runnable() -> list[Encoders]:
    """Two models: the second's layers are others, and so is its row of `cat`."""
    first = {key: runnable_encoder(key) for key in KEYS}
    second = {key: runnable_encoder(key, seed=1) | {TABLE: first[key][TABLE].clone()} for key in KEYS}
    for tensors in second.values():
        tensors[TABLE][2368] *= 2
    return [first, second]


@pytest.fixture(scope="module")
def models(runnable: list[Encoders], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """They are Stable Diffusion 1, a third of the size of SDXL."""
    folder = tmp_path_factory.mktemp("runnable")
    return [
        save(folder / f"{name}.safetensors", prefixed("cond_stage_model.transformer.", one["clip_l"]) | unet("sd1"))
        for name, one in zip("ab", runnable, strict=True)
    ]


def expected(first: torch.Tensor, second: torch.Tensor) -> tuple[float, float]:
    """Relative distance and cosine by other means than ours."""
    a, b = first.double().numpy().ravel(), second.double().numpy().ravel()
    lengths = math.hypot(*a), math.hypot(*b)
    return math.dist(a, b) / (sum(lengths) / 2), float(a @ b) / math.prod(lengths)


def close_to(relative_l2: float, cosine: float, pooled_cosine: float | None = None) -> OutputDifference:
    figures = (relative_l2, cosine, pooled_cosine)
    close: list[Any] = [None if one is None else pytest.approx(one, abs=1e-5) for one in figures]
    return OutputDifference(*close)


@pytest.mark.slow
def test_outputs_of_a_text(runnable: list[Encoders], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    paths = [write_sdxl(tmp_path / f"{place}.safetensors", one) for place, one in enumerate(runnable)]
    (found,) = compare_models(paths, CompareRequest(source="a cat"), progress=lambda *step: steps.append(step))
    first_l, second_l = (reference(one["clip_l"], "clip_l", [320, 2368]) for one in runnable)
    first_g, second_g = (reference(one["clip_g"], "clip_g", [320, 2368]) for one in runnable)
    pooled = expected(first_g["pooled"], second_g["pooled"])[1]
    assert found.outputs == {
        "clip_l": close_to(*expected(first_l["penultimate"], second_l["penultimate"])),
        "clip_g": close_to(*expected(first_g["penultimate"], second_g["penultimate"]), pooled),
    }
    assert (found.outputs_rebuilt, found.needs_rebuild) == (None, None)
    assert "The outputs of the text encoders differ by " in found.verdict
    assert steps[-1][0] == steps[-1][1]
    made = found.as_json()["outputs"]
    assert isinstance(made, dict)
    assert {key: set(figures) for key, figures in made.items()} == {
        "clip_l": {"relative_l2", "cosine"},
        "clip_g": {"relative_l2", "cosine", "pooled_cosine"},
    }


def embedding_file(folder: Path, model: Encoders, recipe: str | None, tokens: list[int]) -> Path:
    """An embedding of these rows of a model."""
    metadata = {"embedmerge.schema": "1", "embedmerge.recipe": recipe} if recipe else {}
    return Embedding("some-x", {"clip_l": model["clip_l"][TABLE][tokens].float().numpy()}, metadata).save(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "tokens", "needs_rebuild", "said"),
    [
        ("'a cat'", [320, 2368], True, "This embedding needs a rebuild for the second model: "),
        ("'a dog'", [320, 1929], False, "This embedding needs no rebuild; "),
        (None, [2368], None, "; the other layers differ by "),
    ],
    ids=["other rows", "the same rows", "no recipe"],
)
def test_outputs_of_an_embedding(  # noqa: PLR0917 -- a table of cases
    models: list[Path],
    runnable: list[Encoders],
    tmp_path: Path,
    recipe: str | None,
    tokens: list[int],
    needs_rebuild: bool | None,
    said: str,
) -> None:
    first, second = runnable
    (found,) = compare_models(models, CompareRequest(embedding=embedding_file(tmp_path, first, recipe, tokens)))
    as_stored = second["clip_l"] | {TABLE: first["clip_l"][TABLE]}
    own, stored, rebuilt = (
        reference(one, "clip_l", tokens)["last"] for one in (first["clip_l"], as_stored, second["clip_l"])
    )
    assert found.needs_rebuild is needs_rebuild
    assert found.outputs == {"clip_l": close_to(*expected(own, stored))}
    assert found.outputs_rebuilt == ({"clip_l": close_to(*expected(own, rebuilt))} if recipe else None)
    assert said in found.verdict


def test_a_recipe_that_cannot_be_run(models: list[Path], runnable: list[Encoders], tmp_path: Path) -> None:
    file = embedding_file(tmp_path, runnable[0], "'a'+", [320])
    (found,) = compare_models(models, CompareRequest(embedding=file))
    assert found.outputs
    assert (found.outputs_rebuilt, found.needs_rebuild) == (None, None)
    (note,) = found.warnings
    assert note.startswith("b.safetensors: its recipe does not work on it. ")


def test_an_embedding_for_others(models: list[Path], tmp_path: Path) -> None:
    file = Embedding("big-x", {"clip_l": numpy.zeros((1, 768)), "clip_g": numpy.zeros((1, 1280))}).save(tmp_path)
    (found,) = compare_models(models, CompareRequest(embedding=file))
    assert found.outputs == {}
    assert [note.split(":")[0] for note in found.warnings] == ["a.safetensors", "b.safetensors"]
    assert "made for SDXL" in found.warnings[0]


def test_other_architectures_take_other_layers(models: list[Path], runnable: list[Encoders], tmp_path: Path) -> None:
    (found,) = compare_models([models[0], write_sdxl(tmp_path / "xl.safetensors", runnable[0])], CompareRequest("cat"))
    assert found.outputs == {}
    assert found.warnings == (
        "Stable Diffusion 1 and SDXL use different layers of a text encoder, so the outputs are not compared.",
    )


def test_what_cannot_be_asked(models: list[Path], tmp_path: Path) -> None:
    long = save(tmp_path / "long-x.safetensors", {"emb_params": torch.zeros(76, 768)})
    wrong: list[tuple[list[Path], CompareRequest, type[Exception], str]] = [
        (models[:1], CompareRequest(), CheckpointError, "needs two checkpoints"),
        (models, CompareRequest(source="a", embedding=long), StorageError, "not by both"),
        (models, CompareRequest(embedding=long), StorageError, "long-x has 76 vectors"),
        (models, CompareRequest(embedding=tmp_path / "gone.safetensors"), StorageError, "gone"),
        (models, CompareRequest(source="<'a'+>"), ExpressionError, "."),
        (models, CompareRequest(source="a cat " * 40), EvaluationError, "80 vectors"),
        ([*models, tmp_path / "gone"], CompareRequest(), CheckpointError, "gone"),
        (models, CompareRequest(device="tpu"), CheckpointError, "tpu"),
    ]
    for paths, request, kind, message in wrong:
        with pytest.raises(kind, match=message):
            compare_models(paths, request)


# Figures


@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4), st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4))
def test_a_relative_distance(a: list[float], b: list[float]) -> None:
    found = relative_distance(math.dist(a, b), math.hypot(*a), math.hypot(*b))
    assert found is not None
    assert 0 <= found <= 2
    assert (found == 0) == (math.dist(a, b) == 0)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_relative_distance(place: int, value: float) -> None:
    lengths = [1.0, 1.0, 1.0]
    lengths[place] = value
    assert relative_distance(*lengths) is None


@pytest.mark.parametrize(
    ("distance", "shown"),
    [
        (None, "not known"),
        (0.0, "0%"),
        (1e-9, "under 0.01%"),
        (0.0004, "0.04%"),
        (0.0312, "3.1%"),
        (0.5, "50%"),
        (2, "200%"),
    ],
)
def test_percentages(distance: float | None, shown: str) -> None:
    assert format_percent(distance) == shown


@pytest.mark.parametrize(
    ("first", "second", "shared", "missing"),
    [("sd1", "sdxl", "CLIP-L", "CLIP-G"), ("sdxl", "refiner", "CLIP-G", "CLIP-L")],
)
def test_models_that_share_one_encoder_do_not_share_embeddings(
    tmp_path: Path, first: str, second: str, shared: str, missing: str
) -> None:
    encoders = make_encoders()
    layouts = {"sd1": "sd1", "sdxl": "sgm", "refiner": "refiner"}
    paths = [write_layout(layouts[one], tmp_path / one, encoders).path for one in (first, second)]
    (pair,) = compare_models([path for path in paths if isinstance(path, Path)])
    assert "right for both; the layers" not in pair.verdict
    assert f"the {shared} vectors of an embedding made on either model are correct for both" in pair.verdict
    assert f"only one model has {missing}" in pair.verdict
    assert {key for keys in pair.only.values() for key in keys} == {{"CLIP-L": "clip_l", "CLIP-G": "clip_g"}[missing]}
