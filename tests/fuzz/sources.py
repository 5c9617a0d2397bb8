"""Random sources: expressions as the grammar has them, prompts around them, and either one broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TypeVar

from lib_embedmerge.lang.functions import SIGNATURES

T = TypeVar("T")

WORDS = (
    "cat", "dog", "a photo of", "1girl", "masterpiece", "it''s", "猫", "é", "", "x, y", "score_9", "<|endoftext|>",
    "AND", "saber (fate)", "#tag", "<lora:x:1>", "  ", "\u200b", "😀", "ǅ", "(a:1.2)", "cat\\(x\\)",
)  # fmt: skip
NUMBERS = (
    "0",
    "1",
    "2",
    "0.5",
    ".5",
    "-1",
    "+0.75",
    "(1/3)",
    "-(2*3-1)",
    "1e400",
    "9" * 40,
    "0.0000001",
    "1/0",
    "(1/0)",
)
COUNTS = ("0", "1", "3", "75", "1000", "1001", "+1", "-2", "+-1", "--1")
TOKENS = ("0", "256", "49407", "49408", "00", "000", "0000", "+5", "-0", "99999999999")
PIECES = (
    "(", ")", "[", "]", "<", ">", "{", "}", "'", '"', "\\", "|", ":", ",", "+", "-", "*", "/", "=", "#", ".", "\n", " ",
    "\u200b", "\u2019", "\u201c", "\u00a0", "\x00", "\ud800", "＊", "−", "１", "é", "猫", "😀", "AND", "BREAK",
    ":1.2)", ":-0.5 )", "[a:b:0.5]", "[a|b]", "__x__", "<lora:x:1>", "embedding:x", "L", "G", "near(", "cat(",
    "slerp(", "''", "'cat'", "0.5", "Negative prompt:", "Steps: 20, ",
)  # fmt: skip


class Sources:
    """Endless sources from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def __iter__(self) -> Iterator[str]:
        makers = (self.expression, self.prompt, self.noise, self.broken, self.broken, self.attention)
        while True:
            yield self._pick(makers)()

    def expression(self, depth: int = 3) -> str:
        """An expression as the grammar has it; its numbers and tokens may be out of bounds."""
        terms = [self._term(depth) for _ in range(self._random.choice((1, 1, 1, 2, 3)))]
        text = terms[0]
        for term in terms[1:]:
            text += self._space() + self._pick("+-") + self._space() + term
        return text + (self._space() + "=" + self._postfix() if self._random.random() < 0.1 else "")

    def prompt(self) -> str:
        """Texts and inline expressions, with what a web UI acts on around them."""
        pieces = [self._prompt_piece() for _ in range(self._random.randint(1, 5))]
        return self._pick((", ", " ", "", "\n")).join(pieces)

    def attention(self) -> str:
        """Brackets, escapes and weights around words."""
        marks = ("(", ")", "[", "]", "\\(", "\\)", "\\", ":1.2)", ": +1 )", ":-0.5)", ":", "|", " ", ", ")
        return "".join(
            self._pick(marks if self._random.random() < 0.5 else WORDS) for _ in range(self._random.randint(1, 12))
        )

    def noise(self) -> str:
        """Anything."""
        return "".join(self._pick(PIECES) for _ in range(self._random.randint(0, 14)))

    def broken(self) -> str:
        """A source with some characters cut out, doubled, or put in."""
        text = self._pick((self.expression, self.prompt, self.attention))()
        for _ in range(self._random.randint(1, 3)):
            place = self._random.randint(0, len(text))
            change = self._random.randrange(3)
            if change == 0:
                text = text[:place] + text[place + self._random.randint(1, 3) :]
            elif change == 1:
                text = text[:place] + self._pick(PIECES) + text[place:]
            else:
                text = text[:place] + text[max(0, place - 4) : place] + text[place:]
        return text

    def _term(self, depth: int) -> str:
        return self._atom(depth) + "".join(self._postfix() for _ in range(self._random.choice((0, 0, 0, 1, 1, 2))))

    def _atom(self, depth: int) -> str:
        kind = self._random.random() if depth else 0.0
        if kind < 0.6:
            return f"'{self._pick(WORDS)}'"
        if kind < 0.8:
            return f"({self.expression(depth - 1)})"
        name, signature = self._pick(tuple(SIGNATURES.items()))
        count = max(1, signature.least + self._random.choice((0, 0, 0, 1, -1)))
        arguments = [f"({self.expression(depth - 1)})" for _ in range(count)]
        if signature.number and self._random.random() < 0.9:
            arguments.append(self._pick(NUMBERS))
        return f"{name}({', '.join(arguments)})"

    def _postfix(self) -> str:
        return self._pick(
            (
                f"*{self._pick(NUMBERS)}{self._pick(('', '', 'L', 'G'))}",
                f"/{self._pick(NUMBERS)}",
                f":{self._pick(COUNTS)}",
                f",{self._pick(TOKENS)}",
                f",'{self._pick(WORDS)}'",
            )
        )

    def _prompt_piece(self) -> str:
        expression = f"<{self.expression(2)}>" if self._random.random() < 0.5 else "{" + self.expression(1) + "}"
        return self._pick(
            (self._pick(WORDS), expression, f"({expression}:1.2)", f"[{expression}:cat:0.5]", f"(cat {expression})",
             self.attention())
        )  # fmt: skip

    def _space(self) -> str:
        return self._pick(("", "", " ", "\n"))

    def _pick(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)
