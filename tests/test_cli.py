"""The command line as its users meet it: exit codes, JSON for machines, tables for people, faults in a sentence."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import as_tensor, as_tensors
from checkpoint_files import TABLE, write_layout
from models import StandardModels, encoders, with_rows_scaled, write_sdxl
from processes import Program

from lib_embedmerge import load_embedding
from lib_embedmerge.cli import main
from lib_embedmerge.errors import StorageError

BASE = encoders()


@pytest.fixture(scope="module")
def checkpoint(standard: StandardModels) -> Path:
    return standard.base


@pytest.fixture(scope="module")
def other(standard: StandardModels) -> Path:
    return standard.other_cat


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_main(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_main


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    def run_main(*arguments: object) -> Any:
        code, out, err = run(*arguments, "--json")
        assert (code, err) == (0, ""), err
        return json.loads(out)

    return run_main


def test_build(run_json: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    made = run_json("build", "'cat'+'dog'*0.5", "--checkpoint", checkpoint, "--name", "catdog-x", "--output", tmp_path)
    assert set(made) == {
        "file", "name", "kind", "source", "vectors", "calls", "encoders", "tag", "warnings",
    }  # fmt: skip
    assert Path(made["file"]) == tmp_path / "catdog-x.safetensors"
    assert (made["name"], made["vectors"], made["warnings"]) == ("catdog-x", 1, [])
    assert made["encoders"]["clip_g"]["width"] == 1280
    embedding = load_embedding(made["file"])
    length = as_tensor(embedding.vectors["clip_l"]).norm().item()
    assert made["encoders"]["clip_l"]["mean_length"] == pytest.approx(length)
    assert made["tag"] == dict(embedding.metadata)
    assert made["tag"]["embedmerge.recipe"] == "'cat'+'dog'*0.5"


def test_build_options(run_json: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    options = ("--checkpoint", checkpoint, "--embeddings", tmp_path, "--device", "auto")
    run_json("build", "'cat'*2", "--name", "bigcat-x", *options)
    made = run_json(
        *("build", "a bigcat-x", "--name", "neg-of-cat", *options),
        *("--dtype", "float16", "--notes", "mine", "--negative"),
    )
    assert Path(made["file"]).parent == tmp_path
    assert made["tag"]["embedmerge.notes"] == "mine"
    assert made["tag"]["modelspec.is_negative_embedding"] == "true"
    assert "bigcat-x" in json.loads(made["tag"]["embedmerge.uses"])
    from safetensors.torch import load_file

    assert {tensor.dtype for tensor in load_file(made["file"]).values()} == {torch.float16}


def test_build_asks_before_it_overwrites(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("build", "'cat'", "--checkpoint", checkpoint, "--name", "cat-x", "--output", tmp_path)
    assert run(*arguments)[0] == 0
    before = (tmp_path / "cat-x.safetensors").read_bytes()
    code, _, err = run(*arguments)
    assert code == 1
    assert "already exists" in err
    assert "--force" in err
    assert (tmp_path / "cat-x.safetensors").read_bytes() == before
    assert run(*arguments, "--force")[0] == 0


@pytest.mark.parametrize("there", ["sub/cat-x.safetensors", "sub/Cat-X.safetensors", "cat-x.pt"])
def test_build_replaces_its_own_file_and_no_other(run: Run, checkpoint: Path, tmp_path: Path, there: str) -> None:
    """A checkpoint or a LoRA below the folder may have the name, too."""
    other = tmp_path / there
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(b"a model")
    arguments = ("build", "'cat'", "--checkpoint", checkpoint, "--name", "cat-x", "--output", tmp_path)
    assert run(*arguments)[0] == 0
    assert run(*arguments, "--force")[0] == 0
    assert other.read_bytes() == b"a model"
    assert load_embedding(tmp_path / "cat-x.safetensors").recipe == "'cat'"


def test_a_build_that_fails_leaves_no_folder(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("--checkpoint", checkpoint, "--name", "cat-x", "--output", tmp_path / "new")
    assert run("build", "'cat':76", *arguments)[0] == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["show", "list"])
def test_a_wrong_file_costs_no_wait_for_the_model(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"nothing")
    opened: list[object] = []
    monkeypatch.setattr("lib_embedmerge.cli.commands._open_with_fingerprints", opened.append)
    monkeypatch.setattr(
        "lib_embedmerge.recipes.listing.list_embeddings", lambda _: (_ for _ in ()).throw(StorageError(""))
    )
    arguments = (torn,) if command == "show" else ("--embeddings", tmp_path)
    assert run(command, *arguments, "--checkpoint", checkpoint)[0] == 1
    assert opened == []


def test_build_split(run: Run, run_json: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    source = ", ".join(["a cat"] * 60)
    arguments = ("build", source, "--checkpoint", checkpoint, "--name", "long-x", "--output", tmp_path)
    code, _, err = run(*arguments)
    assert code == 1
    assert "--split" in err
    made = run_json(*arguments, "--split")
    assert [one["name"] for one in made] == ["long-x-1", "long-x-2", "long-x-3"]
    assert sum(one["vectors"] for one in made) == 179


def test_build_reads_standard_input(
    run_json: Callable[..., Any], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeff'cat'+'dog'\r\n".encode())))
    made = run_json("build", "-", "--checkpoint", checkpoint, "--name", "piped-x", "--output", tmp_path)
    assert made["tag"]["embedmerge.recipe"] == "'cat'+'dog'"


def test_standard_input_that_is_no_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff")))
    assert "byte 3" in run("parse", "-")[2]
    monkeypatch.setattr(sys, "stdin", None)
    assert "no standard input" in run("parse", "-")[2]


def test_build_looks_before_it_works(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("--checkpoint", checkpoint, "--name", "long-x", "--output", tmp_path / "out", "--split")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "long-x-2.safetensors").write_bytes(b"mine")
    code, _, err = run("build", "cat " * 100, *arguments)
    assert code == 1
    assert "long-x-2.safetensors already exists" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["long-x-2.safetensors"]


def test_names_are_compared_with_both_folders(run_json: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "zz _ ab.safetensors").write_bytes(b"")
    arguments = ("--embeddings", tmp_path / "library", "--output", tmp_path / "out", "--checkpoint", checkpoint)
    assert "zz _ ab" in " ".join(run_json("build", "'cat'", "--name", "zz_ab", *arguments)["warnings"])


def test_build_warns_of_a_name_that_works_badly(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    code, out, _ = run("build", "'cat'", "--checkpoint", checkpoint, "--name", "cat", "--output", tmp_path)
    assert code == 0
    assert "warning" in out
    assert "word" in out


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "CON", "x:y", "", " ", "x" * 300, "a\x00b"])
def test_build_refuses_a_name_that_cannot_be_a_file(run: Run, checkpoint: Path, tmp_path: Path, name: str) -> None:
    code, _, err = run("build", "'cat'", "--checkpoint", checkpoint, "--name", name, "--output", tmp_path)
    assert code == 1
    assert ("hint: This name works" if name.strip() else "hint: Enter one") in err
    assert list(tmp_path.iterdir()) == []


def test_show(run_json: Callable[..., Any], checkpoint: Path, other: Path, tmp_path: Path) -> None:
    file = run_json("build", "'cat'", "--checkpoint", checkpoint, "--name", "c-x", "--output", tmp_path)["file"]
    alone = run_json("show", file)
    assert alone["fit"] is None
    assert alone["encoders"]["clip_l"]["rows"][0]["nearest"] == []
    shown = run_json("show", file, "--checkpoint", checkpoint)
    assert {"name", "architecture", "vectors", "encoders", "metadata", "fit"} <= set(shown)
    assert (shown["name"], shown["architecture"], shown["vectors"]) == ("c-x", "sdxl", 1)
    row = shown["encoders"]["clip_l"]["rows"][0]
    vector = as_tensor(load_embedding(file).vectors["clip_l"])
    expected = {
        "min": vector.min(),
        "max": vector.max(),
        "sum": vector.sum(),
        "abs": vector.abs().sum(),
        "len": vector.norm(),
        "std": vector.std(),
    }
    assert {name: row[name] for name in expected} == {
        name: pytest.approx(value.item(), rel=1e-4, abs=1e-6) for name, value in expected.items()
    }
    assert row["nearest"][0] == {"token": "cat</w>", "text": "cat", "id": 2368, "cosine": pytest.approx(1.0)}
    assert len(row["nearest"]) == 3
    assert shown["fit"]["status"] == "made for this model"
    assert run_json("show", file, "--checkpoint", other)["fit"]["status"] == "differs"


def test_show_marks_what_is_not_finite(run: Run, run_json: Callable[..., Any], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"clip_l": torch.full((1, 768), torch.nan), "clip_g": torch.ones(1, 1280)}, tmp_path / "nan.safetensors")
    assert run_json("show", tmp_path / "nan.safetensors")["encoders"]["clip_l"]["rows"][0]["min"] is None
    assert "not finite" in run("show", tmp_path / "nan.safetensors")[1].replace("\n", " ")


def test_json_stays_valid_where_a_model_or_file_is_broken(run_json: Callable[..., Any], tmp_path: Path) -> None:
    broken = {key: dict(tensors) for key, tensors in BASE.items()}
    for tensors in broken.values():
        tensors[TABLE] = tensors[TABLE].clone()
        tensors[TABLE][7] = torch.nan
    path = write_sdxl(tmp_path / "nan.safetensors", broken)
    assert run_json("info", path)["encoders"]["clip_l"]["mean_length"] > 0
    made = run_json("build", "norm('cat')", "--checkpoint", path, "--name", "x-1", "--output", tmp_path / "out")
    embedding = load_embedding(made["file"])
    from safetensors.torch import save_file

    vectors = {key: rows * torch.inf for key, rows in embedding.vectors.items()}
    save_file(as_tensors(vectors), tmp_path / "x-2.safetensors", dict(embedding.metadata))
    other = write_sdxl(tmp_path / "other.safetensors", with_rows_scaled(BASE, [1]))
    assert run_json("show", tmp_path / "x-2.safetensors", "--checkpoint", other)["fit"]["status"] == "differs"


def test_show_renders_hostile_metadata_harmless(run: Run, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}
    save_file(tensors, tmp_path / "x.safetensors", {"[red]note[/red]": "\x1b[2J\u202egnp.exe [link=x]y[/link]"})
    code, out, _ = run("show", tmp_path / "x.safetensors", "--verbose")
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[red]note[/red]" in out


@pytest.mark.parametrize(
    ("by", "texts"),
    [
        ("none", ["a Photo, of <'cat'> cats"]),
        ("comma", ["a photo", "of", "'cat'", "cats"]),
        ("parts", ["a photo , of", "'cat'", "cats"]),
        ("words", ["a", "photo", ",", "of", "'cat'", "cats"]),
        ("tokens", ["a", "photo", ",", "of", "'cat'", "cats"]),
        ("vectors", ["a", "photo", ",", "of", "cat", "cats"]),
    ],
)
def test_parse_groupings(run_json: Callable[..., Any], by: str, texts: list[str]) -> None:
    parsed = run_json("parse", "a Photo, of <'cat'> cats", "--by", by)
    if by != "none":
        assert [part["text"] for part in parsed["parts"]] == texts
    assert parsed["kind"] == "prompt"
    assert parsed["vectors"] == 6
    counted = sum(part["vectors"] for part in parsed["parts"])
    assert counted == (5 if by == "comma" else 6)


def test_parse_gives_token_ids(run_json: Callable[..., Any]) -> None:
    parsed = run_json("parse", "'cat'*2,'dog'", "--by", "vectors")
    assert (parsed["kind"], parsed["canonical"]) == ("expression", "'cat'*2,'dog'")
    assert [part["ids"] for part in parsed["parts"]] == [[2368], [1929]]


def test_parse_keeps_the_tokens_of_a_character_together(run_json: Callable[..., Any]) -> None:
    parts = run_json("parse", "猫 cat", "--by", "tokens")["parts"]
    assert [(part["text"], part["vectors"]) for part in parts] == [("猫", 3), ("cat", 1)]


def test_parse_knows_embeddings(run_json: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    run_json("build", "'a b'", "--checkpoint", checkpoint, "--name", "two-x", "--output", tmp_path)
    for model in ((), ("--checkpoint", checkpoint)):
        parts = run_json("parse", "a two-x", "--embeddings", tmp_path, *model)["parts"]
        assert [(part["kind"], part["text"], part["vectors"]) for part in parts] == [
            ("text", "a", 1),
            ("embedding", "two-x", 2),
        ]


def test_parse_tells_a_mistake(run: Run) -> None:
    code, out, err = run("parse", "'cat'+")
    assert (code, out) == (1, "")
    assert err.splitlines()[:3] == ["Nothing follows +.", "  'cat'+", "       ^"]
    code, out, err = run("parse", "'cat'+", "--json")
    assert (code, err) == (1, "")
    assert set(json.loads(out)["error"]) == {"message", "start", "end", "expected", "hint"}


def test_info(run_json: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    told = run_json("info", checkpoint)
    assert (told["title"], told["architecture"], told["prediction_type"]) == ("base", "sdxl", "epsilon")
    assert len(told["encoders"]["clip_l"]["token_table"]) == 64
    pair = write_layout("pair, folder", tmp_path, BASE).path
    again = run_json("info", pair)
    assert again["encoders"]["clip_g"] == told["encoders"]["clip_g"]


def test_text_encoder_in_place_of_the_checkpoints_own(
    run_json: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    paths = write_layout("pair, Hugging Face", tmp_path, with_rows_scaled(BASE, [2368])).path
    assert isinstance(paths, list)
    told = run_json("info", checkpoint, "--text-encoder", paths[1])
    plain = run_json("info", checkpoint)
    assert told["text_encoder_files"] == [paths[1].name]
    changed = [key for key in told["encoders"] if told["encoders"][key] != plain["encoders"][key]]
    assert len(changed) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "'cat'", "--checkpoint", "missing.safetensors", "--name", "x"),
        ("show", "missing.safetensors"),
        ("show", "missing.txt"),
        ("info", "missing.ckpt"),
        ("parse", "x", "--embeddings", "no/such/folder"),
        ("parse", "'a',49408"),
        ("parse", "'" * 30_000),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_the_inputs_fault_is_told_in_sentences(run: Run, arguments: Sequence[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err
    assert "Traceback" not in err
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["error"]["message"].endswith(".")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("build",),
        ("nonsense",),
        ("parse", "x", "--by", "letters"),
        ("parse", "x", "--text-encoder", "y"),
        ("parse", "x", "--device", "auto"),
        ("show", "x", "--embeddings", "y"),
        ("show", "x", "--nearest", "-1"),
        ("parse", "-'x'"),
    ],
)
def test_usage_is_exit_code_2(run: Run, arguments: Sequence[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert "usage:" in err


def test_tables_for_people(run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")  # so that long paths stand in one line
    build = ("build", "cat", "--name", "t-x", "--output", tmp_path, "--checkpoint", checkpoint)
    drawn = {
        build: [
            "Read as a prompt: 1 vector for",
            f"Saved {tmp_path / 't-x.safetensors'}",
            "made for",
            "ComfyUI: embedding:t-x",
        ],
        (*build, "--force", "--verbose"): ["embedmerge.recipe", "made for base from text"],
        ("show", tmp_path / "t-x.safetensors", "--checkpoint", checkpoint): ["1.000 cat 2368", "Fit: made for this"],
        ("show", tmp_path / "t-x.safetensors", "--verbose"): ["embedmerge.recipe", "made for base from text"],
        ("show", tmp_path / "t-x.safetensors"): ["clip_g", "std"],
        ("parse", "a <'b'>"): ["prompt, 2 vectors", "expression", "canonical: a <'b'>"],
        ("parse", "'b'"): ["expression, 1 vector"],
        ("info", checkpoint): ["single file, float16", "Text encoders", "6000"],
    }
    for arguments, words in drawn.items():
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert [word for word in words if word not in out] == []
        assert "1 vectors" not in out


def test_an_interrupt_is_not_a_trace(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lib_embedmerge.cli.commands.parse", interrupted)
    assert run("parse", "x") == (130, "", "interrupted\n")


def _process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lib_embedmerge", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        check=False,
        timeout=120,
    )


@pytest.mark.process
def test_as_a_program_of_its_own() -> None:
    done = _process("parse", "'cat'+'dog'")
    assert (done.returncode, done.stderr) == (0, "")
    assert "'cat' + 'dog'" in done.stdout


@pytest.mark.process
def test_a_reader_that_goes_away_is_nobodys_fault(tmp_path: Path) -> None:
    arguments = ["parse", "cat " * 4000, "--by", "vectors", "--json"]
    with Program(arguments, tmp_path / "log.txt", python=sys.executable, read=False) as program:
        stream = program.process.stdout
        assert stream is not None
        stream.close()  # while it has more to print than a pipe holds
        assert program.end() == 0
        assert program.said() == ""


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux that is always full")
def test_a_full_disk_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "lib_embedmerge", "parse", "cat"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=120)
    assert done.returncode == 1
    assert b"cannot be printed" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.process
def test_a_console_without_unicode_gets_escapes_not_a_trace() -> None:
    done = _process("parse", "猫", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "\\u732b" in done.stdout


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_progress_bar_for_people_at_a_terminal(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path))
    for is_shown in (True, False):
        terminal = _Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(["info", str(checkpoint)]) == 0
        assert ("Fingerprinting" in terminal.getvalue()) is is_shown


@pytest.mark.process
@pytest.mark.slow
def test_demo_from_nothing(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = _process("demo", "--json", EMBEDMERGE_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["show"]["fit"]["status"] == "made for this model"
    assert told["show"]["encoders"]["clip_l"]["rows"][0]["nearest"][0]["id"] == 2368
    first = Path(told["build"]["file"]).read_bytes()
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path))
    assert run("demo")[0] == 0
    assert len(Path(told["build"]["file"]).read_bytes()) == len(first)
