"""An error as HTML: the message, the position in the source marked by a caret, what was expected, what to do."""

from __future__ import annotations

from markupsafe import Markup

from lib_embedmerge.errors import MAX_SHOWN_LINE, EmbedMergeError, LookalikeError, Remedies, Remedy
from lib_embedmerge.ui.html import button, button_line, join, text, view

MAX_SENTENCE = 2000

REMEDIES: Remedies = {
    Remedy.SPLIT: "Tick the box that splits a long text before you save.",
    Remedy.SELECT: "Tick one or more in the list.",
    Remedy.GIVE_CHECKPOINT: "Start the page with --checkpoint or --models.",
}
"""How the tab words what can be done about an error."""


def error_view(error: EmbedMergeError, role: str = "alert") -> Markup:
    """An error of any kind. role: `alert` interrupts a screen reader; `status`, for answers to typing, does not."""
    error.word_remedy(REMEDIES)
    pieces = [Markup('<p class="embedmerge-message">{}</p>').format(text(error.message, MAX_SENTENCE))]
    if error.source is not None and error.start is not None and error.end is not None:
        pieces.append(_draw_position(error.source, error.start, error.end))
    for label, sentence in (("Expected", error.expected), ("Hint", error.hint)):
        if sentence:
            line = Markup('<p class="embedmerge-advice"><span class="embedmerge-label">{}</span> {}</p>')
            pieces.append(line.format(label, text(sentence, MAX_SENTENCE)))
    content = Markup('<div class="embedmerge-error-box" role="{}">{}</div>').format(role, join(pieces))
    return view("error", [content])


def lookalike_view(error: LookalikeError) -> Markup:
    """A prompt that was not saved because it looks like an expression, with a button for each way to continue."""
    buttons = join(
        [button("Use the expression", "edit", {"text": error.suggestion}), button("Save it as a prompt", "insist")]
    )
    return error_view(error) + view("ways", [button_line(buttons)])


def _draw_position(source: str, start: int, end: int) -> Markup:
    """The line that contains `start`, shortened as EmbedMergeError.render does it, with the wrong part marked.

    An invisible copy of the text before it positions the caret, so that it is exact in any font.
    """
    line_start = source.rfind("\n", 0, start) + 1
    line_end = source.find("\n", start)
    line_end = len(source) if line_end < 0 else line_end
    cut_start = line_start if start - line_start <= MAX_SHOWN_LINE // 2 else start - MAX_SHOWN_LINE // 2
    cut_end = min(line_end, cut_start + MAX_SHOWN_LINE)
    marked_end = max(start, min(end, cut_end))
    before = ("…" if cut_start > line_start else "") + _blank_unprintable(source[cut_start:start])
    marked = _blank_unprintable(source[start:marked_end])
    after = _blank_unprintable(source[marked_end:cut_end]) + ("…" if cut_end < line_end else "")
    number = source.count("\n", 0, start) + 1
    label = Markup('<p class="embedmerge-label">Line {}</p>').format(number) if "\n" in source.strip() else Markup("")
    return label + Markup(
        '<pre class="embedmerge-place" dir="ltr" tabindex="0"><span>{0}</span><mark class="embedmerge-wrong">{1}</mark>'
        '<span>{2}</span>\n<span class="embedmerge-ghost" aria-hidden="true">{0}</span>'
        '<span class="embedmerge-carets" aria-hidden="true">{3}</span></pre>'
    ).format(before, marked, after, "^" * max(1, len(marked)))


def _blank_unprintable(source: str) -> str:
    """The text with a space for each character that cannot be printed, since those would shift the caret."""
    return "".join(character if character.isprintable() else " " for character in source)
