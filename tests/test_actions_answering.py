"""What is said while someone types: kinds, counts, parts, mistakes and notes, on any host, for any text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from action_hosts import MODEL, SD1_MODEL, NoModelHost, write
from growth import grows_by_length
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sources

from lib_embedmerge.actions.answering import describe_model, read_typed_text
from lib_embedmerge.actions.values import ReadingOptions
from lib_embedmerge.core.architecture import SDXL_REFINER
from lib_embedmerge.core.groupings import GROUPINGS, Grouping
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.errors import CheckpointError, ExpressionError, HostError
from lib_embedmerge.hosts.memory_host import MemoryHost, MemoryModel
from lib_embedmerge.hosts.port import ActiveModel, Host
from lib_embedmerge.lang import source as source_module
from lib_embedmerge.lang.source import MAX_LENGTH


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    folder = tmp_path_factory.mktemp("embeddings")
    write(folder / "mystyle4.safetensors", 4)
    write(folder / "oldstyle1.safetensors", keys=("clip_l",))
    (folder / "broken7.safetensors").write_bytes(b"no embedding")
    made: Host = MemoryHost(MODEL, folder)
    return made


# The status.


class Facts(MemoryHost):
    """A host whose model says other things of itself."""

    def __init__(self, folder: Path, facts: ModelFacts, notes: tuple[str, ...] = ()) -> None:
        super().__init__(MODEL, folder)
        self._facts, self._notes = facts, notes

    def active(self) -> ActiveModel:
        @dataclass
        class Other(MemoryModel):
            facts = self._facts  # a plain one in place of a property

        return ActiveModel(Other(MODEL.encoders), "the loaded model, float16 on cuda:0", self._notes)


BASE = ModelFacts("my model", "my.safetensors", MODEL.architecture)


@pytest.mark.parametrize(
    ("facts", "family", "prediction"),
    [
        (BASE, "SDXL", "not known"),
        (replace(BASE, prediction_type="epsilon"), "SDXL", "epsilon"),
        (replace(BASE, prediction_type="v", zero_terminal_snr=True), "SDXL", "v, zero terminal SNR"),
        (replace(BASE, zero_terminal_snr=True), "SDXL", "zero terminal SNR"),
        (replace(BASE, variant="inpainting"), "SDXL inpainting", "not known"),
        (replace(BASE, variant="Segmind Vega", prediction_type="epsilon"), "SDXL Segmind Vega", "epsilon"),
        (replace(BASE, architecture=SDXL_REFINER, variant="refiner"), "SDXL refiner", "not known"),
    ],
)
def test_the_status_tells_the_model(tmp_path: Path, facts: ModelFacts, family: str, prediction: str) -> None:
    facts = replace(facts, warnings=("Something.", "Twice."))
    found = describe_model(Facts(tmp_path, facts, ("Twice.",)))
    assert (found.title, found.family, found.prediction) == ("my model", family, prediction)
    assert found.encoders == ("CLIP-L 768", "CLIP-G 1280")
    assert found.vectors_from == "the loaded model, float16 on cuda:0"
    assert found.warnings == ("Twice.", "Something.")
    assert found.error is None


def test_the_status_tells_why_there_is_no_model(tmp_path: Path) -> None:
    found = describe_model(NoModelHost(tmp_path))
    assert found.error is NoModelHost.error
    assert (found.title, found.family, found.encoders, found.warnings) == ("", "", (), ())


# The answer.


@pytest.mark.parametrize(
    ("source", "kind", "count", "parts"),
    [
        ("", "nothing", 0, []),
        (" \n\t", "nothing", 0, []),
        ("cat", "prompt", 1, ["cat"]),
        ("'cat'+'dog'*0.5", "expression", 1, ["'cat'+'dog'*0.5"]),
        ("a photo of <'cat'+'dog'>, x", "prompt", 6, ["a photo of", "'cat' + 'dog'", ", x"]),
        ("a mystyle4 cat", "prompt", 6, ["a", "mystyle4", "cat"]),
        ("'mystyle4':2", "expression", 2, ["'mystyle4':2"]),
        ("''", "expression", 0, ["''"]),
    ],
)
def test_a_source_is_read(host: Host, source: str, kind: str, count: int, parts: list[str]) -> None:
    found = read_typed_text(host, source)
    assert (found.source, found.kind, found.count, found.limit, found.by) == (source, kind, count, 75, "parts")
    assert [part.text for part in found.parts] == parts
    assert (found.error, found.warnings) == (None, ())


@pytest.mark.parametrize("by", GROUPINGS)
def test_every_grouping_has_as_many_vectors(host: Host, by: Grouping) -> None:
    found = read_typed_text(host, "a red car, mystyle4, <'cat'+'dog'>", by)
    assert (found.by, found.count) == (by, 10)
    commas = 2 if by == "comma" else 0
    assert sum(len(part.ids) for part in found.parts) == 10 - commas


@pytest.mark.parametrize(
    ("source", "message", "place"),
    [
        ("'cat'+", "Nothing follows +.", 5),
        ("-'cat'", "An expression cannot begin with -.", 0),
        ("'cat' <'dog'+>", "The character < has no meaning here.", 6),
        ("'cat':1001", "", 6),
        ("'cat',49408", "Token 49408 is not in the vocabulary.", 5),
        ("'oldstyle1'", "The embedding oldstyle1 is for CLIP-L", 0),
        ("'broken7'", "The embedding broken7 cannot be used", 0),
        ("x" * (MAX_LENGTH + 1), "This text is too long: it has 20001 characters.", MAX_LENGTH),
    ],
)
def test_a_mistake_in_an_expression_leaves_nothing(host: Host, source: str, message: str, place: int) -> None:
    found = read_typed_text(host, source)
    assert (found.count, found.parts) == (0, ())
    assert found.kind == ("prompt" if source.startswith("x") else "expression")
    assert isinstance(found.error, ExpressionError)
    assert found.error.message.startswith(message)
    assert found.error.start == place


@pytest.mark.parametrize(
    ("source", "message", "place", "rest"),
    [
        ("a cat <'dog'+> x", "Nothing follows +.", 12, (3, ["a cat", "x"])),
        ("a <'cat'*> <'dog'> {'x'+} b", "No number follows *.", 8, (3, ["a", "'dog'", "b"])),
        ("a <'cat'> <'dog", "This < starts an expression that is never closed.", 10, (2, ["a", "'cat'"])),
        ("a <'cat':76> b", "This expression makes 76 vectors", 2, (2, ["a", "b"])),
        ("<'oldstyle1'> <'x'+> b", "The embedding oldstyle1 is for CLIP-L", 1, (1, ["b"])),
        ("broken7 <'cat'>", "The embedding broken7 cannot be used", 0, (1, ["'cat'"])),
    ],
)
def test_a_mistake_in_a_prompt_leaves_the_rest(
    host: Host, source: str, message: str, place: int, rest: tuple[int, list[str]]
) -> None:
    found = read_typed_text(host, source)
    assert found.kind == "prompt"
    assert found.error is not None
    assert found.error.message.startswith(message)
    assert found.error.start == place
    assert (found.count, [part.text for part in found.parts]) == rest


def test_a_prompt_that_is_too_much_in_all(host: Host) -> None:
    found = read_typed_text(host, "<near('cat')>" * 100)
    assert found.error is not None
    assert found.error.message == "This is too much to compute at once."
    assert (found.kind, found.count, found.parts) == ("prompt", 0, ())


def test_a_file_that_vanishes_meanwhile_is_an_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise HostError("The model was unloaded in the meantime.")

    monkeypatch.setattr("lib_embedmerge.actions.answering.find_parts", gone)
    for source in ("a cat", "'cat'"):
        found = read_typed_text(host, source)
        assert isinstance(found.error, HostError)
        assert found.count == 0


def test_what_is_rewritten(host: Host) -> None:
    found = read_typed_text(host, r"(a red:1.2) \(car\)")
    assert (found.rewritten, found.count) == ("a red (car)", 5)
    kept = read_typed_text(host, r"(a red:1.2) \(car\)", reading=ReadingOptions("keep"))
    assert (kept.rewritten, kept.error) == (None, None)
    assert kept.count > 5
    assert any("attention brackets are plain characters" in note for note in kept.warnings)


def test_what_was_meant(host: Host) -> None:
    found = read_typed_text(host, "cat+dog*0.5")
    assert found.meant is not None
    assert found.meant.source == "'cat'+'dog'*0.5"
    assert found.kind == "prompt"
    assert found.error is None


def test_mistakes_are_placed_in_what_was_typed(host: Host) -> None:
    source = "(a:1.2), <lora:x:1> <'cat',99999>"
    error = read_typed_text(host, source).error
    assert error is not None
    assert error.source == source
    assert source[error.start : error.end] == ",99999"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "cat " * 80,
            "This makes 80 vectors; one embedding holds at most 75. Split it into 2 embeddings when saving, or shorten",
        ),
        (
            "'" + "cat " * 160 + "'",
            "Split it into 3 embeddings when saving, or write :75 after it to keep the first 75.",
        ),
        ("(cat:1.2)", "Attention brackets and weights were removed"),
        ("a <lora:x:1> cat", "extra networks such as LoRA"),
    ],
)
def test_notes(host: Host, source: str, words: str) -> None:
    found = read_typed_text(host, source)
    assert found.error is None
    assert len(found.warnings) == 1
    assert words in found.warnings[0]


def test_the_pieces_told_are_those_that_are_made(host: Host) -> None:
    from lib_embedmerge.recipes.build import list_split_names

    source = "cat dog, " + "cat " * 60 + ", dog " * 3 + "<'cat':70> " + "cat " * 40
    pieces = len(list_split_names(host.active().model, source, "x"))
    assert f"into {pieces} embeddings" in read_typed_text(host, source).warnings[0]


@pytest.mark.parametrize(
    ("source", "count", "is_noted"),
    [
        ("a cat", 2, False),
        ("a mystyle4 cat", 6, False),
        ("'cat'+", 0, False),
        ("'cat'*2L", 1, True),
        ("oldstyle1", 0, True),
    ],
)
def test_without_a_model_it_is_read_as_for_sdxl(host: Host, source: str, count: int, is_noted: bool) -> None:
    found = read_typed_text(NoModelHost(host.embeddings_folder), source)
    assert found.count == count
    assert any("as for SDXL" in note for note in found.warnings) == is_noted


def test_neither_model_nor_folder(tmp_path: Path) -> None:
    class Damaged(NoModelHost):
        error = CheckpointError("The file is damaged.")

    assert read_typed_text(Damaged(tmp_path / "none"), "a cat").count == 2


def test_another_architecture(tmp_path: Path) -> None:
    found = read_typed_text(MemoryHost(SD1_MODEL, tmp_path), "'cat'*2L")
    assert found.error is not None
    assert found.error.message.startswith("L needs a model with two text encoders")
    assert found.warnings == ()


@settings(max_examples=200)
@given(st.text(max_size=30) | sources, st.sampled_from(GROUPINGS))
def test_any_text_is_answered(host: Host, source: str, by: Grouping) -> None:
    found = read_typed_text(host, source, by)
    if by != "comma":
        assert found.count == sum(len(part.ids) for part in found.parts)
    assert found.source == source
    if source.strip() and found.error:
        is_expression = source_module._is_expression_start(
            source, source_module._skip_space(source, 0)
        ) or source_module._is_mistaken_expression(source)
        assert found.kind == ("expression" if is_expression else "prompt")


@pytest.mark.parametrize(
    "source",
    [
        "<'a'" * 5000,
        "a <'cat'+> " * 1700,
        "'" * 19_999,
        "(" * 19_999,
        "cat " * 5000,
        "\ud800\0" * 9000,
        "x" * 1_000_000,
    ],
    ids=lambda source: ascii(source[:12]),
)
def test_long_texts_take_time_by_length(host: Host, source: str) -> None:
    assert grows_by_length(lambda text: read_typed_text(host, text), source)
