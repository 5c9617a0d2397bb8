"""modules.processing: a whole generation, but for the picture. Sampling does nothing, so that only prompts matter.

One for all web UIs; what they do in other ways is asked of the double (Generating), and named after the web UIs.
"""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, Protocol

import torch
from PIL import Image

from doubles import prompts as prompt_parser
from doubles import queue
from doubles.installed import Options, Surroundings
from doubles.prompts import SdConditioning


class Generating(Protocol):
    """What a generation asks of the double of a web UI."""

    options: Options
    infos: dict[str, SimpleNamespace]
    styles: Styles
    cache_slots: int
    """Of a list that remembers a conditioning."""
    early_hires: bool
    """Whether hires conditionings are computed with the others where there is no hires checkpoint."""
    inference_mode: bool
    skips_negative: bool
    """Whether the negative prompt is not encoded where the CFG scale is 1, which is the default for hires."""
    strict_json: bool
    """Whether the parameters must be JSON, as for Forge Classic; elsewhere null replaces what is not JSON."""
    passes_old_scheduling: bool
    """Whether the function that encodes gets the old scheduling of prompts as an argument."""

    @property
    def model(self) -> Any: ...

    def apply(self, settings: dict[str, Any]) -> None:
        """Set options for a generation, or back."""
        ...

    def prepare(self, p: Any) -> None:
        """Have the selected model in memory."""
        ...

    def switch_to(self, info: Any) -> None:
        """Have another checkpoint in memory for the rest of a generation; None for the selected one."""
        ...

    def begin(self) -> None:
        """Forget what the last generation said, and look for new embeddings."""
        ...

    def restrict(self, wanted: tuple[Any, ...]) -> tuple[Any, ...]:
        """The key of a conditioning, with what else this web UI asks for."""
        ...

    def encoded(self, cache: list[Any]) -> None:
        """After prompts were encoded."""
        ...

    def recalled(self, cache: list[Any]) -> None:
        """After a conditioning was found in a cache."""
        ...

    def said(self) -> tuple[dict[str, Any], list[str]]:
        """Parameters for the infotext and comments of what was encoded."""
        ...


class Styles:
    """shared.prompt_styles. by_name: a style's prompt and negative prompt."""

    def __init__(self) -> None:
        self.by_name: dict[str, tuple[str, str]] = {}

    def apply_styles_to_prompt(self, prompt: str, styles: Iterable[str]) -> str:
        return self._applied(prompt, styles, 0)

    def apply_negative_styles_to_prompt(self, prompt: str, styles: Iterable[str]) -> str:
        return self._applied(prompt, styles, 1)

    def _applied(self, prompt: str, styles: Iterable[str], which: int) -> str:
        for name in styles:
            style = self.by_name.get(name, ("", ""))[which]
            if "{prompt}" in style:
                prompt = style.replace("{prompt}", prompt)
            else:
                prompt = ", ".join(filter(None, (prompt.strip(), style.strip())))
        return prompt


class Script:
    """What scripts of extensions inherit, and the turns that they have."""

    def before_process(self, p: Any, *args: Any) -> None: ...

    def process(self, p: Any, *args: Any) -> None: ...

    def before_process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def before_hr(self, p: Any, *args: Any) -> None: ...

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None: ...


def script_data(script_class: type, path: str, module: ModuleType | None = None) -> SimpleNamespace:
    """An entry of scripts.scripts_data. module: the script's own, where that matters."""
    basedir = str(Path(path).parent.parent)
    return SimpleNamespace(script_class=script_class, path=path, basedir=basedir, module=module or ModuleType("script"))


class ScriptRunner:
    """p.scripts: what scripts raise is only reported. reported: these exceptions."""

    def __init__(self, *scripts: Any) -> None:
        self.scripts = scripts
        self.reported: list[Exception] = []

    def process_batch(self, p: Any, **kwargs: Any) -> None:
        """What `run` does with this one, which is wrapped by itself."""
        self.run("process_batch", p, **kwargs)

    def run(self, callback: str, p: Any, **kwargs: Any) -> None:
        for script in self.scripts:
            method = getattr(script, callback, None)
            try:
                if method is not None:
                    method(p, **kwargs)
            except Exception as error:  # noqa: BLE001 -- as web UIs do
                self.reported.append(error)


@dataclass(eq=False)
class StableDiffusionProcessing:
    host: ClassVar[Generating]
    cached_c: ClassVar[list[Any]]
    cached_uc: ClassVar[list[Any]]

    prompt: Any = ""
    negative_prompt: Any = ""
    styles: list[str] = field(default_factory=list)
    seed: int = 1
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 4
    cfg_scale: float = 7.0
    width: int = 512
    height: int = 512
    sampler_name: str | None = "Euler"
    scheduler: str | None = None
    denoising_strength: float = 0.75
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    override_settings: dict[str, Any] = field(default_factory=dict)
    override_settings_restore_afterwards: bool = True
    extra_generation_params: dict[str, Any] = field(default_factory=dict)
    do_not_save_samples: bool = False
    do_not_save_grid: bool = True  # as for their API
    scripts: ScriptRunner = field(default_factory=ScriptRunner)

    def __post_init__(self) -> None:
        self.comments: dict[str, int] = {}
        self.refiner_checkpoint_info: Any = None
        self.extra_network_data: Any = None
        self.is_hr_pass = False
        self.iteration = 0
        self.sd_model_name = ""
        self.prompts: list[str] = []
        self.negative_prompts: list[str] = []
        self.sampled: list[tuple[Any, Any]] = []
        """What would have been sampled with: (c, uc) of each pass and each model."""
        self.cached_c = StableDiffusionProcessing.cached_c  # type: ignore[misc] # as web UIs do
        self.cached_uc = StableDiffusionProcessing.cached_uc  # type: ignore[misc] # as web UIs do

    @property
    def sd_model(self) -> Any:
        return self.host.model

    def comment(self, text: str) -> None:
        self.comments[text] = 1

    def close(self) -> None:
        self.c = self.uc = None
        if not self.host.options.persistent_cond_cache:
            self.clear_prompt_cache()

    def clear_prompt_cache(self) -> None:
        slots = self.host.cache_slots
        for name in ("cached_c", "cached_uc"):
            setattr(self, name, [None] * slots)
            setattr(StableDiffusionProcessing, name, [None] * slots)

    def setup_prompts(self) -> None:
        count = self.batch_size * self.n_iter
        if isinstance(self.negative_prompt, list) and not isinstance(self.prompt, list):
            count = len(self.negative_prompt)
        self.all_prompts = self._styled(self.prompt, count)
        self.all_negative_prompts = self._styled(self.negative_prompt, len(self.all_prompts), negative=True)
        self.main_prompt, self.main_negative_prompt = self.all_prompts[0], self.all_negative_prompts[0]

    def _styled(self, prompt: Any, count: int, *, negative: bool = False) -> list[str]:
        styles = self.host.styles
        apply = styles.apply_negative_styles_to_prompt if negative else styles.apply_styles_to_prompt
        texts = prompt if isinstance(prompt, list) else [prompt] * count
        return [apply(text, self.styles) for text in texts]

    def init(self) -> None:
        """What is known before the first picture."""

    def _batch(self, of_all: Sequence[str]) -> list[str]:
        return list(of_all[self.iteration * self.batch_size : (self.iteration + 1) * self.batch_size])

    def parse_extra_network_prompts(self) -> None:
        self.prompts, self.extra_network_data = prompt_parser.parse_prompts(self.prompts)

    def cached_params(
        self, required_prompts: Any, steps: int, extra_network_data: Any, hires_steps: int | None = None
    ) -> tuple[Any, ...]:
        options = self.host.options
        of_model = self.sd_model.sd_checkpoint_info, options.CLIP_stop_at_last_layers, options.emphasis
        wanted = (required_prompts, steps, hires_steps, extra_network_data, self.width, self.height, *of_model)
        return self.host.restrict(wanted)

    def get_conds_with_caching(  # noqa: PLR0917 -- as web UIs have it
        self,
        function: Callable[..., Any],
        required_prompts: Any,
        steps: int,
        caches: Sequence[list[Any]],
        extra_network_data: Any,
        hires_steps: int | None = None,
    ) -> Any:
        wanted = self.cached_params(required_prompts, steps, extra_network_data, hires_steps)
        for cache in caches:
            if cache[0] is not None and cache[0] == wanted:
                self.host.recalled(cache)
                return cache[1]
        scheduling = (False,) if self.host.passes_old_scheduling else ()
        caches[0][1] = function(self.sd_model, required_prompts, steps, hires_steps, *scheduling)
        self.host.encoded(caches[0])
        caches[0][0] = wanted
        return caches[0][1]

    def setup_conds(self) -> None:
        caches = [self.cached_c], [self.cached_uc]
        prompts = self.prompts, self.negative_prompts
        self.c, self.uc = self._conds(prompts, caches, self.extra_network_data, cfg=self.cfg_scale)

    def _conds(
        self, prompts: tuple[Any, Any], caches: Any, networks: Any, *, cfg: float, scale: float = 1, **hires: Any
    ) -> tuple[Any, Any]:
        """The negative prompts, the second ones, are encoded first. hires: its steps."""
        width, height = int(self.width * scale), int(self.height * scale)
        uc = None
        if not (self.host.skips_negative and cfg == 1):
            negative = SdConditioning(prompts[1], is_negative_prompt=True, width=width, height=height)
            function = prompt_parser.get_learned_conditioning
            uc = self.get_conds_with_caching(function, negative, self.steps, caches[1], networks, **hires)
        positive = SdConditioning(prompts[0], width=width, height=height)
        multicond = prompt_parser.get_multicond_learned_conditioning
        return self.get_conds_with_caching(multicond, positive, self.steps, caches[0], networks, **hires), uc

    def get_conds(self) -> tuple[Any, Any]:
        return self.c, self.uc

    def sample(self) -> None:
        self._pass(is_last=True)

    def _pass(self, *, is_last: bool) -> None:
        """Sample, in the last pass with the refiner after the model."""
        self.sampled.append(self.get_conds())
        sys.modules["modules.shared"].state.sample(self.steps)
        info = self.refiner_checkpoint_info
        if is_last and info is not None and self.sd_model.sd_checkpoint_info != info:
            self.extra_generation_params["Refiner"] = info.title
            self.extra_generation_params["Refiner switch at"] = self.refiner_switch_at
            self.host.switch_to(info)
            self.setup_conds()
            self.sampled.append(self.get_conds())


@dataclass(eq=False)
class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
    init_images: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
    cached_hr_c: ClassVar[list[Any]]
    cached_hr_uc: ClassVar[list[Any]]

    enable_hr: bool = False
    hr_scale: float = 2.0
    hr_upscaler: str = "Latent"
    hr_second_pass_steps: int = 0
    hr_checkpoint_name: str | None = None
    hr_additional_modules: list[str] | None = None
    hr_sampler_name: str | None = None
    hr_cfg: float = 1.0
    hr_prompt: Any = ""
    hr_negative_prompt: Any = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.hr_checkpoint_info: Any = None
        self.hr_prompts: list[str] | None = None
        self.hr_negative_prompts: list[str] | None = None
        self.all_hr_prompts: list[str] | None = None
        self.all_hr_negative_prompts: list[str] | None = None
        self.hr_c: Any = None
        self.hr_uc: Any = None
        self.cached_hr_c = StableDiffusionProcessingTxt2Img.cached_hr_c  # type: ignore[misc] # as web UIs do
        self.cached_hr_uc = StableDiffusionProcessingTxt2Img.cached_hr_uc  # type: ignore[misc] # as web UIs do

    def setup_prompts(self) -> None:
        super().setup_prompts()
        if self.enable_hr:
            self.hr_prompt = self.prompt if self.hr_prompt == "" else self.hr_prompt
            self.hr_negative_prompt = self.hr_negative_prompt or self.negative_prompt
            count = self.batch_size * self.n_iter
            self.all_hr_prompts = self._styled(self.hr_prompt, count)
            self.all_hr_negative_prompts = self._styled(self.hr_negative_prompt, count, negative=True)

    def init(self) -> None:
        if not self.enable_hr:
            return
        if self.hr_checkpoint_name and self.hr_checkpoint_name != "Use same checkpoint":
            self.hr_checkpoint_info = checkpoint(self.host, self.hr_checkpoint_name)
            self.extra_generation_params["Hires checkpoint"] = self.hr_checkpoint_info.title

        def prompt(p: Any, index: int, prompt_text: str, **_: Any) -> str | None:
            found: str = p.all_hr_prompts[index]
            return found if found != prompt_text else None

        def negative(p: Any, index: int, negative_prompt: str, **_: Any) -> str | None:
            found: str = p.all_hr_negative_prompts[index]
            return found if found != negative_prompt else None

        if self.host.strict_json:  # Forge Classic
            self.extra_generation_params |= self._changed_hires_prompts()
            return
        self.extra_generation_params["Hires prompt"] = prompt
        self.extra_generation_params["Hires negative prompt"] = negative

    def _changed_hires_prompts(self) -> dict[str, Any]:
        prompts = {"Hires prompt": (self.hr_prompt, self.prompt)}
        prompts["Hires negative prompt"] = (self.hr_negative_prompt, self.negative_prompt)
        return {key: hires for key, (hires, usual) in prompts.items() if tuple(hires) != tuple(usual)}

    def parse_extra_network_prompts(self) -> None:
        super().parse_extra_network_prompts()
        if self.enable_hr:
            self.hr_prompts, self.hr_extra_network_data = prompt_parser.parse_prompts(
                self._batch(self.all_hr_prompts or [])
            )
            self.hr_negative_prompts = self._batch(self.all_hr_negative_prompts or [])

    def setup_conds(self) -> None:
        if self.is_hr_pass:  # the refiner takes over
            self.hr_c = None
            self.calculate_hr_conds()
            return
        super().setup_conds()
        self.hr_c = self.hr_uc = None
        if self.enable_hr and self.hr_checkpoint_info is None and self.host.early_hires:
            self.calculate_hr_conds()

    def calculate_hr_conds(self) -> None:
        if self.hr_c is not None:
            return
        self.hr_c, self.hr_uc = self._conds(
            (self.hr_prompts, self.hr_negative_prompts),
            ([self.cached_hr_c, self.cached_c], [self.cached_hr_uc, self.cached_uc]),
            self.hr_extra_network_data,
            cfg=self.hr_cfg,
            scale=self.hr_scale,
            hires_steps=self.hr_second_pass_steps or self.steps,
        )

    def get_conds(self) -> tuple[Any, Any]:
        return (self.hr_c, self.hr_uc) if self.is_hr_pass else super().get_conds()

    def sample(self) -> None:
        self._pass(is_last=not self.enable_hr)
        if self.enable_hr:
            if self.hr_checkpoint_info is not None:
                self.host.switch_to(self.hr_checkpoint_info)
            self.is_hr_pass = True
            self.calculate_hr_conds()
            self.scripts.run("before_hr", self)
            self._pass(is_last=True)
            self.is_hr_pass = False

    def close(self) -> None:
        super().close()
        self.hr_c = self.hr_uc = None


def process_images(p: StableDiffusionProcessing) -> SimpleNamespace:
    """One generation. Gives images (black ones), infotexts and comments."""
    host = p.host
    p.scripts.run("before_process", p)
    before = {key: host.options.data[key] for key in p.override_settings if key in host.options.data}
    try:
        host.apply(p.override_settings)
        host.prepare(p)
        with torch.inference_mode() if host.inference_mode else torch.no_grad():
            return _process(p)
    finally:
        if p.override_settings_restore_afterwards:
            host.apply(before)


def _process(p: StableDiffusionProcessing) -> SimpleNamespace:
    if p.refiner_checkpoint not in (None, "", "None"):
        p.refiner_checkpoint_info = checkpoint(p.host, p.refiner_checkpoint)
    p.host.begin()
    p.sd_model_name = p.sd_model.sd_checkpoint_info.name_for_extra
    p.setup_prompts()
    p.scripts.run("process", p)
    p.init()
    infotexts: list[str] = []
    for iteration in range(p.n_iter):
        p.iteration = iteration
        p.host.switch_to(None)
        p.prompts, p.negative_prompts = p._batch(p.all_prompts), p._batch(p.all_negative_prompts)
        batch: dict[str, Any] = {"batch_number": p.iteration, "prompts": p.prompts}
        p.scripts.run("before_process_batch", p, **batch)
        p.parse_extra_network_prompts()
        p.scripts.process_batch(p, **batch | {"prompts": p.prompts})
        p.setup_conds()
        parameters, comments = p.host.said()
        p.extra_generation_params.update(parameters)
        for comment in comments:
            p.comment(comment)
        p.sample()
        p.prompts, p.negative_prompts = p._batch(p.all_prompts), p._batch(p.all_negative_prompts)
        create: Callable[..., str] = sys.modules["modules.processing"].create_infotext  # as it is installed
        infotexts += (create(p, p.prompts, index, p.negative_prompts) for index in range(len(p.prompts)))
    with_grid = len(infotexts) > 1 and not p.do_not_save_grid
    if with_grid:
        infotexts.insert(0, create(p, p.prompts, 0, p.negative_prompts, use_main_prompt=True))
    found = SimpleNamespace(
        images=[Image.new("RGB", (p.width, p.height)) for _ in infotexts],
        index_of_first_image=int(with_grid),
        infotexts=infotexts,
        comments="".join(f"{comment}\n" for comment in p.comments),
        js=functools.partial(_make_json, p, infotexts),
    )
    p.scripts.run("postprocess", p, processed=found)
    return found


def _make_json(p: Any, infotexts: Sequence[str]) -> str:
    """Processed.js, which pages and the API's clients get."""
    known = {"extra_generation_params": p.extra_generation_params, "infotexts": list(infotexts)}
    return json.dumps(known) if p.host.strict_json else json.dumps(known, default=lambda _: None)


def create_infotext(
    p: Any, all_prompts: Sequence[str], index: int, all_negative_prompts: Sequence[str], use_main_prompt: bool = False
) -> str:
    """The text of a picture. index: in its batch, for which both lists are given.

    A parameter may be a list, or be called with everything that is known here.
    """
    prompt_text = p.main_prompt if use_main_prompt else all_prompts[index]
    negative_prompt = p.main_negative_prompt if use_main_prompt else all_negative_prompts[index]
    known = locals()
    parameters = {
        "Steps": p.steps,
        "Sampler": p.sampler_name,
        "CFG scale": p.cfg_scale,
        "Seed": p.seed + index,
        "Size": f"{p.width}x{p.height}",
        "Model": p.sd_model_name,
        **p.extra_generation_params,
        "Version": "v1.10.1",
    }
    for key, value in parameters.items():
        found = value(**known) if callable(value) else value
        parameters[key] = found[index] if isinstance(found, list) else found
    listed = ", ".join(f"{key}: {_quoted(value)}" for key, value in parameters.items() if value is not None)
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt_text}{negative}\n{listed}".strip()


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",\n:") else text


def checkpoint(host: Generating, name: str | None) -> Any:
    """get_closet_checkpoint_match, where that finds one."""
    return next(info for info in host.infos.values() if name in (info.title, info.name_for_extra, info.filename))


def _report(message: str, *, exc_info: bool = False) -> None:
    """modules.errors.report: what a page's handlers print of the exception that ended them."""
    sys.stderr.write(f"*** {message}\n{traceback.format_exc() if exc_info else ''}")


def _display(error: Exception, task: str, *, full_traceback: bool = False) -> None:
    """modules.errors.display: the same, of scripts that go on."""
    del full_traceback
    sys.stderr.write("\n".join([f"{task}: {type(error).__name__}", *traceback.format_exception(error)]))


def install(around: Surroundings, host: Any) -> None:
    """Install modules.processing, and what a generation and extensions ask for beside it."""
    nothing = [None] * host.cache_slots
    classes = (StableDiffusionProcessing, StableDiffusionProcessingTxt2Img, StableDiffusionProcessingImg2Img)
    caches = {classes[0]: ("cached_c", "cached_uc"), classes[1]: ("cached_hr_c", "cached_hr_uc")}
    around.patch.setattr(StableDiffusionProcessing, "host", host, raising=False)
    for owner, names in caches.items():
        for name in names:
            around.patch.setattr(owner, name, list(nothing), raising=False)
    around.install(
        processing={one.__name__: one for one in (*classes, process_images, create_infotext)},
        prompt_parser={name: one for name, one in vars(prompt_parser).items() if not name.startswith("_")},
        extra_networks={"parse_prompt": prompt_parser.parse_prompt, "parse_prompts": prompt_parser.parse_prompts},
        scripts={
            "scripts_data": [],
            "ScriptRunner": ScriptRunner,
            "Script": Script,
            "__file__": "/webui/modules/scripts.py",
        },
        devices={"device": torch.device("cpu")},
        errors={"report": _report, "display": _display},
    )
    queue.install(around, sys.modules["modules.shared"])
