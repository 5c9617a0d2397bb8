"""Pictures by the web UIs' own txt2img, on their doubles. On real ones: tests/webui/test_real_previews.py."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from generating import Webui, bare, checkpoints, double, webui  # noqa: F401 -- fixtures
from PIL import Image

from lib_embedmerge.core.prompt_frames import PromptFrame
from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.picture_port import PictureMaker, PictureSettings, SkippedError
from lib_embedmerge.hosts.webui.needs import PICTURES

pytestmark = pytest.mark.filterwarnings("ignore:Please use .import python_multipart:PendingDeprecationWarning")

TIMEOUT = 60


def settings(prompt: str = "a cat", **fields: Any) -> PictureSettings:
    return PictureSettings(PromptFrame(prompt, fields.pop("negative", "")), width=64, height=128, steps=3, **fields)


def wanted() -> bool:
    return False


@pytest.fixture
def maker(webui: Webui) -> PictureMaker:
    assert webui.host.pictures is not None
    assert webui.host.pictures is webui.host.pictures
    return webui.host.pictures


@pytest.fixture
def state(webui: Webui) -> Iterator[Any]:
    state = sys.modules["modules.shared"].state
    state.jobs.clear()
    yield state
    state.on_step = lambda: None


def _tasks() -> Any:
    return sys.modules["modules.progress"].tasks


def _queue_lock() -> Any:
    return sys.modules["modules.call_queue"].queue_lock


def test_a_picture_is_made_with_the_settings(webui: Webui, maker: PictureMaker, state: Any) -> None:
    webui.save("emprev1", "'cat'*2")
    shares: list[float | None] = []
    state.on_step = lambda: shares.append(maker.share)
    assert maker.share is None
    made = maker.make(
        settings("a cat, emprev1", negative="bad", sampler="DPM++ 2M", guidance=5.5, seed=7), "emprev1", wanted
    )
    assert made is not None
    with Image.open(io.BytesIO(made)) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 128))
        infotext = picture.info["parameters"]
    assert infotext.startswith("a cat, emprev1\nNegative prompt: bad\nSteps: 3, Sampler: DPM++ 2M, ")
    assert "CFG scale: 5.5, Seed: 7, Size: 64x128" in infotext
    assert shares == [0, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert maker.share is None


def test_expressions_in_the_prompt_are_evaluated(maker: PictureMaker, state: Any) -> None:
    assert maker.make(settings("a <'cat'*2>"), None, wanted)
    with pytest.raises(HostError, match="never closed") as caught:
        maker.make(settings("a <'cat"), None, wanted)
    assert caught.value.hint == "Correct the prompt."
    assert state.job == ""


def test_choices_are_the_web_uis_own(maker: PictureMaker) -> None:
    assert list(maker.samplers()) == ["Euler", "DPM++ 2M"]
    assert list(maker.schedulers()) == ["Automatic", "Karras"]
    for wrong in ({"sampler": "Sketch"}, {"scheduler": "Later"}):
        with pytest.raises(HostError, match=f"has no {next(iter(wrong))}"):
            maker.make(settings(**wrong), None, wanted)
    assert maker.make(settings(sampler="Euler", scheduler="Karras"), None, wanted)


def test_it_waits_for_other_generations(maker: PictureMaker, state: Any) -> None:
    made: list[bytes | None] = []
    with _queue_lock():
        thread = threading.Thread(target=lambda: made.append(maker.make(settings(), None, wanted)))
        thread.start()
        _wait_until(lambda: bool(_tasks().pending))
        maker.interrupt()  # which does not stop the generation that is running
        assert not state.interrupted
        assert state.jobs == []
        assert maker.share is None
    thread.join(TIMEOUT)
    assert made[0]
    (task,) = state.jobs
    assert (_tasks().pending, _tasks().current, _tasks().finished[-1]) == ([], None, task)


def test_what_is_no_longer_wanted_is_not_begun(maker: PictureMaker, state: Any) -> None:
    state.on_step = lambda: pytest.fail("it has begun")
    assert maker.make(settings(), None, lambda: True) is None
    assert (_tasks().pending, _tasks().current) == ([], None)
    assert not _queue_lock().locked()


@pytest.mark.parametrize("by_user", [False, True])
def test_a_picture_is_interrupted(maker: PictureMaker, state: Any, *, by_user: bool) -> None:
    state.on_step = state.interrupt if by_user else maker.interrupt
    assert maker.make(settings(), None, wanted) is None
    assert state.sampling_step == 0
    state.on_step = lambda: None
    assert maker.make(settings(), None, wanted)


def test_a_picture_is_skipped(maker: PictureMaker, state: Any) -> None:
    def skip() -> None:
        state.skipped = True

    state.on_step = skip
    with pytest.raises(SkippedError, match="skipped in the web UI"):
        maker.make(settings(), None, wanted)
    state.on_step = lambda: None
    assert maker.make(settings(), None, wanted)


def test_a_fault_of_the_web_ui_is_a_sentence(maker: PictureMaker, state: Any) -> None:
    def fail() -> None:
        raise RuntimeError("out of memory\nin a kernel")

    state.on_step = fail
    with pytest.raises(HostError, match=r"could not make the picture: RuntimeError: out of memory$"):
        maker.make(settings(), None, wanted)
    assert (state.job, maker.share) == ("", None)
    assert not _queue_lock().locked()


def test_an_embedding_that_is_not_loaded_is_a_fault(webui: Webui, maker: PictureMaker) -> None:
    with pytest.raises(HostError, match="has not loaded 'emprev9'"):
        maker.make(settings("a cat, emprev9"), "emprev9", wanted)
    webui.save("emprev9", "'cat'*2")
    assert maker.make(settings("a cat, emprev9"), "emprev9", wanted)


def test_a_web_ui_without_a_queue_makes_none(webui: Webui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["modules.call_queue"], "queue_lock")
    assert PICTURES.describe_missing() == (
        "EmbedMerge cannot make preview pictures: this web UI has no call_queue.queue_lock."
    )
    assert type(webui.host)().pictures is None


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
