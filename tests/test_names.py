"""Names of embeddings: what no disk takes, what no prompt finds, and that there is always a better one."""

from __future__ import annotations

from pathlib import Path

import pytest
from growth import grows_by_length
from hypothesis import example, given
from hypothesis import strategies as st

from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.names import NameCheck, check_name, find_name_error
from lib_embedmerge.tokenizer import clip_tokenizer

CLEAN = NameCheck(None, (), None)
HOSTILE = [
    "", " ", ".", "..", "a/b", "../x", "a\\b", "CON", "con.txt", "nul .x", "COM1", "lpt³", "conin$", "x" * 101,
    "é" * 100, "猫" * 90, "a.", "a ", " a", "\0", "a\nb", "\ud83d", "a:b", "a*b", "<lora>", 'a"b', "a|b", "a?b", "🙂",
    "-", "_", "AND", "BREAK", "cat", "__x__", "100%", "(x)", "\u202eabc", "a\u200bb", "x.safetensors", "x.preview",
    "\u200b", "\u3164",
    "&copy y", "a..b", "em", ".pt", "aux.em_x", "x-AND-y", "\u2028", "İ", "ﬁ", "ｃａｔ", "\xa0", "'", "''", "n" * 100,
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("\u200b", "only invisible characters"),
        ("\u200b\u200d \ufeff\u2060", "only invisible characters"),
        ("\xad", "only invisible characters"),
        ("\u202e\u2066", "only invisible characters"),
        ("\u3164", "only invisible characters"),
        ("\u2800\ufe0f\u034f", "only invisible characters"),
        ("\U000e0041\U000e0100", "only invisible characters"),
        (".", "folder"),
        ("..", "folder"),
        ("a/b", "'/'"),
        ("a\\b", "cannot contain"),
        ("..\\x", "cannot contain"),
        ("a:b", "':'"),
        ('a"b', "cannot contain"),
        ("<lora>", "'<'"),
        ("a\0b", "cannot contain"),
        ("a\x1fb", "cannot contain"),
        ("a\x7f", "cannot contain"),
        ("neg.", "end with a space or a dot"),
        ("neg ", "end with a space or a dot"),
        (" neg", "begin with a space"),
        (".mix1", "begin with a dot"),
        ("..x", "begin with a dot"),
        (".embedmerge-1", "begin with a dot"),
        ("x1.preview", "end in .preview"),
        ("x1.Preview", "end in .preview"),
        ("CON", "Windows reserves the name CON"),
        ("nul.txt", "Windows reserves the name nul"),
        ("Com1", "Windows reserves"),
        ("LPT³.a.b", "Windows reserves"),
        ("aux .x", "Windows reserves"),
        ("conout$", "Windows reserves"),
        ("cut\ud83d", "broken character"),
        ("x" * 101, "101 characters"),
        ("猫" * 90, "too long"),
    ],
)
def test_what_no_file_can_be_called(name: str, part: str) -> None:
    error = find_name_error(name)
    assert error is not None
    assert part in error
    assert check_name(name, tokenizer=clip_tokenizer()).error == error


@pytest.mark.parametrize(
    "name",
    [
        "console",
        "com",
        "COM10",
        "nulls",
        "a.con",
        "x" * 100,
        "x.preview1",
        "猫" * 50,
        "a b",
        "naïve",
        "🙂\ufe0f",
        "a\u200b",
    ],
)
def test_what_a_file_can_be_called(name: str) -> None:
    assert find_name_error(name) is None


@pytest.mark.parametrize(
    ("name", "better"),
    [(".mix1", "mix1"), ("mix1.preview", "mix1"), ("x1.pt.PREVIEW", "x1"), (".preview", "my_embedding")],
)
def test_what_the_library_passes_over_has_a_better_name(tmp_path: Path, name: str, better: str) -> None:
    """A file that was called so would be gone from the library: these facts are one."""
    assert check_name(name, tokenizer=clip_tokenizer()).better == better
    for one in (name, better):
        (tmp_path / (one + SUFFIX)).write_bytes(b"x")
    assert EmbeddingFolder(tmp_path, clip_tokenizer()).names() == (better,)


@pytest.mark.parametrize("name", ["NegXL", "my_style-v1.2", "ac_neg1", "style1", "foo.bar", "x_AND_y", "CatDog99"])
def test_good_names_pass(name: str) -> None:
    assert check_name(name, existing=["other_thing", "Foot"], tokenizer=clip_tokenizer()) == CLEAN


@pytest.mark.parametrize(
    ("name", "part", "better"),
    [
        ("emb!", "does not work beside a comma", "emb_em"),
        ("neg_v_", "does not work beside a comma", "neg_v"),
        ("_style1", "begins with a mark", "style1"),
        ("100%", "does not work beside a comma", "100"),
        ("star⭐x", "characters such as é", "star_x"),
        ("schön1", "characters such as é", "schon1"),
        ("猫の絵", "characters such as é", "my_embedding"),
        ("🙂", "does not work beside a comma", "my_embedding"),
        ("cat", "an ordinary word", "cat_em"),
        ("Cat", "an ordinary word", "Cat_em"),
        ("AND", "an ordinary word", "and_em"),
        ("x-AND-y", "split a prompt", "x-and-y"),
        ("my style", "has a space", "my_style"),
        ("neg,v2", "comma or colon", "neg_v2"),
        ("neg(x)", "brackets", "neg_x"),
        ("a[b]", "brackets", "a_b"),
        ("x{y}", "brackets", "x_y"),
        ("it's_me", "a quote", "it_s_me"),
        ("x&copy y", "may read differently", "x_copy_y"),
        ("neg+ckpt", "InvokeAI", "neg_ckpt"),
        ("x1.safetensors", "ends like a file name", "x1"),
        ("x1.preview.pt", "ends like a file name", "x1"),
        ("\ufffc", "nothing that a model reads", "my_embedding"),
    ],
)
def test_bad_names_are_warned_of_with_a_better_one(name: str, part: str, better: str) -> None:
    check = check_name(name, tokenizer=clip_tokenizer())
    assert check.error is None
    assert any(part in warning for warning in check.warnings), check.warnings
    assert check.better == better
    assert all(f"'{better}' is safe" in warning for warning in check.warnings)
    assert check_name(better, tokenizer=clip_tokenizer()) == CLEAN


@pytest.mark.parametrize(
    ("name", "existing", "part"),
    [
        ("my_neg", ["my_neg"], "is the name of another"),
        ("MY_NEG", ["my_neg"], "is the name of another"),
        ("style1", ["style 1"], "reads the same in a prompt as the embedding 'style 1'"),
        ("v1.2x", ["v1 . 2x"], "reads the same in a prompt as the embedding 'v1 . 2x'"),
    ],
)
def test_names_that_cannot_be_told_apart(name: str, existing: list[str], part: str) -> None:
    check = check_name(name, existing=existing, tokenizer=clip_tokenizer())
    assert [part in warning for warning in check.warnings] == [True]
    assert check.better is not None
    assert check_name(check.better, existing=existing, tokenizer=clip_tokenizer()) == CLEAN


@pytest.mark.parametrize(
    ("name", "existing"),
    [
        ("style1", "style10"), ("style10", "style1"), ("neg_v2", "neg"), ("negx", "negx_v2"),
        ("catdogx-juggernautXL_v9", "catdogx"), ("catdogx", "catdogx-juggernautXL_v9"),
    ],
)  # fmt: skip
def test_a_name_that_another_begins_with_is_no_fault(name: str, existing: str) -> None:
    """The longer name wins on AUTOMATIC1111, Forge, reForge and ComfyUI; a rebuild writes such names itself."""
    assert check_name(name, existing=[existing], tokenizer=clip_tokenizer()) == CLEAN


def test_a_piece_of_the_vocabulary_is_warned_of() -> None:
    # `ðŁ`-like byte pieces aside, these are word beginnings that no word of the vocabulary ends with.
    tokenizer = clip_tokenizer()
    pieces = (tokenizer.token(index) for index in range(512, tokenizer.vocabulary_size))
    piece = next(p for p in pieces if p.isascii() and p.isalpha() and len(tokenizer.encode(p)) > 1)
    (warning,) = check_name(piece, tokenizer=tokenizer).warnings
    assert "diffusers" in warning


NAMES = st.text(max_size=20) | st.sampled_from(HOSTILE) | st.text("aB1 ._-,'(é", max_size=8)


@given(name=NAMES, existing=st.lists(NAMES | st.sampled_from(["a", "em", "b", "cat", "embedding", "x"]), max_size=8))
@example("embedding", ["embedding", "em", *"abcdefghijklmnopqrstuvwxyz"])
def test_there_is_always_a_better_name(name: str, existing: list[str]) -> None:
    tokenizer = clip_tokenizer()
    check = check_name(name, existing=existing, tokenizer=tokenizer)
    better = name if check == CLEAN else check.better
    assert better is not None
    assert (better == name) == (check == CLEAN)
    assert check_name(better, existing=existing, tokenizer=tokenizer) == CLEAN
    assert find_name_error(better) is None
    assert all(warning.isprintable() for warning in check.warnings)
    prompt = tokenizer.encode(f"a photo, {better}, by night")
    ids = tokenizer.encode(better)
    assert any(prompt[start : start + len(ids)] == ids for start in range(len(prompt)))


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_every_hostile_name_has_a_better_one(name: str) -> None:
    check = check_name(name, existing=HOSTILE, tokenizer=clip_tokenizer())
    assert check.better is not None
    assert check_name(check.better, existing=HOSTILE, tokenizer=clip_tokenizer()) == CLEAN


def test_a_name_as_long_as_a_book() -> None:
    assert grows_by_length(lambda name: check_name(name, existing=["x"], tokenizer=clip_tokenizer()), "ab c" * 200_000)
    check = check_name("abc" * 200_000, tokenizer=clip_tokenizer())
    assert check.error is not None
    assert "too long" in check.error


def test_a_name_among_thousands() -> None:
    existing = [f"style{number}_{number * 7919 % 10007}" for number in range(3000)]
    assert check_name("style", existing=existing, tokenizer=clip_tokenizer()).better == "style_em"
