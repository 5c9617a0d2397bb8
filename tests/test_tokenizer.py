"""The CLIP tokenizer against transformers' slow CLIPTokenizer, ids measured in A1111, and hostile text."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_embedmerge.core.architecture import VOCABULARY_SIZE
from lib_embedmerge.errors import StorageError
from lib_embedmerge.tokenizer import ClipTokenizer, bpe, clip, clip_tokenizer, vocabulary
from lib_embedmerge.tokenizer import repair as repair_module
from lib_embedmerge.tokenizer.characters import ProtectedText, change_known_characters, is_of_unicode_13
from lib_embedmerge.tokenizer.repair import repair
from lib_embedmerge.tokenizer.vocabulary import make_readable

CASES = json.loads((Path(__file__).parent / "data" / "tokenizer_cases.json").read_text(encoding="utf-8"))
TRICKY = [
    pytest.param(text, ids, id=f"{category}: {text!r}".encode("ascii", "backslashreplace").decode())
    for category, cases in CASES["tricky"].items()
    for text, ids in cases
]
A1111 = [
    pytest.param(text, ids, id=repr(text)[:40].encode("ascii", "backslashreplace").decode())
    for text, ids in CASES["a1111"]
]

TOKENIZER = clip_tokenizer()
LETTERS = "éàâÃÂñßÿĳŉ€日本かなカ한글ﬁ"
PIECES = [
    "&",
    "amp;",
    "<",
    "&lt;",
    "#38;",
    "&eacute;",
    "&#195;",
    "Ã",
    "©",
    "ƒ",
    "ﬁ",
    "＆",
    "；",
    "\uff9e",
    "\n",
    " ",
    "\x1b[",
    "0m",
]
SPECIAL_PIECES = [
    "<|endoftext|>",
    "<|startoftext|>",
    "<|ENDOFTEXT|>",
    "<|",
    "|>",
    "endoftext",
    "&lt;",
    " ",
    "\n",
    "a",
    "'s",
]
SINGLE_BYTE = ["latin-1", "cp1252", "cp1251", "cp437", "mac-roman", "cp1250"]

# What the slow tokenizer makes of later characters depends on what is installed; ours: "characters of later Unicode".
any_text = st.text(st.characters().filter(is_of_unicode_13), max_size=60)
damaged_text = st.builds(
    lambda text, encoding, prefix: prefix + text.encode("utf-8", "replace").decode(encoding, "replace"),
    any_text,
    st.sampled_from(SINGLE_BYTE),
    st.sampled_from(["", "日本 ", "ok "]),
)
pieced_text = st.lists(st.sampled_from(PIECES) | st.sampled_from(SPECIAL_PIECES), max_size=40).map("".join)
marked_text = st.text("ae\u0301\u0316\u0334\u0344\u0f73\uff9eか", min_size=60, max_size=300)
texts = any_text | damaged_text | pieced_text | marked_text
token_ids = st.lists(st.integers(0, VOCABULARY_SIZE - 1) | st.integers(0, 511), max_size=12)


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """transformers' slow CLIPTokenizer over the carried vocabulary: the oracle."""
    with warnings.catch_warnings():
        # transformers announces changes that do not matter here, in other versions other ones.
        warnings.simplefilter("ignore")
        tokenizer_class = pytest.importorskip("transformers").CLIPTokenizer
        folder = tmp_path_factory.mktemp("clip")
        known = vocabulary.load_vocabulary()
        ids = {token: token_id for token_id, token in enumerate(known.tokens)}
        merges = [f"{known.tokens[pair >> 16]} {known.tokens[pair & 0xFFFF]}" for pair in known.merges]
        (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        tokenizer = tokenizer_class.from_pretrained(str(folder), clean_up_tokenization_spaces=False)
    assert tokenizer.fix_text is not None
    assert tokenizer.vocab_size == VOCABULARY_SIZE
    return tokenizer


def slow_ids(slow: Any, text: str) -> list[int]:
    return slow(text, add_special_tokens=False, verbose=False).input_ids


# Encode


@pytest.mark.parametrize(("text", "ids"), TRICKY)
def test_tricky_text_has_the_ids_of_the_slow_tokenizer(text: str, ids: list[int]) -> None:
    assert TOKENIZER.encode(text) == ids


@pytest.mark.parametrize(("text", "ids"), A1111)
def test_ids_measured_in_a1111(text: str, ids: list[int]) -> None:
    assert TOKENIZER.encode(text) == ids
    assert TOKENIZER.encode(text.lstrip().lower()) == ids


def test_the_table_is_what_the_installed_transformers_gives(slow: Any) -> None:
    table = [case for cases in CASES["tricky"].values() for case in cases] + CASES["a1111"]
    assert len(table) >= 98
    assert [[text, slow_ids(slow, text)] for text, _ in table] == table


@pytest.mark.parametrize(
    ("text", "same_as"),
    [("\ud800", "\ufffd"), ("a\udc00b", "a\ufffdb"), ("\ud83d\ude00", "😀"), ("\ude00\ud83d", "\ufffd\ufffd")],
    ids=["lone", "inside", "pair", "swapped"],
)
def test_surrogates(slow: Any, text: str, same_as: str) -> None:
    assert TOKENIZER.encode(text) == TOKENIZER.encode(same_as) == slow_ids(slow, text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("\t\n'<|>"), max_size=60))
@settings(max_examples=500)
def test_plain_text_has_the_ids_of_the_slow_tokenizer(slow: Any, text: str) -> None:
    assert TOKENIZER.encode(text) == slow(text, add_special_tokens=False).input_ids


@given(texts)
@settings(max_examples=300, deadline=None)
def test_any_text_has_the_ids_of_the_slow_tokenizer(slow: Any, text: str) -> None:
    assert TOKENIZER.encode(text) == slow_ids(slow, text)


# Characters of later Unicode

LATER = {
    # Each is read in another way by one Python from 3.10 to 3.13, or by one regex, than by another.
    "\ua7d0": [166, 253, 494],  # a capital, of Unicode 14
    "A\ua7d0b": [320, 166, 253, 494, 321],
    "a \ua7c0": [320, 166, 253, 478],
    "\U00010570\U00010571": [172, 238, 243, 108, 172, 238, 243, 365],
    "a\U00010efd\u0301\u0316": [320, 172, 238, 119, 121, 136, 244, 136, 479],  # marks, of Unicode 15
    "\U0001e4ec\u0345\u0301": [172, 252, 241, 105, 136, 479],
    "a\U00011f41\U00011f42b": [320, 172, 239, 121, 223, 172, 239, 121, 480, 321],
    "ΑΣ\ua7d0": [138, 109, 139, 480, 166, 253, 494],  # a sigma, which is another one before a letter
    "Σ\U00010571a": [139, 481, 172, 238, 243, 365, 320],
    "&#xA7D0;": [166, 253, 494],
    "\U0001df00x1": [6874, 120, 478, 343, 272],
    "\U0001fae8 face": [558, 104, 357, 1710],  # an emoji
    "\U0010ffff": [176, 237, 123, 379],
}


@pytest.mark.parametrize("text", LATER, ids=ascii)
def test_later_characters_have_the_same_ids_under_every_python(text: str) -> None:
    """To be run under all of them: the ids are written down."""
    assert not is_of_unicode_13(text) or "&" in text
    assert TOKENIZER.encode(text) == LATER[text]


later = st.characters().filter(lambda one: not is_of_unicode_13(one))


@given(texts, later, texts)
@settings(max_examples=200, deadline=None)
def test_no_table_is_asked_about_later_characters(before: str, one: str, after: str) -> None:
    """All of them are read alike, and in the same way as a character that no table will ever know."""
    never = "\U0010fff0"
    found = list(clip._split_words(before + one + after))
    expected = list(clip._split_words(before + never + after))
    assert [word.replace(one, never) for word in found] == expected


@given(texts, st.lists(later, max_size=3), texts)
@settings(max_examples=100, deadline=None)
def test_later_characters_pass_through_a_change(before: str, some: list[str], after: str) -> None:
    text = before + "".join(some) + after
    seen = []

    def change(known: str) -> str:
        seen.append(known)
        return f"<{known}>"

    assert change_known_characters(text, change) == f"<{text}>"
    assert all(map(is_of_unicode_13, seen))


def test_a_text_of_every_private_character_is_read_all_the_same() -> None:
    text = "".join(map(chr, range(0xF0000, 0x10FFFE))) + "\ua7d0"
    assert ProtectedText(text).text == text
    assert len(TOKENIZER.encode(text)) > len(text)


def test_the_characters_of_unicode_13_are_those_of_the_first_python() -> None:
    known = [c for c in range(0x110000) if is_of_unicode_13(chr(c))]
    assert len(known) == 143_859 + 65 + 2048 + 137_468  # graphic and format, control, surrogates, private
    assert is_of_unicode_13("\U0001f6d7")  # of 13.0
    assert not is_of_unicode_13("\U0001f6dd")  # of 14.0
    if unicodedata.unidata_version == "13.0.0":
        assert known == [c for c in range(0x110000) if unicodedata.category(chr(c)) != "Cn"]


@given(
    st.lists(
        st.sampled_from([t.removesuffix("</w>") for t in vocabulary.load_vocabulary().tokens[512:49406]]), max_size=9
    )
)
@settings(max_examples=120, deadline=None)
def test_words_of_many_merges(slow: Any, spellings: list[str]) -> None:
    byte_of = vocabulary.load_vocabulary().byte_of
    text = b"".join(bytes(byte_of[c] for c in spelling) for spelling in spellings).decode("utf-8", "replace")
    assert TOKENIZER.encode(text) == slow_ids(slow, text)


@pytest.mark.parametrize("letter", ["a", "ab", "日", "😀", "the", "\u0301"])
def test_long_words(slow: Any, letter: str) -> None:
    text = letter * (1500 // len(letter))
    assert TOKENIZER.encode(text) == slow_ids(slow, text)


def test_ten_thousand_letters_take_few_lookups() -> None:
    class Counting(dict[int, Any]):
        lookups = 0

        def get(self, key: int, default: Any = None) -> Any:
            Counting.lookups += 1
            return super().get(key, default)

    known = vocabulary.load_vocabulary()
    symbols = [known.byte_ids[byte] for byte in b"abcdefghij" * 1000]
    assert len(bpe.merge(symbols, Counting(known.merges))) < len(symbols)
    assert Counting.lookups < 6 * len(symbols)


def test_merging_takes_the_lowest_rank_then_the_leftmost() -> None:
    merges = {0 << 16 | 0: 10, 10 << 16 | 0: 11, 0 << 16 | 1: 12, 10 << 16 | 12: 13}
    assert bpe.merge([0, 0, 0], merges) == [11]
    assert bpe.merge([0, 0, 0, 0], merges) == [10, 10]
    assert bpe.merge([0, 0, 1], merges) == [10, 1]
    assert bpe.merge([2, 0, 1], merges) == [2, 12]
    assert bpe.merge([2], merges) == [2]
    assert bpe.merge([], merges) == []


def test_merging_the_bytes_of_a_token_that_ends_a_word_gives_the_token() -> None:
    known = vocabulary.load_vocabulary()  # so a word that is such a token need not be merged
    for token_id in range(TOKENIZER.start_id):
        if known.ends_word(token_id):
            symbols = [known.byte_ids[byte] for byte in known.bytes_of(token_id)]
            symbols[-1] += 256
            assert bpe.merge(symbols, known.merges) == [token_id]


def test_threads_share_one_tokenizer() -> None:
    vocabulary.load_vocabulary.cache_clear()
    tokenizer = ClipTokenizer()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(tokenizer.encode, ["a photo of a cat, schÃ¶n"] * 64))
    assert results == [TOKENIZER.encode("a photo of a cat, schön")] * 64


# Repair


@given(texts)
@settings(max_examples=300, deadline=None)
def test_repair_is_ftfy(text: str) -> None:
    assert repair(text) == ftfy.fix_text(text)


@pytest.mark.parametrize(
    "text", ["Ã" + "ƒ" * 399, "Ã" + "\x83" * 399, "&" + "am&#112;;" * 44], ids=["1252", "c1", "amp"]
)
def test_400_characters_are_repaired_however_many_rounds_it_takes(text: str) -> None:
    assert repair(text) == ftfy.fix_text(text)


@pytest.mark.parametrize("layer", ["amp;", "AMP;", "#38;", "#038;", "#x26;", "#X00026;"])
def test_ampersands_escaped_very_often(layer: str) -> None:
    assert repair("&" + layer * 2000 + "lt;b") == "<b"
    assert repair("<&" + layer * 2000) == "<&" + layer * 2000


LEFT = None
HOSTILE = {
    "chain": ("Ã" + "ƒ" * 19_999, LEFT),
    "chain of controls": ("Ã" + "\x83" * 19_999, LEFT),
    "chain after a width": ("Ã" + "￡" * 19_999, "㣣" + "£" * 19_996),
    "chain in mojibake": ("日本" + ("Ã" + "ƒ" * 6000).encode().decode("cp1252"), LEFT),
    "chains in lines": (("Ã" + "ƒ" * 998 + "\n") * 20, LEFT),
    "chain and bad matches": ("日Ã" + "ƒ" * 6000 + "日Ã\x81" * 4600, LEFT),
    "escaped &": ("&" * 10_000 + "#0038;#38;" * 1000, "&" * 10_000),
    "escaped in turn": ("&" + "am&#112;;" * 2000, "&"),
}


@pytest.mark.parametrize(("text", "repaired"), HOSTILE.values(), ids=HOSTILE)
def test_no_text_is_repaired_round_after_round(text: str, repaired: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fixers = repair_module._load_fixers()
    counting = replace(
        fixers,
        entities=lambda line: (calls.append(len(line)), fixers.entities(line))[1],
        encoding_step=lambda line: (calls.append(len(line)), fixers.encoding_step(line))[1],
    )
    monkeypatch.setattr(repair_module, "_load_fixers", lambda: counting)
    assert repair(text) == (fixers.others(text) if repaired is LEFT else repaired)
    assert sum(calls) + 1000 * len(calls) < 1_500_000


def test_entities_stay_where_the_allowance_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "é &" + "amp;" * 10
    assert repair(text) == "é &"
    monkeypatch.setattr(repair_module, "_ALLOWANCE", 5000)
    assert repair(text) == text


@pytest.mark.parametrize("kept", ["schÃ¶n", "&amp;", "猫 schÃ¶n"])
def test_long_damaged_text_is_repaired(kept: str) -> None:
    text = f"{kept} " * 2500
    assert repair(text) == (ftfy.fix_text(kept) + " ") * 2500


def test_marks_are_put_in_order_before_ftfy_has_to() -> None:
    marks = "\u0301\u0316\u0334\u0344\u0f73\uff9e" * 40
    assert repair(f"a{marks} b") == ftfy.fix_text(f"a{marks} b")
    prepared = repair_module._sort_long_runs_of_marks("a" + "\u0301\u0316" * 100)
    assert prepared == "a" + "\u0316" * 100 + "\u0301" * 100


def test_an_ftfy_without_its_single_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ftfy, "_fix_encoding_one_step_and_explain")
    fixers = repair_module._load_fixers.__wrapped__()
    monkeypatch.undo()
    assert fixers.encoding_step("sÃƒÂ³") == "só"


# Decode and spell


@given(token_ids)
@settings(max_examples=150, deadline=None)
def test_decode_is_the_slow_decode_less_its_strip(slow: Any, ids: list[int]) -> None:
    if "</w>" not in TOKENIZER.decode(ids):
        assert TOKENIZER.decode(ids).strip() == slow.decode(ids)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([], ""),
        ([2368], "cat "),
        ([3537, 2605], "labti "),
        ([2368, 267, 1929], "cat , dog "),
        ([49406, 2368, 49407], "<|startoftext|>cat <|endoftext|>"),
        ([27, 14, 86, 29], "</w>"),
    ],
    ids=["none", "one", "parts", "comma", "specials", "spelled end of word"],
)
def test_decode(ids: list[int], text: str) -> None:
    assert TOKENIZER.decode(ids) == text


def test_decode_shows_broken_bytes() -> None:
    lead, follow = (vocabulary.load_vocabulary().byte_ids[byte] for byte in (0xC3, 0xA9))
    assert TOKENIZER.decode([lead, follow]) == "é"
    assert TOKENIZER.decode([lead]) == "\ufffd"
    assert TOKENIZER.decode([lead + 256, follow]) == "\ufffd \ufffd"


@given(texts)
@settings(max_examples=150, deadline=None)
def test_spelled_ids_encode_to_themselves(text: str) -> None:
    ids = TOKENIZER.encode(text)
    spelled = TOKENIZER.spell(ids)
    assert spelled is None or TOKENIZER.encode(spelled) == ids


@given(st.text("abcdefghijklmnopqrstuvwxyz ABC0123456789.,!?-_'()[]", max_size=80))
@settings(max_examples=120, deadline=None)
def test_plain_text_can_always_be_spelled(text: str) -> None:
    ids = TOKENIZER.encode(text)
    spelled = TOKENIZER.spell(ids)
    assert spelled is not None
    assert TOKENIZER.encode(spelled) == ids


@pytest.mark.parametrize("ids", [pytest.param(one.values[1], id=one.id) for one in TRICKY])
def test_the_table_can_be_spelled(ids: list[int]) -> None:
    assert TOKENIZER.spell(ids) is not None


@given(token_ids)
@settings(max_examples=150, deadline=None)
def test_spell_of_any_ids_is_right_or_none(ids: list[int]) -> None:
    spelled = TOKENIZER.spell(ids)
    assert spelled is None or TOKENIZER.encode(spelled) == ids


@pytest.mark.parametrize(
    "ids", [[3537], [64 + 256 + 256 * 0, 3537], [0xBC]], ids=["inside a word", "unfinished", "byte"]
)
def test_ids_that_no_text_gives_have_no_spelling(ids: list[int]) -> None:
    assert TOKENIZER.spell(ids) is None


# Groups


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("cat, dog", [1, 1, 1]), ("", []), ("labti", [1, 1]), ("\u0378", [2]), ("\U0010ffff", [4])],
    ids=["words", "none", "parts of a word", "two bytes", "four bytes"],
)
def test_groups(text: str, sizes: list[int]) -> None:
    assert [len(group) for group in TOKENIZER.groups(TOKENIZER.encode(text))] == sizes


@given(texts)
@settings(max_examples=150, deadline=None)
def test_groups_of_a_text_are_whole_characters(text: str) -> None:
    ids = TOKENIZER.encode(text)
    groups = TOKENIZER.groups(ids)
    assert [token_id for group in groups for token_id in group] == ids
    whole = TOKENIZER.decode(ids)
    assert "".join(map(TOKENIZER.decode, groups)) == whole
    assert sum(TOKENIZER.decode(group).count("\ufffd") for group in groups) == whole.count("\ufffd")


@given(token_ids)
@settings(max_examples=150, deadline=None)
def test_groups_of_any_ids(ids: list[int]) -> None:
    groups = TOKENIZER.groups(ids)
    assert [token_id for group in groups for token_id in group] == ids
    for group in groups:
        assert len(group) == 1 or "\ufffd" not in TOKENIZER.decode(group)


def test_rubbish_falls_apart_and_what_follows_stays_whole() -> None:
    lead_of_four, follow = (vocabulary.load_vocabulary().byte_ids[byte] for byte in (0xF0, 0x9F))
    e_acute = [vocabulary.load_vocabulary().byte_ids[byte] for byte in "é".encode()]
    ids = [follow, follow, lead_of_four, follow, *e_acute, 2368, lead_of_four, lead_of_four, follow]
    assert TOKENIZER.groups(ids) == [
        [follow],
        [follow],
        [lead_of_four],
        [follow],
        e_acute,
        [2368],
        [lead_of_four],
        [lead_of_four],
        [follow],
    ]
    assert TOKENIZER.groups([follow] * 5000) == [[follow]] * 5000


def test_a_word_that_ends_inside_a_character_is_rubbish() -> None:
    lead, follow = (vocabulary.load_vocabulary().byte_ids[byte] for byte in (0xC3, 0xA9))
    assert TOKENIZER.groups([lead + 256, follow]) == [[lead + 256], [follow]]


# Vocabulary


def test_vocabulary_is_complete_and_unique() -> None:
    known = vocabulary.load_vocabulary()
    assert len(known.tokens) == len(set(known.tokens)) == TOKENIZER.vocabulary_size == VOCABULARY_SIZE
    assert len(known.merges) == 48_894
    assert list(known.merges.values()) == list(range(512, 49_406))
    # What bpe.merge relies on: a merge is made of tokens that were there before it.
    assert all(max(pair >> 16, pair & 0xFFFF) < merged for pair, merged in known.merges.items())
    assert all(
        known.tokens[pair >> 16] + known.tokens[pair & 0xFFFF] == known.tokens[m] for pair, m in known.merges.items()
    )


def test_ids_that_have_names() -> None:
    assert TOKENIZER.token(TOKENIZER.start_id) == "<|startoftext|>"
    assert TOKENIZER.token(TOKENIZER.end_id) == "<|endoftext|>"
    assert TOKENIZER.token(TOKENIZER.comma_id) == ",</w>"
    assert TOKENIZER.encode(",") == [TOKENIZER.comma_id]
    assert (TOKENIZER.token(0), TOKENIZER.token(256), TOKENIZER.token(2368)) == ("!", "!</w>", "cat</w>")


@pytest.mark.parametrize(
    ("token_id", "ends"),
    [(0, False), (255, False), (256, True), (511, True), (2368, True), (3537, False), (49406, False)],
)
def test_ends_word(token_id: int, ends: bool) -> None:
    assert TOKENIZER.ends_word(token_id) is ends


@pytest.mark.parametrize("token_id", [-1, VOCABULARY_SIZE, 10**9])
@pytest.mark.parametrize("method", ["token", "ends_word", "decode", "groups", "spell"])
def test_ids_outside_the_vocabulary(method: str, token_id: int) -> None:
    argument = token_id if method in {"token", "ends_word"} else [2368, token_id]
    with pytest.raises(IndexError, match="not within 0 to 49407"):
        getattr(TOKENIZER, method)(argument)


@pytest.mark.parametrize("fault", ["missing", "empty", "short", "not gzip", "other text"])
def test_damaged_installation(fault: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed = vocabulary.MERGES_FILE.read_bytes()
    content = {"empty": b"", "short": packed[:1000], "not gzip": b"PK" + packed, "other text": gzip.compress(b"i n\n")}
    path = tmp_path / "merges.txt.gz"
    if fault != "missing":
        path.write_bytes(content[fault])
    monkeypatch.setattr(vocabulary, "MERGES_FILE", path)
    with pytest.raises(StorageError, match=r"^merges\.txt\.gz of EmbedMerge") as caught:
        vocabulary.load_vocabulary.__wrapped__()
    assert caught.value.hint == "Install EmbedMerge again."
    assert str(tmp_path) not in caught.value.message


def test_merges_are_made_for_the_first_word_that_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = vocabulary.load_vocabulary.__wrapped__()
    monkeypatch.setattr(clip, "load_vocabulary", lambda: fresh)
    monkeypatch.setattr(clip, "_encode_word_cached", clip._encode_word_uncached)
    assert TOKENIZER.encode("a photo of a cat, 8 dogs!") and "merges" not in vars(fresh)
    assert len(TOKENIZER.encode("rutkowski")) > 1 and "merges" in vars(fresh)


@given(st.lists(st.sampled_from([*LETTERS, "a", "Z", " ", "1", "'", "-", "\t", "&", ";", "(", "~"]), max_size=40))
def test_what_needs_no_repair_is_what_ftfy_leaves(characters: list[str]) -> None:
    text = "<" + "".join(characters)  # after which & is a character
    if repair_module._PLAIN.fullmatch(text):
        assert ftfy.fix_text(text) == text


@pytest.mark.parametrize("first", range(0x80, 0x110000, 0x1000))
def test_every_letter_that_needs_no_repair_is_left_by_ftfy(first: int) -> None:
    for code in range(first, min(first + 0x1000, 0x110000)):
        for text in (
            chr(code),
            f"a{chr(code)}b",
            f" {chr(code)} ",
            f"'{chr(code)}'",
            f"{chr(code)}1",
            f"({chr(code)})",
        ):
            if repair_module._PLAIN.fullmatch(text):
                assert ftfy.fix_text(text) == text


def test_python_without_regex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "regex", None)
    with pytest.raises(StorageError, match="regex") as caught:
        clip._load_patterns.__wrapped__()
    assert caught.value.hint == "Install it: pip install regex"


def test_python_without_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its repair changes no plain text, which therefore does not need it."""
    monkeypatch.setitem(sys.modules, "ftfy", None)
    monkeypatch.setattr(repair_module, "_load_fixers", repair_module._load_fixers.__wrapped__)
    assert repair("a photo of a 'cat', 100% <b> & c\n") == "a photo of a 'cat', 100% <b> & c\n"
    for text in ("caf\u00e9, K\u00e4tzchen-\u732b \u304b\u306a", "\ud55c\uae00 na\u00efve"):
        assert repair(text) == text
    for text in ("\u201cquoted\u201d", "&amp;", "\u00c3\u00a9", "\ufb01sh", "\uff21"):
        with pytest.raises(StorageError, match="ftfy") as caught:
            repair(text)
        assert caught.value.hint == "Install it: pip install ftfy"


@pytest.mark.process
def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys; import lib_embedmerge.tokenizer as t; t.clip_tokenizer();"
        "print([m for m in ('ftfy', 'regex', 'torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("cat", "cat"), ("⭐", "⭐"), ("é", "é"), ("_", "_"), ("<|endoftext|>", "<|endoftext|>")],
)
def test_tokens_are_read_as_text(text: str, shown: str) -> None:
    tokenizer = clip_tokenizer()
    spelled = [tokenizer.token(token) for token in tokenizer.encode(text)]
    assert [make_readable(one) for one in spelled][:1] == [shown]


def test_every_token_is_read_as_text() -> None:
    tokenizer = clip_tokenizer()
    for index in range(tokenizer.vocabulary_size):
        shown = make_readable(tokenizer.token(index))
        whole = tokenizer.decode([index]).removesuffix(" ") if tokenizer.ends_word(index) else tokenizer.decode([index])
        assert shown == whole or ("\ufffd" in whole and "\\x" in shown)
    assert make_readable("âŃĲ</w>") == "⭐"
    assert make_readable("#49408") == "#49408"
