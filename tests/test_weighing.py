"""What each token of a prompt matters, and prompts shortened by it."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy
import pytest
import torch
from effect_models import write_model
from hypothesis import given
from hypothesis import strategies as st

from lib_embedmerge import open_checkpoint, parse
from lib_embedmerge.actions.measuring_effect import EffectRequest, open_metered
from lib_embedmerge.actions.meter import measure_yardstick
from lib_embedmerge.actions.shortening import shorten
from lib_embedmerge.actions.weighing_tokens import LeavingOut, Piece, correlate_ranks, weigh_tokens
from lib_embedmerge.cli import main
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.outliners import make_outliner_without_model
from lib_embedmerge.core.parts import find_parts
from lib_embedmerge.core.phrases import choose_to_drop, split_phrases, split_words
from lib_embedmerge.core.position_matching import match_positions
from lib_embedmerge.core.token_spans import find_token_spans
from lib_embedmerge.errors import StorageError
from lib_embedmerge.lang.source import parse_prompt
from lib_embedmerge.tokenizer import clip_tokenizer

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("weighing") / "a.safetensors"))


# Positions


def test_a_token_left_out_is_beside_padding() -> None:
    partners = match_positions([["a", "b", "c"]], [["a", "c"]])
    assert partners[:5] == [0, 1, 4, 2, 3]  # b is beside the first padding that is left
    assert sorted(partners) == list(range(77))
    assert partners[5:] == list(range(5, 77))


@given(st.lists(st.integers(0, 3), max_size=150), st.data())
def test_partners_are_a_permutation_of_equal_vectors(ids: list[int], data: st.DataObject) -> None:
    kept = [key for key in ids if data.draw(st.booleans())]
    ours = [ids[:75], ids[75:]]
    theirs = [kept[:75], kept[75:]]
    partners = match_positions(ours, theirs)
    assert sorted(partners) == list(range(154))
    keys = {77 * chunk + 1 + at: key for chunk, some in enumerate(theirs) for at, key in enumerate(some)}
    matched = 0
    for chunk, some in enumerate(ours):
        assert partners[77 * chunk] == 77 * chunk
        assert partners[77 * chunk + len(some) + 1] == 77 * chunk + len(theirs[chunk]) + 1
        matched += sum(keys.get(partners[77 * chunk + 1 + at]) == key for at, key in enumerate(some))
    assert matched >= len(kept) // 2  # what is left is a part of what was there


def spans(text: str) -> list[tuple[str, str]]:
    source = parse(text)
    parts = find_parts(source, make_outliner_without_model(clip_tokenizer()), "tokens")
    return [
        (part.text, text[start:end]) for part, (start, end) in zip(parts, find_token_spans(source, parts), strict=True)
    ]


def test_tokens_are_found_in_the_text() -> None:
    assert spans("A Photo  cats-eye, cat") == [
        ("a", "A"), ("photo", "Photo"), ("cats", "cats"), ("-", "-"), ("eye", "eye"), (",", ","), ("cat", "cat"),
    ]  # fmt: skip
    pieces = spans("embedmerging <'cat'*2> naïve")
    assert "".join(text for _, text in pieces[:-2] if "<" not in text).startswith("embedmerging")
    assert ("'cat'*2", "<'cat'*2>") in pieces


# Tokens


def test_an_effect_is_what_the_model_loses(model: str) -> None:
    text = "red dress, castle"
    found = weigh_tokens(text, model)
    assert [(one.token, text[one.start : one.end]) for one in found] == [
        ("red", "red"), ("dress", "dress"), (",", ","), ("castle", "castle"),
    ]  # fmt: skip
    (metered,) = open_metered([model], EffectRequest())
    (encoder,) = metered.model.encoders
    vectors = {"clip_l": to_numpy(encoder.vectors(encoder.tokenizer.encode(text)))}
    whole, shorter, unrelated = metered.states(
        [
            metered.make_chunks(vectors),
            metered.make_chunks({key: numpy.delete(rows, 1, axis=0) for key, rows in vectors.items()}),
            metered.make_yardstick_chunks(),
        ]
    )
    metric = metered.metric_with(metered)
    yardstick = measure_yardstick(metric, unrelated, unrelated).states
    ours, theirs = whole["hidden"][0], shorter["hidden"][0]
    # red , castle END padding... and dress beside the padding that is left
    order = [0, 1, 5, 2, 3, 4, *range(6, 77)]
    expected = (metric.states.measure(ours, theirs[order]).mean() ** 0.5) / yardstick
    assert found[1].effect == pytest.approx(expected, rel=1e-5)


def test_estimates_are_gradients(model: str) -> None:
    (metered,) = open_metered([model], EffectRequest())
    (encoder,) = metered.model.encoders
    vectors = {"clip_l": torch.as_tensor(encoder.vectors(encoder.tokenizer.encode("red dress, castle")))}
    leaving = LeavingOut(metered, vectors)
    found = leaving.estimate([Piece(0, 1), Piece(1, 1), Piece(0, 2)])
    metric = metered.metric_with(metered).states
    empty = metered.states([[metered.make_empty_chunk()]])[0]["hidden"][0]
    unrelated = metered.states([metered.make_yardstick_chunks()])[0]
    yardstick = measure_yardstick(metered.metric_with(metered), unrelated, unrelated).states
    padding = torch.as_tensor(encoder.vectors([encoder.padding_id]))[0]

    def distance(share: float) -> float:
        moved = vectors["clip_l"].clone()
        moved[1] += share * (padding - moved[1])
        states = metered.states([metered.make_chunks({"clip_l": moved})])[0]["hidden"][0]
        return float(metric.measure(states, empty).sum())

    slope = (distance(0.05) - distance(-0.05)) / 0.1
    assert found[1] == pytest.approx((abs(slope) / 77) ** 0.5 / yardstick, rel=0.05)
    assert len(found) == 3


def test_a_prompt_of_two_chunks(model: str) -> None:
    found = weigh_tokens(", ".join(["cat"] * 40), model)
    assert len(found) == 79
    assert all(one.effect > 0 for one in found)


def test_an_expression_is_weighed_by_vectors(model: str) -> None:
    found = weigh_tokens("'red dress'*2", model)
    assert [(one.start, one.end) for one in found] == [(0, 13), (0, 13)]


def test_places_are_those_in_the_typed_text(model: str) -> None:
    text = "(red:1.3) dress"
    assert [text[one.start : one.end] for one in weigh_tokens(text, model)] == ["red", "dress"]


def test_no_tokens(model: str) -> None:
    with pytest.raises(StorageError, match="no tokens"):
        weigh_tokens("", model)


def test_rank_correlation() -> None:
    assert correlate_ranks([1, 2, 3], [10, 20, 90]) == pytest.approx(1)
    assert correlate_ranks([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert correlate_ranks([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9487, abs=1e-4)
    assert correlate_ranks([1, 1], [1, 2]) is None


# Shortening


def test_phrases_and_words() -> None:
    source = parse_prompt("a cat, <'dog, big'>s ,, soft light,")
    assert split_phrases(source) == ["a cat", "<'dog, big'>s", "soft light"]
    assert split_words(parse_prompt("a  <'dog, big'>s, soft")) == ["a", "<'dog, big'>s,", "soft"]
    assert split_words(parse_prompt("x<'a'><'b'> y")) == ["x<'a'><'b'>", "y"]


@given(st.lists(st.tuples(st.integers(1, 6), st.floats(0, 10)), min_size=1, max_size=7), st.integers(1, 20))
def test_the_cheapest_choice_is_found(pieces: list[tuple[int, float]], excess: int) -> None:
    sizes, costs = [size for size, _ in pieces], [cost for _, cost in pieces]
    found = choose_to_drop(sizes, costs, excess)
    choices = [
        choice
        for count in range(1, len(pieces) + 1)
        for choice in combinations(range(len(pieces)), count)
        if sum(sizes[index] for index in choice) >= excess
    ]
    if not choices:
        assert found == []
        return
    assert sum(sizes[index] for index in found) >= excess
    assert sum(costs[index] for index in found) == pytest.approx(
        min(sum(costs[index] for index in choice) for choice in choices)
    )


def test_whole_phrases_go_first(model: str) -> None:
    phrases = ["red dress", "castle at night", "a robot", "sunset", "dragon", "watercolor"]
    found = shorten(", ".join(phrases), model, 10)
    kept = found.text.split(", ")
    assert set(kept) | set(found.dropped) == set(phrases)
    assert kept == [phrase for phrase in phrases if phrase in kept]
    assert found.vectors <= 10
    assert found.before == 15
    assert found.effect > 0
    assert found.cutting > 0
    counted = open_checkpoint(model).build(found.text, name="x").count
    assert counted == found.vectors


def test_150_tokens_become_75(model: str) -> None:
    words = ["red", "blue", "green", "cat", "dog", "tree", "house", "river", "stone", "cloud"]
    prompt = ", ".join(f"{first} {second}" for first in words for second in words[:5])
    found = shorten(prompt, model)
    assert found.before == 149
    assert 60 <= found.vectors <= 75
    assert found.effect <= found.cutting * 1.1


def test_words_go_if_there_are_no_phrases(model: str) -> None:
    found = shorten("a red cat and a blue dog in the garden", model, 5)
    assert found.vectors == 5
    assert len(found.dropped) == 5


def test_brackets_stay_as_they_were_read(model: str) -> None:
    found = shorten(r"(red:1.2) \(dress\), castle, sunset", model, 6)
    assert found.vectors <= 6
    assert ":1.2" not in found.text


def test_a_text_that_fits(model: str) -> None:
    found = shorten("a cat", model)
    assert (found.text, found.dropped, found.effect) == ("a cat", (), 0.0)


@pytest.mark.parametrize(
    ("text", "most", "message"),
    [("'cat'", 75, "Only a prompt"), ("a cat", 0, "shortened to 0"), ("a cat", 76, "shortened to 76")],
)
def test_what_cannot_be_shortened(model: str, text: str, most: int, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        shorten(text, model, most)


def test_one_word_of_many_tokens(model: str) -> None:
    with pytest.raises(StorageError, match="No part of this text"):
        shorten("supercalifragilisticexpialidocious", model, 2)


def test_the_commands(model: str, capsys: Captured, tmp_path: Path) -> None:
    assert main(["tokens", "red dress", "--checkpoint", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [set(one) for one in found] == [{"token", "start", "end", "effect", "quick"}] * 2
    assert main(["tokens", "red dress", "--checkpoint", model]) == 0
    drawn = capsys.readouterr().out
    assert drawn.startswith("red dress")
    assert "Rank correlation of estimates and effects" in drawn
    asked = ["shorten", "red dress, castle, robot", "--checkpoint", model, "--vectors", "3"]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"text", "vectors", "before", "dropped", "effect", "cutting"}
    assert main(asked) == 0
    assert "cut instead" in capsys.readouterr().out
    assert main(["shorten", "cat", "--checkpoint", model]) == 0
    assert "fits as it is" in capsys.readouterr().out
