"""What the nodes have in common: their inputs, and how ComfyUI shows errors.

Lists of choices are written out here, so that ComfyUI can read the inputs of all nodes without importing the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib_embedmerge.hosts.comfyui.text_uses import ReadingChoices, Surroundings

CATEGORY = "EmbedMerge"

BARE, MARKED, AS_COMFYUI = "catdog and embedding:catdog", "embedding:catdog only", "as ComfyUI does"
STOP, LITERAL = "stop the queue", "use the text as it stands"

NAMES: Any = (
    [BARE, MARKED, AS_COMFYUI],
    {
        "default": BARE,
        "tooltip": "How a text calls an embedding. The first choice also finds names alone, as AUTOMATIC1111 does: the "
        "longest name counts. The first and the second find embedding:catdog next to commas and other signs, with any "
        "capitals, and names with spaces. The third changes nothing.",
    },
)
FOLLOW: Any = (
    "BOOLEAN",
    {
        "default": False,
        "tooltip": "When an embedding was made from text, use its text with the current model instead of the saved "
        "vectors. Files are not changed.",
    },
)
MISTAKES: Any = (
    [STOP, LITERAL],
    {"default": STOP, "tooltip": "What happens when an expression has a mistake."},
)
CLIP: Any = ("CLIP", {"tooltip": "The CLIP of a loader."})


def make_choices(options: Mapping[str, Any]) -> ReadingChoices:
    """The choices for reading texts. options: values of the inputs NAMES, FOLLOW and MISTAKES, if a node has them."""
    from lib_embedmerge.hosts.comfyui.name_calls import Names
    from lib_embedmerge.hosts.comfyui.text_uses import ReadingChoices

    names = {MARKED: Names.MARKED, AS_COMFYUI: Names.COMFYUI}
    return ReadingChoices(
        names.get(options.get("embedding_names", BARE), Names.BARE),
        follow=bool(options.get("follow_recipes")),
        stops=options.get("on_mistake") != LITERAL,
    )


def make_node_surroundings(node: object, title: str = "the loaded model") -> Surroundings:
    """What the reader of a node's texts needs. It notes them for `count_changes`.

    node: id of the node.  title: of the model, for people.
    """
    from lib_embedmerge.hosts.comfyui.comfy_host import make_surroundings
    from lib_embedmerge.hosts.comfyui.texts_in_use import TEXTS_IN_USE

    return make_surroundings(title, note=lambda text, uses: TEXTS_IN_USE.note(str(node), text, uses))


def count_changes(node: object, choices: ReadingChoices) -> int:
    """For IS_CHANGED: how often what the texts of a node name has changed. node: its id."""
    from lib_embedmerge.hosts.comfyui.comfy_host import make_surroundings
    from lib_embedmerge.hosts.comfyui.text_uses import find_uses
    from lib_embedmerge.hosts.comfyui.texts_in_use import TEXTS_IN_USE

    around = make_surroundings()
    return TEXTS_IN_USE.count_changes(str(node), lambda text: find_uses(text, around, choices))


@contextmanager
def stopping_on_errors(text: str = "text") -> Iterator[None]:
    """In this block, an error of the user stops the queue with its sentence. text: what the text is called."""
    from lib_embedmerge.errors import EmbedMergeError
    from lib_embedmerge.hosts.comfyui.prompt_reading import EmbedMergeStop
    from lib_embedmerge.node_pack.text_reports import make_error_sentence

    try:
        yield
    except EmbedMergeError as error:
        raise EmbedMergeStop(make_error_sentence(error, text)) from None


def check_text(text: object) -> str | bool:
    """For VALIDATE_INPUTS: the first mistake in a text, or True. text: None if another node gives it."""
    from lib_embedmerge.errors import EmbedMergeError
    from lib_embedmerge.hosts.comfyui.comfy_host import make_surroundings
    from lib_embedmerge.hosts.comfyui.text_counting import find_mistakes
    from lib_embedmerge.node_pack.text_reports import make_error_sentence

    if not isinstance(text, str):
        return True
    try:
        mistakes = find_mistakes(text, make_surroundings())
    except EmbedMergeError as error:  # the node says so when it runs
        return True if error.source is None else make_error_sentence(error, "text")
    return make_error_sentence(mistakes[0], "text") if mistakes else True
