"""Make pictures with the web UI's own txt2img, in turn with its own generations (AUTOMATIC1111, Forge, reForge).

Scripts of the tab txt2img do not run, so that a picture depends on its settings only. LoRAs in prompts, expressions and
recipes that follow the model work, because they belong to the encoding of prompts.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lib_embedmerge.errors import HostError, quote
from lib_embedmerge.hosts.picture_port import PictureSettings, SkippedError
from lib_embedmerge.hosts.webui.embedding_database import find_databases

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)


class WebuiPictures:
    """A hosts.picture_port.PictureMaker for the web UI in this process."""

    def __init__(self) -> None:
        self._is_running = False

    def samplers(self) -> list[str]:
        """The samplers that the web UI's settings do not hide."""
        from modules import sd_samplers

        return list(sd_samplers.visible_sampler_names())

    def schedulers(self) -> list[str]:
        """The web UI's schedulers; older web UIs have none."""
        schedulers = getattr(sys.modules.get("modules.sd_schedulers"), "schedulers", ())
        return [scheduler.label for scheduler in schedulers]

    def make(self, settings: PictureSettings, embedding: str | None, is_stopped: Callable[[], bool]) -> bytes | None:
        """As in the protocol. Loads the selected model if the next generation would."""
        _check_choice("sampler", settings.sampler, self.samplers())
        _check_choice("scheduler", settings.scheduler, self.schedulers())
        with _turn():
            self._is_running = True
            try:
                # Asked only now: `interrupt` has worked since the line above.
                made = None if is_stopped() else _run_in_main_thread(lambda: _try_to_make(settings, embedding))
            finally:
                self._is_running = False
        if isinstance(made, HostError):
            raise made
        return made

    def write_grid(self, tab: Mapping[str, str], embeddings: Sequence[str], checkpoints: Sequence[str]) -> str | None:
        """An infotext for the script X/Y/Z plot; None if the web UI does not have it."""
        from lib_embedmerge.hosts.webui.grid_infotext import write_grid_infotext

        return write_grid_infotext(tab, embeddings, checkpoints)

    def interrupt(self) -> None:
        """Do what the web UI's button Interrupt does, but only while a picture of this object is being made."""
        from modules import shared

        if self._is_running:
            shared.state.interrupt()

    @property
    def share(self) -> float | None:
        """The share of the sampling steps that are done; None if no picture is being made."""
        from modules import shared

        if not self._is_running:
            return None
        steps = shared.state.sampling_steps or 0
        return min(1.0, shared.state.sampling_step / steps) if steps > 0 else 0.0


def _check_choice(kind: str, name: str, names: Sequence[str]) -> None:
    """HostError if the web UI has no sampler or scheduler with this name, for which it would silently use another."""
    if name and name not in names:
        raise HostError(f"The web UI has no {kind} {quote(name)}.", hint=f"Choose another {kind}.")


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for the web UI's other generations, and keep them waiting until the block is done."""
    from modules import call_queue, progress, shared

    task = progress.create_task_id("embedmerge")
    progress.add_task_to_queue(task)
    with call_queue.queue_lock:
        try:
            shared.state.begin(job=task)
            progress.start_task(task)
            yield
        finally:
            progress.finish_task(task)
            shared.state.end()


def _run_in_main_thread(make: Callable[[], bytes | HostError | None]) -> bytes | HostError | None:
    """Call a function in the thread in which Forge generates; elsewhere in this one."""
    run = getattr(sys.modules.get("modules_forge.main_thread"), "run_and_wait_result", None)
    made: bytes | HostError | None = run(make) if run else make()
    return made


def _try_to_make(settings: PictureSettings, embedding: str | None) -> bytes | HostError | None:
    """The picture, None if it was interrupted, or why there is none. Raises nothing, since Forge would drop it."""
    try:
        return _make(settings, embedding)
    except HostError as error:
        return error
    except Exception as error:  # noqa: BLE001 -- the web UI's own code, and that of other extensions
        if getattr(error, "is_mistake_in_prompt", False):
            return HostError(str(error), hint="Correct the prompt.")
        _log.warning("EmbedMerge: the web UI could not make a picture.", exc_info=True)
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return HostError(f"The web UI could not make the picture: {reason}", hint="The console has the details.")


def _make(settings: PictureSettings, embedding: str | None) -> bytes | None:
    from modules import processing, scripts, sd_models, shared

    with closing(processing.StableDiffusionProcessingTxt2Img(**_list_parameters(settings))) as p:
        p.scripts, p.script_args = scripts.ScriptRunner(), ()
        processed = processing.process_images(p)
    if total_tqdm := getattr(shared, "total_tqdm", None):
        total_tqdm.clear()
    state = shared.state
    if state.interrupted or getattr(state, "stopping_generation", False):
        return None
    if state.skipped:
        raise SkippedError("The picture was skipped in the web UI.")
    if embedding is not None:
        _check_known(embedding, getattr(sd_models.model_data, "sd_model", None))
    index = processed.index_of_first_image
    if len(processed.images) <= index:
        raise HostError("The web UI has made no picture.")
    infotext = processed.infotexts[index] if getattr(shared.opts, "enable_pnginfo", True) else None
    return _encode(processed.images[index], infotext)


def _list_parameters(settings: PictureSettings) -> dict[str, Any]:
    """The arguments of the web UI's class for a generation. Those that it does not have are left out."""
    from modules import processing, sd_samplers, shared

    wanted = {
        "sd_model": shared.sd_model,  # loads one if none is loaded
        "prompt": settings.prompts.prompt,
        "negative_prompt": settings.prompts.negative_prompt,
        "sampler_name": settings.sampler or sd_samplers.visible_sampler_names()[0],
        "scheduler": settings.scheduler or None,
        "steps": settings.steps,
        "width": settings.width,
        "height": settings.height,
        "cfg_scale": settings.guidance,
        "seed": settings.seed,
        "do_not_save_samples": True,
        "do_not_save_grid": True,
    }
    known = {field.name for field in fields(processing.StableDiffusionProcessingTxt2Img) if field.init}
    return {name: value for name, value in wanted.items() if name in known}


def _check_known(name: str, model: Any) -> None:
    """HostError if the web UI has read the name of an embedding as words, because it has not loaded the file."""
    databases = list(find_databases(model))
    known = [loaded.casefold() for database in databases for loaded in database.word_embeddings]
    if databases and name.casefold() not in known:
        hint = "Look at it under Inspect: it may be for other models."
        raise HostError(f"The web UI has not loaded {quote(name)}, so the prompt has its name as words.", hint=hint)


def _encode(image: Any, infotext: str | None) -> bytes:
    """A picture of Pillow as a PNG. infotext: the settings, which web UIs read from their pictures; None for none."""
    from PIL.PngImagePlugin import PngInfo

    written, metadata = io.BytesIO(), PngInfo()
    if infotext:
        metadata.add_text("parameters", infotext)
    image.save(written, "PNG", pnginfo=metadata)
    return written.getvalue()
