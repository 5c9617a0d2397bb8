"""The page of its own: the tab for checkpoint files, served by gradio without a web UI."""

from __future__ import annotations

import contextlib
import inspect
import sys
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_embedmerge.api.adding import make_app
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.ui.entrance import Entrance, Key
from lib_embedmerge.ui.handlers import Handlers
from lib_embedmerge.ui.own_pages import OwnPagesOnly
from lib_embedmerge.ui.own_routes import OwnRoutesOnly
from lib_embedmerge.ui.page_files import SCRIPTS, STYLE, read_page_file
from lib_embedmerge.ui.server import reserve_port, serve_from_thread
from lib_embedmerge.ui.tab import add_tab

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_OPENED_AT = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 -- only if the user asked to listen there
"""Address that means all of the machine's addresses -> the one at which the page is opened."""

_FONTS = ("system-ui", "sans-serif")
_CODE_FONTS = ("ui-monospace", "monospace")


def build_page(host: Host) -> tuple[gr.Blocks, dict[str, Any]]:
    """The gradio page, and what `mount_gradio_app` of gradio 6 is to be given with it; empty for earlier versions.

    It uses the system's fonts, so that no other machine is asked for any.
    """
    script = "() => {" + "\n".join(map(read_page_file, SCRIPTS)) + "}"
    looks: dict[str, Any] = {
        "css": read_page_file(STYLE),
        "theme": gr.themes.Default(font=_FONTS, font_mono=_CODE_FONTS),
        "js": script,
        "footer_links": ["gradio"],  # gradio's API is not served
    }
    mounted = _find_taken(looks, gr.mount_gradio_app)  # gradio 6; versions before it give them to the page
    built = {} if mounted else _find_taken(looks, gr.Blocks.__init__)
    with gr.Blocks(title="EmbedMerge", analytics_enabled=False, **built) as page:
        add_tab(
            Handlers(lambda: host, prompts=False), choosing=host.chooser is not None, pictures=host.pictures is not None
        )
        if "js" not in mounted and "js" not in built:  # gradio 3
            page.load(None, None, None, _js=script)
        if mounted:
            _draw_folded(page)
    return page, mounted


def _draw_folded(page: gr.Blocks) -> None:
    """Have gradio 6 draw every page and section of the tab at once, as earlier versions do.

    It would draw one when it is opened, and a moment later set its fields to their first values, even if something had
    been typed by then.
    """
    folded = [block for block in page.blocks.values() if block.visible is True and _is_folded(block)]
    page.load(None, None, folded, js=f"() => Array({len(folded)}).fill({{__type__: 'update', visible: true}})")


def _is_folded(block: gr.blocks.Block) -> bool:
    """Whether a block is in a page or section that can be closed, or is such a page."""
    around: gr.blocks.Block | None = block if isinstance(block, gr.Tab) else block.parent
    while around is not None and not isinstance(around, gr.Tab | gr.Accordion):
        around = around.parent
    return around is not None


def _find_taken(options: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The options that a function has parameters for in this version of gradio."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in parameters}


def launch(host: Host, *, address: str, port: int | None, open_browser: bool, key: Key | None = None) -> str:
    """Serve the page from a thread until the program ends. Returns its URL, which contains the token of the key.

    port: None for the first free one from 7860 on.  key: what gives access; None if everybody has access.
    OSError if the port is taken or the address is not one of this machine's.
    """
    bound = reserve_port(address, port)
    try:
        serve_from_thread(_make_app(host, address, bound.getsockname()[1], key), bound)
    except BaseException:
        bound.close()
        raise
    url = _make_url(address, bound.getsockname()[1], key)
    if open_browser:
        webbrowser.open(url)
    return url


def _make_app(host: Host, address: str, port: int, key: Key | None) -> ASGIApp:
    """The app with the page and the HTTP API, inside the middleware that checks requests."""
    app = make_app(lambda: host)
    page, looks = build_page(host)
    page.show_api = False  # it is not served, so no link to it
    with contextlib.redirect_stdout(sys.stderr):  # gradio 3 prints here, and a script may read JSON from stdout
        gr.mount_gradio_app(app, page, "/", **looks)
    guarded: ASGIApp = OwnRoutesOnly(app)
    if key:
        guarded = Entrance(guarded, key, port)
    return OwnPagesOnly(guarded, address, any_name=key is not None)


def _make_url(address: str, port: int, key: Key | None) -> str:
    """The URL at which the page is opened on this machine: 127.0.0.1 if it listens at all addresses."""
    name = _OPENED_AT.get(address, f"[{address}]" if ":" in address else address)
    return f"http://{name}:{port}/" + (f"?token={key.token}" if key and key.token else "")
