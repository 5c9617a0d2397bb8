"""Every sentence, label and help text that EmbedMerge shows to a user, with its place in the source.

`python -m tests.messages` prints them all for people to read. tests/test_messages.py checks what a rule can check.
`…` marks a value that is filled in.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[1]

MESSAGE, HINT, EXPECTED, HELP, DESCRIPTION, TEXT = "message", "hint", "expected", "help", "description", "text"

_CALLS: dict[str, tuple[str, ...]] = {
    # a function or class -> what its arguments are, in order; classes of errors have their message first
    "mistake": (TEXT, TEXT, MESSAGE, EXPECTED, HINT),
    "_error": (TEXT, MESSAGE, HINT),
    "_make_error": (MESSAGE,),
    "RefusedError": (TEXT, MESSAGE),
    "_NotWrittenError": (TEXT, MESSAGE),
    "Fit": (TEXT, MESSAGE),
    "refuse": (TEXT, TEXT, MESSAGE),
    "note": (MESSAGE,),
    "done_view": (MESSAGE,),
}

_KEYWORDS = {"hint": HINT, "info": MESSAGE, "expected": EXPECTED, "help": HELP, "description": DESCRIPTION}
_VARIABLES = {"hint": HINT, "message": MESSAGE, "sentence": MESSAGE, "advice": MESSAGE}

_WITH_SHOWN_DOCSTRINGS = Path("lib_embedmerge", "api", "routes.py")
"""Its public methods have their docstrings in the web UI's /docs."""

_TECHNICAL = re.compile(
    r"default-src|HttpOnly|\\b|\(\?|^[a-z_-]+(?:: ?[\w-]+;)+|^[MHV][-\d. ]|module … has no attribute"
)
"""Strings with spaces that no user reads: headers, regular expressions, styles, paths of drawings."""

_WORDS = re.compile(r"[A-Za-z]{2,}[,:;]? +[A-Za-z…{'\"(]|[a-z]{2}[,:;]? …|… [a-z]|^[A-Z][a-z]+[.?]?$")
_HTML = re.compile(r"<[a-z]+[^<>]*(?:class|title|role|scope|type)=|</[a-z]+>")
_JAVASCRIPT = re.compile(r"//.*|/\*[\s\S]*?\*/|\"((?:[^\"\\\n]|\\.)*)\"|`((?:[^`\\]|\\.)*)`")
_VISIBLE_ATTRIBUTES = ("title", "aria-label", "placeholder", "alt")


@dataclass(frozen=True)
class Message:
    """One text. file: relative to the repository. role: `message`, `hint`, `help`, ..., or `text` if unknown."""

    file: Path
    line: int
    role: str
    text: str

    def __str__(self) -> str:
        return f"{self.file.as_posix()}:{self.line}: {self.role}: {self.text!r}"


@functools.cache
def messages() -> tuple[Message, ...]:
    """All of them, file by file."""
    found: list[Message] = []
    for path in python_files():
        found += _in_python(path)
    for path in sorted([*(ROOT / "javascript").glob("*.js"), *(ROOT / "web").glob("*.js")]):
        found += _in_javascript(path)
    return tuple(found)


def python_files() -> list[Path]:
    """The program's own modules and its entries in web UIs and ComfyUI."""
    modules = [path for folder in ("lib_embedmerge", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
    return [ROOT / "__init__.py", *modules]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def error_classes() -> frozenset[str]:
    """The names of EmbedMergeError and of all classes below it."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for path in python_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef)
    }
    found = {"EmbedMergeError"}
    while new := {name for name, of in bases.items() if of & found} - found:
        found |= new
    return frozenset(found)


def _in_python(path: Path) -> Iterator[Message]:
    file = path.relative_to(ROOT)
    found = [*_texts(parsed(path), TEXT), *(_shown_docstrings(parsed(path)) if file == _WITH_SHOWN_DOCSTRINGS else ())]
    for line, role, text in found:
        for part in _parts(text):
            if _WORDS.search(part) and not _TECHNICAL.search(part):
                yield Message(file, line, role, part)


def _shown_docstrings(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.args.args[:1]:
            yield node.lineno, DESCRIPTION, ast.get_docstring(node) or ""


def _texts(node: ast.AST, role: str) -> Iterator[tuple[int, str, str]]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    text = rendered(node)
    if text is None:
        for child, child_role in _children(node, role):
            yield from _texts(child, child_role)
        return
    yield getattr(node, "lineno", 0), role, text
    for part in ast.walk(node):
        if isinstance(part, ast.FormattedValue):
            yield from _texts(part.value, TEXT)


def _children(node: ast.AST, role: str) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        roles = _CALLS.get(name) or ((MESSAGE,) if name in error_classes() else ())
        yield node.func, TEXT
        for place, argument in enumerate(node.args):
            yield argument, roles[place] if place < len(roles) else TEXT
        for keyword in node.keywords:
            yield keyword.value, _KEYWORDS.get(keyword.arg or "", TEXT)
    elif isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Annotated":
        assert isinstance(node.slice, ast.Tuple)
        yield from ((description, DESCRIPTION) for description in node.slice.elts[1:])
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        name = target.id.lower().strip("_") if isinstance(target, ast.Name) else ""
        yield from ((child, _VARIABLES.get(name, TEXT)) for child in ast.iter_child_nodes(node))
    else:
        goes_on = isinstance(node, ast.IfExp | ast.BoolOp)
        yield from ((child, role if goes_on else TEXT) for child in ast.iter_child_nodes(node))


def rendered(node: ast.AST) -> str | None:
    """The text of a literal, an f-string or a sum of them, with … for values; None for any other node."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = rendered(node.left), rendered(node.right)
        if left is not None or right is not None:
            return ("…" if left is None else left) + ("…" if right is None else right)
    return None


class _Visible(HTMLParser):
    """What a browser shows of a piece of HTML: its text, and attributes that are read aloud or shown as tooltips."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts += [value for name, value in attrs if value and name in _VISIBLE_ATTRIBUTES]


def _parts(text: str) -> list[str]:
    texts = [text]
    if _HTML.search(text):
        page = _Visible()
        page.feed(text)
        texts = page.parts
    return [re.sub(r"\{[\d:,.]*\}|%[sd]", "…", part).strip() for part in texts]


def _in_javascript(path: Path) -> Iterator[Message]:
    source = path.read_text(encoding="utf-8")
    for found in _JAVASCRIPT.finditer(source):
        text = re.sub(r"\$\{[^}]*\}", "…", found[1] or found[2] or "")
        if not re.search(r"[#>\[]|embedmerge", text) and not re.fullmatch(r"[\w.]+", text) and _WORDS.search(text):
            line = source.count("\n", 0, found.start()) + 1
            yield Message(path.relative_to(ROOT), line, TEXT, text)


if __name__ == "__main__":
    for message in messages():
        print(message)  # noqa: T201 -- the list is what this program is for
