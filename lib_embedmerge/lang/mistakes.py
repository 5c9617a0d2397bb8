"""What to say of a mistake in an expression: which sentence, what was expected, what to write instead.

Every function gives the error for its caller to raise; none decides whether there is a mistake.
"""

from __future__ import annotations

import difflib

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.functions import SIGNATURES, Signature
from lib_embedmerge.lang.scanner import LOOKALIKES, Token

ATOM = "a text in quotes such as 'dog', a function, or ("
OPERATOR = "+ or - and another part, a postfix (* / : ,) or the end"
_NUMBER_BEHIND = "The number stands behind the text: 'cat'*2."
_BEFORE_OPERAND = {
    "-": "To turn a text around, multiply it: 'cat'*-1.",
    "*": _NUMBER_BEHIND,
    ",": "Only one comma stands between two parts.",
    ")": "Take the parenthesis away or write a text before it.",
}


def mistake(
    source: str, place: Token | tuple[int, int], message: str, expected: str | None = None, hint: str | None = None
) -> ExpressionError:
    """An error at a token, or at (start, end)."""
    start, end = (place.start, place.end) if isinstance(place, Token) else place
    return ExpressionError(message, source=source, start=start, end=end, expected=expected, hint=hint)


def no_operand(source: str, token: Token, operator: Token | None) -> ExpressionError:
    """`token` stands where a part should begin, behind `operator` or at the very beginning."""
    if token.kind == "end" and operator:
        advice = f"Take {operator.value} away or write a text behind it."
        return mistake(source, operator, f"Nothing follows {operator.value}.", ATOM, advice)
    if token.kind == "end":
        return mistake(source, token, "There is no text here.", ATOM)
    if token.value == ")" and operator is None:
        return mistake(source, token, "Nothing stands between these parentheses.", ATOM)
    hint: str | None = _NUMBER_BEHIND if token.kind == "number" else _BEFORE_OPERAND.get(token.value)
    message = f"An expression cannot begin with {token.value}."
    if operator:
        message = f"A part is missing between {operator.value} and {token.value}."
    return mistake(source, token, message, ATOM, hint)


def no_operator(source: str, token: Token, previous: Token) -> ExpressionError:
    """`token` stands behind a whole part, whose last token is `previous`, where only an operator or the end can."""
    shown = f"'{token.value[:20]}'" if token.kind == "text" else token.value[:20]
    hint = None
    if bent := next((c for c in previous.value if LOOKALIKES.get(c) == "'" and previous.kind == "text"), None):
        hint = f"A text ends with the straight quote ', not with {bent}."
    elif token.kind == "text":
        hint = "Join two texts with + to blend them, or with a comma to put one behind the other."
    elif token.kind == "name" and previous.kind == "text" and token.start == previous.end:
        hint = "An apostrophe inside a text is written twice: 'don''t'."
    elif token.value in ("AND", "BREAK"):
        hint = f"{token.value} stands between expressions in a prompt: <'cat'> {token.value} <'dog'>."
    elif token.kind == "name" and previous.kind == "number":
        hint = "Only L or G can stand behind a number."
    elif token.kind == "number" and previous.kind == "number":
        hint = "A number has one point: 2.5." if token.start == previous.end else "A number has no space inside."
    elif token.kind == "number":
        hint = f"To multiply, write *{shown}" + (f"; to append token {shown}, ,{shown}." if shown.isdigit() else ".")
    elif token.value == ")":
        hint = "This parenthesis was never opened."
    return mistake(source, token, f"An operator is missing before {shown}.", OPERATOR, hint)


def in_arithmetic(source: str, token: Token) -> ExpressionError:
    """`token` stands among numbers in parentheses, where only an operator or the end of the parenthesis can."""
    hint = "Decimals take a point: 0.5." if token.value == "," else None
    return mistake(source, token, f"{token.value[:20]} cannot stand here among numbers.", "+ - * / or )", hint)


def nothing_to_append(source: str, comma: Token, token: Token) -> ExpressionError:
    """What follows a comma is neither a text nor a token id."""
    hint = None
    if token.kind == "name" and token.value not in SIGNATURES:
        hint = f"Texts stand in quotes: '{token.value[:40]}'."
    elif token.kind == "name" or token.value == "(":
        hint = "A comma appends a text or a token; for anything else write cat(a, b)."
    message = "Nothing that can be appended follows this comma."
    return mistake(source, comma, message, "a token id such as 256, or a text in quotes", hint)


def not_whole(source: str, number: Token, expected: str) -> ExpressionError:
    """A decimal stands where only a whole number can."""
    hint = f"To weigh a text, write *{number.value[:20]}; attention goes around it: (<'cat'>:{number.value[:20]})."
    return mistake(source, number, "Only a whole number can stand here.", expected, hint)


def no_count(source: str, operator: Token, token: Token, expected: str) -> ExpressionError:
    """`token` follows a colon, where only a number of vectors or steps can stand."""
    hint = None
    if token.kind in ("text", "name") or token.value == "(":
        hint = (
            "Between two texts: lerp('a', 'b', 0.5). From one to the other while a picture is made, in a prompt: "
            "[<'a'>:<'b'>:0.5]."
        )
    return mistake(source, operator, f"No number follows {operator.value}.", expected, hint)


def no_number(source: str, operator: Token, token: Token) -> ExpressionError:
    """`token` stands behind `operator` where a number should."""
    hint = None
    if token.kind == "text":
        hint = "A text cannot be a factor; to blend two texts, add them: 'cat'+'dog'*0.5."
    elif token.kind == "name" and token.value in ("L", "G"):
        hint = f"The number stands before {token.value}: *2{token.value}."
    message = f"No number follows {operator.value}." if operator is not token else "A number is missing here."
    return mistake(source, operator, message, "a number such as 2, -0.5 or (1/3)", hint)


def bare_name(source: str, name: Token) -> ExpressionError:
    """A name that no parenthesis follows."""
    hint = f"Texts stand in quotes: '{name.value[:40]}'."
    if name.value in SIGNATURES:
        hint += f" A function has its arguments in parentheses: {SIGNATURES[name.value].usage}."
    return mistake(source, name, f"{name.value[:40]} stands here without quotes.", ATOM, hint)


def unknown_function(source: str, name: Token) -> ExpressionError:
    """A name before a parenthesis that is none of ours."""
    written = name.value[:20]
    by_case = [known for known in SIGNATURES if known.lower() == written.lower()]
    close = by_case or difflib.get_close_matches(written.lower(), SIGNATURES, 1)
    hint = f"Did you mean {close[0]} ?" if close else None
    return mistake(source, name, f"There is no function {name.value[:40]}.", "one of " + ", ".join(SIGNATURES), hint)


def unknown_suffix(source: str, name: Token, number: Token) -> ExpressionError:
    """A name behind a number that is neither L nor G."""
    if name.value in ("l", "g"):
        return mistake(source, name, f"Unknown suffix {name.value}.", "L or G", f"Did you mean {name.value.upper()} ?")
    if name.value[0] in "eE" and name.start == number.end:
        hint = "Write the number out: 1000, or 0.001."
        return mistake(source, name, "Numbers have no exponent here.", OPERATOR, hint)
    return no_operator(source, name, number)


def number_for_expression(source: str, token: Token, signature: Signature) -> ExpressionError:
    """A number stands where a function takes an expression."""
    hint = _NUMBER_BEHIND
    if token.value.isdigit():
        hint += f" The vector of token {token.value[:20]} is ('',{token.value[:20]})."
    return mistake(source, token, "An expression stands here, not a number.", signature.usage, hint)


def too_few_arguments(source: str, span: tuple[int, int], signature: Signature) -> ExpressionError:
    """A call ends before it has all that its function needs."""
    hint = f"{signature.usage}: {signature.help}."
    return mistake(source, span, f"This function needs {signature.needs}.", signature.usage, hint)


def too_many_arguments(source: str, token: Token, signature: Signature) -> ExpressionError:
    """A call goes on behind the last argument that its function takes."""
    hint = f"{signature.usage}: {signature.help}."
    return mistake(source, token, "This function takes no more arguments.", f") as in {signature.usage}", hint)
