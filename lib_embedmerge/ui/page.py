"""The page of its own: the tab over checkpoint files, made by gradio, served to this machine."""

from __future__ import annotations

import contextlib
import inspect
import sys
import webbrowser
from typing import TYPE_CHECKING

import gradio as gr

from lib_embedmerge.api.adding import make_app
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.ui.entrance import Entrance, Key
from lib_embedmerge.ui.handlers import Handlers
from lib_embedmerge.ui.own_pages import OwnPagesOnly
from lib_embedmerge.ui.own_routes import OwnRoutesOnly
from lib_embedmerge.ui.page_files import SCRIPTS, STYLE, read_page_file
from lib_embedmerge.ui.server import reserve, serve_from_thread
from lib_embedmerge.ui.tab import add_tab

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_HERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 -- where somebody asked to listen there
_FONTS = ("system-ui", "sans-serif")
_CODE_FONTS = ("ui-monospace", "monospace")


def build_page(host: Host) -> gr.Blocks:
    """The page, ready to be launched. Fonts are the system's: what is on this machine asks no other for them."""
    script = "() => {" + "\n".join(map(read_page_file, SCRIPTS)) + "}"
    takes_script = "js" in inspect.signature(gr.Blocks.__init__).parameters
    with gr.Blocks(
        title="EmbedMerge",
        css=read_page_file(STYLE),
        theme=gr.themes.Default(font=_FONTS, font_mono=_CODE_FONTS),
        analytics_enabled=False,
        **({"js": script} if takes_script else {}),
    ) as page:
        add_tab(Handlers(lambda: host, prompts=False), choosing=host.chooser is not None)
        if not takes_script:  # gradio 3
            page.load(None, None, None, _js=script)
    return page


def launch(host: Host, *, address: str, port: int | None, open_browser: bool, key: Key | None = None) -> str:
    """Serve the page from threads of its own, as long as the program runs; gives its URL, with the key's token in it.

    port: None for the first free one from 7860 on.  key: what lets in; None for everybody.
    OSError where the port is taken, or the address is none of this machine's.
    """
    bound = reserve(address, port)
    try:
        serve_from_thread(_app(host, address, bound.getsockname()[1], key), bound)
    except BaseException:
        bound.close()
        raise
    url = _url(address, bound.getsockname()[1], key)
    if open_browser:
        webbrowser.open(url)
    return url


def _app(host: Host, address: str, port: int, key: Key | None) -> ASGIApp:
    """All that answers: the page and the API, and who stands in front of them, the first one last."""
    app = make_app(lambda: host)
    page = build_page(host)
    page.show_api = False  # a link to what is not served
    with contextlib.redirect_stdout(sys.stderr):  # gradio 3 tells things there, where a script may read JSON
        gr.mount_gradio_app(app, page, "/")
    guarded: ASGIApp = OwnRoutesOnly(app)
    if key:
        guarded = Entrance(guarded, key, port)
    return OwnPagesOnly(guarded, address, any_name=key is not None)


def _url(address: str, port: int, key: Key | None) -> str:
    """Where the page is opened on this machine; one that listens everywhere is opened at 127.0.0.1."""
    name = _HERE.get(address, f"[{address}]" if ":" in address else address)
    return f"http://{name}:{port}/" + (f"?token={key.token}" if key and key.token else "")
