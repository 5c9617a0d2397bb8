"""`embedmerge recover`, and what it keeps in files: the recipe and the tag, around tensors that stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import as_arrays, as_tensors, equal
from models import StandardModels, encoders
from safetensors.torch import load_file, save_file

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.cli import main
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.recovery.recover import recover
from lib_embedmerge.recipes.recovery.save_recovered import save_recovered

BASE = encoders()
DOG = 1929
SOURCE = "'red car'*0.25 + 'cat'*0.7"
WRITTEN = "'cat'*0.7 + 'red car'*0.25"

Vectors = dict[str, torch.Tensor]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def checkpoints(standard: StandardModels) -> dict[str, Path]:
    """`base`; `twin`, in which no token of SOURCE differs; `other`, in which they all do."""
    return {"base": standard.base, "twin": standard.other_dog, "other": standard.unlike}


@pytest.fixture(scope="module")
def base(checkpoints: dict[str, Path]) -> CheckpointModel:
    return open_checkpoint(checkpoints["base"])


@pytest.fixture(scope="module")
def vectors(base: CheckpointModel) -> Vectors:
    return as_tensors(evaluate(parse(SOURCE), base))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_main(*arguments: object) -> tuple[int, str, str]:
        code = main(["recover", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_main


def written(path: Path, tensors: Vectors, metadata: dict[str, str] | None = None) -> Path:
    save_file(tensors, path, metadata)
    return path


def trained(count: int) -> Vectors:
    generator = torch.Generator().manual_seed(3)
    return {
        key: torch.randn(count, width, generator=generator) * 0.02 for key, width in (("clip_l", 768), ("clip_g", 1280))
    }


def test_json(run: Run, checkpoints: dict[str, Path], vectors: Vectors, tmp_path: Path) -> None:
    file = written(tmp_path / "found.safetensors", vectors)
    before = file.read_bytes()
    code, out, err = run(file, "--checkpoint", checkpoints["base"], "--json")
    assert (code, err) == (0, "")
    result: dict[str, Any] = json.loads(out)
    assert set(result) == {
        "name", "expression", "exact", "close", "residual", "checkpoint", "texts", "weights", "detail", "ties",
        "candidates", "file", "verdict", "drift", "vectors",
    }  # fmt: skip
    assert (result["expression"], result["exact"], result["file"]) == (WRITTEN, True, None)
    assert result["residual"] == pytest.approx({"clip_l": 0.0, "clip_g": 0.0}, abs=1e-6)
    assert (result["texts"], result["weights"]) == (["cat", "red car"], [0.7, 0.25])
    assert result["checkpoint"] == str(checkpoints["base"])
    assert file.read_bytes() == before


def test_for_people(run: Run, checkpoints: dict[str, Path], vectors: Vectors, tmp_path: Path) -> None:
    file = written(tmp_path / "found.safetensors", vectors)
    named = [part for name in ("other", "base", "twin", "base") for part in ("--checkpoint", checkpoints[name])]
    code, out, err = run(file, *named)
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    assert lines[:4] == [
        "The expression gives exactly these vectors.",
        WRITTEN,
        "The best of these checkpoints is base.safetensors.",
        "Just as good: twin.safetensors. The tokens of the text are the same there.",
    ]
    assert [line.split()[0] for line in lines[-3:]] == ["unlike.safetensors", "base.safetensors", "twin.safetensors"]
    assert "clip_l 0.00%, clip_g 0.00%" in lines[-2]
    assert "clip_l 9" in lines[-3]


def test_progress_counts_the_checkpoints(
    monkeypatch: pytest.MonkeyPatch, run: Run, checkpoints: dict[str, Path], vectors: Vectors, tmp_path: Path
) -> None:
    counted: list[tuple[int, int]] = []

    @contextmanager
    def counting(_: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: counted.append((done, total))

    monkeypatch.setattr("lib_embedmerge.cli.commands.progress_bar", counting)
    file = written(tmp_path / "found.safetensors", vectors)
    run(file, "--checkpoint", checkpoints["base"], "--checkpoint", checkpoints["twin"])
    assert counted == [(0, 2), (1, 2), (2, 2)]


def test_a_long_expression_stays_in_one_line(
    run: Run, checkpoints: dict[str, Path], base: CheckpointModel, tmp_path: Path
) -> None:
    text = " ".join(["a red car at night"] * 12)
    rows = as_tensors(evaluate(parse(f"'{text}'"), base))
    _, out, _ = run(written(tmp_path / "long.safetensors", rows), "--checkpoint", checkpoints["base"])
    assert out.splitlines()[1].rstrip() == f"'{text}'"


def test_what_is_no_sum_of_tokens(run: Run, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    file = written(tmp_path / "trained.safetensors", trained(2))
    before = file.read_bytes()
    code, out, _ = run(file, "--checkpoint", checkpoints["base"])
    assert code == 0
    assert " ".join(out.split()).count("No combination of tokens makes these vectors: the best one, with ") == 1
    code, out, err = run(file, "--checkpoint", checkpoints["base"], "--save")
    assert (code, out) == (1, "")
    assert "trained is not saved: the recovered text gives vectors that differ by 9" in err
    assert file.read_bytes() == before
    code, out, _ = run(file, "--checkpoint", checkpoints["base"], "--save", "--force", "--json")
    assert code == 0
    assert load_embedding(file).recipe == json.loads(out)["expression"]


DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_saving_leaves_every_tensor_as_it_is(
    run: Run, checkpoints: dict[str, Path], vectors: Vectors, tmp_path: Path, dtype: torch.dtype
) -> None:
    tensors = {**{key: rows.to(dtype) for key, rows in vectors.items()}, "clip_l_out": torch.ones(2, 768)}
    metadata = {"ss_tag_frequency": "{}", "modelspec.title": "old", "embedmerge.notes": "mine", "a": "b"}
    file = written(tmp_path / "found.safetensors", tensors, metadata)
    code, out, err = run(
        *(file, "--checkpoint", checkpoints["base"], "--save", "--json"),
        *(("--force",) if dtype is torch.bfloat16 else ()),  # it rounds more than an expression can undo
    )
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["file"] == str(file)
    assert max(result["residual"].values()) < (3e-3 if dtype is torch.bfloat16 else 3e-4)
    again = load_file(file)
    assert set(again) == set(tensors)
    for name, rows in tensors.items():
        assert again[name].dtype == rows.dtype
        assert equal(again[name], rows)
    embedding = load_embedding(file)
    assert {key: embedding.metadata[key] for key in ("ss_tag_frequency", "a")} == {"ss_tag_frequency": "{}", "a": "b"}
    tag = embedding.tag
    assert tag is not None
    assert (tag.recipe, tag.made_for, tag.notes) == (result["expression"], "base", "mine")
    assert embedding.fit(open_checkpoint(checkpoints["base"])).status == "made for this model"
    assert list(tmp_path.iterdir()) == [file]


def test_a_recipe_that_is_there_is_kept(
    run: Run, checkpoints: dict[str, Path], base: CheckpointModel, tmp_path: Path
) -> None:
    file = base.build("norm('cat'+'dog')", name="own").save(tmp_path)
    before = file.read_bytes()
    options = (file, "--checkpoint", checkpoints["base"], "--save")
    code, _, err = run(*options)
    assert code == 1
    assert "own is not saved: it already has the recipe \"norm('cat'+'dog')\"." in err
    assert file.read_bytes() == before
    assert run(*options, "--force")[0] == 0
    recipe = load_embedding(file).recipe
    assert recipe is not None
    assert recipe.startswith("L(")
    assert run(*options)[0] == 0  # the same one again


def test_a_pickle_gets_a_file_beside_it(
    run: Run, checkpoints: dict[str, Path], vectors: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # so that long paths stand in one line
    file = tmp_path / "found.pt"
    torch.save({key: rows.half() for key, rows in vectors.items()}, file)
    before = file.read_bytes()
    options = (file, "--checkpoint", checkpoints["base"], "--save")
    code, out, _ = run(*options)
    assert code == 0
    assert "found.safetensors" in out
    made = load_embedding(tmp_path / "found.safetensors")
    assert made.recipe == WRITTEN
    for key, rows in vectors.items():
        assert equal(made.vectors[key], rows.half().float())
    code, _, err = run(*options, "--force")
    assert (code, err.splitlines()[0]) == (1, "found.safetensors already exists and is not replaced.")
    assert file.read_bytes() == before


@pytest.mark.parametrize("bundled", ["found", "lora"], ids=["another name", "the name of the LoRA"])
def test_a_lora_is_never_written_to(
    run: Run, checkpoints: dict[str, Path], vectors: Vectors, tmp_path: Path, bundled: str
) -> None:
    tensors = {f"bundle_emb.{bundled}.{key}": rows for key, rows in vectors.items()}
    tensors |= {f"bundle_emb.second.{key}": rows for key, rows in trained(1).items()}
    file = written(tmp_path / "lora.safetensors", tensors | {"lora_te1_x.alpha": torch.ones(())})
    before = file.read_bytes()
    code, _, err = run(file, "--bundled", bundled, "--checkpoint", checkpoints["base"], "--save")
    assert file.read_bytes() == before
    if bundled == "lora":
        assert (code, err.splitlines()[0]) == (1, "lora.safetensors already exists and is not replaced.")
    else:
        assert code == 0
        assert load_embedding(tmp_path / "found.safetensors").recipe == WRITTEN


@pytest.mark.parametrize("bundled", ["styles/foo", "..", ".foo", "x" * 101])
def test_what_a_lora_calls_it_may_be_no_name(
    run: Run, checkpoints: dict[str, Path], vectors: Vectors, tmp_path: Path, bundled: str
) -> None:
    file = written(
        tmp_path / "lora.safetensors", {f"bundle_emb.{bundled}.{key}": rows for key, rows in vectors.items()}
    )
    code, _, err = run(file, "--checkpoint", checkpoints["base"], "--save")
    assert code == 1
    assert err.startswith(f"{bundled!r} cannot be the name of a file: ")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["con", ".found", "x" * 120])
def test_a_file_that_is_there_keeps_its_name(
    base: CheckpointModel, vectors: Vectors, tmp_path: Path, name: str
) -> None:
    embedding = load_embedding(written(tmp_path / f"{name}.safetensors", vectors))
    assert load_embedding(save_recovered(embedding, recover(embedding, base), base)).recipe == WRITTEN


def test_what_was_written_since_it_was_read_stays(base: CheckpointModel, vectors: Vectors, tmp_path: Path) -> None:
    file = written(tmp_path / "found.safetensors", vectors)
    embedding = load_embedding(file)
    found = recover(embedding, base)
    written(
        file, vectors, {"embedmerge.notes": "soft", "author": "somebody", "modelspec.is_negative_embedding": "true"}
    )
    again = load_embedding(save_recovered(embedding, found, base))
    assert again.tag is not None
    assert (again.tag.notes, again.tag.negative, again.recipe) == ("soft", True, WRITTEN)
    assert again.metadata["author"] == "somebody"


def test_a_recipe_that_was_written_since_stays(base: CheckpointModel, vectors: Vectors, tmp_path: Path) -> None:
    file = written(tmp_path / "found.safetensors", vectors)
    embedding = load_embedding(file)
    found = recover(embedding, base)
    written(file, vectors, {"embedmerge.schema": "1", "embedmerge.recipe": "'mine'"})
    with pytest.raises(StorageError, match="it already has the recipe"):
        save_recovered(embedding, found, base)
    assert load_embedding(file).recipe == "'mine'"


def test_a_file_that_has_other_vectors_by_now(base: CheckpointModel, vectors: Vectors, tmp_path: Path) -> None:
    """A recipe is for the vectors that it was recovered from, not for those of what has their name since."""
    path = tmp_path / "found.safetensors"
    save_file(vectors, path)
    embedding = load_embedding(path)
    found = recover(embedding, base)
    save_file({key: rows * 2 for key, rows in vectors.items()}, path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="were changed in the meantime"):
        save_recovered(embedding, found, base)
    assert path.read_bytes() == before


def test_the_file_behind_a_link_is_saved(base: CheckpointModel, vectors: Vectors, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    file = written(tmp_path / "far" / "found.safetensors", vectors)
    link = tmp_path / "found.safetensors"
    link.symlink_to(file)
    embedding = load_embedding(link)
    assert save_recovered(embedding, recover(embedding, base), base) == link
    assert link.is_symlink()
    assert load_embedding(file).recipe == WRITTEN


def test_other_architectures_are_told(run: Run, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    file = written(tmp_path / "old.safetensors", {"emb_params": torch.ones(1, 1024)})
    code, _, err = run(file, "--checkpoint", checkpoints["base"])
    assert code == 1
    assert err.startswith("old does not fit this model. It was made for Stable Diffusion 2; this model is SDX")


def test_a_file_for_sd1_is_recovered_by_its_clip_l(
    run: Run, checkpoints: dict[str, Path], base: CheckpointModel, tmp_path: Path
) -> None:
    rows = evaluate(parse("'a red car'"), base)["clip_l"]
    file = written(tmp_path / "old.safetensors", {"emb_params": torch.from_numpy(to_numpy(rows))})
    code, out, _ = run(file, "--checkpoint", checkpoints["base"], "--json")
    result: dict[str, Any] = json.loads(out)
    assert (code, result["verdict"], result["expression"]) == (0, "exact", "'a red car'")
    assert set(result["residual"]) == set(result["drift"]) == {"clip_l"}


def test_an_embedding_without_a_file_is_not_saved(base: CheckpointModel, vectors: Vectors) -> None:
    embedding = Embedding("found", as_arrays(vectors))
    with pytest.raises(StorageError, match="found was not read from a file"):
        save_recovered(embedding, recover(embedding, base), base)


def test_fit_knows_a_recipe_that_leaves_a_rest(
    checkpoints: dict[str, Path], base: CheckpointModel, vectors: Vectors, tmp_path: Path
) -> None:
    """A rest of 1e-4 is within what float16 rounds: elsewhere the recipe counts as giving these vectors."""
    noise = trained(2)
    rows = {key: some + noise[key] * (1e-4 * some.norm() / noise[key].norm()) for key, some in vectors.items()}
    embedding = load_embedding(written(tmp_path / "found.safetensors", rows))
    found = recover(embedding, base)
    assert (found.expression, found.exact) == (WRITTEN, False)
    assert 5e-5 < found.largest_residual < 2e-4
    again = load_embedding(save_recovered(embedding, found, base))
    assert again.fit(base).status == "made for this model"
    assert again.fit(open_checkpoint(checkpoints["twin"])).status == "same vectors"
    assert again.fit(open_checkpoint(checkpoints["other"])).status == "differs"
