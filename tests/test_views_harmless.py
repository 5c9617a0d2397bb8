"""What every view's HTML must be: well formed, of known elements and attributes, with nothing hidden in its texts.

`check` is that rule; the views' own tests (test_views.py) put everything through it. Here it is shown to catch things.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

INLINE = frozenset(
    {"span", "strong", "bdi", "code", "mark", "button", "img", "input", "label", "select", "option", "a"}
)
VOID = frozenset({"img", "input"})
DRAWN = frozenset({"svg", "g", "title", "path", "circle", "rect", "text"})
TABLES = frozenset({"table", "thead", "tbody", "tr", "th", "td"})
BLOCKS = TABLES | {"div", "p", "pre", "dl", "dt", "dd", "details", "summary", "section", "h4", "figure", "figcaption"}
ELEMENTS = INLINE | DRAWN | BLOCKS
ALLOWED = frozenset(
    {
        "class",
        "role",
        "title",
        "scope",
        "tabindex",
        "dir",
        "type",
        "alt",
        "width",
        "height",
        "src",
        "style",
        "value",
        "checked",
        "placeholder",
        "href",
        "target",
        "rel",
    }
)
DRAWN_ALLOWED = frozenset(
    {"class", "x", "y", "width", "height", "d", "cx", "cy", "r", "viewbox", "text-anchor", "role"}
)
VALUES = {
    "class": re.compile(r"embedmerge-[a-z0-9-]+( embedmerge-[a-z0-9-]+)*"),
    "style": re.compile(r"width:\d{1,3}%"),
    "src": re.compile(r"data:image/(png|jpeg|svg\+xml);base64,[A-Za-z0-9+/]+=*"),
    "type": re.compile("button|checkbox|search|text"),
    "href": re.compile(r"https?://[!-~]+"),
    "target": re.compile("_blank"),
    "rel": re.compile("noopener noreferrer"),
    "d": re.compile(r"[MLlhzm0-9.,e+ -]+"),
}
SCRIPTS = tuple(
    f"data-embedmerge-{name}"
    for name in ("text", "typed", "name", "names", "asked", "place", "notes", "words", "order", "job", "ended")
)
"""Attributes that hold a user's text to the character; nobody sees them."""


class Page(HTMLParser):
    """A fragment of HTML, taken in strictly. texts: what is read.  found: (element, its attributes)."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.texts: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ELEMENTS
        assert not ("p" in self.open and tag in BLOCKS), f"<{tag}> would end the <p> around it"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        for name, value in attrs:
            self._check(tag, name, value or "")
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert all(character.isprintable() or character == "\n" for character in data), ascii(data[:200])
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment or a declaration")

    def handle_decl(self, decl: str) -> None:
        self.handle_comment(decl)

    handle_pi = unknown_decl = handle_comment

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.found if attribute in attributes]

    @staticmethod
    def _check(tag: str, name: str, value: str) -> None:
        allowed = DRAWN_ALLOWED if tag in DRAWN else ALLOWED
        ours = name.startswith(("data-embedmerge-", "aria-"))
        assert ours or name in allowed, f"{name} on <{tag}>"
        if name not in SCRIPTS:
            assert all(character.isprintable() or character == "\n" for character in value), ascii(value[:200])
        if name in VALUES:
            assert VALUES[name].fullmatch(value), f"{name}={value!a}"


def check(markup: str) -> Page:
    """The fragment, after making sure that it is harmless and one root element."""
    page = Page(markup)
    markup.encode("utf-8")  # half a surrogate pair would stop gradio's JSON
    assert "\r" not in markup
    assert "\0" not in markup
    return page


@pytest.mark.parametrize(
    "markup",
    [
        "<script>1</script>",
        "<p onclick='1'>a</p>",
        "<img src='x' alt=''>",
        "<img src='x' onerror='1'>",
        "<p>a",
        "</p>",
        "<div><p>a</div></p>",
        "<p><div></div></p>",
        "<p class='other'>a</p>",
        "<p style='width:1%;color:red'>a</p>",
        "<a href='javascript:1'>a</a>",
        "<p>a\u202eb</p>",
        "<p title='a\u202eb'>c</p>",
        "<p>a\u200bb</p>",
        "<!-- a -->",
        "<svg onload='1'></svg>",
        "<path d='M0 0url(x)'/>",
        "<p title='a' title='b'>c</p>",
        "<p data-embedmerge-text='\0'>c</p>",
        "<button type='submit'>c</button>",
    ],
)
def test_harm_is_seen(markup: str) -> None:
    with pytest.raises(AssertionError):
        check(markup)


def test_what_is_seen_is_given_back() -> None:
    page = check('<div class="embedmerge-a" data-embedmerge-text="&#13;&quot;">a&lt;b<img alt="c" title="d"></div>')
    assert page.text == "a<b"
    assert page.values("data-embedmerge-text") == ['\r"']
    assert [tag for tag, _ in page.found] == ["div", "img"]
