"""The tensors of Stability's SDXL base checkpoint in sgm naming: 2,515 names with their shapes, 6.94 GB in float16.

Sources: docs/embedding-files.md for the text encoders; the published model's configuration (sd_xl_base.yaml)
for UNet and VAE. A test holds the counts of tensors and numbers to those of the published file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Shape = tuple[int, ...]
Named = Iterator[tuple[str, Shape]]

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP_L = "conditioner.embedders.0.transformer.text_model."
CLIP_G = "conditioner.embedders.1.model."
TABLES = (f"{CLIP_L}embeddings.token_embedding.weight", f"{CLIP_G}token_embedding.weight")
POSITION_IDS = f"{CLIP_L}embeddings.position_ids"
"""The only tensor that is not float16, but int64."""

_POSITIONS = 77
_CHANNELS = 320
_TIME = 1280
_CONTEXT = 2048
_VECTOR = 2816
_VAE_CHANNELS = 128


@dataclass(frozen=True)
class Size:
    """What can be made smaller for tests: rows of the token tables, layers of each encoder, whether UNet and VAE are
    whole or only the tensors by which a loader knows SDXL."""

    rows: int = 49408
    layers_l: int = 12
    layers_g: int = 32
    whole: bool = True


def sdxl_shapes(size: Size | None = None) -> dict[str, Shape]:
    """Tensor name -> shape, in no particular order."""
    size = size or Size()
    shapes = {**dict(_clip_l(size)), **dict(_clip_g(size)), **dict(_unet())}
    if size.whole:
        return {**shapes, **dict(_vae())}
    kept = (f"{UNET}input_blocks.0.0.", f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_", CLIP_L, CLIP_G)
    return {
        name: shape for name, shape in shapes.items() if name.startswith(kept) or name.endswith("0.attn1.to_q.weight")
    }


def _clip_l(size: Size, width: int = 768) -> Named:
    yield TABLES[0], (size.rows, width)
    yield f"{CLIP_L}embeddings.position_embedding.weight", (_POSITIONS, width)
    yield POSITION_IDS, (1, _POSITIONS)
    for layer in range(size.layers_l):
        prefix = f"{CLIP_L}encoder.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{prefix}self_attn.{name}", width, width)
        yield from _linear(f"{prefix}mlp.fc1", width, 4 * width)
        yield from _linear(f"{prefix}mlp.fc2", 4 * width, width)
        yield from _norm(f"{prefix}layer_norm1", width)
        yield from _norm(f"{prefix}layer_norm2", width)
    yield from _norm(f"{CLIP_L}final_layer_norm", width)


def _clip_g(size: Size, width: int = 1280) -> Named:
    yield TABLES[1], (size.rows, width)
    yield f"{CLIP_G}positional_embedding", (_POSITIONS, width)
    yield f"{CLIP_G}text_projection", (width, width)
    yield f"{CLIP_G}logit_scale", ()
    for layer in range(size.layers_g):
        prefix = f"{CLIP_G}transformer.resblocks.{layer}."
        yield f"{prefix}attn.in_proj_weight", (3 * width, width)
        yield f"{prefix}attn.in_proj_bias", (3 * width,)
        yield from _linear(f"{prefix}attn.out_proj", width, width)
        yield from _linear(f"{prefix}mlp.c_fc", width, 4 * width)
        yield from _linear(f"{prefix}mlp.c_proj", 4 * width, width)
        yield from _norm(f"{prefix}ln_1", width)
        yield from _norm(f"{prefix}ln_2", width)
    yield from _norm(f"{CLIP_G}ln_final", width)


def _unet() -> Named:
    """Blocks of 320, 640 and 1280 channels with 0, 2 and 10 transformer blocks, two residual blocks each going down
    and three going up, where each takes what the one opposite put by."""
    yield from _linear(f"{UNET}time_embed.0", _CHANNELS, _TIME)
    yield from _linear(f"{UNET}time_embed.2", _TIME, _TIME)
    yield from _linear(f"{UNET}label_emb.0.0", _VECTOR, _TIME)
    yield from _linear(f"{UNET}label_emb.0.2", _TIME, _TIME)
    yield from _convolution(f"{UNET}input_blocks.0.0", 4, _CHANNELS)
    levels = ((_CHANNELS, 0), (2 * _CHANNELS, 2), (4 * _CHANNELS, 10))
    now, put_by, block = _CHANNELS, [_CHANNELS], 1
    for level, (channels, depth) in enumerate(levels):
        for _ in range(2):
            yield from _unet_block(f"{UNET}input_blocks.{block}.", now, channels, depth)
            now, block = channels, block + 1
            put_by.append(now)
        if level < 2:
            yield from _convolution(f"{UNET}input_blocks.{block}.0.op", now, now)
            block += 1
            put_by.append(now)
    yield from _residual(f"{UNET}middle_block.0.", now, now)
    yield from _transformer(f"{UNET}middle_block.1.", now, levels[-1][1])
    yield from _residual(f"{UNET}middle_block.2.", now, now)
    for index in range(9):
        channels, depth = levels[2 - index // 3]
        prefix = f"{UNET}output_blocks.{index}."
        yield from _unet_block(prefix, now + put_by.pop(), channels, depth)
        now = channels
        if index in {2, 5}:
            yield from _convolution(f"{prefix}2.conv", now, now)
    yield from _norm(f"{UNET}out.0", now)
    yield from _convolution(f"{UNET}out.2", now, 4)


def _unet_block(prefix: str, inputs: int, outputs: int, depth: int) -> Named:
    yield from _residual(f"{prefix}0.", inputs, outputs)
    if depth:
        yield from _transformer(f"{prefix}1.", outputs, depth)


def _residual(prefix: str, inputs: int, outputs: int) -> Named:
    yield from _norm(f"{prefix}in_layers.0", inputs)
    yield from _convolution(f"{prefix}in_layers.2", inputs, outputs)
    yield from _linear(f"{prefix}emb_layers.1", _TIME, outputs)
    yield from _norm(f"{prefix}out_layers.0", outputs)
    yield from _convolution(f"{prefix}out_layers.3", outputs, outputs)
    if inputs != outputs:
        yield from _convolution(f"{prefix}skip_connection", inputs, outputs, 1)


def _transformer(prefix: str, width: int, depth: int) -> Named:
    yield from _norm(f"{prefix}norm", width)
    yield from _linear(f"{prefix}proj_in", width, width)
    for index in range(depth):
        block = f"{prefix}transformer_blocks.{index}."
        for attention, context in (("attn1", width), ("attn2", _CONTEXT)):
            yield f"{block}{attention}.to_q.weight", (width, width)
            yield f"{block}{attention}.to_k.weight", (width, context)
            yield f"{block}{attention}.to_v.weight", (width, context)
            yield from _linear(f"{block}{attention}.to_out.0", width, width)
        yield from _linear(f"{block}ff.net.0.proj", width, 8 * width)
        yield from _linear(f"{block}ff.net.2", 4 * width, width)
        for number in (1, 2, 3):
            yield from _norm(f"{block}norm{number}", width)
    yield from _linear(f"{prefix}proj_out", width, width)


def _vae() -> Named:
    widths = [_VAE_CHANNELS * times for times in (1, 2, 4, 4)]
    yield from _convolution(f"{VAE}quant_conv", 8, 8, 1)
    yield from _convolution(f"{VAE}post_quant_conv", 4, 4, 1)
    yield from _vae_ends(f"{VAE}encoder.", (3, widths[0]), (widths[-1], 8))
    yield from _vae_ends(f"{VAE}decoder.", (4, widths[-1]), (widths[0], 3))
    now = widths[0]
    for level, width in enumerate(widths):
        yield from _vae_level(f"{VAE}encoder.down.{level}.", now, width, 2)
        now = width
        if level < 3:
            yield from _convolution(f"{VAE}encoder.down.{level}.downsample.conv", now, now)
    for level, width in reversed(list(enumerate(widths))):
        yield from _vae_level(f"{VAE}decoder.up.{level}.", now, width, 3)
        now = width
        if level:
            yield from _convolution(f"{VAE}decoder.up.{level}.upsample.conv", now, now)


def _vae_ends(prefix: str, entrance: tuple[int, int], exit_: tuple[int, int]) -> Named:
    """The first and last convolution of half a VAE, and its middle."""
    width = 4 * _VAE_CHANNELS
    yield from _convolution(f"{prefix}conv_in", *entrance)
    yield from _vae_block(f"{prefix}mid.block_1.", width, width)
    yield from _vae_block(f"{prefix}mid.block_2.", width, width)
    yield from _norm(f"{prefix}mid.attn_1.norm", width)
    for name in ("q", "k", "v", "proj_out"):
        yield from _convolution(f"{prefix}mid.attn_1.{name}", width, width, 1)
    yield from _norm(f"{prefix}norm_out", exit_[0])
    yield from _convolution(f"{prefix}conv_out", *exit_)


def _vae_level(prefix: str, inputs: int, outputs: int, blocks: int) -> Named:
    for block in range(blocks):
        yield from _vae_block(f"{prefix}block.{block}.", outputs if block else inputs, outputs)


def _vae_block(prefix: str, inputs: int, outputs: int) -> Named:
    yield from _norm(f"{prefix}norm1", inputs)
    yield from _convolution(f"{prefix}conv1", inputs, outputs)
    yield from _norm(f"{prefix}norm2", outputs)
    yield from _convolution(f"{prefix}conv2", outputs, outputs)
    if inputs != outputs:
        yield from _convolution(f"{prefix}nin_shortcut", inputs, outputs, 1)


def _linear(name: str, inputs: int, outputs: int) -> Named:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _convolution(name: str, inputs: int, outputs: int, size: int = 3) -> Named:
    yield f"{name}.weight", (outputs, inputs, size, size)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Named:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
