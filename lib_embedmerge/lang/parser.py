"""The grammar of merge expressions, by recursive descent.

    expression = term { ( "+" | "-" ) term | "=" postfix { postfix } }
    term       = atom { postfix }
    atom       = text | "(" expression ")" | function "(" arguments ")"
    arguments  = expression { "," expression } [ "," arithmetic ]          as the function takes them
    postfix    = ( "*" | "/" ) number [ "L" | "G" ]
               | ":" count | ":" ( "+" | "-" ) [ "-" ] steps
               | "," [ "+" ] token | "," text          not after "="; among arguments only inside parentheses
    number     = [ sign ] decimal | [ sign ] "(" arithmetic ")"
    arithmetic = product { ( "+" | "-" ) product }     product = number { ( "*" | "/" ) number }
    token      = a token id | 00 padding | 000 end | 0000 start

The postfixes after "=" apply to everything to its left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lib_embedmerge.lang import mistakes
from lib_embedmerge.lang.functions import SIGNATURES, Signature
from lib_embedmerge.lang.mistakes import ATOM, mistake
from lib_embedmerge.lang.nodes import (
    AppendText,
    AppendToken,
    Call,
    EncoderLetter,
    Expression,
    Number,
    Postfix,
    Resize,
    Rotate,
    Scale,
    Sign,
    Special,
    Sum,
    Term,
    Text,
    with_postfixes,
)
from lib_embedmerge.lang.numbers import to_float32
from lib_embedmerge.lang.scanner import Scanner, Token

MAX_DEPTH = 50
"""How deep parentheses, functions and `=` may nest: deeper than anyone needs, within Python's stack in a web UI."""

MAX_COUNT = 1000
"""The largest count of `:count`. An embedding holds 75 vectors, but an expression may cut a longer result to 75."""

_MAX_DIGITS = 9
_SPECIAL: dict[str, Special] = {"00": "padding", "000": "end", "0000": "start"}


def parse_expression(source: str, start: int = 0, end: int | None = None) -> Expression:
    """Parse source[start:end] as one expression. ExpressionError, with its place in `source`, for the first mistake."""
    return _Parser(source, start, len(source) if end is None else end).whole()


class _Parser:
    """Reads one expression. Each method reads what its name says from the current token on, and returns its node."""

    def __init__(self, source: str, start: int, end: int) -> None:
        self._source = source
        self._scanner = Scanner(source, start, end)
        self._depth = 0
        self._commas_append = True

    def whole(self) -> Expression:
        node = self._expression()
        if self._scanner.current.kind != "end":
            raise mistakes.no_operator(self._source, self._scanner.current, self._scanner.previous)
        return node

    # expressions

    def _expression(self) -> Expression:
        start = self._scanner.current.start
        terms = [self._term("+", None)]
        wraps = 0
        while True:
            if self._is_at("+-"):
                operator = self._scanner.advance()
                terms.append(self._term("-" if operator.value == "-" else "+", operator))
            elif self._is_at("="):
                wraps += len(terms) > 1
                self._check_depth(self._depth + wraps)
                postfixes = self._postfixes_after_equals()
                end = self._scanner.previous.end
                node = with_postfixes(_make_sum(terms), postfixes, start=start, end=end)
                terms = [Term("+", node, start=start, end=end)]
            else:
                return _make_sum(terms)

    def _term(self, sign: Sign, operator: Token | None) -> Term:
        start = self._scanner.current.start
        node = self._atom(operator)
        postfixes = self._postfixes()
        end = self._scanner.previous.end
        return Term(sign, with_postfixes(node, postfixes, start=start, end=end), start=start, end=end)

    def _atom(self, operator: Token | None) -> Expression:
        token = self._scanner.current
        if token.kind == "text":
            self._scanner.advance()
            return Text(token.value, start=token.start, end=token.end)
        if token.kind == "name":
            return self._call()
        if not self._is_at("("):
            raise mistakes.no_operand(self._source, token, operator)
        with self._nested(commas_append=True):
            return self._expression()

    def _call(self) -> Expression:
        name = self._scanner.advance()
        if not self._is_at("("):
            raise mistakes.bare_name(self._source, name)
        signature = SIGNATURES.get(name.value)
        if signature is None:
            raise mistakes.unknown_function(self._source, name)
        with self._nested(commas_append=False):
            arguments, number = self._arguments(signature)
        start, end = name.start, self._scanner.previous.end
        missing_number = signature.number and not signature.number_optional and number is None
        if len(arguments) < signature.least or missing_number:
            raise mistakes.too_few_arguments(self._source, (start, end), signature)
        return Call(name.value, tuple(arguments), number, start=start, end=end)

    def _arguments(self, signature: Signature) -> tuple[list[Expression], Number | None]:
        arguments: list[Expression] = []
        number: Number | None = None
        while not self._is_at(")"):
            token = self._scanner.current
            if signature.most is None or len(arguments) < signature.most:
                if token.kind == "number":
                    raise mistakes.number_for_expression(self._source, token, signature)
                arguments.append(self._expression())
            elif signature.number is None or number is not None:
                raise mistakes.too_many_arguments(self._source, token, signature)
            else:
                value = self._number(token, self._arithmetic)
                number = Number(value, start=token.start, end=self._scanner.previous.end)
            if not self._is_at(","):
                break
            comma = self._scanner.advance()
            if self._is_at(")"):
                raise mistake(self._source, comma, "Nothing follows this comma.", ATOM, "Remove the comma.")
        return arguments, number

    # postfixes

    def _postfixes(self) -> tuple[Postfix, ...]:
        postfixes = []
        beginnings = "*/:," if self._commas_append else "*/:"
        while self._is_at(beginnings):
            postfixes.append(self._postfix())
        return tuple(postfixes)

    def _postfixes_after_equals(self) -> tuple[Postfix, ...]:
        equals = self._scanner.advance()
        if self._is_at(","):
            hint = "Group with parentheses instead: ('a'+'b'),'c'."
            raise mistake(self._source, self._scanner.current, "A comma cannot follow =.", "* / or :", hint)
        if not self._is_at("*/:"):
            message = "An operation is missing after =."
            raise mistake(self._source, equals, message, "* / or : as in 'a'+'b'=*2")
        return (self._postfix(), *self._postfixes())

    def _postfix(self) -> Postfix:
        operator = self._scanner.advance()
        if operator.value == ",":
            return self._append(operator)
        if operator.value == ":":
            return self._rotate(operator) if self._is_at("+-") else self._resize(operator)
        return self._scale(operator)

    def _scale(self, operator: Token) -> Scale:
        start = self._scanner.current.start
        number = self._number(operator)
        divide = operator.value == "/"
        if divide and not to_float32(number):
            span = (start, self._scanner.previous.end)
            hint = "To make a part zero but keep its place, write *0."
            raise mistake(self._source, span, "Division by zero.", "a number other than zero", hint)
        letter = self._encoder_letter()
        return Scale(number, divide, letter, start=operator.start, end=self._scanner.previous.end)

    def _encoder_letter(self) -> EncoderLetter | None:
        token = self._scanner.current
        if token.kind != "name":
            return None
        if token.value not in ("L", "G"):
            raise mistakes.unknown_suffix(self._source, token, self._scanner.previous)
        self._scanner.advance()
        return "L" if token.value == "L" else "G"

    def _resize(self, colon: Token) -> Resize:
        digits = self._digits(colon, "a whole number such as 3, or + or - and a number to shift by")
        if len(digits.value) > _MAX_DIGITS or int(digits.value) > MAX_COUNT:
            raise mistake(self._source, digits, "This is too many vectors.", f"at most {MAX_COUNT}")
        return Resize(int(digits.value), start=colon.start, end=digits.end)

    def _rotate(self, colon: Token) -> Rotate:
        direction = self._scanner.advance()
        negative = direction.value == "-"
        if self._is_at("-"):  # EM reads `:+-1` and `:--1`
            self._scanner.advance()
            negative = not negative
        digits = self._digits(direction, "a whole number such as 1")
        if len(digits.value) > _MAX_DIGITS:
            raise mistake(self._source, digits, "This shift is too large.", "a whole number such as 1")
        steps = int(digits.value)
        return Rotate(-steps if negative else steps, start=colon.start, end=digits.end)

    def _digits(self, operator: Token, expected: str) -> Token:
        token = self._scanner.current
        if token.kind != "number":
            raise mistakes.no_count(self._source, operator, token, expected)
        if not token.value.isdigit():
            raise mistakes.not_whole(self._source, token, expected)
        return self._scanner.advance()

    def _append(self, comma: Token) -> AppendText | AppendToken:
        if self._scanner.current.kind == "text":
            text = self._scanner.advance()
            return AppendText(text.value, start=comma.start, end=text.end)
        sign = self._scanner.advance() if self._is_at("+-") else None  # EM reads `,+5` as 5 and `,-0` as 0
        token = self._scanner.current
        if token.kind != "number":
            raise mistakes.nothing_to_append(self._source, comma, token)
        special = _SPECIAL.get(token.value) if sign is None else None
        padded = sign is None and token.value.startswith("0") and token.value != "0" and special is None
        negative = sign is not None and sign.value == "-" and token.value.strip("0")
        if padded or negative or not token.value.isdigit() or len(token.value) > _MAX_DIGITS:
            hint = "00 is the padding token, 000 the end token, 0000 the start token." if padded else None
            message = f"{'-' if negative else ''}{token.value[:12]} is not a token id."
            raise mistake(self._source, token, message, "a number such as 256", hint)
        self._scanner.advance()
        return AppendToken(special or int(token.value), start=comma.start, end=token.end)

    # numbers

    def _number(self, operator: Token, read: Callable[[Token], float] | None = None) -> float:
        start = self._scanner.current.start
        number = (read or self._factor)(operator)
        if to_float32(number) is None:
            span = (start, self._scanner.previous.end)
            raise mistake(self._source, span, "This number is too large.", "a smaller number")
        return number

    def _factor(self, operator: Token) -> float:
        """A decimal or a calculation in parentheses, with its sign. operator: the token before it, for the error."""
        sign = self._scanner.advance() if self._is_at("+-") else None
        token = self._scanner.current
        if token.kind == "number":
            self._scanner.advance()
            number = float(token.value)
        elif self._is_at("("):
            with self._nested(commas_append=False, among_numbers=True):
                number = self._arithmetic(token)
        else:
            raise mistakes.no_number(self._source, sign or operator, token)
        return -number if sign is not None and sign.value == "-" else number

    def _arithmetic(self, operator: Token) -> float:
        number = self._product(operator)
        while self._is_at("+-"):
            operator = self._scanner.advance()
            right = self._product(operator)
            number = number + right if operator.value == "+" else number - right
        return number

    def _product(self, operator: Token) -> float:
        number = self._factor(operator)
        while self._is_at("*/"):
            operator = self._scanner.advance()
            token = self._scanner.current
            right = self._factor(operator)
            if operator.value == "*":
                number *= right
            elif right == 0:
                span = (token.start, self._scanner.previous.end)
                raise mistake(self._source, span, "Division by zero.", "a number other than zero")
            else:
                number /= right
        return number

    def _is_at(self, symbols: str) -> bool:
        token = self._scanner.current
        return token.kind == "symbol" and token.value in symbols

    @contextmanager
    def _nested(self, *, commas_append: bool, among_numbers: bool = False) -> Iterator[None]:
        """Read a parenthesis and, after the `with` block has read its content, the one that closes it."""
        opening = self._scanner.advance()
        outer = self._commas_append
        self._depth += 1
        self._check_depth(self._depth)
        self._commas_append = commas_append
        yield
        if self._scanner.current.kind == "end":
            raise mistake(self._source, opening, "This parenthesis is never closed.", ")", "Close it with ).")
        if not self._is_at(")") and among_numbers:
            raise mistakes.in_arithmetic(self._source, self._scanner.current)
        if not self._is_at(")"):
            raise mistakes.no_operator(self._source, self._scanner.current, self._scanner.previous)
        self._scanner.advance()
        self._depth -= 1
        self._commas_append = outer

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            message = f"This is nested more than {MAX_DEPTH} levels deep."
            raise mistake(self._source, self._scanner.current, message, "fewer parentheses inside each other")


def _make_sum(terms: list[Term]) -> Expression:
    first, last = terms[0], terms[-1]
    return first.operand if first is last else Sum(tuple(terms), start=first.start, end=last.end)
