"""Settings for every test: a cache folder of its own, no network, a hypothesis profile that does not time, tiers."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis_profile import stop_timing
from models import StandardModels
from tiers import PROCESSES, check_tier, note_start, started, together

if TYPE_CHECKING:
    from xdist.scheduler import Scheduling

if "PYTEST_XDIST_WORKER" in os.environ:  # torch takes one thread, in each process of a parallel run ...
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # ... and in what it starts

stop_timing()
platform.platform()  # which may start a process, the first time; Python keeps the answer
sys.addaudithook(note_start)


def pytest_itemcollected(item: pytest.Item) -> None:
    """What needs the full-size checkpoints of the doubles is slow: they take seconds to make and half a gigabyte."""
    if isinstance(item, pytest.Function) and "shared_folder" in item.fixturenames:
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    started.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that starts a process, itself or in its fixtures, must be marked."""
    result = yield
    check_tier((marker.name for marker in item.iter_markers()), started)
    return result


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests start processes come first: they take longest, and a parallel run should not end with them."""
    first = {item.path for item in items if any(item.get_closest_marker(tier) for tier in PROCESSES)}
    items.sort(key=lambda item: item.path not in first)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """In a parallel run tests stay together as `tiers.together` says."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    config.option.loadscopereorder = False
    return Together(config, log)


@pytest.fixture(autouse=True, scope="session")
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("EMBEDMERGE_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a parallel run."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def standard(tmp_path_factory: pytest.TempPathFactory) -> StandardModels:
    """Checkpoint files that tests read and do not change."""
    return StandardModels(tmp_path_factory.mktemp("standard"))


@pytest.fixture(scope="session")
def gradio() -> ModuleType:
    """gradio, whose own imports warn of one another; ours are held to account."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("gradio")
