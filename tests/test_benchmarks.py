"""The benchmarks' own tools: their checkpoint is SDXL, and bytes are counted right. What they measure is not tested."""

from __future__ import annotations

import importlib
import io
import json
import math
import shutil
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.checkpoint import make_checkpoint
from benchmarks.fingerprinting import encoder_bytes
from benchmarks.inline import EXPRESSIONS, make_prompts, measure_em, measure_ours
from benchmarks.measurements import check_same_work
from benchmarks.meter_pair import NAMES, _is_read, _is_scale, make_pair
from benchmarks.processes import BenchmarkError, python, run
from benchmarks.reads import bytes_read, counting, traced_bytes
from benchmarks.report import Line, table
from benchmarks.sdxl import CLIP_G, CLIP_L, UNET, VAE, Size, sdxl_shapes
from benchmarks.sources import Sources
from benchmarks.webui import StableDiffusionProcessing, Webui, slow_tokenizer
from lib_embedmerge import open_checkpoint, parse
from lib_embedmerge.actions.measuring_effect import EffectRequest, measure_effects
from lib_embedmerge.checkpoints.cross_attention import open_text_reader
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.texts import NoEmbeddings, TextReader
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.lang.nodes import Inline, PromptText
from lib_embedmerge.lang.source import read_prompt
from lib_embedmerge.tokenizer import clip_tokenizer

_SMALL = Size(rows=2048, layers_l=1, layers_g=1, whole=False)
_IDS = (3, 1000)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmarks") / "sdxl.safetensors"
    assert make_checkpoint(path, _SMALL) == path.stat().st_size
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> CheckpointModel:
    return open_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("prefix", "tensors", "numbers"),
    [
        pytest.param(UNET, 1680, 2_567_463_684, id="unet"),
        pytest.param(VAE, 248, 83_653_863, id="vae"),
        pytest.param(CLIP_L, 197, 123_060_480 + 77, id="clip_l with position_ids"),
        pytest.param(CLIP_G, 390, 694_659_841, id="clip_g with logit_scale"),
        pytest.param("", 2515, 3_468_837_945, id="all"),
    ],
)
def test_shapes_are_those_of_the_published_file(prefix: str, tensors: int, numbers: int) -> None:
    found = [math.prod(shape) for name, shape in sdxl_shapes().items() if name.startswith(prefix)]
    assert (len(found), sum(found)) == (tensors, numbers)


def test_checkpoint_opens_as_plain_sdxl(model: CheckpointModel) -> None:
    facts = model.facts
    assert (facts.architecture.name, facts.variant, facts.warnings) == ("sdxl", "base", ())
    assert [(encoder.key, encoder.vocabulary_size) for encoder in model.encoders] == [
        ("clip_l", 2048),
        ("clip_g", 2048),
    ]
    assert all(fingerprint.text_encoder for fingerprint in model.fingerprints().values())
    assert all(
        float(to_numpy(encoder.vectors(_IDS)).std()) == pytest.approx(0.014, rel=0.1) for encoder in model.encoders
    )


def test_the_meter_measures_the_pair(tmp_path: Path) -> None:
    make_pair(tmp_path, Size(layers_l=2, layers_g=2, whole=False))
    paths = [tmp_path / name for name in NAMES]
    readers = [open_text_reader(path) for path in paths]
    assert all(
        matrix.read().std() == pytest.approx(0.014, rel=0.1) for reader in readers for matrix in reader.matrices()
    )
    (found,) = measure_effects(paths, EffectRequest("cat"))
    assert found.effect > 0.1


def test_the_whole_pair_has_what_the_meter_reads() -> None:
    read = {name: shape for name, shape in sdxl_shapes().items() if _is_read(name)}
    keys = [shape for name, shape in read.items() if name.endswith("attn2.to_k.weight")]
    assert len(keys) == 70
    assert {shape[1] for shape in keys} == {2048}
    scales = [name for name in read if _is_scale(name)]
    assert len(scales) == 2 * (12 + 32) + 2
    assert all(len(read[name]) == 1 for name in scales)


def test_encoder_bytes_are_those_of_the_encoders(checkpoint: Path) -> None:
    shapes = {name: shape for name, shape in sdxl_shapes(_SMALL).items() if name.startswith("conditioner.")}
    sizes = {name: math.prod(shape) * (8 if name.endswith("position_ids") else 2) for name, shape in shapes.items()}
    runs = encoder_bytes(checkpoint)
    assert sum(length for _, length in runs) == sum(sizes.values())
    assert len(runs) == 1


@pytest.mark.process
def test_bytes_that_build_reads_are_the_header_and_a_few_rows(checkpoint: Path, tmp_path: Path) -> None:
    source = "''" + "".join(f",{token}" for token in _IDS)
    arguments = ["build", source, "--name", "x", "--force", "--json", "--checkpoint", str(checkpoint)]
    arguments += ["--output", str(tmp_path)]
    environment = {"EMBEDMERGE_CACHE": str(tmp_path / "cache")}
    reads = bytes_read(checkpoint, arguments, environment)
    with checkpoint.open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    head = 9  # the look at the first bytes that tells formats apart
    assert reads.counted == header + head + len(_IDS) * 2 * (768 + 1280)
    assert reads.traced in ((None,) if shutil.which("strace") is None else (None, reads.counted))
    assert reads.everything is None or reads.counted <= reads.everything < 2 * reads.counted + 50_000


def test_counting_sees_every_way_to_read_and_refuses_others(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with counting(path):
        with path.open("rb", buffering=0) as raw:
            assert (raw.read(4), raw.readinto(bytearray(3)), raw.read()) == (b"0123", 3, b"789")
            with pytest.raises(BenchmarkError):
                raw.fileno()
        with io.open(path, "rb") as buffered:  # noqa: UP020 -- it is io's that is meant
            assert buffered.read() == b"0123456789"
        with pytest.raises(BenchmarkError):
            path.open("r+b")
    with path.open("rb") as file:
        assert file.fileno() > 2


@pytest.mark.parametrize(
    ("line", "size"),
    [
        pytest.param('123 read(3, ""..., 8) = 8', 8, id="read"),
        pytest.param('read(3, ""..., 8) = 8', 8, id="one process"),
        pytest.param('123 pread64(3, ""..., 4096, 512) = 4096', 4096, id="pread"),
        pytest.param('123 <... read resumed>""..., 100)     = 60', 60, id="resumed"),
        pytest.param("123 read(3,  <unfinished ...>", 0, id="unfinished"),
        pytest.param("123 read(3, 0x1, 8) = -1 EIO (Input/output error)", 0, id="failed"),
        pytest.param("123 mmap(NULL, 6938041176, PROT_READ, MAP_SHARED, 3, 0) = 0x7f0000000000", 6938041176, id="mmap"),
        pytest.param("123 +++ exited with 0 +++", 0, id="exit"),
    ],
)
def test_strace_lines(line: str, size: int) -> None:
    assert traced_bytes(line) == size


@pytest.mark.parametrize("rare", [False, True], ids=["common", "rare"])
def test_sources_are_different_and_fit_an_embedding(rare: bool) -> None:
    sources = list(islice(Sources(1, rare=rare), 140))
    assert len(set(sources)) == 140
    outliner = Outliner(TextReader(clip_tokenizer(), NoEmbeddings()))
    counts = [len(outliner.outline(parse(source))) for source in sources]
    assert 1 <= min(counts) < 10
    assert 60 < max(counts) <= 75
    assert sources == list(islice(Sources(1, rare=rare), 140))


@pytest.mark.process
def test_programs_that_fail_are_errors() -> None:
    with pytest.raises(BenchmarkError, match="gave 3"):
        run(python("-c", "raise SystemExit(3)"), {})
    finished = run(python("-c", "print('x')"), {})
    assert finished.output.strip() == "x"
    assert finished.peak is None or finished.peak > 1_000_000


def test_lines_say_whether_their_bound_holds() -> None:
    holds = Line("a", "what", 1.0, "ms", "against", 2.0, 0.5, "a note")
    fails = Line("b", "what", 3.0, "ms", "against", 2.0, 1.0)
    assert (holds.ratio, holds.holds, fails.holds) == (0.5, True, False)
    text = "\n".join(table([holds, fails]))
    assert text.count("DOES NOT HOLD") == 1
    assert "a note" in text
    assert json.loads(json.dumps(fails.as_json()))["ratio"] == 1.5


def test_prompts_are_what_they_are_called() -> None:
    prompts = make_prompts(2)
    outliner = Outliner(TextReader(clip_tokenizer(), NoEmbeddings()))
    for plain in prompts["plain"]:
        assert [type(part) for part in read_prompt(plain)] == [PromptText]
        assert plain.count("'") == 4
        assert 65 <= len(clip_tokenizer().encode(plain)) <= 110
    seen: set[str] = set()
    for prompt in prompts["different"]:
        found = [part for part in read_prompt(prompt) if not isinstance(part, PromptText)]
        assert len(found) == EXPRESSIONS
        assert all(isinstance(part, Inline) and 1 <= len(outliner.part(prompt, part)) <= 3 for part in found)
        seen.update(prompt[part.start : part.end] for part in found)
    assert len(seen) == EXPRESSIONS * len(prompts["different"])
    for prompt in prompts["equal"]:
        texts = [prompt[part.start : part.end] for part in read_prompt(prompt) if isinstance(part, Inline)]
        assert (len(texts), len(set(texts))) == (EXPRESSIONS, 1)
        assert texts[0] not in seen


@pytest.fixture
def webui(checkpoint: Path, tmp_path: Path) -> Iterator[Webui]:
    numbers = torch.arange(49408)[:, None] / 49408
    webui = Webui(
        checkpoint,
        {key: numbers.expand(-1, width) for key, width in (("clip_l", 768), ("clip_g", 1280))},
        clip_tokenizer().encode,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn of one another
        importlib.import_module("fastapi.exceptions")
    before = dict(sys.modules)
    webui.install(tmp_path)
    yield webui
    for name in set(sys.modules) - set(before):
        if name.partition(".")[0] in {"modules", "gradio", "open_clip"}:
            del sys.modules[name]
    sys.modules.update(before)


_LIKE_EM = """
import re
import torch
from modules import shared
from modules.textual_inversion.textual_inversion import Embedding
import gradio, modules, open_clip.tokenizer

def _webui_embedding_merge_():
    pass

def process(p, processed):
    if processed is not None:
        return
    names = iter(range(100))
    def replaced(match):
        embedding = Embedding({}, f"<'EM_{next(names)}'>")
        for key, clip in zip(("clip_l", "clip_g"), shared.sd_model.cond_stage_model.embedders):
            embedding.vec[key] = sum(clip.encode_embedding_init_text(text, 999) for text in match[1].split("'+'"))
            embedding.vectors = len(embedding.vec[key])
        database = modules.sd_hijack.model_hijack.embedding_db
        database.register_embedding_by_name(embedding, shared.sd_model, embedding.name)
        return f" {embedding.name} "  # apart from punctuation, beside which such names are not found
    print("not to be taken for a result")
    p.all_prompts = [re.sub("<'(.*?)'>", replaced, prompt) for prompt in p.all_prompts]

_webui_embedding_merge_.embedding_merge_extension = process
"""


def test_both_extensions_are_measured_at_the_same_work(webui: Webui, tmp_path: Path) -> None:
    em = tmp_path / "embedding_merge.py"
    em.write_text(_LIKE_EM, encoding="utf-8")
    prompts = {
        "plain": ["a cat"],
        "different": [f"a <'cat'+'{word}'>, <'big dog'+'{word} {word}'>" for word in ("red", "blue", "sea", "sky")],
        "equal": ["<'a'+'cat'> <'a'+'cat'>"] * 4,
        "typed": ["<'cat'+'dog'>", ", of"],
    }
    before = vars(StableDiffusionProcessing)["get_conds_with_caching"]
    ours = measure_ours(webui, prompts)
    assert vars(StableDiffusionProcessing)["get_conds_with_caching"] is before
    assert not any(webui.hijack.embedding_db.ids_lookup.values())
    theirs = measure_em(webui, prompts, em)
    lengths = {"first": 1, "again": 1, "equal": 1, "keystroke": 4, "vectors": 2}
    assert {name: len(times) for name, times in theirs.items()} == lengths
    assert {name: len(times) for name, times in ours.items()} == {**lengths, "plain": 1, "count": 4}
    assert all(0 < seconds < 10 for name, times in ours.items() if name != "vectors" for seconds in times)
    one = [sum(clip_tokenizer().encode(text)) for text in ("cat red", "big dog red red")]
    assert ours["vectors"] == pytest.approx([total / 49408 * (768 + 1280) for total in one], rel=1e-4)
    check_same_work([ours["vectors"], theirs["vectors"]])


@pytest.mark.parametrize("other", [[1.0, 2.0], [1.0], [1.0, 2.1, 3.0], []], ids=["short", "one", "wrong", "none"])
def test_different_work_is_not_compared(other: list[float]) -> None:
    check_same_work([[1.0, 2.0, 3.0]])
    with pytest.raises(BenchmarkError, match="other embeddings"):
        check_same_work([[1.0, 2.0, 3.0], other])


def test_stand_in_finds_embeddings_and_fills_chunks(webui: Webui) -> None:
    assert webui.hijack.get_prompt_lengths("") == (0, 75)
    assert webui.hijack.get_prompt_lengths("cat " * 80) == (80, 150)
    database = webui.hijack.embedding_db
    names = ("mine", "mine too")
    for name in names:
        given = SimpleNamespace(name=name, vectors=50)
        database.register_embedding_by_name(given, webui.model, name)
    found = webui.embeddings_in("a mine too, a mine")
    assert [one.name for one in found] == ["mine too", "mine"]
    assert webui.hijack.get_prompt_lengths("a mine too, a mine") == (75 + 50, 150)
    database.register_embedding_by_name(None, webui.model, "mine too")
    assert [one.name for one in webui.embeddings_in("a mine too, a mine")] == ["mine", "mine"]


def test_slow_tokenizer_is_the_web_uis(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers announces changes that do not matter here
        tokenize = slow_tokenizer(tmp_path)
    assert tokenize("A cat's embedmergeabc, 12") == clip_tokenizer().encode("A cat's embedmergeabc, 12")
