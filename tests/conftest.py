"""Settings for every test: a cache folder of its own, no network, a hypothesis profile that does not time."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("embedmerge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("embedmerge")


@pytest.fixture(autouse=True, scope="session")
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("EMBEDMERGE_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="session")
def gradio() -> ModuleType:
    """gradio, whose own imports warn of one another; ours are held to account."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("gradio")
