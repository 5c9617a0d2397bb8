"""The page of its own: the tab over checkpoint files, served by gradio to this machine."""

from __future__ import annotations

import contextlib
import inspect
import sys
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from lib_embedmerge.api.adding import add_api
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.ui.handlers import Handlers
from lib_embedmerge.ui.own_pages import OwnPagesOnly
from lib_embedmerge.ui.page_files import SCRIPTS, STYLE, read_page_file
from lib_embedmerge.ui.tab import add_tab

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


def launch(host: Host, *, address: str, port: int | None, open_browser: bool) -> str:
    """Serve the page from threads of its own, as long as the program runs; gives its URL.

    port: None for the first free one from 7860 on. OSError where it is taken, ValueError where it cannot be
    reached from this machine.
    """
    page = build_page(host)
    with contextlib.redirect_stdout(sys.stderr):  # gradio 3 tells the URL there, where a script may read JSON
        app, url, _ = page.launch(
            server_name=address,
            server_port=port,
            inbrowser=open_browser,
            show_api=False,
            quiet=True,
            share=False,
            # gradio 3 would hand out every file below the folder that it is started in, to any page in the browser.
            blocked_paths=[str(Path.cwd())],
            prevent_thread_lock=True,
            app_kwargs={"middleware": [Middleware(OwnPagesOnly, address=address)]},
        )
    add_api(app, lambda: host, {})
    return str(url)
