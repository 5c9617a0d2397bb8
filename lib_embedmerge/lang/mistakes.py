"""The errors for mistakes in expressions: a message, what was expected, and what to write instead.

Each function is named after a mistake and returns the error for its caller to raise. The parser decides whether there
is a mistake.
"""

from __future__ import annotations

from lib_embedmerge.errors import ExpressionError, find_close_names
from lib_embedmerge.lang.functions import SIGNATURES, Signature
from lib_embedmerge.lang.scanner import LOOKALIKES, Token

ATOM = "a text in quotes such as 'dog', a function, or ("
OPERATOR = "+ or - and another part, one of * / : , or the end"
_NUMBER_AFTER = "Write the number after the text: 'cat'*2."
_BEFORE_OPERAND = {
    "-": "To subtract the first text, multiply it by -1: 'cat'*-1.",
    "*": _NUMBER_AFTER,
    ",": "Write only one comma between two parts.",
    ")": "Remove the ) or write a text before it.",
}


def mistake(
    source: str, span: Token | tuple[int, int], message: str, expected: str | None = None, hint: str | None = None
) -> ExpressionError:
    """The error for a mistake. span: a token of `source`, or (start, end) in it as character offsets."""
    start, end = (span.start, span.end) if isinstance(span, Token) else span
    return ExpressionError(message, source=source, start=start, end=end, expected=expected, hint=hint)


def no_operand(source: str, token: Token, operator: Token | None) -> ExpressionError:
    """A part of the expression is missing before `token`: after `operator`, or at the beginning if that is None."""
    if token.kind == "end" and operator:
        advice = f"Remove the {operator.value} or write a text after it."
        return mistake(source, operator, f"Nothing follows {operator.value}.", ATOM, advice)
    if token.kind == "end":
        return mistake(source, token, "A text is missing here.", ATOM)
    if token.value == ")" and operator is None:
        return mistake(source, token, "These parentheses are empty.", ATOM)
    hint: str | None = _NUMBER_AFTER if token.kind == "number" else _BEFORE_OPERAND.get(token.value)
    message = f"An expression cannot begin with {token.value}."
    if operator:
        message = f"A part is missing between {operator.value} and {token.value}."
    return mistake(source, token, message, ATOM, hint)


def no_operator(source: str, token: Token, previous: Token) -> ExpressionError:
    """An operator is missing between `previous`, the last token of a complete part, and `token`."""
    shown = f"'{token.value[:20]}'" if token.kind == "text" else token.value[:20]
    hint = None
    if bent := next((c for c in previous.value if LOOKALIKES.get(c) == "'" and previous.kind == "text"), None):
        hint = f"A text ends with the straight quote ', not with {bent}."
    elif token.kind == "text":
        hint = "Join two texts with + to blend them, or with a comma to put one after the other."
    elif token.kind == "name" and previous.kind == "text" and token.start == previous.end:
        hint = "Write an apostrophe inside a text twice: 'don''t'."
    elif token.value in ("AND", "BREAK"):
        hint = f"{token.value} works only in a prompt, between expressions: <'cat'> {token.value} <'dog'>."
    elif token.kind == "name" and previous.kind == "number":
        hint = "Only L or G can follow a number."
    elif token.kind == "number" and previous.kind == "number":
        hint = (
            "Write a number with one point: 2.5."
            if token.start == previous.end
            else "Remove the space inside the number."
        )
    elif token.kind == "number":
        hint = f"To multiply, write *{shown}" + (
            f"; to append token {shown}, write ,{shown}." if shown.isdigit() else "."
        )
    elif token.value == ")":
        hint = "Remove this ) or add the ( that it closes."
    return mistake(source, token, f"An operator is missing before {shown}.", OPERATOR, hint)


def in_arithmetic(source: str, token: Token) -> ExpressionError:
    """`token` does not belong in a calculation in parentheses, where an operator or `)` should follow."""
    hint = "Write decimals with a point: 0.5." if token.value == "," else None
    return mistake(source, token, f"{token.value[:20]} does not belong in this calculation.", "+ - * / or )", hint)


def nothing_to_append(source: str, comma: Token, token: Token) -> ExpressionError:
    """`token`, which follows a comma, is neither a text nor a token id."""
    hint = None
    if token.kind == "name" and token.value not in SIGNATURES:
        hint = f"Put texts in quotes: '{token.value[:40]}'."
    elif token.kind == "name" or token.value == "(":
        hint = "A comma appends a text or a token; to append anything else, write cat(a, b)."
    message = "This comma needs a text or a token id after it."
    return mistake(source, comma, message, "a token id such as 256, or a text in quotes", hint)


def not_whole(source: str, number: Token, expected: str) -> ExpressionError:
    """`number` is a decimal, but only a whole number is allowed there."""
    hint = f"To weight a text, write *{number.value[:20]}. Attention goes around it: (<'cat'>:{number.value[:20]})."
    return mistake(source, number, "Only a whole number works here.", expected, hint)


def no_count(source: str, operator: Token, token: Token, expected: str) -> ExpressionError:
    """`token`, which follows a colon, is not a number of vectors or steps."""
    hint = None
    if token.kind in ("text", "name") or token.value == "(":
        hint = (
            "To blend two texts, write lerp('a', 'b', 0.5). To switch from one to the other while a picture is made, "
            "write [<'a'>:<'b'>:0.5] in a prompt."
        )
    return mistake(source, operator, f"No number follows {operator.value}.", expected, hint)


def no_number(source: str, operator: Token, token: Token) -> ExpressionError:
    """`token`, which follows `operator`, is not a number."""
    hint = None
    if token.kind == "text":
        hint = "Only a number can multiply or divide. To blend two texts, add them: 'cat'+'dog'*0.5."
    elif token.kind == "name" and token.value in ("L", "G"):
        hint = f"Write the number before {token.value}: *2{token.value}."
    message = f"No number follows {operator.value}." if operator is not token else "A number is missing here."
    return mistake(source, operator, message, "a number such as 2, -0.5 or (1/3)", hint)


def bare_name(source: str, name: Token) -> ExpressionError:
    """`name` is not in quotes, and no parenthesis follows that would make it a call."""
    hint = f"Put texts in quotes: '{name.value[:40]}'."
    if name.value in SIGNATURES:
        hint += f" To call the function, write its arguments in parentheses: {SIGNATURES[name.value].usage}."
    return mistake(source, name, f"{name.value[:40]} has no quotes around it.", ATOM, hint)


def unknown_function(source: str, name: Token) -> ExpressionError:
    """`name` is called like a function, but the language has no function with this name."""
    written = name.value[:20]
    by_case = [function for function in SIGNATURES if function.lower() == written.lower()]
    close = by_case or find_close_names(written.lower(), SIGNATURES, 1)
    hint = f"Did you mean {close[0]} ?" if close else None
    return mistake(source, name, f"There is no function {name.value[:40]}.", "one of " + ", ".join(SIGNATURES), hint)


def unknown_suffix(source: str, name: Token, number: Token) -> ExpressionError:
    """`name`, which follows a number, is neither L nor G."""
    if name.value in ("l", "g"):
        return mistake(
            source,
            name,
            f"Unknown letter {name.value} after a number.",
            "L or G",
            f"Did you mean {name.value.upper()} ?",
        )
    if name.value[0] in "eE" and name.start == number.end:
        hint = "Write the number out: 1000, or 0.001."
        return mistake(source, name, "Numbers cannot have an exponent.", OPERATOR, hint)
    return no_operator(source, name, number)


def number_for_expression(source: str, token: Token, signature: Signature) -> ExpressionError:
    """`token` is a number, but the function takes an expression there."""
    hint = _NUMBER_AFTER
    if token.value.isdigit():
        hint += f" For the vector of token {token.value[:20]}, write ('',{token.value[:20]})."
    return mistake(source, token, "The function needs an expression here, not a number.", signature.usage, hint)


def too_few_arguments(source: str, span: tuple[int, int], signature: Signature) -> ExpressionError:
    """A call has fewer arguments than its function needs. span: of the call, as character offsets."""
    hint = f"{signature.usage}: {signature.help}."
    return mistake(source, span, f"This function needs {signature.needs}.", signature.usage, hint)


def too_many_arguments(source: str, token: Token, signature: Signature) -> ExpressionError:
    """A call has more arguments than its function takes. token: the first one too many."""
    hint = f"{signature.usage}: {signature.help}."
    return mistake(source, token, "This function takes no more arguments.", f") as in {signature.usage}", hint)


def unclosed_bracket(prompt: str, start: int, closing: str) -> ExpressionError:
    """A bracket at `start` that is never closed. closing: the bracket that would close it."""
    return ExpressionError(
        f"This {prompt[start]} starts an expression that is never closed.",
        source=prompt,
        start=start,
        end=start + 1,
        expected=f"{closing} after the expression, outside its quotes",
        hint="Write an apostrophe inside a text twice: 'don''t'. "
        f"To use {prompt[start]}' as plain text, put a space between the two.",
    )
