"""Write EmbedMerge's version into the infotext of each picture whose prompts have expressions.

Nothing is left in `p.extra_generation_params`, which web UIs and scripts turn into JSON: what web UIs call for each
picture, a function, is no JSON, and Forge Classic then answers with a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lib_embedmerge.hosts.webui import HIRES_ATTRIBUTES
from lib_embedmerge.hosts.webui.settings import handles_inline
from lib_embedmerge.lang.nodes import PromptText
from lib_embedmerge.lang.openings import may_have_expressions
from lib_embedmerge.lang.source import read_prompt
from lib_embedmerge.version import __version__

PARAMETER = "EmbedMerge"
"""Key in the infotext of pictures whose prompts have expressions; the value is EmbedMerge's version."""


def add_version(original: Callable[..., str], *args: Any, **kwargs: Any) -> str:
    """Call the web UI's `create_infotext`, which is `original`, so that the infotext also has PARAMETER.

    args, kwargs: its arguments; the first is the StableDiffusionProcessing.
    """
    p = args[0] if args else kwargs.get("p")
    parameters = getattr(p, "extra_generation_params", None)
    if not isinstance(parameters, dict) or not handles_inline():
        return original(*args, **kwargs)
    parameters[PARAMETER] = _find_version
    try:
        return original(*args, **kwargs)
    finally:
        parameters.pop(PARAMETER, None)


def _find_version(
    p: Any, index: int, all_prompts: Sequence[str], all_negative_prompts: Sequence[str], **_: Any
) -> str | None:
    """EmbedMerge's version if the prompts of a picture have expressions, else None. `create_infotext` calls it.

    index: of the picture in the lists of prompts, which mostly are those of one batch.
    """
    prompt_lists = (all_prompts, all_negative_prompts, *(getattr(p, name, None) or () for name in HIRES_ATTRIBUTES))
    texts = (prompts[index] for prompts in prompt_lists if index < len(prompts))
    return __version__ if any(map(_has_expressions, texts)) else None


def _has_expressions(text: str) -> bool:
    """Whether a text has expressions, which `{'a'|'b'}` and the names that Embedding Merge writes are not."""
    return may_have_expressions(text) and any(not isinstance(part, PromptText) for part in read_prompt(text))
