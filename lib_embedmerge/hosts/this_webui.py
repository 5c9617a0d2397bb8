"""The host and the prompt hook for the web UI in this process, chosen by how it encodes prompts.

Imported when a web UI starts, so it imports nothing heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib_embedmerge.hosts.port import Host
    from lib_embedmerge.hosts.sdnext.sdnext_hook import SdNextHook
    from lib_embedmerge.hosts.webui.prompt_hook import PromptHook


def encodes_with_pipelines() -> bool:
    """Whether the web UI encodes prompts with pipelines of diffusers, as SD.Next does."""
    return hasattr(sys.modules.get("modules.prompt_parser_diffusers"), "PromptEmbedder")


def make_host() -> Host:
    """The host for this web UI."""
    if encodes_with_pipelines():
        from lib_embedmerge.hosts.sdnext.sdnext_host import SdNextHost

        return SdNextHost()
    from lib_embedmerge.hosts.webui.host import WebuiHost

    return WebuiHost()


def makes_pictures() -> bool:
    """Whether the host of this web UI makes pictures. Finds out without a host, as the page is built before one."""
    from lib_embedmerge.hosts.webui.needs import PICTURES

    return not encodes_with_pipelines() and not PICTURES.find_missing()


def make_prompt_hook(get_host: Callable[[], Any]) -> PromptHook | SdNextHook:
    """The prompt hook for this web UI. get_host: returns the host; called at the first expression."""
    if encodes_with_pipelines():
        from lib_embedmerge.hosts.sdnext.sdnext_hook import SdNextHook

        return SdNextHook(get_host)
    from lib_embedmerge.hosts.webui.prompt_hook import PromptHook

    return PromptHook(get_host)
