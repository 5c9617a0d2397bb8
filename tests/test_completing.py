"""Completions in the text box: what is offered where, and that a list of them is harmless."""

from __future__ import annotations

from pathlib import Path

import pytest
from action_hosts import MODEL
from hypothesis import given
from hypothesis import strategies as st
from test_views_harmless import check

from lib_embedmerge.actions.completing import MOST, Completion, complete
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.ui.views.completion_view import completion_view

NAMES = ("my_cat", "my_Dog", "good_my", "other", "mean_girl")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> MemoryHost:
    folder = tmp_path_factory.mktemp("embeddings")
    for name in NAMES:
        build_embedding(MODEL, "'cat dog'", name).save(folder)
    (folder / "my_torn.safetensors").write_bytes(b"torn")
    return MemoryHost(MODEL, folder)


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        ("'my", ["my_cat", "my_Dog", "my_torn", "good_my"]),
        ("'MY_c", ["my_cat"]),
        ("'a photo of oth", ["other"]),
        ("'", ["good_my", "mean_girl", "my_cat", "my_Dog", "my_torn", "other"]),
        ("a photo of my_", ["my_cat", "my_Dog", "my_torn"]),
        ("(my_cat, go", ["good_my"]),
        ("a photo of <'oth", ["other"]),
        ("a photo of m", []),
        ("'cat'+my_", []),
        ("'my_cat", []),
        ("'cat' ", []),
        ("'cat'", []),
        ("", []),
        ("mea", ["mean(a, b, ...)", "mean_girl"]),
        ("'cat'+mea", ["mean(a, b, ...)"]),
        ("a <no", ["norm(x, n)"]),
        ("'cat' * L", ["L(x)"]),
        ("cat(l", ["lerp(a, b, t)"]),
        ("a mea", ["mean_girl"]),
    ],
)
def test_what_is_offered(host: MemoryHost, before: str, offered: list[str]) -> None:
    assert [completion.label for completion in complete(host, before)] == offered


def test_what_a_completion_inserts(host: MemoryHost) -> None:
    (function,) = complete(host, "'cat'+lerp")
    assert (function.inserted, function.back, function.typed) == ("lerp()", 1, "lerp")
    assert function.detail == SIGNATURES["lerp"].help
    (cat,) = complete(host, "'MY_c")
    assert (cat.inserted, cat.back, cat.typed) == ("my_cat", 0, "MY_c")
    assert cat.detail.startswith("2 vectors, SDXL, made for ")
    torn = complete(host, "'my_to")[0]
    assert (torn.label, torn.detail) == ("my_torn", "")


def test_no_more_than_fit(tmp_path: Path) -> None:
    for number in range(MOST + 5):
        build_embedding(MODEL, "'cat'", f"one{number:02}").save(tmp_path)
    assert len(complete(MemoryHost(MODEL, tmp_path), "'one")) == MOST


@given(st.text(max_size=30))
def test_any_text_has_completions(before: str) -> None:
    host = MemoryHost(MODEL, Path(__file__).parent)
    assert all(before.endswith(completion.typed) for completion in complete(host, before))


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_list_is_harmless(name: str, detail: str) -> None:
    image = "<img src=x onerror=alert(1)>"
    completions = [Completion("embedding", name + image, name + image, name + image, detail + image)] * 2
    assert len(check(completion_view(completions)).values("data-embedmerge-text")) == 2
