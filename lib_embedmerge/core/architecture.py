"""The model architectures that EmbedMerge makes embeddings for: one place for their names and widths.

Sources: shared facts on formats, A and B1 (ModelSpec 1.0.1 identifiers, kohya's ss_base_model_version, tensor names).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

CLIP_L, CLIP_G, CLIP_H = "clip_l", "clip_g", "clip_h"

MAX_VECTORS = 75
"""Vectors that one prompt chunk of every web UI holds (77 positions less start and end)."""

VOCABULARY_SIZE = 49408
"""Rows of every CLIP token table: 256 bytes, 256 final bytes, 48,894 merges and two specials."""

WIDTHS = MappingProxyType({CLIP_L: 768, CLIP_G: 1280, CLIP_H: 1024})
"""Width of each text encoder's token vectors."""

PADDING_IDS = MappingProxyType({CLIP_L: 49407, CLIP_G: 0, CLIP_H: 0})
"""What the web UIs fill a short chunk with, for each text encoder."""

ENCODER_TITLES = MappingProxyType({CLIP_L: "CLIP-L", CLIP_G: "CLIP-G", CLIP_H: "CLIP-H"})
"""The text encoders' names for people."""


@dataclass(frozen=True)
class Architecture:
    """A family of models that can share embeddings.

    name: our short name, also in JSON.  title: for people.
    encoders: keys of the text encoders, in the order that the web UIs use.
    modelspec: the ModelSpec identifier of the base model.  base_version: kohya's ss_base_model_version.
    """

    name: str
    title: str
    encoders: tuple[str, ...]
    modelspec: str
    base_version: str

    @property
    def tensor_names(self) -> dict[str, str]:
        """Encoder key -> tensor name in an embedding file. Single-encoder files have always used `emb_params`;
        the SDXL refiner is the exception, its loaders look for clip_g."""
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


def architecture_of(encoders: frozenset[str] | set[str]) -> Architecture | None:
    """The architecture whose text encoders are exactly these, or None."""
    return next((a for a in ARCHITECTURES if set(a.encoders) == set(encoders)), None)
