"""The layouts of checkpoint files: prefixes under which they store text encoders, and the search for encoders by them.

docs/embedding-files.md has the same table. To add a layout, add a row. canonical.py knows how the weights under a
prefix are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lib_embedmerge.checkpoints.weights import Weight, Weights
from lib_embedmerge.core.architecture import CLIP_G, CLIP_H, CLIP_L, WIDTHS
from lib_embedmerge.errors import CheckpointError, quote


class Naming(Enum):
    """How an encoder's weights are named after the prefix. The value is the name of the token table."""

    HUGGING_FACE = "text_model.embeddings.token_embedding.weight"
    BARE = "embeddings.token_embedding.weight"  # very old files, without `text_model.`
    OPEN_CLIP = "token_embedding.weight"


@dataclass(frozen=True)
class Layout:
    """How a file stores a text encoder.

    prefix: the beginning of the names of the encoder's tensors.  naming: how the names go on after the prefix.
    title: the name of the layout, for people.
    """

    prefix: str
    naming: Naming
    title: str


_HF, _BARE, _OPEN = Naming.HUGGING_FACE, Naming.BARE, Naming.OPEN_CLIP
_SGM, _LDM, _COMFY, _FORGE = "single file", "single file", "ComfyUI naming", "text_encoders naming"

LAYOUTS = (  # the first row wins if a file has an encoder twice
    Layout("conditioner.embedders.0.transformer.", _HF, _SGM),
    Layout("conditioner.embedders.1.model.", _OPEN, _SGM),
    Layout("conditioner.embedders.0.model.", _OPEN, _SGM),  # the SDXL refiner, and SD2 in the naming of sgm
    Layout("conditioner.embedders.1.model.transformer.", _HF, _SGM),
    Layout("cond_stage_model.transformer.", _HF, _LDM),
    Layout("cond_stage_model.transformer.", _BARE, _LDM),
    Layout("cond_stage_model.model.", _OPEN, _LDM),
    Layout("cond_stage_model.1.transformer.", _HF, "stable-diffusion.cpp naming"),
    Layout("cond_stage_model.1.model.", _OPEN, "stable-diffusion.cpp naming"),
    *(
        Layout(f"{outer}{encoder}.{inner}", _HF, title)
        for outer, title in (("text_encoders.", _FORGE), ("", _COMFY), ("cond_stage_model.", _COMFY))
        for encoder in (CLIP_L, CLIP_G, CLIP_H)
        for inner in ("transformer.", "")
    ),
    Layout("text_encoder.", _HF, "diffusers naming"),
    Layout("text_encoder_2.", _HF, "diffusers naming"),
    Layout("", _HF, "Hugging Face naming"),
    Layout("", _OPEN, "open_clip naming"),
    Layout("", _BARE, "Hugging Face naming"),
)


@dataclass(frozen=True)
class EncoderSource:
    """A text encoder that was found in some weights. key: clip_l, clip_g or clip_h."""

    key: str
    layout: Layout
    weights: Weights

    @property
    def table_name(self) -> str:
        """The name of the token table in the file."""
        return self.layout.prefix + self.layout.naming.value

    @property
    def table(self) -> Weight:
        """The token table, [vocabulary, width]."""
        return self.weights.tensors[self.table_name]


def find_encoders(weights: Weights) -> dict[str, EncoderSource]:
    """Encoder key -> text encoder, for all that are in the weights.

    The width of the token table tells which encoder it is, which is safer than the prefix. If the weights contain an
    encoder twice, the first row of LAYOUTS wins. CheckpointError for a token table of another width.
    """
    encoders: dict[str, EncoderSource] = {}
    for layout in LAYOUTS:
        name = layout.prefix + layout.naming.value
        if (table := weights.tensors.get(name)) is None:
            continue
        key = _identify(weights.name, name, table)
        encoders.setdefault(key, EncoderSource(key, layout, weights))
    return encoders


def _identify(file_name: str, name: str, table: Weight) -> str:
    """The key of the encoder with this token table, by its width. CheckpointError if no encoder has it."""
    if len(table.shape) == 2 and table.shape[0] > 0:
        for key, width in WIDTHS.items():
            if table.shape[1] == width:
                return key
    shape = " x ".join(map(str, table.shape)) or "a single value"
    raise CheckpointError(
        f"{quote(file_name)} contains a text encoder that no Stable Diffusion model uses: its token table is {shape}.",
        expected="49408 x 768 (CLIP-L), 49408 x 1280 (CLIP-G) or 49408 x 1024 (CLIP-H)",
        hint=f"The table is the tensor {quote(name)}.",
    )
