"""The model tag: what is written for which origin, and what is understood of metadata of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_embedmerge.core.architecture import SD1, SD2, SDXL, SDXL_REFINER
from lib_embedmerge.core.ports import Fingerprint, ModelFacts
from lib_embedmerge.embeddings.tag import ModelTag, UsedEmbedding, read_tag
from lib_embedmerge.embeddings.tag_writing import (
    MAX_HEADER,
    Origin,
    check_size,
    make_metadata,
    set_payload_hash,
    update_metadata,
)
from lib_embedmerge.errors import StorageError
from lib_embedmerge.version import __version__

A, B, C, D = ("a" * 64, "b" * 64, "0" * 63 + "1", "d" * 64)
DATE = datetime(2026, 11, 23, 10, 20, 30, 987, tzinfo=timezone(timedelta(hours=2)))
MODEL = ModelFacts(
    title="NoobAI-XL v-pred 1.0",
    file_name="noob.safetensors",
    architecture=SDXL,
    prediction_type="v",
    sha256=C,
    text_encoder_files=("clip, l.safetensors", "g.safetensors"),
)
ORIGIN = Origin(
    name="catdog",
    model=MODEL,
    date=DATE,
    fingerprints={"clip_l": Fingerprint(A, D, 0.4), "clip_g": Fingerprint(B, None, 0.5)},
    recipe="'cat'+'dog'*0.5 ⭐",
    uses={"old": UsedEmbedding(A, "'x'+'deep'", {"deep": UsedEmbedding(B, count=3)}), "plain": UsedEmbedding(B)},
    notes="two\nlines",
    negative=True,
)

WHOLE = {
    "modelspec.sai_model_spec": "1.0.1",
    "modelspec.architecture": "stable-diffusion-xl-v1-base/textual-inversion",
    "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
    "modelspec.title": "catdog",
    "modelspec.date": "2026-11-23T10:20:30+02:00",
    "modelspec.hash_sha256": f"0x{D}",
    "modelspec.trigger_phrase": "catdog",
    "modelspec.usage_hint": "made for NoobAI-XL v-pred 1.0 from text",
    "modelspec.merged_from": "NoobAI-XL v-pred 1.0",
    "modelspec.prediction_type": "v",
    "modelspec.is_negative_embedding": "true",
    "ss_sd_model_name": "noob.safetensors",
    "ss_new_sd_model_hash": C,
    "ss_base_model_version": "sdxl_base_v1-0",
    "embedmerge.schema": "1",
    "embedmerge.version": __version__,
    "embedmerge.recipe": "'cat'+'dog'*0.5 ⭐",
    "embedmerge.uses": f'{{"old":{{"hash":"{A}","recipe":"\'x\'+\'deep\'",'
    f'"uses":{{"deep":{{"hash":"{B}","vectors":3}}}}}},'
    f'"plain":{{"hash":"{B}"}}}}',
    "embedmerge.text_encoders": '["clip, l.safetensors","g.safetensors"]',
    "embedmerge.notes": "two\nlines",
    "embedmerge.token_table.clip_l": A,
    "embedmerge.token_table.clip_g": B,
    "embedmerge.text_encoder.clip_l": D,
}


def test_a_whole_tag_has_exactly_these_keys() -> None:
    assert make_metadata(ORIGIN, payload_sha256=D) == WHOLE


def test_a_tag_says_only_what_is_known() -> None:
    bare = Origin("x-y", ModelFacts("m", "m.ckpt", SD1), DATE)
    metadata = make_metadata(bare)
    assert metadata["modelspec.usage_hint"] == "made for m"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert sorted(metadata) == sorted(
        set(WHOLE)
        - {"modelspec.hash_sha256", "modelspec.prediction_type", "modelspec.is_negative_embedding"}
        - {"ss_new_sd_model_hash"}
        - {
            key
            for key in WHOLE
            if key.startswith("embedmerge.") and key not in {"embedmerge.schema", "embedmerge.version"}
        }
    )
    assert make_metadata(replace(bare, negative=False))["modelspec.is_negative_embedding"] == "false"


def test_the_date_is_all_that_differs_between_equal_builds() -> None:
    first, second = make_metadata(ORIGIN), make_metadata(replace(ORIGIN, date=DATE + timedelta(days=1)))
    assert {key for key in first if first[key] != second[key]} == {"modelspec.date"}
    assert list(first) == list(second)


def test_a_date_without_a_time_zone_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="time zone"):
        make_metadata(replace(ORIGIN, date=datetime(2026, 1, 1)))


def test_a_tag_reads_back_whole() -> None:
    tag = read_tag(make_metadata(ORIGIN, payload_sha256=D))
    assert tag == ModelTag(
        made_for="NoobAI-XL v-pred 1.0",
        file_name="noob.safetensors",
        sha256=C,
        architecture=SDXL,
        prediction_type="v",
        token_tables={"clip_l": A, "clip_g": B},
        text_encoders={"clip_l": D},
        text_encoder_files=("clip, l.safetensors", "g.safetensors"),
        recipe=ORIGIN.recipe,
        uses=ORIGIN.uses,
        notes="two\nlines",
        negative=True,
        date="2026-11-23T10:20:30+02:00",
        tool="EmbedMerge",
        version=__version__,
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
USED = st.recursive(
    st.builds(UsedEmbedding, st.just(A), st.none() | TEXTS.filter(bool)),
    lambda inner: st.builds(UsedEmbedding, st.just(B), TEXTS.filter(bool), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@given(recipe=TEXTS, notes=TEXTS, uses=st.dictionaries(TEXTS, USED, max_size=3))
def test_any_text_survives_the_round_trip(recipe: str, notes: str, uses: dict[str, UsedEmbedding]) -> None:
    metadata = make_metadata(replace(ORIGIN, recipe=recipe, notes=notes, uses=uses))
    assert all(isinstance(value, str) for value in metadata.values())
    tag = read_tag(json.loads(json.dumps(metadata)))
    assert tag is not None
    assert (tag.recipe or "", tag.notes or "", tag.uses) == (recipe, notes, uses)


@pytest.mark.parametrize("text", ["a\0b", "cut \ud83d"], ids=["nul", "lone surrogate"])
@pytest.mark.parametrize(
    "origin",
    [
        lambda text: replace(ORIGIN, recipe=text),
        lambda text: replace(ORIGIN, notes=text),
        lambda text: replace(ORIGIN, name=text),
        lambda text: replace(ORIGIN, uses={"x": UsedEmbedding(A, text)}),
    ],
    ids=["recipe", "notes", "name", "used recipe"],
)
def test_what_a_user_typed_is_refused_rather_than_changed(origin: Callable[[str], Origin], text: str) -> None:
    with pytest.raises(StorageError, match="broken character") as caught:
        make_metadata(origin(text))
    assert caught.value.hint


def test_the_names_of_files_are_cleaned() -> None:
    odd = replace(MODEL, title="t\0\udc80", file_name="\udc80.safetensors", text_encoder_files=("\udcff",))
    metadata = make_metadata(replace(ORIGIN, model=odd, uses={"\udc81": UsedEmbedding(A)}))
    "".join(metadata.values()).encode("utf-8")
    assert metadata["modelspec.merged_from"] == "t�"
    assert metadata["ss_sd_model_name"] == "�.safetensors"
    assert "\0" not in "".join(metadata.values())


@pytest.mark.parametrize(
    "change", [{"recipe": "x" * MAX_HEADER}, {"notes": "é" * (MAX_HEADER // 2)}], ids=["recipe", "notes"]
)
def test_too_long_texts_are_refused_by_their_size_in_bytes(change: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match=r"take 1\.1 MB\. Web UIs refuse more than 1 MB") as caught:
        make_metadata(replace(ORIGIN, **change))
    shorten = {"recipe": "Shorten the text that it is made from.", "notes": "Shorten the notes."}
    assert caught.value.hint == shorten[next(iter(change))]


def test_texts_just_under_the_limit_are_taken() -> None:
    make_metadata(replace(ORIGIN, recipe="x" * (MAX_HEADER - 8192)))
    check_size({})


FOREIGN = {
    "author": "me",
    "modelspec.author": "me",
    "modelspec.thumbnail": "data:",
    "ss_tag_frequency": "{}",
    "format": "pt",
}


def test_foreign_keys_survive_and_ours_are_replaced_as_a_set() -> None:
    old = {**WHOLE, **FOREIGN}
    new = make_metadata(Origin("other", ModelFacts("m2", "m2.safetensors", SDXL), DATE))
    result = update_metadata(old, new)
    assert {key: result[key] for key in FOREIGN} == FOREIGN
    assert {key for key in result if key.startswith("embedmerge.")} == {"embedmerge.schema", "embedmerge.version"}
    for stale in ("modelspec.prediction_type", "ss_new_sd_model_hash", "modelspec.hash_sha256"):
        assert stale not in result
    assert result["modelspec.merged_from"] == "m2"
    assert result["modelspec.is_negative_embedding"] == "true", "what the user once said stays"
    assert result | new == result


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=8))
def test_any_foreign_metadata_survive_two_rewrites(old: dict[str, str]) -> None:
    new = make_metadata(ORIGIN)
    once = update_metadata(old, new)
    assert update_metadata(once, new) == once
    assert {key: once[key] for key in old if key not in WHOLE and not key.startswith("embedmerge.")} == {
        key: old[key] for key in old if key not in WHOLE and not key.startswith("embedmerge.")
    }


def test_the_payload_hash_is_the_only_change() -> None:
    assert set_payload_hash({"a": "b", "modelspec.hash_sha256": "0xold"}, A) == {
        "a": "b",
        "modelspec.hash_sha256": f"0x{A}",
    }


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, None),
        ({"format": "pt"}, None),
        ({"modelspec.title": "x"}, ModelTag()),
        (
            {
                "modelspec.implementation_version": "sd-scripts/abc",
                "modelspec.architecture": "stable-diffusion-v1/textual-inversion",
            },
            ModelTag(tool="kohya sd-scripts", version="sd-scripts/abc", architecture=SD1),
        ),
        (
            {"ss_sd_model_name": "D:\\models\\base.safetensors", "ss_base_model_version": "sdxl_base_v1-0"},
            ModelTag(tool="kohya sd-scripts", file_name="base.safetensors", architecture=SDXL),
        ),
        (
            {"ot_branch": "master", "modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
            ModelTag(tool="OneTrainer", architecture=SDXL),
        ),
        ({"modelspec.predict_key": "v"}, ModelTag(tool="ComfyUI", prediction_type="v")),
        ({"prompt": "{}", "workflow": "{}"}, ModelTag(tool="ComfyUI")),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-refiner"}, ModelTag(architecture=SDXL_REFINER)),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/textual-inversion"}, ModelTag(architecture=SD2)),
        (
            {"modelspec.architecture": "flux-1-dev/lora", "ss_base_model_version": "sd_v2_v"},
            ModelTag(architecture=SD2, tool="kohya sd-scripts"),
        ),
        ({"embedmerge.recipe": "'a'"}, ModelTag(recipe="'a'")),
        ({"embedmerge.notes": "soft"}, ModelTag(notes="soft")),
        (
            {
                "embedmerge.notes": "soft",
                "modelspec.implementation_version": "sd-scripts/abc",
                "ss_base_model_version": "sdxl_base_v1-0",
            },
            ModelTag(tool="kohya sd-scripts", version="sd-scripts/abc", architecture=SDXL, notes="soft"),
        ),
        ({"embedmerge.schema": "1", "ot_branch": "master"}, ModelTag(tool="EmbedMerge")),
        ({"modelspec.is_negative_embedding": " False "}, ModelTag(negative=False)),
    ],
    ids=[
        "nothing", "format only", "title only", "kohya", "kohya lora keys", "onetrainer", "comfyui", "comfyui workflow",
        "refiner", "sd2 variant", "second opinion", "ours without schema", "notes alone", "kohya with notes",
        "rebuilt by us", "negative",
    ],
)  # fmt: skip
def test_tags_of_other_tools_are_understood(metadata: dict[str, str], expected: ModelTag | None) -> None:
    assert read_tag(metadata) == expected


DEEP = '{"a":{"hash":"","uses":' * 40 + "{}" + "}}" * 40


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("embedmerge.uses", "{"),
        ("embedmerge.uses", "[1,2]"),
        ("embedmerge.uses", '{"a": 5}'),
        ("embedmerge.uses", "[" * 100_000),
        ("embedmerge.uses", "1" * 10_000),
        ("embedmerge.text_encoders", '{"a": 1}'),
        ("embedmerge.text_encoders", '[1, null, ""]'),
        ("embedmerge.token_table.clip_l", "xyz"),
        ("embedmerge.token_table.t5xxl", A),
        ("ss_new_sd_model_hash", "0x12"),
        ("modelspec.prediction_type", "flow"),
        ("embedmerge.prediction_type", "v"),
        ("embedmerge.prediction_type", "what"),
        ("modelspec.is_negative_embedding", "maybe"),
        ("modelspec.architecture", "stable-diffusion-xl-v1-basement"),
        ("modelspec.merged_from", "  "),
    ],
)
def test_garbage_reads_as_nothing(key: str, value: str) -> None:
    assert read_tag({"embedmerge.schema": "1", key: value}) == ModelTag(tool="EmbedMerge")


@pytest.mark.parametrize(
    ("prediction_type", "key"),
    [
        ("epsilon", "modelspec.prediction_type"),
        ("v", "modelspec.prediction_type"),
        ("edm", "embedmerge.prediction_type"),
        ("flow", "embedmerge.prediction_type"),
    ],
)
def test_every_prediction_type_is_written_and_read(prediction_type: str, key: str) -> None:
    """ModelSpec has words for two of them."""
    metadata = make_metadata(replace(ORIGIN, model=replace(MODEL, prediction_type=prediction_type)))
    assert {name: value for name, value in metadata.items() if name.endswith("prediction_type")} == {
        key: prediction_type
    }
    tag = read_tag(metadata)
    assert tag is not None
    assert tag.prediction_type == prediction_type


def test_uses_are_read_to_a_sane_depth_and_with_what_is_sound() -> None:
    tag = read_tag({"embedmerge.uses": DEEP})
    depth, uses = 0, tag.uses if tag else {}
    while uses:
        depth, uses = depth + 1, uses["a"].uses
    assert depth == 16
    half = read_tag({"embedmerge.uses": json.dumps({"a": {"hash": 1, "recipe": [], "uses": 3}, "b": None})})
    assert half is not None
    assert half.uses == {"a": UsedEmbedding("")}


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "2", None, []], ids=str)
def test_a_number_of_vectors_that_is_none(count: object) -> None:
    tag = read_tag({"embedmerge.uses": json.dumps({"a": {"hash": A, "vectors": count}})})
    assert tag is not None
    assert tag.uses == {"a": UsedEmbedding(A)}


def test_uses_that_are_cut_off_take_the_recipe_along() -> None:
    """What names embeddings that are not known any more would be run on plain words."""
    uses: dict[str, object] = {"a": {"hash": B, "recipe": "'b'"}}
    for _ in range(16):
        uses = {"a": {"hash": A, "recipe": "'a'", "uses": uses}}
    tag = read_tag({"embedmerge.uses": json.dumps(uses)})
    assert tag is not None
    used = tag.uses["a"]
    for _ in range(15):
        assert used.recipe == "'a'"
        used = used.uses["a"]
    assert used == UsedEmbedding(A)


KEYS = st.sampled_from([*WHOLE, "modelspec.predict_key", "ot_config"]) | st.text(max_size=20)
JSON_TEXTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
).map(json.dumps)
VALUES = st.text(max_size=40) | JSON_TEXTS | st.sampled_from(sorted(WHOLE.values()))


@given(st.dictionaries(KEYS, VALUES, max_size=12))
def test_any_metadata_give_a_tag_or_none(metadata: dict[str, str]) -> None:
    tag = read_tag(metadata)
    assert tag is None or isinstance(tag.recipe, (str, type(None)))


def test_values_that_are_no_texts_are_skipped() -> None:
    metadata: Any = {"modelspec.merged_from": 5, 7: "x", "modelspec.title": "t"}
    assert read_tag(metadata) == ModelTag()
