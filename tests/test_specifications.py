"""The pages for developers of other programs say what the code does: docs/model-tags.md and docs/embedding-files.md.

And every page leads somewhere: links resolve, and no module cites what is not in the repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import torch
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from memory_model import random_model

from lib_embedmerge.checkpoints import canonical
from lib_embedmerge.checkpoints.fingerprints import fingerprint_encoders
from lib_embedmerge.checkpoints.layouts import LAYOUTS, Naming, find_encoders
from lib_embedmerge.checkpoints.weights import MemoryWeight, Weights
from lib_embedmerge.core.architecture import ARCHITECTURES, MAX_VECTORS, WIDTHS
from lib_embedmerge.core.fit_status import MAX_RATING, FitStatus
from lib_embedmerge.core.ports import Fingerprint, ModelFacts
from lib_embedmerge.embeddings import sidecars, tag_keys
from lib_embedmerge.embeddings.embedding import hash_vectors
from lib_embedmerge.embeddings.form_parts import StoredTensor
from lib_embedmerge.embeddings.forms import MAX_ROWS, recognise
from lib_embedmerge.embeddings.model_notes import (
    MAX_TEXT,
    MAX_WEIGHT,
    ModelNote,
    change_model_note,
    find_model_note,
    read_model_notes,
)
from lib_embedmerge.embeddings.tag import UsedEmbedding, read_tag
from lib_embedmerge.embeddings.tag_writing import MAX_HEADER, Origin, make_metadata, update_metadata
from lib_embedmerge.files.safetensors_header import TensorInfo

ROOT = Path(__file__).parents[1]
TAGS = (ROOT / "docs" / "model-tags.md").read_text(encoding="utf-8")
FILES = (ROOT / "docs" / "embedding-files.md").read_text(encoding="utf-8")

ENCODER = "ENCODER"
"""What the pages write for the key of an encoder."""


def tables(page: str) -> dict[str, list[list[str]]]:
    """First heading -> the rows of its table, each cell as Markdown. Tables of one heading are one."""
    found: dict[str, list[list[str]]] = {}
    for node in nodes(page):
        if node.type == "table":
            head, body = node.children
            rows = [[cell.children[0].content for cell in row.children] for row in body.children]
            found.setdefault(head.children[0].children[0].children[0].content, []).extend(rows)
    return found


def blocks(page: str, kind: str) -> list[str]:
    return [node.content for node in nodes(page) if node.type == "fence" and node.info == kind]


def nodes(page: str) -> Iterator[SyntaxTreeNode]:
    return SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(page)).walk()


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# model-tags.md


def keys_of_the_code() -> set[str]:
    """Every metadata key in tag_keys.py; those that end in the key of a text encoder, with ENCODER in its place."""
    beginnings = (tag_keys.PREFIX, "modelspec.", "ss_")
    texts = [value for value in vars(tag_keys).values() if isinstance(value, str) and value.startswith(beginnings)]
    return {text + ENCODER * text.endswith(".") for text in texts if text != tag_keys.PREFIX}


def test_the_page_has_exactly_the_keys_of_the_code() -> None:
    listed = [key for row in tables(TAGS)["Key"] for key in codes(row[0])]
    assert len(listed) == len(set(listed))
    assert set(listed) == keys_of_the_code()


def full_origin(prediction_type: str) -> Origin:
    model = random_model()
    facts = ModelFacts(
        "model",
        "model.safetensors",
        model.facts.architecture,
        prediction_type,
        sha256="1" * 64,
        text_encoder_files=("clip_l.pt",),
    )
    return Origin(
        name="catdog",
        model=facts,
        date=datetime(2026, 11, 23, 12, tzinfo=timezone.utc),
        fingerprints={key: Fingerprint("2" * 64, "3" * 64, 0.4) for key in model.facts.architecture.encoders},
        recipe="'cat'+'style'",
        uses={"style": UsedEmbedding("4" * 64, "'a'", count=1)},
        notes="mine",
        negative=False,
        variant_of="cat",
        made_by={"method": "compress"},
    )


def as_listed(key: str) -> str:
    return key.rpartition(".")[0] + "." + ENCODER if key.rpartition(".")[2] in WIDTHS else key


def test_keys_that_the_page_says_are_always_present_are() -> None:
    bare = Origin("a", ModelFacts("m", "m.pt", ARCHITECTURES[0]), datetime.now(timezone.utc))
    always = {codes(row[0])[0] for row in tables(TAGS)["Key"] if row[2] == "always"}
    assert {*make_metadata(bare), tag_keys.PAYLOAD_HASH} == always


def test_all_other_keys_are_written_where_the_page_says_so() -> None:
    of_conversions = {tag_keys.CONVERTED_FROM, tag_keys.FACTS}
    of_users = {tag_keys.NOTES_BY_MODEL}
    origins = map(full_origin, ("v", "flow"))
    written = {as_listed(key) for origin in origins for key in make_metadata(origin, payload_sha256="5" * 64)}
    assert written == keys_of_the_code() - of_conversions - of_users


def test_notes_by_model_are_as_the_page_says() -> None:
    _, example = blocks(TAGS, "json")
    facts = ModelFacts("any", "noobaiXL_vPred10.safetensors", ARCHITECTURES[0], sha256="6" * 64)
    note = find_model_note(read_model_notes(example), facts)
    assert note == ModelNote(4, 0.8, "good hands, too much red")
    written = change_model_note({}, facts, replace(note, text="x" * MAX_TEXT))[tag_keys.NOTES_BY_MODEL]
    rows = {codes(row[0])[0]: row[1] for row in tables(TAGS)["Field of a note"]}
    assert {*json.loads(written)["noobaiXL_vPred10"]} == {*rows}
    assert f"1 (bad) to {MAX_RATING} (good)" in rows["rating"]
    assert f"-{MAX_WEIGHT:g} to {MAX_WEIGHT:g}" in rows["weight"]
    assert f"{MAX_TEXT} characters" in rows["text"]


def test_architectures_of_the_page_are_those_of_the_code() -> None:
    listed = {row[0]: [codes(cell) for cell in row[1:]] for row in tables(TAGS)["Architecture"]}
    assert listed == {a.title: [list(a.encoders), [a.modelspec], [a.base_version]] for a in ARCHITECTURES}


def test_fits_of_the_page_are_those_of_the_code() -> None:
    assert {codes(row[0])[0] for row in tables(TAGS)["Status"]} == set(FitStatus)


def test_fields_of_uses_are_those_of_the_code() -> None:
    inner = UsedEmbedding("6" * 64)
    used = UsedEmbedding("4" * 64, "'a'", {"b": inner}, count=1, made_for="other", follows=True)
    origin = Origin("a", full_origin("v").model, datetime.now(timezone.utc), recipe="'style'", uses={"style": used})
    entry = json.loads(make_metadata(origin)[tag_keys.USES])["style"]
    assert {codes(row[0])[0] for row in tables(TAGS)["Field"]} == set(entry)


def test_the_example_is_a_tag() -> None:
    example, _ = blocks(TAGS, "json")
    metadata = json.loads(example)
    assert list(metadata) == sorted(metadata)
    assert {as_listed(key) for key in metadata} <= keys_of_the_code()
    tag = read_tag(metadata)
    assert tag is not None
    assert (tag.tool, tag.recipe, tag.made_for, tag.prediction_type) == (
        "EmbedMerge", "'cat'+'dog'*0.5", "noobaiXL_vPred10", "v",
    )  # fmt: skip
    assert (
        tag.token_tables.keys()
        == tag.text_encoders.keys()
        == set(tag.architecture.encoders if tag.architecture else ())
    )
    assert re.fullmatch(r"0x[0-9a-f]{64}", metadata[tag_keys.PAYLOAD_HASH])


def test_keys_that_a_new_tag_replaces_are_on_the_page() -> None:
    (sentence,) = re.findall(r"it replaces all its own keys and these\s+as a set.*?:(.*?)\n- ", TAGS, re.DOTALL)
    listed = {code if not code.startswith(".") else "modelspec" + code for code in codes(sentence)}
    assert listed == tag_keys.REPLACED
    foreign = dict.fromkeys((*listed, "embedmerge.future", "ss_tag_frequency", tag_keys.NEGATIVE), "old")
    assert update_metadata(foreign, {}) == {"ss_tag_frequency": "old", tag_keys.NEGATIVE: "old"}


def the_pages_functions() -> dict[str, Any]:
    (code,) = blocks(TAGS, "python")
    names: dict[str, Any] = {}
    exec(code, names)  # the page's own example
    return names


def test_the_pages_hash_of_vectors_is_that_of_the_code() -> None:
    generator = torch.Generator().manual_seed(3)
    vectors = {key: torch.randn(3, width, generator=generator) for key, width in WIDTHS.items()}
    assert the_pages_functions()["vectors_hash"](vectors) == hash_vectors(vectors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_the_pages_fingerprints_are_those_of_the_code(dtype: torch.dtype) -> None:
    weights = one_layer_of_clip_l(dtype)
    (source,) = find_encoders(Weights({name: MemoryWeight(value) for name, value in weights.items()})).values()
    found = fingerprint_encoders([source])["clip_l"]
    functions = the_pages_functions()
    arrays = {name: value.to(torch.float64).numpy() for name, value in weights.items()}
    assert functions["token_table"](arrays) == found.token_table
    assert functions["text_encoder"](arrays) == found.text_encoder is not None


def one_layer_of_clip_l(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A small but whole text encoder, canonical names -> values that float16 rounds."""
    generator = torch.Generator().manual_seed(7)
    names = [f"text_model.encoder.layers.0.{part}.{kind}" for part in canonical._PARTS for kind in ("weight", "bias")]
    weights = {name: torch.randn(4, generator=generator, dtype=torch.float64) for name in names}
    weights |= {name: torch.randn(3, generator=generator, dtype=torch.float64) for name in canonical._OUTSIDE_LAYERS}
    weights[canonical.TOKEN_TABLE] = torch.randn(5, 768, generator=generator, dtype=torch.float64)
    # A number that rounds to another float16 by way of float32 than at once.
    weights[canonical.TOKEN_TABLE][0, 0] = 1 + 2**-11 + 2**-40
    return {name: value.to(dtype) for name, value in weights.items()}


# embedding-files.md


def test_tensors_that_the_page_says_are_written_are() -> None:
    listed = {row[0]: {codes(cell)[0] for cell in row[1].split(" and ")} for row in tables(FILES)["Architecture"]}
    assert listed == {a.title: set(a.tensor_names.values()) for a in ARCHITECTURES}
    widths = {
        row[0]: {int(width) for width in re.findall(r", (\d+)\]", row[1])} for row in tables(FILES)["Architecture"]
    }
    assert widths == {a.title: {WIDTHS[key] for key in a.encoders} for a in ARCHITECTURES}


FORMS = {
    "`clip_l` and/or `clip_g`": ("clip_l", "clip_g"),
    "the same with `clip_l_out`, `clip_g_out`": ("clip_l", "clip_g", "clip_l_out", "clip_g_out"),
    "`clip_l`, `clip_g` and `t5`, `t5xxl`, `llama`, …": ("clip_l", "clip_g", "t5xxl"),
    "`emb_params`": ("emb_params",),
    "`string_to_param` with one entry": ("string_to_param.*",),
    "`text_encoders_0`, `text_encoders_1`": ("text_encoders_0", "text_encoders_1"),
    "one tensor of any name, `<cat-toy>`": ("<cat-toy>",),
}
"""Form, as the page calls it -> names of its tensors. Those that are no mapping of tensors, or hold several embeddings,
are tried where they are read (tests/test_embedding_files.py, test_pictures.py)."""

NO_MAPPING = ("several tensors, ", "`bundle_emb.NAME.TENSOR`", "a list of dicts", "text `sd-ti-embedding`")


def test_every_form_of_the_page_is_tried() -> None:
    listed = [row[0] for row in tables(FILES)["Form"]]
    assert [form for form in listed if not form.startswith(NO_MAPPING)] == list(FORMS)


@pytest.mark.parametrize("names", FORMS.values(), ids=FORMS)
def test_forms_of_the_page_are_read(names: tuple[str, ...]) -> None:
    def width(name: str) -> int:
        return 4096 if "t5" in name else 1280 if name.startswith(("clip_g", "text_encoders_1")) else 768

    content = {name: TensorInfo(name, "F32", (2, width(name)), 0, 2 * 4 * width(name)) for name in names}
    layout = recognise(content)
    assert layout.count == 2
    assert all(isinstance(part, StoredTensor) for parts in layout.parts.values() for part in parts)


def test_prefixes_of_the_page_are_those_of_the_code() -> None:
    naming = {Naming.HUGGING_FACE: "transformers", Naming.BARE: "bare", Naming.OPEN_CLIP: "open_clip"}
    listed = {
        (prefix.replace(ENCODER, key), name)
        for row in tables(FILES)["Prefix"]
        for prefix in (codes(row[0]) or [""])
        for name in row[1].split(", ")
        for key in (WIDTHS if ENCODER in prefix else [""])
    }
    assert listed == {(layout.prefix, naming[layout.naming]) for layout in LAYOUTS}
    assert {row[0]: codes(row[1])[0] for row in tables(FILES)["Naming"]} == {
        name: one.value for one, name in naming.items()
    }


def spelled_out(names: list[str]) -> list[str]:
    """`a.b.c`, `.d` as a.b.c, a.b.d."""
    first = names[0].split(".")
    return [name if name[0] != "." else ".".join(first[: 1 - len(name.split("."))]) + name for name in names]


def test_names_of_open_clip_become_those_that_the_page_says() -> None:
    expected: dict[str, list[str]] = {}
    for row in tables(FILES)["open_clip"]:
        left, right = ([name.replace(".L.", ".0.") for name in spelled_out(codes(cell))] for cell in row)
        if "in_proj" in left[0]:
            expected |= {name: [f"{part}.{name.rpartition('_')[2]}" for part in right] for name in left}
        elif "resblocks" in left[0]:
            both = zip(left, right, strict=True)
            expected |= {f"{a}.{kind}": [f"{b}.{kind}"] for a, b in both for kind in ("weight", "bias")}
        else:
            expected |= {a: [b] for a, b in zip(left, right, strict=True)}
    tensors = {name: MemoryWeight(torch.zeros(3, 1280)) for name in expected}
    (source,) = find_encoders(Weights(tensors)).values()
    found = canonical.find_canonical_weights(source)
    assert canonical.is_complete("clip_g", {item.name for item in found})
    by_tensor = {name: [item.name for item in found if item.weight is tensor] for name, tensor in tensors.items()}
    assert by_tensor == expected


@pytest.mark.parametrize(
    ("page", "claim"),
    [
        (TAGS, f"{MAX_HEADER:,} bytes"),
        (FILES, f"over {MAX_ROWS:,} vectors"),
        (FILES, f"{MAX_VECTORS + 1} to {MAX_ROWS:,} vectors"),
        (FILES, f"from 1 to {MAX_VECTORS}"),
    ],
)
def test_limits_of_the_pages_are_those_of_the_code(page: str, claim: str) -> None:
    assert claim in page


# all pages, and what modules cite

PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in links(path.read_text(encoding="utf-8")):
        if not re.match(r"(https?|mailto):|#", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


def links(page: str) -> list[str]:
    attributes = [
        (node.attrs.get("href"), node.attrs.get("src")) for node in nodes(page) if node.type in ("link", "image")
    ]
    return [str(target) for pair in attributes for target in pair if target]


def test_links_are_found() -> None:
    assert links("[a](b.md) ![c](d.png) `[e](f)`\n\n| g |\n|---|\n| [h](i.md#j) |") == ["b.md", "d.png", "i.md#j"]


MODULES = sorted(
    path
    for folder in ("lib_embedmerge", "scripts", "tests", "benchmarks", "javascript")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".js")
)

_FOREIGN = re.compile(r"\b(?:shared" + r"/|shared " + r"facts)|(?<![\w./])/(?:home|root|work)/\w")
_PAGE = re.compile(r"(?<![\w./-])(?:docs/)?[\w-]+\.md\b")


def cited_elsewhere(text: str) -> list[str]:
    """What a module cites that is not in the repository: pages by their names, and places of one machine."""
    missing = [page for page in _PAGE.findall(text) if page.startswith("docs/") and not (ROOT / page).is_file()]
    return [*_FOREIGN.findall(text), *missing]


def test_no_module_cites_what_is_not_in_the_repository() -> None:
    found = {path.relative_to(ROOT).as_posix(): cited_elsewhere(path.read_text(encoding="utf-8")) for path in MODULES}
    assert {name: cited for name, cited in found.items() if cited} == {}
    assert len(found) > 200


@pytest.mark.parametrize(
    "text", ["see shared" + "/formats.md", "shared " + "facts on formats", "docs" + "/nowhere.md", "in /root" + "/x"]
)
def test_a_citation_from_elsewhere_is_found(text: str) -> None:
    assert cited_elsewhere(text)


def test_sidecars_of_the_page_are_those_of_the_code() -> None:
    rows = tables(FILES)["Ending of a sidecar"]
    assert list(dict.fromkeys(codes(row[0])[0] for row in rows)) == list(sidecars.ENDINGS)
    code = Path(sidecars.__file__).read_text(encoding="utf-8")
    fields = {field for row in rows for field in codes(row[2]) if not field.startswith(".")}
    assert {field for field in fields if f'"{field}"' not in code} == set()
    assert sidecars._MAX_SIZE == 4 * 1024 * 1024
    assert "larger than 4 MB" in FILES
