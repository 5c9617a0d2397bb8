"""Everything is in pyproject.toml, but for one step: the page's files, which web UIs want at the extension's root, are
copied into an installed package, where lib_embedmerge/ui/page_files.py looks for them too."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PAGE_FILES = (
    "javascript/embedmerge.js",
    "javascript/embedmerge_completing.js",
    "javascript/embedmerge_dropping.js",
    "javascript/embedmerge_help.js",
    "javascript/embedmerge_history.js",
    "javascript/embedmerge_jobs.js",
    "javascript/embedmerge_library.js",
    "javascript/embedmerge_list.js",
    "javascript/embedmerge_looking.js",
    "javascript/embedmerge_selecting.js",
    "javascript/embedmerge_previewing.js",
    "style.css",
    "docs/quick-start.md",
    "docs/syntax.md",
)


class BuildWithPage(build_py):
    """build_py, and the page's files."""

    def run(self) -> None:
        """Copy them beside the modules."""
        super().run()
        if self.editable_mode:  # then the repository itself is used
            return
        for name in PAGE_FILES:
            target = Path(self.build_lib, "lib_embedmerge", "ui", "page", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(__file__).parent / name, target)


setup(cmdclass={"build_py": BuildWithPage})
