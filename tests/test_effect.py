"""The effect of embeddings and texts on pairs of checkpoints: against its definition, and planted facts."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from statistics import median

import numpy
import pytest
import torch
from checkpoint_files import save
from effect_models import make_encoder, make_tensors, write_model

from lib_embedmerge import open_checkpoint
from lib_embedmerge.actions.comparing import CompareRequest, compare_models
from lib_embedmerge.actions.measuring_effect import EffectRequest, measure_effects
from lib_embedmerge.checkpoints.cross_attention import open_text_reader
from lib_embedmerge.checkpoints.encoder_states import StateMaker
from lib_embedmerge.cli import main
from lib_embedmerge.core.effect_texts import (
    TEMPLATES,
    YARDSTICK_TEMPLATE,
    YARDSTICK_TEXTS,
    Template,
    lay_out,
    list_yardstick_pairs,
)
from lib_embedmerge.core.effects import Effect, find_band
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import CheckpointError, EmbedMergeError, HostError, StorageError

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("effects")
    return {
        "a": write_model(folder / "a.safetensors"),
        "copy": write_model(folder / "copy.safetensors"),
        "unet": write_model(folder / "unet.safetensors", unet_share=0.05),
        "encoder": write_model(folder / "encoder.safetensors", encoder_share=0.02),
        "both": write_model(folder / "both.safetensors", unet_share=0.05, encoder_share=0.02),
        "far": write_model(folder / "far.safetensors", unet_share=3.0, encoder_share=1.0),
    }


def measure(models: dict[str, Path], *names: str, **request: object) -> list[Effect]:
    wanted = EffectRequest(**({"source": "red dress"} | request))  # type: ignore[arg-type] # keywords of several types
    return measure_effects([models[name] for name in names], wanted)


def encode(path: Path, text: str) -> torch.Tensor:
    """The states of a text, by the plainest way there is."""
    model = open_checkpoint(path)
    (encoder,) = model.encoders
    chunk = {encoder.key: encoder.vectors(encoder.tokenizer.encode(text))}
    return StateMaker(model.encoders, model.facts.architecture).compute([chunk]).hidden[0].double()


def keys_and_values(path: Path, other: Path, states: torch.Tensor) -> torch.Tensor:
    """What all layers make of states, [positions, all inner widths], each part divided as the definition says."""
    parts = []
    for ours, theirs in zip(open_text_reader(path).layers, open_text_reader(other).layers, strict=True):
        for mine, its in ((ours.key, theirs.key), (ours.value, theirs.value)):
            matrix, counterpart = (torch.from_numpy(one.read()).double() for one in (mine, its))
            size = (matrix.square().sum() + counterpart.square().sum()) / 2
            parts.append(states @ matrix.T / size.sqrt())
    return torch.cat(parts, dim=1)


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).square().sum(dim=1).mean().sqrt())


def test_it_is_what_the_layers_give_one_by_one(models: dict[str, Path]) -> None:
    a, b = models["a"], models["both"]
    (found,) = measure(models, "a", "both")

    def read(path: Path, text: str) -> torch.Tensor:
        return keys_and_values(path, b if path == a else a, encode(path, text))

    texts = [YARDSTICK_TEMPLATE.title.replace("X", text) for text in YARDSTICK_TEXTS]
    yardstick = median(
        distance(each[left], each[right])
        for each in ([read(path, text) for text in texts] for path in (a, b))
        for left, right in list_yardstick_pairs()
    )
    shares = [
        distance(*(read(path, template.title.replace("X", "red dress")) for path in (a, b))) / yardstick
        for template in TEMPLATES
    ]
    assert found.yardstick == pytest.approx(yardstick, rel=1e-4)
    assert [one.effect for one in found.templates] == pytest.approx(shares, rel=1e-4)
    assert found.effect == pytest.approx(math.sqrt(sum(share**2 for share in shares) / len(shares)), rel=1e-4)
    assert [one.template for one in found.templates] == [template.title for template in TEMPLATES]
    assert found.pooled is None


def test_a_copy_changes_nothing_at_all(models: dict[str, Path]) -> None:
    (found,) = measure(models, "a", "copy")
    assert (found.effect, {one.effect for one in found.templates}) == (0, {0})
    assert (found.band, found.sentence) == ("same", "The text acts the same on both models: 0% of another subject.")
    assert found.yardstick > 0


def test_a_changed_unet_is_seen_although_all_vectors_are_equal(models: dict[str, Path]) -> None:
    unet, encoder, both, far = measure(models, "a", "unet", "encoder", "both", "far")
    assert 0 < unet.effect < far.effect
    assert 0 < encoder.effect < far.effect
    assert max(unet.effect, encoder.effect) < both.effect < unet.effect + encoder.effect
    assert far.band == "other"
    assert [one.b for one in (unet, far)] == [str(models["unet"]), str(models["far"])]


def test_the_order_does_not_matter(models: dict[str, Path]) -> None:
    (there,), (back,) = measure(models, "a", "both"), measure(models, "both", "a")
    assert back.effect == pytest.approx(there.effect, rel=1e-6)
    assert back.yardstick == pytest.approx(there.yardstick, rel=1e-6)
    assert (back.a, back.b) == (there.b, there.a)


def test_what_is_kept_gives_the_same(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path / "cache"))
    counts: list[int] = []
    fresh = measure_effects(
        [models["a"], models["both"]], EffectRequest("red dress"), lambda done, total: counts.append(total - done)
    )
    assert counts[-1] == 0
    kept = sorted(path.name.split("-")[0] for path in (tmp_path / "cache" / "effect").glob("*.safetensors"))
    assert kept == ["metric", "states", "states", "states", "states"]
    with monkeypatch.context() as patch:
        patch.setattr(StateMaker, "run", None)
        assert measure(models, "a", "both") == fresh
    for path in (tmp_path / "cache" / "effect").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])  # as after a full disk
    (again,) = measure(models, "a", "both")
    # Texts go through the encoders in other groups now, which changes the last bits.
    assert (again.effect, again.yardstick) == pytest.approx((fresh[0].effect, fresh[0].yardstick), rel=1e-5)


def write_embedding(folder: Path, name: str, source: str, path: Path) -> Path:
    return open_checkpoint(path).build(source, name=name).save(folder)


def test_a_file_is_the_same_on_each_model(models: dict[str, Path], tmp_path: Path) -> None:
    file = write_embedding(tmp_path, "dress", "red dress", models["a"])
    (stored,) = measure(models, "a", "both", source=None, embedding=file)
    (text,) = measure(models, "a", "both")
    assert stored.effect == pytest.approx(text.effect, rel=1e-6)  # both models have the same rows
    (copied,) = measure(models, "a", "copy", source=None, embedding=file)
    assert copied.effect == 0


def test_a_recipe_is_made_again(models: dict[str, Path], tmp_path: Path) -> None:
    tensors = make_tensors()
    name = next(name for name in tensors if "token_embedding" in name)
    save(tmp_path / "rows.safetensors", {**tensors, name: tensors[name].flip(1)})
    rows = {**models, "rows": tmp_path / "rows.safetensors"}
    file = write_embedding(tmp_path, "dress", "red dress", models["a"])
    stored, remade = (
        measure(rows, "a", "rows", source=None, embedding=file, remake=remake)[0] for remake in (False, True)
    )
    assert remade.effect != stored.effect
    assert remade.effect == pytest.approx(measure(rows, "a", "rows")[0].effect, rel=1e-6)


def test_a_long_text_takes_several_chunks(models: dict[str, Path]) -> None:
    (found,) = measure(models, "a", "both", source=", ".join(["red dress"] * 40))
    assert found.effect > 0
    (same,) = measure(models, "a", "copy", source=", ".join(["red dress"] * 40))
    assert same.effect == 0


def test_clip_skip_takes_another_layer(models: dict[str, Path]) -> None:
    usual, last, before = (measure(models, "a", "encoder", clip_skip=skip)[0].effect for skip in (None, 1, 2))
    assert usual == last
    assert before != last


def test_sdxl_has_a_pooled_vector(tmp_path: Path) -> None:
    paths = {
        name: write_model(tmp_path / f"{name}.safetensors", "sdxl", unet_share=share)
        for name, share in (("a", 0.0), ("copy", 0.0), ("unet", 0.1))
    }
    same, other = measure(paths, "a", "copy", "unet")
    assert (same.effect, same.pooled) == (0, 0)
    assert other.effect > 0
    assert other.pooled is not None
    assert other.pooled > 0


@pytest.mark.parametrize(
    ("names", "request_", "error", "message"),
    [
        (("a",), {}, CheckpointError, "needs two checkpoints"),
        (("a", "unet"), {"source": None}, StorageError, "of a text or of an embedding"),
        (("a", "unet"), {"clip_skip": 9}, CheckpointError, "has 2 layers"),
    ],
)
def test_what_cannot_be_asked(
    models: dict[str, Path],
    names: tuple[str, ...],
    request_: dict[str, object],
    error: type[EmbedMergeError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        measure(models, *names, **request_)


def test_an_embedding_for_other_models_or_without_a_recipe(models: dict[str, Path], tmp_path: Path) -> None:
    wrong = Embedding("xl", {"clip_l": numpy.ones((1, 768)), "clip_g": numpy.ones((1, 1280))}).save(tmp_path)
    with pytest.raises(StorageError, match=r"xl does not fit a\.safetensors"):
        measure(models, "a", "unet", source=None, embedding=wrong)
    bare = Embedding("bare", {"clip_l": numpy.ones((1, 768))}).save(tmp_path)
    with pytest.raises(StorageError, match="bare has no recipe"):
        measure(models, "a", "unet", source=None, embedding=bare, remake=True)


def test_a_model_without_a_unet(models: dict[str, Path], tmp_path: Path) -> None:
    alone = save(tmp_path / "clip_l.safetensors", make_encoder("clip_l"))
    with pytest.raises(CheckpointError, match=r"'clip_l\.safetensors' contains no U-Net"):
        measure({**models, "alone": alone}, "a", "alone")


def test_a_unet_that_reads_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    tensors = make_tensors()
    empty = {name: tensor * 0 if "attn2" in name else tensor for name, tensor in tensors.items()}
    paths = {name: save(tmp_path / f"{name}.safetensors", empty) for name in ("x", "y")}
    with pytest.raises(CheckpointError, match="reads nothing of any text"):
        measure(paths, "x", "y")


def test_an_encoder_with_broken_numbers(models: dict[str, Path], tmp_path: Path) -> None:
    tensors = make_tensors()
    name = next(name for name in tensors if "final_layer_norm.bias" in name)
    broken = save(tmp_path / "broken.safetensors", {**tensors, name: tensors[name] * math.nan})
    with pytest.raises(CheckpointError, match="numbers that are not finite"):
        measure({**models, "broken": broken}, "a", "broken")


def test_a_progress_that_raises_ends_it(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path))

    def stop(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_effects([models["a"], models["unet"]], EffectRequest("cat"), stop)


def test_the_layout_of_chunks() -> None:
    assert lay_out(3, 2, 4) == [[("before", (0, 3)), ("x", (0, 2)), ("after", (0, 4))]]
    assert lay_out(3, 75, 1) == [[("before", (0, 3))], [("x", (0, 75))], [("after", (0, 1))]]
    assert lay_out(0, 75, 0) == [[("x", (0, 75))]]
    assert lay_out(0, 100, 3) == [[("x", (0, 75))], [("x", (75, 100)), ("after", (0, 3))]]
    assert lay_out(70, 6, 0) == [[("before", (0, 70))], [("x", (0, 6))]]
    assert lay_out(0, 0, 0) == [[]]
    assert Template("", ", soft light").title == "X, soft light"
    assert Template("a cat and", "in a garden").title == "a cat and X in a garden"


def test_bands() -> None:
    assert [find_band(effect) for effect in (0, 0.0099, 0.01, 0.0999, 0.1, 0.499, 0.5, 7)] == [
        "same", "same", "slight", "slight", "clear", "clear", "other", "other",
    ]  # fmt: skip


# The command line


def test_the_command(models: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    paths = [str(models[name]) for name in ("a", "both", "copy")]
    assert main(["effect", "red dress", "--checkpoint", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [set(one) for one in found] == [{"a", "b", "effect", "pooled", "yardstick", "templates"}] * 2
    assert found == [one.as_json() for one in measure(models, "a", "both", "copy")]
    assert set(found[0]["templates"][0]) == {"template", "effect"}
    file = write_embedding(tmp_path, "dress", "red dress", models["a"])
    assert main(["effect", str(file), "--checkpoint", *paths, "--clip-skip", "2"]) == 0
    drawn = capsys.readouterr().out
    assert "same, 0%" in drawn
    assert "a photo of X" in drawn
    assert "does not say what a picture will look like" in " ".join(drawn.split())


def test_a_file_that_does_not_exist(models: dict[str, Path], capsys: Captured) -> None:
    paths = [str(models[name]) for name in ("a", "both")]
    assert main(["effect", "dres.safetensors", "--checkpoint", *paths]) == 1
    assert "'dres.safetensors' does not exist" in capsys.readouterr().err


def test_without_torch(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "torch" else sys.modules[name].__spec__
    )
    with pytest.raises(HostError, match="only possible with the Python package torch"):
        measure(models, "a", "unet")


def test_compare_measures_it_too(models: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    paths = [str(models[name]) for name in ("a", "both")]
    assert main(["compare", *paths, "--source", "red dress", "--effect", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    (expected,) = measure(models, "a", "both")
    assert found["effect"] == expected.as_json()
    assert found["verdict"].endswith(expected.sentence)
    alone = save(tmp_path / "clip_l.safetensors", make_encoder("clip_l"))
    assert main(["compare", paths[0], str(alone), "--source", "red dress", "--effect", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["effect"] is None
    assert found["outputs"]
    assert any("contains no U-Net" in note for note in found["notes"])
    with pytest.raises(SystemExit):
        main(["compare", *paths, "--effect"])
    assert "--effect needs --source or --embedding" in capsys.readouterr().err
    with pytest.raises(StorageError, match="An effect is that of"):
        compare_models(paths, CompareRequest(effect=True))
