"""The names and widths of model architectures and their text encoders.

docs/model-tags.md and docs/embedding-files.md specify the same names: ModelSpec's, kohya's, and those of tensors.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from types import MappingProxyType

CLIP_L, CLIP_G, CLIP_H = "clip_l", "clip_g", "clip_h"

MAX_VECTORS = 75
"""Vectors that fit into one prompt chunk, in every web UI: 77 positions without start and end."""

VOCABULARY_SIZE = 49408
"""Rows of every CLIP token table: 256 bytes, 256 final bytes, 48,894 merges and two specials."""

WIDTHS = MappingProxyType({CLIP_L: 768, CLIP_G: 1280, CLIP_H: 1024})
"""Text encoder -> width of its token vectors."""

PADDING_IDS = MappingProxyType({CLIP_L: 49407, CLIP_G: 0, CLIP_H: 0})
"""Text encoder -> id of the token with which the web UIs fill a short chunk."""

ENCODER_TITLES = MappingProxyType({CLIP_L: "CLIP-L", CLIP_G: "CLIP-G", CLIP_H: "CLIP-H"})
"""Text encoder -> its name for people."""


@dataclass(frozen=True)
class Architecture:
    """A family of models that can share embeddings.

    name: short name in EmbedMerge, also in JSON.  title: for people.
    encoders: keys of the text encoders, in the order of the web UIs.
    modelspec: the ModelSpec identifier of the base model.  base_version: kohya's ss_base_model_version.
    """

    name: str
    title: str
    encoders: tuple[str, ...]
    modelspec: str
    base_version: str

    @property
    def tensor_names(self) -> dict[str, str]:
        """Encoder key -> name of its tensor in an embedding file.

        The tensor of a single encoder is `emb_params`, except for the SDXL refiner, whose loaders look for `clip_g`.
        """
        if self.encoders in ((CLIP_L,), (CLIP_H,)):
            return {self.encoders[0]: "emb_params"}
        return {key: key for key in self.encoders}


SDXL = Architecture("sdxl", "SDXL", (CLIP_L, CLIP_G), "stable-diffusion-xl-v1-base", "sdxl_base_v1-0")
SDXL_REFINER = Architecture(
    "sdxl-refiner", "SDXL refiner", (CLIP_G,), "stable-diffusion-xl-v1-refiner", "sdxl_refiner_v1-0"
)
SD1 = Architecture("sd1", "Stable Diffusion 1", (CLIP_L,), "stable-diffusion-v1", "sd_v1")
SD2 = Architecture("sd2", "Stable Diffusion 2", (CLIP_H,), "stable-diffusion-v2", "sd_v2")

ARCHITECTURES = (SDXL, SDXL_REFINER, SD1, SD2)
"""The architectures that EmbedMerge makes embeddings for."""

_T5, _LLAMA = "T5", "Llama"

OTHER_ENCODERS = MappingProxyType(
    {
        "t5xxl": _T5, "t5": _T5, "t5_xxl": _T5, "umt5xxl": _T5, "pile_t5xl": _T5, "mt5xl": _T5, "t5base": _T5,
        "byt5_small": _T5, "llama": _LLAMA, "llama3": _LLAMA, "llama3_8b": _LLAMA, "gemma": "Gemma",
        "gemma2_2b": "Gemma", "gemma3_4b": "Gemma", "qwen": "Qwen", "qwen25_3b": "Qwen", "qwen25_7b": "Qwen",
        "qwen3_4b": "Qwen", "hydit_clip": "BERT", "bert": "BERT",
    }
)  # fmt: skip
"""Key in an embedding file for a text encoder other than CLIP -> the encoder's name for people.

Sources: the `embedding_key` of ComfyUI's tokenizers; the savers of OneTrainer and diffusers (`t5`, `llama`).
"""

SD3 = Architecture("sd3", "Stable Diffusion 3", (CLIP_L, CLIP_G, _T5), "stable-diffusion-3", "")
FLUX = Architecture("flux", "Flux", (CLIP_L, _T5), "flux-1", "")
HIDREAM = Architecture("hidream", "HiDream", (CLIP_L, CLIP_G, _T5, _LLAMA), "", "")
HUNYUAN_VIDEO = Architecture("hunyuan-video", "HunyuanVideo", (CLIP_L, _LLAMA), "", "")

OTHER_ARCHITECTURES = (SD3, FLUX, HIDREAM, HUNYUAN_VIDEO)
"""Architectures whose embeddings EmbedMerge recognises and keeps but does not make.

Their `encoders` have names for people in place of the keys of encoders other than CLIP; `find_architecture` replaces
them by the keys in a file.
"""


def find_architecture(encoders: Collection[str]) -> Architecture | None:
    """The architecture with exactly these text encoders, or None. encoders: keys, as in embedding files.

    If all keys are known and one is of OTHER_ENCODERS, the result is never None: it is one of OTHER_ARCHITECTURES with
    these keys, or else an architecture called `other`.
    """
    keys = set(encoders)
    if not keys & OTHER_ENCODERS.keys():
        return next((a for a in ARCHITECTURES if set(a.encoders) == keys), None)
    ordered = (*(key for key in WIDTHS if key in keys), *sorted(keys - WIDTHS.keys()))
    if not keys <= WIDTHS.keys() | OTHER_ENCODERS.keys():
        return None
    names = {OTHER_ENCODERS.get(key, key) for key in keys}
    architecture = next((a for a in OTHER_ARCHITECTURES if set(a.encoders) == names), None)
    title = "models with " + " and ".join(dict.fromkeys(map(find_encoder_title, ordered)))
    return replace(architecture or Architecture("other", title, (), "", ""), encoders=ordered)


def find_encoder_title(key: str) -> str:
    """A text encoder's name for people; the key itself if the encoder is not known."""
    return ENCODER_TITLES.get(key) or OTHER_ENCODERS.get(key, key)


def takes_penultimate(architecture: Architecture) -> bool:
    """Whether the UNet is conditioned on the penultimate layer, not on the last one after the final norm."""
    return architecture in (SDXL, SDXL_REFINER)
