"""Other extensions that read prompts, beside ours in a real web UI: NegPiP, Regional Prompter, Dynamic Prompts, and all
three together; Neutral Prompt, Prompt Fusion; and in a browser the completion of tags in our box.

Run as test_real_host.py is; each of them is tested where the web UI has it. Their arguments are those of July 2026's
versions, as the API of the web UI takes them.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from contract.generations import TEMPORARY
from playwright.sync_api import expect

from webui.test_real_host import DIRECTORY, URL, ask, headers

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

_USUAL = {"steps": 2, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler", "negative_prompt": "x"}

NEGPIP, REGIONS, DYNAMIC = "negpip", "regional prompter", "dynamic prompts"

_COLUMNS = [True, False, "Matrix", "Columns", "Mask", "Prompt", "1,1", "0.2", False, False, False, "Attention", [False]]
ARGUMENTS: dict[str, list[Any]] = {
    NEGPIP: [True],
    REGIONS: [*_COLUMNS, "0", "0", "0.4", None, "0", "0", False],
    DYNAMIC: [False],
}

EXPRESSIONS = [
    "<'cat'+'dog'>",
    "<('cat'+'dog')*0.5>",
    "<slerp('cat','dog',0.3)>",
    "<'cat':3>",
    "<'(cat:1.2) [dog|x] AND it', 'b BREAK'>",
]
ELEVEN = "<" + "+".join(f"'{letter} word'*0.1" for letter in "abcdefghijk") + ">"
"""Two vectors, and more than 75 tokens as it is typed."""


@pytest.fixture(scope="module")
def titles() -> dict[str, str]:
    """What the web UI's API calls each of them that it has."""
    known = ask("/sdapi/v1/scripts", post=False)["txt2img"]
    return {name: title for name in ARGUMENTS for title in known if title == name or title.startswith(f"{name} v")}


def _generate(prompt: str, titles: dict[str, str], *acting: str, **fields: Any) -> tuple[dict[str, Any], str]:
    """What was seen at the encoders, judged by nobody yet, and the infotext. acting: which extensions act."""
    for name in acting:
        if name not in titles:
            pytest.skip(f"the web UI has no {name}")
    given = {titles[name]: {"args": ARGUMENTS[name]} for name in acting}
    if DYNAMIC in titles and DYNAMIC not in acting:
        given[titles[DYNAMIC]] = {"args": [False]}
    ask("/embedmerge-probe/forget-conditionings")
    ask("/embedmerge-probe/watch")
    settings = {"live_previews_enable": False, **fields.pop("override_settings", {})}
    asked = {**_USUAL, "prompt": prompt, "alwayson_scripts": given, "override_settings": settings, **fields}
    info = json.loads(ask("/sdapi/v1/txt2img", asked)["info"])
    return info, info["infotexts"][0]


def _judged(texts: list[str]) -> list[str]:
    request = urllib.request.Request(f"{URL}/embedmerge-probe/judge-texts", json.dumps(texts).encode(), headers())
    with urllib.request.urlopen(request, timeout=580) as answer:
        found: list[str] = json.load(answer)["wrong"]
    return found


def _is_as_typed(infotext: str, prompt: str) -> None:
    assert infotext.startswith(prompt + "\n")
    assert "EmbedMerge: " in infotext
    assert not TEMPORARY.search(infotext)
    assert ask("/embedmerge-probe/traces", post=False)["names"] == []


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_negpip(titles: dict[str, str], expression: str) -> None:
    prompt = f"a photo ({expression}:-1.2)"
    _, infotext = _generate(prompt, titles, NEGPIP)
    assert _judged(["a photo", "x", f"«{expression[1:-1]}»"]) == []
    _is_as_typed(infotext, prompt)


def test_negpip_in_the_negative_prompt(titles: dict[str, str]) -> None:
    prompt = "a <'cat'*2>"
    _, infotext = _generate(prompt, titles, NEGPIP, negative_prompt="bad (<('x'+'y')*2>:-0.5)")
    assert _judged(["a «'cat'*2»", "bad", "«('x'+'y')*2»"]) == []
    _is_as_typed(infotext, f"{prompt}\nNegative prompt: bad (<('x'+'y')*2>:-0.5)")


def test_negpip_with_a_mistake(titles: dict[str, str]) -> None:
    """It would take the mistaken piece out of the prompt before anybody saw it."""
    if NEGPIP not in titles:
        pytest.skip("the web UI has no NegPiP")
    asked = {**_USUAL, "prompt": "a (<'cat'+>:-1)", "alwayson_scripts": {titles[NEGPIP]: {"args": [True]}}}
    request = urllib.request.Request(f"{URL}/sdapi/v1/txt2img", json.dumps(asked).encode(), headers())
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=580)
    assert error.value.code == 422
    assert json.load(error.value)["detail"]["field"] == "prompt"


@pytest.mark.parametrize("key", ["ADDCOL", "BREAK"])
def test_regional_prompter(titles: dict[str, str], key: str) -> None:
    ask("/embedmerge-probe/printed/rp.py")
    prompt = f"{ELEVEN} sky {key} a <'dog','cat'>, tree"
    _, infotext = _generate(prompt, titles, REGIONS)
    (line,) = (line for line in ask("/embedmerge-probe/printed/rp.py") if "Pos tokens" in line)
    assert "Pos tokens : [3, 5]" in line
    assert _judged([f"«{ELEVEN[1:-1]}» sky", "a «'dog','cat'», tree", "x"]) == []
    _is_as_typed(infotext, prompt)


def test_regional_prompter_with_negpip(titles: dict[str, str]) -> None:
    ask("/embedmerge-probe/printed/rp.py")
    prompt = "u (<'b'+'c'>:-1) ADDCOL a (<('dog','x')*2>:-1), tree"
    _, infotext = _generate(prompt, titles, REGIONS, NEGPIP)
    (line,) = (line for line in ask("/embedmerge-probe/printed/rp.py") if "Pos tokens" in line)
    assert "Pos tokens : [2, 5]" in line
    assert _judged(["u", "a , tree", "x", "«'b'+'c'»", "«('dog','x')*2»"]) == []
    _is_as_typed(infotext, prompt)


def test_regional_prompter_by_prompt(titles: dict[str, str]) -> None:
    """Its mode that looks for a word of the prompt in the picture."""
    arguments = [*ARGUMENTS[REGIONS]]
    arguments[2], arguments[8] = "Prompt", True
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARGUMENTS, REGIONS, arguments)
        prompt = "a <'cat'*2> and dog BREAK a <'red','car'>, dog"
        _, infotext = _generate(prompt, titles, REGIONS)
    assert _judged(["a «'cat'*2» and dog", "a «'red','car'», dog", "x"]) == []
    _is_as_typed(infotext, prompt)


def test_regional_prompter_by_latents(titles: dict[str, str]) -> None:
    """Its other way, with AND between the regions."""
    arguments = [*ARGUMENTS[REGIONS]]
    arguments[11] = "Latent"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARGUMENTS, REGIONS, arguments)
        prompt = f"{ELEVEN} sky ADDCOL a <'dog AND x','cat'>, tree"
        _, infotext = _generate(prompt, titles, REGIONS)
    assert _judged([f"«{ELEVEN[1:-1]}» sky", "a «'dog AND x','cat'», tree", "x"]) == []
    _is_as_typed(infotext, prompt)


def test_regional_prompter_with_hires(titles: dict[str, str]) -> None:
    fields = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.5, "hr_cfg": 7}
    prompt = "u <'b','c'> ADDCOL a <'dog'*2>, tree"
    _, infotext = _generate(prompt, titles, REGIONS, **fields, hr_additional_modules=["Use same choices"])
    assert _judged(["u «'b','c'»", "a «'dog'*2», tree", "x"]) == []
    _is_as_typed(infotext, prompt)


def test_dynamic_prompts(titles: dict[str, str]) -> None:
    """Angle brackets are safe, and its choices work inside of them; curly ones are its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARGUMENTS, DYNAMIC, [True])
        _, infotext = _generate("a {<'cat'+'dog'>|<'cat'+'dog'>} <'{red|red} x'*2>", titles, DYNAMIC)
        assert _judged(["a «'cat'+'dog'» «'red x'*2»", "x"]) == []
        assert infotext.startswith("a <'cat'+'dog'> <'red x'*2>\n")
        _, infotext = _generate("a {'cat'+'dog'}", titles, DYNAMIC)
        assert infotext.startswith("a 'cat'+'dog'\n")
        assert _judged(["a 'cat'+'dog'", "x"]) == []


def test_neutral_prompt(titles: dict[str, str]) -> None:
    """Its keywords cut a prompt as AND does, and weigh the pieces."""
    if "neutral prompt" not in ask("/sdapi/v1/scripts", post=False)["txt2img"]:
        pytest.skip("the web UI has no Neutral Prompt")
    prompt = "a <'cat'+'dog'> AND_PERP a <'red','car'>, tree :1.2"
    _, infotext = _generate(prompt, titles)
    assert _judged(["a «'cat'+'dog'»", "a «'red','car'», tree", "x"]) == []
    _is_as_typed(infotext, prompt)


def test_prompt_fusion(titles: dict[str, str]) -> None:
    """It draws curves between the vectors of its texts; each text is encoded once."""
    if "prompt_fusion_enabled" not in ask("/sdapi/v1/options", post=False):
        pytest.skip("the web UI has no Prompt Fusion")
    prompt = "a [<'cat'+'dog'>:<'red','car'>:0, 1] tree"
    _, infotext = _generate(prompt, titles)
    assert _judged(["a «'cat'+'dog'» tree", "a «'red','car'» tree", "x", ""]) == []
    _is_as_typed(infotext, prompt)


def test_tags_are_completed_in_our_box(page: Page) -> None:
    """By the extension Tag Autocomplete, which knows prompt boxes by their class."""
    if "tac_activeIn.txt2img" not in ask("/sdapi/v1/options", post=False):
        pytest.skip("the web UI has no Tag Autocomplete")
    box = page.locator("#embedmerge_source textarea")
    expect(box).to_have_class(re.compile("autocomplete"), timeout=60_000)  # it has read its lists of tags
    box.fill("")
    box.press_sequentially("a cat, 1gir", delay=50)
    first = page.locator(".autocompleteParent:visible li").first
    expect(first).to_contain_text("1girl", timeout=30_000)
    first.click()
    expect(box).to_have_value(re.compile(r"^a cat, 1girl"))
    expect(page.locator("#embedmerge_answer").first).to_contain_text("5/75")  # a cat , 1 girl


def test_all_three(titles: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARGUMENTS, DYNAMIC, [True])
        prompt = "u (<'b'+'c'>:-1) ADDCOL a <'{dog|dog}','x'>, tree"
        _, infotext = _generate(prompt, titles, NEGPIP, REGIONS, DYNAMIC)
    assert _judged(["u", "a «'dog','x'», tree", "x", "«'b'+'c'»"]) == []
    _is_as_typed(infotext, prompt.replace("{dog|dog}", "dog"))


def test_hires_with_negpip(titles: dict[str, str]) -> None:
    fields = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.5, "hr_cfg": 7}
    prompt = "a photo (<'cat'+'dog'>:-1.2)"
    _, infotext = _generate(prompt, titles, NEGPIP, **fields, hr_additional_modules=["Use same choices"])
    assert _judged(["a photo", "x", "«'cat'+'dog'»"]) == []
    _is_as_typed(infotext, f"{prompt}\nNegative prompt: x")
