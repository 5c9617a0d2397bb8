"""Run the checks in ComfyUI's own environment: `PYTHON -m comfyui.inside COMFYUI_FOLDER`, from the folder of the tests.

Prints one line of JSON: name of a check -> null, or its traceback. The text encoders are ComfyUI's own, with three
layers and random weights. Nothing is read from or written into ComfyUI's folders.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
LAYERS = 3

KINDS = {
    # kind of model -> class of its text encoders, class of its tokenizer, other arguments
    "sdxl": ("comfy.sdxl_clip:SDXLClipModel", "comfy.sdxl_clip:SDXLTokenizer", {}),
    "sdxl-refiner": ("comfy.sdxl_clip:SDXLRefinerClipModel", "comfy.sdxl_clip:SDXLTokenizer", {}),
    "sd1": ("comfy.sd1_clip:SD1ClipModel", "comfy.sd1_clip:SD1Tokenizer", {}),
    "sd2": ("comfy.text_encoders.sd2_clip:SD2ClipModel", "comfy.text_encoders.sd2_clip:SD2Tokenizer", {}),
    "sd3": ("comfy.text_encoders.sd3_clip:SD3ClipModel", "comfy.text_encoders.sd3_clip:SD3Tokenizer", {"t5": False}),
    "hidream": (
        "comfy.text_encoders.hidream:HiDreamTEModel",
        "comfy.text_encoders.hidream:HiDreamTokenizer",
        {"t5": False, "llama": False},
    ),
    "flux": ("comfy.text_encoders.flux:FluxClipModel", "comfy.text_encoders.flux:FluxTokenizer", {}),
}


def _find(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def make_clip(kind: str, dtype: Any, folders: list[str]) -> Any:
    """ComfyUI's CLIP of a kind of model, with random weights."""
    import torch
    from comfy.sd import CLIP

    model, tokenizer, arguments = KINDS[kind]
    small = {f"{key}_model_config": {"num_hidden_layers": LAYERS} for key in ("clip_l", "clip_g", "clip_h")}
    small["t5xxl_model_config"] = {"num_layers": 1, "d_ff": 8, "num_heads": 1, "d_kv": 8, "vocab_size": 32128}
    target = SimpleNamespace(params=arguments, clip=_find(model), tokenizer=_find(tokenizer))
    clip = CLIP(target, embedding_directory=folders, model_options={"dtype": dtype, **small})
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in clip.cond_stage_model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    if kind in {"sd3", "hidream"}:  # without T5 and Llama, which take gigabytes; what matters is that they are there
        clip.cond_stage_model.t5xxl = torch.nn.Linear(1, 1)
    return clip


def run_check(check: Any, tools: Any) -> str | None:
    """The traceback of a check, or None if it holds."""
    try:
        check(tools)
    except Exception:  # noqa: BLE001 -- the test shows it
        return traceback.format_exc()
    return None


def main() -> int:
    """Run all checks, or those that are named after the folder."""
    comfyui, *names = sys.argv[1:]
    sys.argv = [sys.argv[0], "--cpu"]
    sys.path[:0] = [comfyui, str(TESTS), str(TESTS.parent)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import folder_paths

    results: dict[str, str | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        embeddings = [Path(folder, "embeddings"), Path(folder, "more")]
        for path in embeddings:
            path.mkdir()
        folders = [str(path) for path in embeddings]
        folder_paths.folder_names_and_paths["embeddings"] = (folders, {".safetensors", ".pt", ".bin"})
        folder_paths.set_temp_directory(str(Path(folder, "temp")))
        from contract.comfyui_checks import CHECKS, ComfyTools

        cached = cache(lambda kind, dtype: make_clip(kind, dtype, folders))
        tools = ComfyTools(embeddings[0], TESTS / "data", cached)
        for name in names or CHECKS:
            results[name] = run_check(CHECKS[name], tools)
    print(json.dumps(results))  # noqa: T201 -- the test reads it
    return 0


if __name__ == "__main__":
    sys.exit(main())
