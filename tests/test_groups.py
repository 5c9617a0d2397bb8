"""Groups of checkpoints that can share a file: planted groups are found, and rebuild writes one version for each."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy
import pytest
from checkpoint_files import save
from effect_models import make_tensors, write_model
from hypothesis import given
from hypothesis import strategies as st

from lib_embedmerge import load_embedding, open_checkpoint, parse
from lib_embedmerge.actions.grouping_models import GroupsRequest, ModelGroups, group_models
from lib_embedmerge.actions.measuring_effect import EffectRequest, measure_effects, open_metered
from lib_embedmerge.actions.meter import measure_between, measure_yardstick
from lib_embedmerge.cli import main
from lib_embedmerge.core.clusters import cut, find_medoid, join_all
from lib_embedmerge.core.effect_texts import TEMPLATES
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.ui.views.groups_picture import draw_groups

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three families: two encoders, and a third U-Net; members differ little."""
    folder = tmp_path_factory.mktemp("groups")
    shares = {
        "a1": {"unet_share": 0.01, "seed": 1},
        "b1": {"unet_share": 0.01, "encoder_share": 0.5, "seed": 2},
        "a2": {"unet_share": 0.01, "seed": 3},
        "c1": {"unet_share": 2.0, "seed": 4},
        "a3": {"unet_share": 0.002, "seed": 5},
    }
    made = {
        name: write_model(folder / f"{name}.safetensors", **these)  # type: ignore[arg-type] # keywords of several types
        for name, these in shares.items()
    }
    return made | {"b2": write_model(folder / "b2.safetensors", encoder_share=0.5, seed=2)}


def names_of(groups: ModelGroups) -> list[list[str]]:
    return [[Path(member).stem for member in group["members"]] for group in groups.as_json()]


def test_planted_groups_are_found_exactly(models: dict[str, Path]) -> None:
    found = group_models(list(models.values()), GroupsRequest(words=["red dress", "cat", "castle"], limit=1.0))
    assert names_of(found) == [["a1", "a2", "a3"], ["b1", "b2"], ["c1"]]
    first, second, third = found.as_json()
    assert Path(first["medoid"]).stem == "a3"  # the one that moved least is in the middle
    assert 0 < first["largest_effect"] < 1.0
    assert third == {"members": [str(models["c1"])], "medoid": str(models["c1"]), "largest_effect": 0.0}
    assert second["largest_effect"] > 0


def test_effects_are_those_of_the_command(models: dict[str, Path], tmp_path: Path) -> None:
    file = open_checkpoint(models["a1"]).build("red dress", name="dress").save(tmp_path)
    paths = [models["a1"], models["b1"], models["a2"]]
    found = group_models(paths, GroupsRequest(files=[file]))
    expected = [one.effect for one in measure_effects(paths, EffectRequest(embedding=file))]
    assert found.effects[0, 1:].tolist() == pytest.approx(expected, rel=1e-3)
    assert (found.effects == found.effects.T).all()
    assert (numpy.diag(found.effects) == 0).all()


def test_the_limit(models: dict[str, Path]) -> None:
    paths = [models["a1"], models["b1"], models["a2"]]
    wanted = [GroupsRequest(words=["cat"], limit=limit) for limit in (0.0, 1.0, 99.0)]
    assert [len(group_models(paths, one).clusters) for one in wanted] == [3, 2, 1]
    with pytest.raises(StorageError, match="limit of -1"):
        group_models(paths, GroupsRequest(limit=-1))
    with pytest.raises(CheckpointError, match="needs checkpoints"):
        group_models([])


def test_one_checkpoint_is_a_group(models: dict[str, Path]) -> None:
    assert names_of(group_models([models["a1"]], GroupsRequest(words=["cat"]))) == [["a1"]]


def test_a_progress_that_counts_everything(models: dict[str, Path]) -> None:
    seen: list[tuple[int, int]] = []
    group_models([models["a1"], models["a2"]], GroupsRequest(words=["sun"]), lambda *at: seen.append(at))
    assert seen[-1][0] == seen[-1][1]


def test_an_embedding_of_75_vectors_stands_alone(models: dict[str, Path], tmp_path: Path) -> None:
    file = open_checkpoint(models["a1"]).build(", ".join(["cat"] * 37), name="long").save(tmp_path)
    found = group_models([models["a1"], models["b1"]], GroupsRequest(files=[file]))
    assert found.effects[0, 1] > 0.1


@st.composite
def planted(draw: st.DrawFn) -> tuple[numpy.ndarray, list[list[int]]]:
    """Points on a line in groups of width at most 1, at least 3 apart, in any order, and the groups."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    places = [4 * number + draw(st.floats(0, 1)) for number, size in enumerate(sizes) for _ in range(size)]
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    order = draw(st.permutations(range(len(places))))
    line = numpy.array([places[index] for index in order])
    by_group: dict[int, list[int]] = {}
    for index, old in enumerate(order):
        by_group.setdefault(groups[old], []).append(index)
    return abs(line[:, None] - line[None]), sorted(by_group.values())


@given(planted())
def test_planted_clusters_are_found(case: tuple[numpy.ndarray, list[list[int]]]) -> None:
    distances, expected = case
    found = cut(join_all(distances), 1.0)
    assert [list(cluster.members) for cluster in found] == expected
    for cluster in found:
        within = distances[numpy.ix_(cluster.members, cluster.members)]
        assert cluster.height == within.max()
        medoid = find_medoid(distances, cluster.members)
        assert distances[medoid, list(cluster.members)].max() == within.max(axis=1).min()


def test_complete_linkage_does_not_chain() -> None:
    line = numpy.arange(6.0)
    assert [cluster.members for cluster in cut(join_all(abs(line[:, None] - line[None])), 1.0)] == [
        (0, 1), (2, 3), (4, 5),
    ]  # fmt: skip


def test_the_picture(models: dict[str, Path], tmp_path: Path) -> None:
    effects = numpy.array([[0, 0.02, 0.7], [0.02, 0, 0.8], [0.7, 0.8, 0]])
    labels = ("/x/a & b.safetensors", "/x/<script>.safetensors", "/x/" + "long" * 20)
    drawn = draw_groups(ModelGroups(labels, effects, 0.1, join_all(effects)))
    root = ET.fromstring(drawn)
    texts = [element.text for element in root.iter() if element.text]
    assert "a & b.safetensors" in texts
    assert "<script>.safetensors" in texts
    assert "2.0%" in texts
    assert "80%" in texts
    lines = [element.get("stroke") for element in root.iter("{http://www.w3.org/2000/svg}line")]
    assert lines.count("#c62828") == 3
    assert lines.count("#333") == 3


def test_the_command(models: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    words, picture = tmp_path / "words.txt", tmp_path / "groups.svg"
    words.write_text("red dress\n\ncat\n", encoding="utf-8")
    paths = [str(models[name]) for name in ("a1", "b1", "a2")]
    asked = ["groups", "--checkpoint", *paths, "--words", str(words), "--limit", "1"]
    assert main([*asked, "--json", "--picture", str(picture)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [set(group) for group in found] == [{"members", "medoid", "largest_effect"}] * 2
    assert [len(group["members"]) for group in found] == [2, 1]
    assert "b1.safetensors" in picture.read_text(encoding="utf-8")
    assert main(asked) == 0
    drawn = capsys.readouterr().out
    assert "alone" in drawn
    assert "clear" in drawn


def test_words_that_cannot_be_read(models: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    asked = ["groups", "--checkpoint", str(models["a1"]), "--words"]
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for name, message in (
        ("empty.txt", "has no words"),
        ("latin.txt", "not a text file"),
        ("no.txt", "cannot be read"),
    ):
        assert main([*asked, str(tmp_path / name)]) == 1
        assert message in capsys.readouterr().err


def write_with_table(path: Path, factor: float, *, turned: bool = False, **shares: float) -> Path:
    """A model whose rows are longer by a factor, or turned to other tokens."""
    tensors = make_tensors(**shares)  # type: ignore[arg-type] # keywords of several types
    name = next(name for name in tensors if "token_embedding" in name)
    table = tensors[name].flip(0) if turned else tensors[name]
    return save(path, {**tensors, name: (table.float() * factor).half()})


@pytest.fixture(scope="module")
def tables(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tables of two kinds below U-Nets that have nothing to do with each other."""
    folder = tmp_path_factory.mktemp("tables")
    return {
        "a1": models["a1"],
        "other": write_with_table(folder / "other.safetensors", 1.0, turned=True),
        "near": write_with_table(folder / "near.safetensors", 1.01, unet_share=3.0, seed=7),
        "other2": write_with_table(folder / "other2.safetensors", 0.99, turned=True, unet_share=2.0, seed=8),
        "c1": models["c1"],
    }


def test_groups_by_vectors_do_not_see_unets(tables: dict[str, Path]) -> None:
    by_vectors = group_models(list(tables.values()), GroupsRequest(words=["red dress", "cat"], by="vectors"))
    assert names_of(by_vectors) == [["a1", "near", "c1"], ["other", "other2"]]
    assert by_vectors.effects[0, 4] == 0  # the same table, and another U-Net
    assert by_vectors.effects[0, 1] > 0.5
    by_models = group_models(list(tables.values()), GroupsRequest(words=["red dress", "cat"]))
    assert len(by_models.clusters) == 5


def test_the_effect_of_vectors_is_that_on_the_model(tables: dict[str, Path]) -> None:
    paths = [tables["a1"], tables["other"]]
    found = group_models(paths, GroupsRequest(words=["red dress"], by="vectors"))
    models = open_metered(paths, EffectRequest())
    vectors = [evaluate(parse("red dress"), model.model) for model in models]
    expected = []
    for model in models:
        first, second, unrelated = model.states(
            [
                *([model.make_chunks(of_model, one)[0] for one in TEMPLATES] for of_model in vectors),
                model.make_yardstick_chunks(),
            ]
        )
        metric = model.metric_with(model)
        yardstick = measure_yardstick(metric, unrelated, unrelated).states
        expected.append(measure_between(metric.states, first["hidden"], second["hidden"]) / yardstick)
    assert found.effects[0, 1] == pytest.approx(max(expected), rel=1e-5)


def test_rebuild_writes_one_version_for_each_group(tables: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    file = open_checkpoint(tables["a1"]).build("red dress", name="dress").save(tmp_path / "out")
    paths = [str(path) for path in tables.values()]
    assert main(["rebuild", str(file), "--checkpoint", *paths, "--groups", "--json"]) == 0
    results = {Path(one["checkpoint"]).stem: one for one in json.loads(capsys.readouterr().out)}
    assert list(results) == ["a1", "near", "c1", "other", "other2"]
    assert sorted(one["status"] for one in results.values()) == [
        "same vectors",
        "shared",
        "shared",
        "shared",
        "written",
    ]
    written = next(one for one in results.values() if one["status"] == "written")
    assert {results[name]["file"] for name in ("other", "other2")} == {written["file"]}
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 2
    assert load_embedding(written["file"]).tag is not None


def test_rebuild_of_nothing_with_a_recipe(models: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    from lib_embedmerge.embeddings.embedding import Embedding

    bare = Embedding("bare", {"clip_l": numpy.ones((1, 768))}).save(tmp_path)
    assert main(["rebuild", str(bare), "--checkpoint", str(models["a1"]), "--groups"]) == 1
    assert "None of these embeddings has a recipe" in capsys.readouterr().err
