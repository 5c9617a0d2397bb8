"""Count expressions in a web UI's token counters, which call `on_before_token_counter` while the user types."""

from __future__ import annotations

from typing import Any

from lib_embedmerge.core.counting import make_countable
from lib_embedmerge.hosts.host_outliners import find_active_model, make_host_outliner
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.openings import may_have_expressions


def count_expressions(params: Any, host: Host) -> None:
    """Make each expression in the prompt and its styles count as many tokens as it has vectors.

    params: the web UI's BeforeTokenCounterParams, which is changed.
    """
    prompt = _apply_styles(params)
    if may_have_expressions(prompt):
        params.prompt = make_countable(prompt, make_host_outliner(host, find_active_model(host)))
        params.styles = []  # the prompt contains their texts now


def _apply_styles(params: Any) -> str:
    """The prompt with the texts of its styles, if the web UI counts these."""
    from modules import shared

    prompt: str = params.prompt
    if params.styles and shared.opts.include_styles_into_token_counters:
        styles = shared.prompt_styles
        apply = styles.apply_styles_to_prompt if params.is_positive else styles.apply_negative_styles_to_prompt
        prompt = apply(prompt, params.styles)
    return prompt
