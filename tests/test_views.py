"""Each view with ordinary, empty and hostile values; hypothesis puts any text and number everywhere."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_views_harmless import check

import lib_embedmerge
from lib_embedmerge.actions.saving_values import NameReport, Saved, SavedFile
from lib_embedmerge.actions.values import Answer, EncoderFigures, Inspection, PartFigures, Status, VectorFigures
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.parts import Part
from lib_embedmerge.core.ports import NearestToken
from lib_embedmerge.core.statistics import LengthBand, VectorStatistics
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.errors import EmbedMergeError, ExpressionError, HostError, format_count
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.doctor import Flaw
from lib_embedmerge.recipes.fit import Distance, Fit
from lib_embedmerge.ui.html import HUES, answer_to, exact, figure, join, more, plain, text
from lib_embedmerge.ui.views.answer_view import answer_view
from lib_embedmerge.ui.views.composition import describe_composition
from lib_embedmerge.ui.views.error_view import error_view
from lib_embedmerge.ui.views.examples import EXAMPLES, examples_view
from lib_embedmerge.ui.views.inspection_view import fix_button, inspection_view
from lib_embedmerge.ui.views.lengths import describe_lengths, judge_length
from lib_embedmerge.ui.views.lengths_plot import draw_lengths_plot
from lib_embedmerge.ui.views.name_view import name_view
from lib_embedmerge.ui.views.parts_view import MAX_CHIPS
from lib_embedmerge.ui.views.saved_view import saved_view
from lib_embedmerge.ui.views.status_view import status_view
from lib_embedmerge.ui.views.strips import MAX_CELLS, draw_strip
from lib_embedmerge.ui.views.vectors_view import MAX_ROWS, PART_COLUMNS, vectors_view

NAN, INF = float("nan"), float("inf")
EVIL = "<img src=x onerror=alert(1)>\u202e\"'><script>&lt;\r\n\0\ud800 onload='x"
LONG = "<b>\u202e'\"" * 150_000  # just over 1 MB
BAND = LengthBand(0.3, 0.4, 0.5)
STYLE = (Path(lib_embedmerge.__file__).parents[1] / "style.css").read_text(encoding="utf-8")


def stats(length: float) -> VectorStatistics:
    return VectorStatistics(-0.0512345678, 0.04, 1234.6, 7.654, length, 0.0143)


def vector(number: int, length: float = 0.4, **changes: Any) -> VectorFigures:
    usual = BAND.low <= length <= BAND.high
    near = (NearestToken(7, "cat</w>", 1.0), NearestToken(8, "art", -0.25))
    made = VectorFigures(number, 0, "cat</w>", stats(length), math.isfinite(length), usual, near, (0.0, 0.5, -1.0))
    return replace(made, **changes)


def part(name: str = "cat", count: int = 1, first: int = 0) -> PartFigures:
    return PartFigures(Part("text", name, tuple(range(count)), first), stats(0.4))


def encoder(*vectors: VectorFigures, **changes: Any) -> EncoderFigures:
    made = EncoderFigures("clip_l", "CLIP-L", 768, BAND, 0.1, (part(),), vectors or (vector(1),))
    return replace(made, **changes)


# What the views share


def test_text_is_isolated_escaped_and_made_visible() -> None:
    assert text("a<b\u202e") == "<bdi>a&lt;b\\u202e</bdi>"
    assert text("abcdef", 3) == '<bdi>abc…</bdi> <span class="embedmerge-quiet">(6 characters)</span>'
    assert plain("abcdef", 3) == "abc… (6 characters)"
    assert plain("a\nb") == "a\\nb"


@given(st.text() | st.sampled_from([EVIL, "\r\n", "a\rb"]))
def test_exact_texts_come_back_from_an_attribute(value: str) -> None:
    (found,) = check(f'<p data-embedmerge-text="{exact(value)}">a</p>').values("data-embedmerge-text")
    assert found == re.sub("[\0\ud800-\udfff]", "\ufffd", value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (0.123456, "0.1235"),
        (-12.3456, "−12.35"),
        (1234.5678, "1,235"),
        (12345678.0, "1.235e+07"),
        (1e-5, "1.000e−05"),
        (NAN, "NaN"),
        (INF, "∞"),
        (-INF, "−∞"),
    ],
)
def test_figures_have_four_digits(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_counting_and_joining() -> None:
    assert [format_count(n, "vector") for n in (0, 1, 1200)] == ["0 vectors", "1 vector", "1,200 vectors"]
    assert join([text("a"), text("b")], "<") == "<bdi>a</bdi>&lt;<bdi>b</bdi>"
    assert more(0, "part") == more(-1, "part") == ""
    assert check(more(2, "part")).text == "and 2 parts more"


# Status


def test_status_is_one_line_with_notes() -> None:
    status = Status("Noob", "SDXL", "v", ("CLIP-L 768", "CLIP-G 1280"), "the loaded model", ("Careful.",))
    page = check(status_view(status))
    assert page.text == (
        "NoobSDXLprediction vtext encoders CLIP-L 768, CLIP-G 1280vectors from the loaded modelCareful."
    )
    assert "status" in page.values("role")


def test_status_of_nothing_and_of_an_error() -> None:
    assert check(status_view(Status())).text == "No model"
    page = check(status_view(Status(error=HostError("No model here.", hint="Load one."))))
    assert page.text == "No model here.Hint Load one."


# Errors


def test_an_error_marks_its_place_as_a_terminal_does() -> None:
    error = ExpressionError("Not closed.", source="ab\n 'cat + x", start=4, end=8, expected="a quote", hint="Write it.")
    page = check(error_view(error))
    assert page.text == "Not closed.Line 2 'cat + x\n ^^^^Expected a quoteHint Write it."
    shown, carets = page.text.partition("Line 2")[2].split("Expected")[0].split("\n")
    assert error.render().split("\n")[1:3] == [f"  {shown}", f"  {carets}"]
    assert page.values("role") == ["alert"]
    assert check(error_view(error, "status")).values("role") == ["status"]


@pytest.mark.parametrize(
    ("source", "start", "end", "line"),
    [
        ("", 0, 0, "\n^"),
        ("abc", 3, 3, "abc\nabc^"),
        ("a\tb\u202ec", 4, 5, "a b c\na b ^"),
        ("x" * 200, 100, 190, "…" + "x" * 100 + "…\n…" + "x" * 50 + "^" * 50),
        ("ab\ncd", 0, 5, "Line 1ab\n^^"),
    ],
    ids=["empty", "end", "control", "long", "over lines"],
)
def test_places(source: str, start: int, end: int, line: str) -> None:
    page = check(error_view(ExpressionError("No.", source=source, start=start, end=end)))
    assert page.text == f"No.{line}"


@given(st.text(max_size=300), st.integers(0, 300), st.integers(0, 300))
def test_any_place_in_any_text_can_be_drawn(source: str, start: int, length: int) -> None:
    start = min(start, len(source))
    check(error_view(ExpressionError("No.", source=source, start=start, end=min(len(source), start + length))))


# Answer


def test_an_answer_counts_and_shows_its_parts() -> None:
    parts = (
        Part("text", "a cat", (320, 2368), 0),
        Part("embedding", "my-style", (None, None), 2),
        Part("expression", "'a'+'b'", (None, 7), 4),
    )
    page = check(answer_view(Answer("...", "prompt", 6, 75, "parts", parts, None, ("Note this.",))))
    assert page.values("style") == ["width:8%"]
    assert page.values("aria-label")[0] == "6 of 75 vectors"
    assert page.text == "6/75promptNote this.a cat×2320 2368my-style×2embedding'a'+'b'×2expression – 7"
    classes = " ".join(page.values("class"))
    for kind in ("text", "embedding", "expression"):
        assert f"embedmerge-of-{kind}" in classes
    assert "a cat\nvectors 1 to 2\ntokens 320 2368" in page.values("title")


def test_too_many_vectors_are_a_warning_in_words() -> None:
    page = check(answer_view(Answer("...", "expression", 76, 75, "none")))
    assert page.text == "76/75expression, 1 vector too many for one embeddingSplit into 2"
    assert "embedmerge-counter embedmerge-over" in page.values("class")
    assert page.values("style") == ["width:100%"]


def test_nothing_and_a_mistake() -> None:
    assert check(answer_view(Answer("", "nothing", 0, 75, "parts"))).text == "0/75no text yet"
    error = ExpressionError("Not closed.", source="'a", start=0, end=2)
    page = check(answer_view(Answer("'a", "expression", 0, 75, "parts", (), error)))
    assert page.text == "0/75expressionNot closed.'a\n^^"
    assert "alert" not in page.values("role")


def test_generation_info_can_be_taken_apart() -> None:
    page = check(answer_view(Answer("...", "prompt", 5, 75, "parts"), "<'a'>\r\n"))
    assert page.values("data-embedmerge-action") == ["edit"]
    assert page.values("data-embedmerge-text") == ["<'a'>\r\n"]
    assert "data-embedmerge-action" not in answer_view(Answer("...", "prompt", 5, 75, "parts"), None)


def test_chips_are_capped() -> None:
    parts = tuple(Part("text", f"word{place}", (place,), place) for place in range(5000))
    markup = answer_view(Answer("...", "prompt", 5000, 75, "tokens", parts))
    page = check(markup)
    assert page.values("role").count("listitem") == MAX_CHIPS
    assert page.text.endswith("and 4,700 parts more")
    assert len(markup.encode()) < 120_000
    one = Part("text", "x", tuple(range(5000)), 0)
    assert len(answer_view(Answer("...", "prompt", 5000, 75, "none", (one,)))) < 3_000


def test_a_part_without_vectors() -> None:
    page = check(answer_view(Answer("'':0", "expression", 0, 75, "parts", (Part("expression", "'':0", (), 0),))))
    assert page.text == "0/75expression'':0×0expression"


# Vectors


@pytest.mark.parametrize(
    ("seen", "band", "word"),
    [
        (vector(1, 0.4), BAND, ""),
        (vector(1, 0.6), BAND, "long"),
        (vector(1, 0.2), BAND, "short"),
        (vector(1, 0.0), BAND, "zero"),
        (vector(1, NAN), BAND, "NaN"),
        (vector(1, INF), BAND, "infinite"),
        (vector(1, 9.0, length_is_usual=None), None, ""),
        (vector(1, 9.0), None, ""),
    ],
)
def test_verdicts(seen: VectorFigures, band: LengthBand | None, word: str) -> None:
    assert judge_length(seen, encoder(seen, band=band)) == word


def test_what_is_unusual_is_told_in_words() -> None:
    lengths = (0.4, 0.9, 0.1, 0.0, NAN, INF, 0.8)
    unusual = encoder(*(vector(number, length) for number, length in enumerate(lengths, 1)))
    assert describe_lengths(unusual) == [
        "Longer than usual: 2, 7.",
        "Shorter than usual: 3.",
        "Zero (no effect): 4.",
        "Not a number: 5.",
        "Infinite: 6.",
    ]
    page = check(vectors_view([unusual]))
    assert " ".join(describe_lengths(unusual)) in page.text
    classes = page.values("class")
    assert classes.count("embedmerge-ring") == 4
    assert classes.count("embedmerge-cross") == 2
    assert classes.count("embedmerge-badge") == 6
    assert classes.count("embedmerge-bad") == 1  # the words of crosses side by side would lie over each other


def test_what_is_usual_is_told_too() -> None:
    assert describe_lengths(encoder()) == ["No length is far from usual for this model."]
    assert describe_lengths(encoder(band=None)) == ["No model is loaded to compare the lengths with."]
    assert describe_lengths(EncoderFigures("clip_l", "CLIP-L", 768, BAND, 0.1, (), ())) == []
    many = encoder(*(vector(number, 0.9) for number in range(1, 20)))
    assert describe_lengths(many) == ["Longer than usual: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 7 more."]


COMPOSITIONS = {
    # nearest tokens with their cosines, length beside a usual one of 0.4: the sentence
    "mostly": (
        ((0.89, "cat</w>"), (0.39, "dog</w>"), (0.1, "x</w>")), 0.44,
        "Mostly cat (0.89), some dog (0.39); as strong as a usual word.",
    ),
    "halves": (
        ((0.71, "cat</w>"), (0.70, "dog</w>")), 0.58,
        "Much cat (0.71), much dog (0.70); a little stronger than a usual word.",
    ),
    "a piece": (((0.8, "art"),), 0.3, "Mostly art… (0.80); a little weaker than a usual word."),
    "none": (((0.19, "cat</w>"),), 9.0, "Like no word of the model; much stronger than a usual word."),
    "weak": (((1.0, "cat</w>"),), 0.1, "Mostly cat (1.00); much weaker than a usual word."),
    "zero": ((), 0.0, "Like no word of the model; no effect, because it is zero."),
    "NaN": ((), NAN, "Like no word of the model."),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_what_a_vector_is_in_words(name: str) -> None:
    tokens, length, sentence = COMPOSITIONS[name]
    nearest = tuple(NearestToken(place, token, cosine) for place, (cosine, token) in enumerate(tokens))
    assert describe_composition(encoder(vector(1, length, token=None, nearest=nearest))) == [sentence]


def test_what_several_vectors_are_in_words() -> None:
    def describe(*tokens: str | None) -> list[str]:
        return describe_composition(encoder(*(vector(n, 0.4, token=token) for n, token in enumerate(tokens, 1))))

    assert describe("cat</w>") == ["Exactly the token cat."]
    assert describe("cat</w>", "art") == ["Each vector is a token of the model."]
    assert describe("cat</w>", None) == [
        "Vector 2: mostly cat (1.00); as strong as a usual word.",
        "The others are tokens of the model.",
    ]
    assert describe(*[None] * 5)[-1] == "2 other vectors are mixtures too."
    assert describe_composition(encoder(band=None)) == []


def test_a_remedy_is_offered_where_the_strength_is_unusual() -> None:
    strong = encoder(vector(1, 0.9, token=None))
    page = check(vectors_view([strong], "'cat'*2 "))
    assert "norm('cat'*2)" in page.values("data-embedmerge-text")
    for markup in (vectors_view([strong]), vectors_view([encoder(vector(1, 0.4, token=None))], "'cat'")):
        assert check(markup).values("data-embedmerge-text") == []


def test_a_length_far_out_leaves_the_plot_at_its_top() -> None:
    page = check(draw_lengths_plot(encoder(vector(1, 0.4), vector(2, 1e9))))
    marks = [tag for tag, attributes in page.found if "embedmerge-mark" in attributes.get("class", "")]
    assert marks == ["circle", "path"]
    heights = [float(attributes["cy"]) for tag, attributes in page.found if tag == "circle"]
    assert 26 < heights[0] < 170  # the usual one is not pressed to the floor


@pytest.mark.parametrize("band", [None, LengthBand(0, 0, 0), LengthBand(NAN, NAN, NAN), LengthBand(0, 1e-320, 1e308)])
@pytest.mark.parametrize("lengths", [(), (0.0,), (NAN,), (5e-324, 1e308), (INF, -INF), (0.4, 0.5)])
def test_plots_of_anything(band: LengthBand | None, lengths: tuple[float, ...]) -> None:
    vectors = tuple(vector(number, length, part=99) for number, length in enumerate(lengths, 1))
    markup = draw_lengths_plot(EncoderFigures("clip_l", "CLIP-L", 768, band, 0.1, (), vectors))
    page = check(markup)
    assert len([tag for tag, _ in page.found if tag == "g"]) == len(lengths)
    for name in ("x", "y", "cx", "cy", "width", "height"):
        assert all(-20 <= float(value) <= 800 for value in page.values(name))


def test_the_table_of_parts_has_the_columns_of_em() -> None:
    parts = (part("a cat", 2), part("none", 0, 2), part("x", 1, 2))
    page = check(vectors_view([encoder(parts=parts)]))
    assert "".join(PART_COLUMNS) in page.text
    assert "1–2a cat0 12−0.051230.040001,2357.6540.40000.01430" in page.text
    assert "–none0" in page.text
    assert "-0.0512345678" in page.values("title")
    assert page.values("scope").count("col") == 14
    assert page.values("scope").count("row") == 4


def test_a_vector_shows_its_token_and_the_nearest_others() -> None:
    assert "catart… −0.25" in check(vectors_view([encoder()])).text.replace(" art", "art")
    unknown = encoder(vector(1, token=None))
    assert "cat 1.00 art… −0.25" in check(vectors_view([unknown])).text
    nothing = encoder(vector(1, token=None, nearest=()))
    assert "1none" in check(vectors_view([nothing])).text
    assert "<strong><bdi>art</bdi>…</strong>" in vectors_view([encoder(vector(1, token="art"))])


def test_hidden_vectors_are_told_and_rows_capped() -> None:
    assert "and 130 vectors more" in check(vectors_view([encoder(hidden=130)])).text
    many = encoder(*(vector(number) for number in range(1, 502)), parts=(part(),) * 501, hidden=9)
    page = check(vectors_view([many]))
    assert "and 201 parts more" in page.text
    assert "and 210 vectors more" in page.text
    assert page.values("scope").count("row") == 2 * MAX_ROWS
    assert check(vectors_view([])).text == ""


def test_two_full_encoders_stay_small() -> None:
    strip = tuple(math.sin(place * place) for place in range(256))
    near = tuple(NearestToken(place, "masterpiece</w>", 0.123456789) for place in range(5))
    vectors = tuple(vector(n, 0.4 + n / 1000, strip=strip, nearest=near, part=n - 1) for n in range(1, 76))
    parts = tuple(part("masterpiece", 1, n) for n in range(75))
    full = encoder(*vectors, parts=parts)
    markup = vectors_view([full, full])
    check(markup)
    assert len(markup.encode()) < 300_000


# Strips


def picture(strip: tuple[float, ...]) -> Image.Image:
    (source,) = check(draw_strip(strip, "a strip")).values("src")
    return Image.open(io.BytesIO(b64decode(source.partition(",")[2])))


def pixel(image: Image.Image, x: int) -> tuple[int, ...]:
    """Red, green, blue and opacity of a pixel of the first line."""
    found = image.convert("RGBA").getpixel((x, 0))
    assert isinstance(found, tuple)
    return found


def test_a_strip_is_a_picture_one_pixel_high() -> None:
    opened = picture((-1.0, 0.0, 1.0, 0.5, NAN))
    assert opened.size == (5, 1)
    negative, zero, positive, half, nan = (pixel(opened, x) for x in range(5))
    assert negative[2] > negative[0]
    assert positive[0] > positive[2]
    assert (negative[3], zero[3], positive[3], nan[3]) == (255, 0, 255, 255)
    assert half[:3] == positive[:3]
    assert 120 < half[3] < 160
    others = {pixel(picture((value / 50,)), 0)[:3] for value in range(-50, 51)}
    assert nan[:3] not in others


def test_strips_saturate_and_end() -> None:
    far, edge = picture((-9.0, 9.0, 1.0001)), picture((-1.0, 1.0, 1.0))
    assert far.convert("RGBA").tobytes() == edge.convert("RGBA").tobytes()
    infinite = picture((INF, -INF, NAN)).convert("RGBA")
    assert len({infinite.getpixel((x, 0)) for x in range(3)}) == 1
    assert draw_strip((), "nothing") == ""
    assert picture((0.1,) * 5000).size == (MAX_CELLS, 1)


@given(st.lists(st.floats(), min_size=1, max_size=40).map(tuple))
def test_any_numbers_make_a_picture(strip: tuple[float, ...]) -> None:
    opened = picture(strip)
    opened.load()
    assert opened.size == (len(strip), 1)


# Names, saving, examples


@pytest.mark.parametrize(
    ("report", "shown"),
    [
        (NameReport(""), ""),
        (NameReport("em-cat"), "This name can be used."),
        (
            NameReport("em-cat", file="sub/Em-Cat.pt"),
            "sub/Em-Cat.pt already exists. Saving will ask before replacing it.Inspect",
        ),
        (NameReport("a/b", "No slash.", (), "a-b"), "No slash.Bettera-bUse this name"),
        (NameReport("cat", None, ("A word.",), "em-cat"), "A word.Betterem-catUse this name"),
    ],
)
def test_names(report: NameReport, shown: str) -> None:
    page = check(name_view(report))
    assert page.text == shown
    assert page.values("data-embedmerge-name") == ([report.better] if report.better else [])
    assert page.values("data-embedmerge-action") == ["use-name"] * bool(report.better) + ["inspect"] * bool(report.file)


def saved() -> Saved:
    file = SavedFile("catdog", Path("embeddings") / "catdog.safetensors", 1, {"modelspec.title": "catdog"})
    return Saved((file,), {}, "catdog", "<'cat'+'dog'>", ("Careful.",))


def test_saved_files_can_be_put_into_prompts() -> None:
    page = check(saved_view(saved()))
    assert "Saved catdog1 vector" in page.text
    assert "catdog.safetensors" in page.text
    assert "Metadata: 1 key" in page.text
    assert "Careful." in page.text
    assert page.values("data-embedmerge-action") == ["inspect", *["insert", "insert", "insert", "copy"] * 2]
    assert page.values("data-embedmerge-place") == ["catdog.safetensors"]
    assert page.values("data-embedmerge-target") == ["txt2img", "img2img", "negative"] * 2
    assert page.values("data-embedmerge-text") == ["catdog"] * 4 + ["<'cat'+'dog'>"] * 4


def test_a_page_without_prompts_only_copies() -> None:
    page = check(saved_view(saved(), targets=False))
    assert page.values("data-embedmerge-action") == ["inspect", "copy", "copy"]


def test_a_long_source_is_not_offered_to_prompts() -> None:
    page = check(saved_view(replace(saved(), inline="x" * 5000)))
    assert set(page.values("data-embedmerge-text")) == {"catdog"}


@pytest.mark.parametrize(
    ("existing", "shown"),
    [
        ({"a": "sub/A.pt"}, "sub/A.pt already exists. Nothing was saved.Replace itInspect"),
        ({"a": "a.bin", "b": "b.pt"}, "a.bin, b.pt already exist. Nothing was saved.Replace them"),
    ],
)
def test_files_in_the_way(existing: dict[str, str], shown: str) -> None:
    page = check(saved_view(Saved(existing=existing)))
    assert page.text == shown
    assert page.values("data-embedmerge-action") == ["replace", "inspect"][: 3 - len(existing)]
    assert page.values("data-embedmerge-names") == ["\n".join(existing)]


def test_many_files_and_none() -> None:
    assert check(saved_view(Saved())).text == "Nothing was saved."
    many = Saved(saved().files * 50, {}, "a b", "")
    page = check(saved_view(many))
    assert "and 10 files more" in page.text
    assert "Names" in page.text
    assert "and 10 files more" in check(saved_view(Saved(existing={str(n): f"{n}.pt" for n in range(50)}))).text


def test_examples_fill_the_box_and_mean_something() -> None:
    page = check(examples_view())
    assert page.values("data-embedmerge-text") == [source for source, _ in EXAMPLES]
    assert set(page.values("data-embedmerge-action")) == {"edit"}
    kinds = [parse(source).kind for source, _ in EXAMPLES]
    assert kinds.count("prompt") == 1
    assert len(parse(EXAMPLES[-1][0]).expressions) == 1


# Inspection


TAG = ModelTag(
    made_for="NoobAI",
    prediction_type="v",
    date="2026-03-01",
    tool="EmbedMerge",
    version="1.0",
    negative=True,
    notes="Mine.",
)


def inspection(**changes: Any) -> Inspection:
    made = Inspection(
        "catdog", "catdog.safetensors", None, "SDXL", 2, TAG, {"a": "b"}, None, None, "'cat'", (), (encoder(),)
    )
    return replace(made, **changes)


def test_an_inspection_tells_all() -> None:
    fit = Fit(FitStatus.DIFFERS, "It differs.", {"clip_l": Distance(0.0321, 0.99), "other": Distance(NAN, INF)})
    page = check(inspection_view(inspection(fit=fit, path=Path("folder") / "x.pt", warnings=("Note.",))))
    shown = page.text
    assert "catdog2 vectors" in shown
    assert "x.pt" in shown
    for words in ("Made forNoobAI", "Predictionv", "Made withEmbedMerge 1.0", "Date2026-03-01", "NotesMine."):
        assert words in shown
    assert "For negative promptsyes" in shown
    assert "Differs It differs." in shown
    assert FitStatus.DIFFERS.advice in shown
    assert "CLIP-L3.21%0.9900" in shown
    assert "otherNaN∞" in shown
    assert "Note." in shown
    assert "Metadata: 1 key" in shown
    assert "No length is far from usual" in shown
    assert page.values("data-embedmerge-action") == ["edit"]
    assert page.values("data-embedmerge-text") == ["'cat'"]


def test_flaws_and_the_button_that_saves_a_copy_without_them() -> None:
    flaws = (Flaw("long", (0,), "1 vector is long."), Flaw("half", (), "All zero.", can_be_fixed=False))
    page = check(inspection_view(inspection(path=Path("x.pt"), flaws=flaws, fixed_name="catdog-fixed")))
    assert "1 vector is long." in page.text
    assert "All zero." in page.text
    assert "Save a copy without this as catdog-fixed" in page.text
    assert page.values("data-embedmerge-action") == ["edit", "fix"]
    assert (page.values("data-embedmerge-name"), page.values("data-embedmerge-agreed")) == (["catdog"], [""])
    dropped = check(inspection_view(inspection(flaws=flaws, fixed_name=EVIL)))
    assert dropped.values("data-embedmerge-name") == [""]
    lasting = check(inspection_view(inspection(flaws=flaws[1:])))
    assert "All zero." in lasting.text
    assert lasting.values("data-embedmerge-action") == ["edit"]
    replacing = check(saved_view(Saved(existing={"a": "a.pt"}), replace=fix_button("Replace it", "a", replace=True)))
    assert replacing.values("data-embedmerge-action") == ["fix", "inspect"]
    assert replacing.values("data-embedmerge-agreed") == ["yes"]


def test_an_inspection_of_little() -> None:
    page = check(inspection_view(inspection(tag=None, recipe=None, encoders=(), metadata={})))
    assert "catdog.safetensors" in page.text
    assert "Tagnone" in page.text
    assert "No model is loaded to compare it with." in page.text
    assert "Metadata: 0 keys" in page.text
    assert page.values("data-embedmerge-action") == []
    assert check(inspection_view(inspection(tag=ModelTag(file_name="x.ckpt")))).text.count("x.ckpt") == 1
    failed = inspection(fit_error=HostError("No model."))
    assert "No model." in check(inspection_view(failed)).text


@pytest.mark.parametrize("status", list(FitStatus))
def test_every_fit_has_a_colour_and_words(status: FitStatus) -> None:
    page = check(inspection_view(inspection(fit=Fit(status, "Because."), encoders=())))
    assert f"{status.capitalize()} Because.{status.advice}" in page.text
    assert f"embedmerge-note embedmerge-is-{status.tone}" in page.values("class")


def test_long_recipes_and_metadata_are_cut_for_display_only() -> None:
    metadata = {f"key{place}": "v" * 3000 for place in range(300)}
    page = check(inspection_view(inspection(recipe="r" * 9000, metadata=metadata, encoders=())))
    assert page.values("data-embedmerge-text") == ["r" * 9000]
    assert "(9,000 characters)" in page.text
    assert page.text.count("(3,000 characters)") == 200
    assert "and 100 keys more" in page.text
    assert "v" * 2001 not in page.text


# Anything, anywhere


@pytest.mark.parametrize("value", [EVIL, LONG], ids=["evil", "1 MB"])
def test_hostile_texts_everywhere_are_harmless_and_small(value: str) -> None:
    part_of = Part("embedding", value, (None, 1), 0)
    error = ExpressionError(value, source=value, start=5, end=len(value), expected=value, hint=value)
    figures = EncoderFigures(
        value, value, 768, BAND, 0.1, (PartFigures(part_of, stats(1)),),
        (vector(1, 9.0, token=value, nearest=(NearestToken(1, value, 0.5),)),),
    )  # fmt: skip
    tag = ModelTag(value, value, value, None, value, notes=value, date=value, tool=value, version=value)
    fit = Fit(FitStatus.UNKNOWN_ORIGIN, value, {value: Distance(1, 1)})
    pages = [
        status_view(Status(value, value, value, (value,), value, (value,))),
        status_view(Status(error=error)),
        answer_view(Answer(value, "prompt", 2, 75, "parts", (part_of,), error, (value,))),
        vectors_view([figures]),
        name_view(NameReport(value, value, (value,), None, value)),
        saved_view(Saved((SavedFile(value, Path("a"), 1, {value: value}),), {}, value, value, (value,))),
        saved_view(Saved(existing={value: value})),
        inspection_view(
            Inspection(value, value, None, value, 1, tag, {value: value}, fit, error, None, (value,), (figures,))
        ),
    ]
    for markup in pages:
        check(markup)
        assert len(markup.encode()) < 60_000


def test_a_large_recipe_stays_whole_in_the_attribute() -> None:
    markup = inspection_view(inspection(recipe=LONG, encoders=()))
    assert check(markup).values("data-embedmerge-text") == [LONG]


hostile = st.text(max_size=30) | st.sampled_from([EVIL, "", "<", "\u202e", "x" * 500])
maybe = st.none() | hostile
texts = st.lists(hostile, max_size=3).map(tuple)
numbers = st.floats()
counts = st.integers(0, 200)
errors = st.builds(EmbedMergeError, hostile, expected=maybe, hint=maybe)
ids = st.lists(st.none() | st.integers(0, 49407), max_size=14).map(tuple)
parts_of = st.builds(Part, st.sampled_from(["text", "embedding", "expression"]), hostile, ids, counts)
statistics = st.builds(VectorStatistics, *[numbers] * 6)
nearest = st.lists(st.builds(NearestToken, counts, hostile, numbers), max_size=3).map(tuple)
usual = st.sampled_from([None, True, False])
strips = st.lists(numbers, max_size=5).map(tuple)
vectors_of = st.builds(VectorFigures, counts, counts, maybe, statistics, st.booleans(), usual, nearest, strips)
bands = st.none() | st.builds(LengthBand, numbers, numbers, numbers)
encoders_of = st.builds(
    EncoderFigures,
    hostile,
    hostile,
    counts,
    bands,
    numbers,
    st.lists(st.builds(PartFigures, parts_of, statistics), max_size=3).map(tuple),
    st.lists(vectors_of, max_size=4).map(tuple),
    counts,
)
metadata_of = st.dictionaries(hostile, hostile, max_size=3)
files = st.builds(SavedFile, hostile, st.just(Path("a")), counts, metadata_of)
fits = st.builds(
    Fit,
    st.sampled_from(list(FitStatus)),
    hostile,
    st.dictionaries(hostile, st.builds(Distance, numbers, numbers), max_size=2),
)
tags = st.builds(
    ModelTag,
    made_for=maybe,
    file_name=maybe,
    prediction_type=maybe,
    notes=maybe,
    date=maybe,
    tool=maybe,
    version=maybe,
    negative=usual,
)
VIEWS = {
    "status": st.builds(Status, hostile, hostile, hostile, texts, hostile, texts, st.none() | errors).map(status_view),
    "answer": st.tuples(
        st.builds(
            Answer,
            hostile,
            st.sampled_from(["nothing", "expression", "prompt"]),
            counts,
            st.just(75),
            st.just("parts"),
            st.lists(parts_of, max_size=4).map(tuple),
            st.none() | errors,
            texts,
        ),
        hostile,
        maybe,
    ).map(lambda values: answer_to(values[1], answer_view(values[0], values[2]))),
    "vectors": st.lists(encoders_of, max_size=2).map(vectors_view),
    "name": st.builds(NameReport, hostile, maybe, texts, maybe, hostile).map(name_view),
    "saved": st.builds(Saved, st.lists(files, max_size=2).map(tuple), metadata_of, hostile, hostile, texts).map(
        saved_view
    ),
    "inspection": st.builds(
        Inspection,
        hostile,
        hostile,
        st.none(),
        hostile,
        counts,
        st.none() | tags,
        metadata_of,
        st.none() | fits,
        st.none() | errors,
        maybe,
        texts,
        st.lists(encoders_of, max_size=1).map(tuple),
        flaws=st.lists(st.builds(Flaw, st.just("long"), st.just(()), hostile), max_size=2).map(tuple),
        fixed_name=hostile,
    ).map(inspection_view),
}


@pytest.mark.parametrize("name", sorted(VIEWS))
@settings(max_examples=60)
@given(data=st.data())
def test_any_value_gives_harmless_html(name: str, data: st.DataObject) -> None:
    check(data.draw(VIEWS[name]))


# The style sheet and the imports


def rules() -> list[tuple[str, str]]:
    plain_css = re.sub(r"/\*.*?\*/", "", STYLE, flags=re.DOTALL)
    return re.findall(r"([^{}]+)\{([^{}]*)\}", plain_css)


def test_every_rule_stays_below_our_own_classes() -> None:
    selectors = [selector.strip() for group, _ in rules() for selector in group.split(",")]
    assert len(selectors) > 100
    for selector in selectors:
        assert re.match(r"(\.dark )?(\.embedmerge-|#embedmerge\b)|#embedmerge_|#tab_embedmerge", selector), selector
        # gradio 4 writes its own prefix before what stands after each comma, in brackets too
        assert selector.count("(") == selector.count(")"), selector
    assert "gradient" not in STYLE
    assert "@import" not in STYLE
    assert "url(" not in STYLE


def test_no_rule_changes_a_part_of_a_border_that_has_a_variable() -> None:
    """gradio 4 writes a page's rules again from what the browser read; Chromium's text has no such border any more."""
    for selector, body in rules():
        lines = [line.strip() for line in body.split(";")]
        if any(line.startswith("border") and not line.startswith("border-radius") and "var(" in line for line in lines):
            shorthands = [line for line in lines if re.match(r"border(-top|-right|-bottom|-left)?:", line)]
            assert len(shorthands) <= 1, selector
            assert not shorthands or not any(re.match("border-(style|width|color)", line) for line in lines), selector


def test_every_hue_and_kind_has_a_colour() -> None:
    for place in range(HUES):
        assert f".embedmerge-hue-{place} {{" in STYLE
    assert f".embedmerge-hue-{HUES} " not in STYLE
    for kind in {status.tone for status in FitStatus} - {"quiet"}:
        assert f".embedmerge-is-{kind}" in STYLE


def luminance(colour: tuple[int, ...]) -> float:
    """WCAG 2.1's relative luminance of an sRGB colour."""
    parts = [value / 255 for value in colour]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("selector", "pages"),
    [
        ("#embedmerge", [(255, 255, 255), (249, 250, 251)]),
        (".dark #embedmerge", [(11, 15, 25), (31, 41, 55)]),
    ],
    ids=["light", "dark"],
)
def test_colours_can_be_read_in_both_themes(selector: str, pages: list[tuple[int, ...]]) -> None:
    (body,) = [body for group, body in rules() if group.strip() == selector]
    colours = {name: tuple(map(int, rgb.split())) for name, rgb in re.findall(r"(--[a-z0-9-]+): ([\d ]+);", body)}
    colours |= {
        name: tuple(bytes.fromhex(digits)) for name, digits in re.findall(r"(--[a-z0-9-]+): #([0-9a-f]{6});", body)
    }
    assert len(colours) == HUES + 5
    for name, colour in colours.items():
        for page in pages:
            lighter, darker = sorted((luminance(colour), luminance(page)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (name, page)


@pytest.mark.process
def test_views_need_neither_torch_nor_gradio() -> None:
    folder = Path(lib_embedmerge.__file__).parent / "ui" / "views"
    names = ", ".join(f"lib_embedmerge.ui.views.{path.stem}" for path in folder.glob("[a-z]*.py"))
    script = f"import {names}, sys; print([m for m in ('torch', 'numpy', 'gradio', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
