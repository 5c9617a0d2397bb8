"""The line that says what the page Make is for, examples, and the last texts.

A click on an example or a text writes it into the text box.
"""

from __future__ import annotations

from markupsafe import Markup

from lib_embedmerge.ui.html import folded, join, view

EXAMPLES = (
    # source, what it makes
    ("'cat'+'dog'", "a blend of two words"),
    ("'cat'+'dog'*0.5", "a blend, more cat than dog"),
    ("'peacock'*0.4", "a weaker word"),
    ("lerp('cat', 'dog', 0.3)", "three tenths of the way from cat to dog"),
    ("avg('photo of a cat')", "several words as one vector"),
    ("'oil painting':1", "the first vector alone"),
    ("a photo of a <'cat'+'dog'> in the garden", "a prompt with an expression"),
)


def intro_view() -> Markup:
    """What the page does, in a sentence."""
    sentence = (
        "Type a prompt, or words in quotes that you add with weights. Save it under a name, and use that name in "
        "prompts like any embedding. It is made for the selected model."
    )
    return view("intro", [Markup('<p class="embedmerge-quiet">{}</p>').format(sentence)])


def examples_view() -> Markup:
    """A collapsed block with a button for each example."""
    return view(
        "examples",
        [folded("Examples", Markup('<div class="embedmerge-examples-list">{}</div>').format(_draw_examples()))],
    )


def history_view() -> Markup:
    """A collapsed block for the last texts, which the script javascript/embedmerge_history.js fills in."""
    return view("history", [folded("History", Markup('<div class="embedmerge-history-list"></div>'))])


def _draw_examples() -> Markup:
    return join(
        Markup(
            '<button type="button" class="embedmerge-button embedmerge-example" data-embedmerge-action="edit" '
            'data-embedmerge-text="{0}"><code class="embedmerge-code">{0}</code>'
            '<span class="embedmerge-quiet">{1}</span></button>'
        ).format(source, words)
        for source, words in EXAMPLES
    )
