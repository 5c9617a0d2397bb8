"""What the command line says first, what it leaves out, and where it points to."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from models import encoders, with_rows_scaled, write_sdxl
from test_cli import Run, run, run_json  # noqa: F401 -- fixtures

from lib_embedmerge import Embedding, load_embedding, open_checkpoint
from lib_embedmerge.cli.arguments import EXAMPLES, check_usage, make_argument_parser
from lib_embedmerge.files.cache import DEMO_CHECKPOINT, demo_folder

BASE = encoders()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`, `two`, `three` and what was built on `base`: `cat1`, and `trained1` of numbers that are no rows."""
    made = tmp_path_factory.mktemp("words")
    write_sdxl(made / "base.safetensors", BASE)
    write_sdxl(made / "two.safetensors", with_rows_scaled(BASE, [2368]))
    write_sdxl(made / "three.safetensors", with_rows_scaled(BASE, [2368, 1929], 3.0))
    model = open_checkpoint(made / "base.safetensors")
    model.build("'cat'", name="cat1").save(made)
    model.build("cat dog cat dog cat", name="long1").save(made)
    vectors = model.build("'cat'+'dog'", name="x").vectors
    Embedding("trained1", {key: torch.randn(rows.shape).numpy() for key, rows in vectors.items()}).save(made)
    return made


def first_lines(text: str, count: int) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()][:count]


class TestBuild:
    def test_says_first_how_the_source_was_read(self, run: Run, folder: Path, tmp_path: Path) -> None:
        code, out, _ = run(
            "build", r"a \(cat\), (dog:1.2)", "--checkpoint", folder / "base.safetensors",
            "--name", "x1", "--output", tmp_path,
        )  # fmt: skip
        assert code == 0
        lines = first_lines(out, 3)
        assert lines[0] == "Read as a prompt: 5 vectors for each text encoder."
        assert lines[1].startswith("warning: Attention brackets and weights were removed")
        assert load_embedding(tmp_path / "x1.safetensors").recipe == "a (cat), dog"

    @pytest.mark.parametrize(
        ("attention", "recipe"),
        [("drop", "cat, dog"), ("scale", "cat, <'dog'*1.2>"), ("keep", "cat, (dog:1.2)")],
    )
    def test_attention(self, run: Run, folder: Path, tmp_path: Path, attention: str, recipe: str) -> None:
        arguments = ("--checkpoint", folder / "base.safetensors", "--name", "x1", "--output", tmp_path)
        code, _, _ = run("build", "cat, (dog:1.2)", *arguments, "--attention", attention)
        assert code == 0
        assert load_embedding(tmp_path / "x1.safetensors").recipe == recipe

    def test_a_lookalike_stops(self, run: Run, folder: Path, tmp_path: Path) -> None:
        arguments = ("--checkpoint", folder / "base.safetensors", "--name", "x1", "--output", tmp_path)
        code, out, err = run("build", "cat+dog*0.5", *arguments)
        assert (code, out) == (1, "")
        assert "Did you mean 'cat'+'dog'*0.5 ? To build it as a prompt anyway, add --as prompt." in err
        assert not list(tmp_path.iterdir())
        code, out, _ = run("build", "cat+dog*0.5", *arguments, "--as", "prompt")
        assert code == 0
        assert "Read as a prompt" in out

    def test_a_name_with_its_suffix(self, run: Run, folder: Path, tmp_path: Path) -> None:
        arguments = ("--checkpoint", folder / "base.safetensors", "--output", tmp_path)
        assert run("build", "'cat'", "--name", "my cat.safetensors", *arguments)[0] == 0
        assert [path.name for path in tmp_path.iterdir()] == ["my cat.safetensors"]

    def test_the_demo_checkpoint_by_its_name(
        self, run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
        arguments = ("build", "'cat'", "--checkpoint", DEMO_CHECKPOINT, "--name", "x1")
        assert "does not exist" in run(*arguments)[2]
        demo_folder().mkdir(parents=True)
        (demo_folder() / DEMO_CHECKPOINT).write_bytes((folder / "base.safetensors").read_bytes())
        assert run(*arguments)[0] == 0


class TestShow:
    def test_the_fit_comes_first_and_four_lines_before_any_table(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        _, out, _ = run("show", folder / "cat1.safetensors", "--checkpoint", folder / "base.safetensors")
        lines = first_lines(out, 7)
        assert lines[0].startswith("Fit: made for this model.")
        text = " ".join(out.split())
        places = [text.index(word) for word in ("Fit: ", "name cat1", "vectors 1 for", "made for base", "recipe 'cat'")]
        assert places == sorted(places)
        assert max(places) < text.index("nearest (cosine, token, id)")

    def test_all_vectors_where_they_are_asked_for(self, run: Run, folder: Path) -> None:
        _, some, _ = run("show", folder / "long1.safetensors")
        _, every, _ = run("show", folder / "long1.safetensors", "--vectors")
        assert "The first 3 of 5 vectors; --vectors shows all." in some
        assert "--vectors" not in every
        assert len(every.splitlines()) > len(some.splitlines())

    def test_a_checkpoint_is_for_info(self, run: Run, folder: Path) -> None:
        code, _, err = run("show", folder / "base.safetensors")
        assert code == 1
        assert "'base.safetensors' is a checkpoint." in err
        assert "embedmerge info '" in err

    def test_an_embedding_is_for_show(self, run: Run, folder: Path) -> None:
        code, _, err = run("info", folder / "cat1.safetensors")
        assert code == 1
        assert "'cat1.safetensors' is an embedding." in err
        assert "embedmerge show '" in err


class TestRebuild:
    def test_nothing_rebuilt_is_exit_code_1(self, run: Run, folder: Path, tmp_path: Path) -> None:
        arguments = ("--checkpoint", folder / "two.safetensors", "--output", tmp_path)
        code, out, _ = run("rebuild", folder / "trained1.safetensors", *arguments)
        assert code == 1
        assert "It has no recipe." in out

    def test_what_is_there_already_is_no_fault(self, run: Run, folder: Path, tmp_path: Path) -> None:
        arguments = ("rebuild", folder / "cat1.safetensors", "--checkpoint", folder / "two.safetensors")
        for _ in range(2):
            assert run(*arguments, "--output", tmp_path)[0] == 0

    def test_an_empty_folder(self, run: Run, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        code, out, _ = run("rebuild", tmp_path / "empty", "--checkpoint", folder / "two.safetensors")
        assert code == 1
        assert "nothing" in out


class TestRecover:
    def test_no_expression_where_none_has_to_do_with_it(self, run: Run, folder: Path) -> None:
        code, out, _ = run("recover", folder / "trained1.safetensors", "--checkpoint", folder / "base.safetensors")
        assert code == 0
        assert first_lines(out, 1)[0].startswith("No combination of tokens makes these vectors")
        assert "'" not in out

    def test_the_verdict_comes_first(self, run: Run, folder: Path) -> None:
        _, out, _ = run("recover", folder / "cat1.safetensors", "--checkpoint", folder / "base.safetensors")
        assert first_lines(out, 2) == ["The expression gives exactly these vectors.", "'cat'"]


class TestCompare:
    def test_several_are_a_matrix(self, run: Run, folder: Path) -> None:
        paths = [folder / f"{name}.safetensors" for name in ("base", "two", "three")]
        code, out, _ = run("compare", *paths)
        assert code == 0
        assert "Token tables differ" not in out
        assert "--verbose shows each pair." in out
        assert sum(str(path) in out.replace("\n", "") for path in paths) == 3
        assert "Token tables differ" in run("compare", *paths, "--verbose")[1]

    def test_two_are_told_in_full(self, run: Run, folder: Path) -> None:
        _, out, _ = run("compare", folder / "base.safetensors", folder / "two.safetensors")
        assert "Token tables differ" in out


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "cat", "--checkpoint", "none.safetensors", "--name", "x1"),
        ("build", "cat", "--checkpoint", ".", "--embeddings", "none", "--name", "x1"),
        ("show", "none.safetensors"),
        ("show", "none.safetensors", "--checkpoint", "none.safetensors"),
        ("list", "--embeddings", "none"),
        ("rebuild", "none.pt", "--checkpoint", "none.safetensors"),
        ("recover", "none.pt", "--checkpoint", "none.safetensors"),
        ("convert", "none.pt"),
        ("compare", "none.safetensors", "none.ckpt"),
        ("info", "none.safetensors"),
    ],
)
def test_a_wrong_path_costs_no_torch(arguments: Sequence[str], tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; sys.modules['numpy'] = None; "
        f"from lib_embedmerge.cli import main; raise SystemExit(main({list(arguments)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "none" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_examples_of_the_help_can_be_typed(command: str) -> None:
    parser = make_argument_parser()
    lines = [line.strip() for line in EXAMPLES[command].splitlines()[1:]]
    assert lines
    for line in lines:
        words = shlex.split(line.split(" < ")[0].replace("COMMAND --help", "demo"))
        assert words[0] == "embedmerge"
        assert command in ("", words[1]) or command == "demo"
        check_usage(parser, parser.parse_args(words[1:]))


def test_the_help_has_examples(run: Run) -> None:
    code, out, _ = run("build", "--help")
    assert code == 0
    assert "examples:\n  embedmerge build \"'cat'+'dog'*0.5\"" in out
