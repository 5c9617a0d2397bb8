"""What the page's server hands out to whoever asks."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from pages.conftest import ROOT, Served


@pytest.mark.parametrize("path", ["pyproject.toml", "lib_embedmerge/version.py", str(ROOT / "README.md")])
def test_no_file_of_the_folder_that_it_was_started_in(served: Served, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{served.url}file={path}", timeout=30)
    refused.value.close()
    assert refused.value.code in {403, 404}
