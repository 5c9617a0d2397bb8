"""Checkpoints of 6,000 tokens for tests that build embeddings: quick to write, enough for the words of the tests."""

from __future__ import annotations

import shutil
from functools import cache, cached_property
from pathlib import Path

from checkpoint_files import TABLE, Tensors, make_encoders, save, sgm_tensors

ROWS = 6000
"""Tokens: photo 1125, dog 1929, cat 2368 and every word of a few letters that the tests use."""

CAT, DOG = 2368, 1929

Encoders = dict[str, Tensors]


@cache
def encoders(seed: int = 0) -> Encoders:
    """clip_l, clip_g and clip_h, made once. Nobody may change them."""
    return make_encoders(rows=ROWS, seed=seed)


def with_rows_scaled(base: Encoders, tokens: list[int], factor: float = 2.0) -> Encoders:
    """The same encoders with some rows of every token table multiplied."""
    copy = {key: dict(tensors) for key, tensors in base.items()}
    for tensors in copy.values():
        tensors[TABLE] = tensors[TABLE].clone()
        tensors[TABLE][tokens] *= factor
    return copy


def with_other_layers(base: Encoders) -> Encoders:
    """The same token tables under other layers, as a baked-in LoRA leaves them."""
    name = "text_model.encoder.layers.0.mlp.fc1.weight"
    return {key: {**tensors, name: tensors[name] * 1.5} for key, tensors in base.items()}


def write_sdxl(path: Path, given: Encoders) -> Path:
    return save(path, sgm_tensors(given))


class StandardModels:
    """Checkpoint files for all tests of a process, each written when it is first asked for. Nobody may change them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def base(self) -> Path:
        """The model of `encoders()`."""
        return write_sdxl(self._folder / "base.safetensors", encoders())

    @cached_property
    def other_cat(self) -> Path:
        """A fine-tune of `base` that changed the token `cat` and nothing else."""
        return write_sdxl(self._folder / "other.safetensors", with_rows_scaled(encoders(), [CAT]))

    @cached_property
    def other_dog(self) -> Path:
        """A fine-tune of `base` that changed the token `dog` and nothing else."""
        return write_sdxl(self._folder / "twin.safetensors", with_rows_scaled(encoders(), [DOG]))

    @cached_property
    def pony(self) -> Path:
        """`other_cat` with a space in its name."""
        path = self._folder / "pony v6.safetensors"
        shutil.copyfile(self.other_cat, path)
        return path

    @cached_property
    def unlike(self) -> Path:
        """A model that has no token row in common with `base`."""
        return write_sdxl(self._folder / "unlike.safetensors", encoders(seed=5))


def write_models(folder: Path, tokens: list[int], third: str) -> Path:
    """A folder with `base`, with `pony` and a third model in which the rows of these tokens are others, and a torn
    file."""
    base = encoders()
    (folder / third).parent.mkdir(exist_ok=True)
    write_sdxl(folder / "base.safetensors", base)
    write_sdxl(folder / "pony.safetensors", with_rows_scaled(base, tokens))
    write_sdxl(folder / f"{third}.safetensors", with_rows_scaled(base, tokens, 3.0))
    (folder / "torn.safetensors").write_bytes(b"\xff" * 40)
    return folder
