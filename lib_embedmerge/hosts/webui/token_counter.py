"""The token counters of a web UI's prompts, which ask what to count (`on_before_token_counter`) as one types."""

from __future__ import annotations

from typing import Any

from lib_embedmerge.core.counting import make_countable
from lib_embedmerge.hosts.host_outliners import find_active_model, make_host_outliner
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.source import may_have_expressions


def count_expressions(params: Any, host: Host) -> None:
    """Let each expression count as its vectors, those of styles too. params: the web UI's BeforeTokenCounterParams."""
    prompt = _with_styles(params)
    if may_have_expressions(prompt):
        params.prompt = make_countable(prompt, make_host_outliner(host, find_active_model(host)))
        params.styles = []  # the prompt has them now


def _with_styles(params: Any) -> str:
    from modules import shared

    prompt: str = params.prompt
    if params.styles and shared.opts.include_styles_into_token_counters:
        styles = shared.prompt_styles
        apply = styles.apply_styles_to_prompt if params.is_positive else styles.apply_negative_styles_to_prompt
        prompt = apply(prompt, params.styles)
    return prompt
