"""Every sentence, label and help text that EmbedMerge shows to a user, with its place in the source.

`python -m tests.messages` prints them all for people to read. tests/test_messages.py checks what a rule can check.
`…` stands for a value that is filled in.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[1]

ERRORS = {"mistake": 2, "refuse": 0}
"""Functions beside the classes `...Error` that make an error -> the position of the message in a call."""

ROLES = {"hint", "expected", "help", "description", "summary", "label", "info", "placeholder", "epilog", "message"}
"""Keyword arguments whose name says what a text is."""

SHOWN_DOCSTRINGS = {Path("lib_embedmerge/api/schemas.py"), Path("lib_embedmerge/api/routes.py")}
"""Files in which FastAPI shows docstrings in the web UI's /docs."""

TECHNICAL = re.compile(
    r"default-src|HttpOnly|\\b|\(\?|^[a-z_-]+(?:: ?[\w-]+;)+|^[MHV][-\d. ]|^pip |module … has no attribute"
)
"""Strings with spaces that no user reads: headers, regular expressions, styles, paths of drawings."""

_WORDS = re.compile(r"[A-Za-z]{2,}[,:;]? +[A-Za-z…{'\"(]|[a-z]{2}[,:;]? …|… [a-z]|^[A-Z][a-z]+[.?]?$")
_JAVASCRIPT = re.compile(r"//.*|/\*[\s\S]*?\*/|\"((?:[^\"\\\n]|\\.)*)\"|`((?:[^`\\]|\\.)*)`")
_VISIBLE_ATTRIBUTES = ("title", "aria-label", "placeholder", "alt")


@dataclass(frozen=True)
class Message:
    """One text. file: relative to the repository. role: `message`, `hint`, `help`, ..., or `text` if unknown."""

    file: Path
    line: int
    role: str
    text: str


def messages() -> list[Message]:
    """All of them, file by file."""
    found: list[Message] = []
    for folder in ("lib_embedmerge", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found += _in_python(path)
    for path in sorted((ROOT / "javascript").glob("*.js")):
        found += _in_javascript(path)
    return found


def _in_python(path: Path) -> Iterator[Message]:
    file = path.relative_to(ROOT)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, role, text in _texts(tree, "text", shows_docstrings=file in SHOWN_DOCSTRINGS):
        for part in _parts(text):
            if _WORDS.search(part) and not TECHNICAL.search(part):
                yield Message(file, line, role, part)


def _texts(node: ast.AST, role: str, *, shows_docstrings: bool) -> Iterator[tuple[int, str, str]]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and not shows_docstrings:
        return  # a docstring
    text = rendered(node)
    if text is not None:
        yield getattr(node, "lineno", 0), role, text
        inner = [part.value for part in ast.walk(node) if isinstance(part, ast.FormattedValue)]
        for value in inner:
            yield from _texts(value, "text", shows_docstrings=shows_docstrings)
        return
    for child, child_role in _children(node, role):
        yield from _texts(child, child_role, shows_docstrings=shows_docstrings)


def _children(node: ast.AST, role: str) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        place = 0 if name.endswith("Error") else ERRORS.get(name)
        yield node.func, "text"
        for number, argument in enumerate(node.args):
            yield argument, "message" if number == place else "text"
        for keyword in node.keywords:
            yield keyword.value, keyword.arg if keyword.arg in ROLES else "text"
    elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(_target(node), ast.Name):
        words = _target(node).id.lower().strip("_").split("_")  # type: ignore[attr-defined] # a Name, as just seen
        named = next((word for word in words if word in ("hint", "message")), role)
        yield from ((child, named) for child in ast.iter_child_nodes(node))
    else:
        carries_on = isinstance(node, ast.IfExp | ast.BoolOp)
        yield from ((child, role if carries_on else "text") for child in ast.iter_child_nodes(node))


def _target(node: ast.Assign | ast.AnnAssign) -> ast.expr:
    return node.targets[0] if isinstance(node, ast.Assign) else node.target


def rendered(node: ast.AST) -> str | None:
    """The text of a literal, an f-string or a sum of them, with … for values; None for any other node."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = rendered(node.left), rendered(node.right)
        return (
            None
            if left is None and right is None
            else f"{'…' if left is None else left}{'…' if right is None else right}"
        )
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
    if re.search(r"<[a-z]+[^<>]*(?:class|title|role|scope|type)=|</[a-z]+>", text):
        page = _Visible()
        page.feed(text)
        texts = page.parts
    else:
        texts = [text]
    return [re.sub(r"\{[\d:,.]*\}|%[sd]", "…", part).strip() for part in texts]


def _in_javascript(path: Path) -> Iterator[Message]:
    source = path.read_text(encoding="utf-8")
    for found in _JAVASCRIPT.finditer(source):
        text = re.sub(r"\$\{[^}]*\}", "…", found[1] or found[2] or "")
        if re.search(r"[#>\[]|embedmerge", text) or re.fullmatch(r"[\w.]+", text) or not _WORDS.search(text):
            continue
        line = source.count("\n", 0, found.start()) + 1
        yield Message(path.relative_to(ROOT), line, "text", text)


if __name__ == "__main__":
    for message in messages():
        print(f"{message.file.as_posix()}:{message.line}: {message.role}: {message.text!r}")  # noqa: T201
