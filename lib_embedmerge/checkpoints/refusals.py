"""Kinds of files that are refused, each with its own message: a table of tensor names that identify them.

Source: ComfyUI's comfy/model_detection.py, for the names of each architecture. To refuse another kind of file, add a
row.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib_embedmerge.checkpoints.weights import Weights
from lib_embedmerge.errors import CheckpointError, quote

_CHECKPOINT = "Choose an SDXL, SD1 or SD2 checkpoint, or its clip_l and clip_g files."
_OTHER = "EmbedMerge makes embeddings for SDXL, SD1 and SD2 models."


@dataclass(frozen=True)
class Refusal:
    """A kind of file that is refused.

    title: completes the sentence "<file> is ...".
    signs: parts of tensor names; one of them in the file is enough. `\\n` marks the beginning or the end of a name.
    hint: what the user can do.
    """

    title: str
    signs: tuple[str, ...]
    hint: str = _OTHER


REFUSALS = (
    Refusal(
        "a LoRA, which changes a model but contains no text encoders",
        (
            "\nlora_unet_", "\nlora_te", "\nlycoris_", ".lora_down.weight\n", ".lora_up.weight\n", ".lora_A.weight\n",
            ".lora.down.weight\n", ".hada_w1_a\n", ".lokr_w1", ".oft_blocks\n",
        ),
        _CHECKPOINT,
    ),
    Refusal(
        "a textual-inversion embedding, not a checkpoint",
        ("\nemb_params\n", "\nclip_l\n", "\nclip_g\n", "\nstring_to_param.", "\nbundle_emb."),
        "Give the checkpoint it is for.",
    ),
    Refusal(
        "a ControlNet, which contains no text encoders",
        ("\ncontrol_model.", "\ninput_hint_block.", "\ncontrolnet_cond_embedding.", "\nlllite_unet_",
         "\ncontrolnet_blocks."),
        _CHECKPOINT,
    ),
    Refusal("an IP-Adapter, which contains no text encoders", ("\nimage_proj.", "\nip_adapter."), _CHECKPOINT),
    Refusal("a Kolors model: its text encoder is ChatGLM, not CLIP", (
        "encoder_hid_proj.weight\n", "self_attention.query_key_value.weight\n",
    )),
    Refusal("a Hunyuan Video model, which has another architecture", ("txt_in.individual_token_refiner.",)),
    Refusal(
        "a HunyuanDiT model: its text encoders are BERT and mT5, not CLIP",
        ("mlp_t5.0.weight\n", "hydit_clip.", "mt5xl.", "\nbert.embeddings."),
    ),
    Refusal("a Chroma model: its text encoder is T5, not CLIP", ("distilled_guidance_layer.",)),
    Refusal(
        "a Flux model, which uses CLIP-L with T5 and no SDXL embeddings",
        ("double_blocks.0.img_attn.", "\nsingle_transformer_blocks.0.", "transformer.single_transformer_blocks.0."),
    ),
    Refusal("an AuraFlow model: its text encoder is T5, not CLIP", ("double_layers.0.attn.w1q.weight\n",)),
    Refusal("a Stable Cascade model, whose text encoder differs from those of SDXL", (
        "clip_txt_mapper.weight\n", "clip_mapper.weight\n", "\nclf.1.weight\n", "text_encoder.clip_g.",
    )),
    Refusal("a PixArt model: its text encoder is T5, not CLIP", (
        "y_embedder.y_proj.fc1.weight\n", "\ncaption_projection.linear_1.weight\n", "t_block.1.weight\n",
    )),
    Refusal(
        "a Stable Diffusion 3 model, which cannot use SDXL embeddings",
        ("joint_blocks.0.", "model.diffusion_model.x_embedder.proj.weight\n", ".attn.add_k_proj.weight\n"),
    ),
    Refusal(
        "a SigLIP encoder, not CLIP", ("\ntext_model.head.weight\n", "\nlogit_bias\n"), _CHECKPOINT
    ),
    Refusal(
        "a bundle of text encoders with T5, as Stable Diffusion 3 and Flux use",
        ("t5xxl.transformer.shared.weight\n", "t5xxl.transformer.encoder."),
        _CHECKPOINT,
    ),
    Refusal(
        "a T5 text encoder, not CLIP",
        ("\nencoder.block.0.layer.0.SelfAttention.q.weight\n", "\nshared.weight\n"),
        _CHECKPOINT,
    ),
)  # fmt: skip
"""Files that are refused even if they contain a token table of CLIP. The first row that matches gives the message."""

WITHOUT_ENCODERS = (
    Refusal(
        "only a UNet, without text encoders",
        ("\nmodel.diffusion_model.", "\ninput_blocks.0.0.weight\n", "\ndown_blocks.0.resnets.0.conv1.weight\n"),
        "Give its clip_l and clip_g files too, or the full checkpoint.",
    ),
    Refusal(
        "a VAE, which contains no text encoders",
        ("\ndecoder.conv_in.weight\n", "\nencoder.conv_in.weight\n", "\nfirst_stage_model."),
        _CHECKPOINT,
    ),
    Refusal(
        "an image encoder, not a text encoder",
        ("\nvision_model.", "\nvisual.", "\nimage_encoder."),
        _CHECKPOINT,
    ),
)
"""Files that are refused only if no text encoder was found in them."""


def refuse_foreign(weights: Weights) -> None:
    """CheckpointError if the tensor names show another architecture or another kind of file."""
    _refuse(weights, REFUSALS)


def refuse_without_encoders(weights: Weights) -> None:
    """Raise the CheckpointError for weights in which no text encoder was found."""
    _refuse(weights, WITHOUT_ENCODERS)
    raise CheckpointError(
        f"{quote(weights.name)} contains no CLIP text encoder that EmbedMerge knows.", hint=_CHECKPOINT
    )


def _refuse(weights: Weights, refusals: tuple[Refusal, ...]) -> None:
    """CheckpointError with the first of `refusals` whose signs are in the tensor names."""
    # One text of all names, so that each sign is one search and not a loop over thousands of names.
    names = "\n".join(["", *weights.tensors, ""])
    for refusal in refusals:
        if any(sign in names for sign in refusal.signs):
            raise CheckpointError(f"{quote(weights.name)} is {refusal.title}.", hint=refusal.hint)


PIPELINES = (
    ("StableDiffusion3", "a Stable Diffusion 3 model, which cannot use SDXL embeddings"),
    ("Flux", "a Flux model, which uses CLIP-L with T5 and no SDXL embeddings"),
    ("HunyuanVideo", "a Hunyuan Video model, which has another architecture"),
    ("HunyuanDiT", "a HunyuanDiT model: its text encoders are BERT and mT5, not CLIP"),
    ("Kolors", "a Kolors model: its text encoder is ChatGLM, not CLIP"),
    ("Chroma", "a Chroma model: its text encoder is T5, not CLIP"),
    ("PixArt", "a PixArt model: its text encoder is T5, not CLIP"),
    ("StableCascade", "a Stable Cascade model, whose text encoder differs from those of SDXL"),
    ("AuraFlow", "an AuraFlow model: its text encoder is T5, not CLIP"),
)
"""(beginning of the class name in a diffusers folder's model_index.json, text that completes "<folder> is ...")."""


def refuse_pipeline(folder_name: str, class_name: str, encoder_classes: list[str]) -> None:
    """CheckpointError if the classes in a diffusers folder's model_index.json are those of another architecture."""
    for start, title in PIPELINES:
        if class_name.startswith(start):
            raise CheckpointError(f"{quote(folder_name)} is {title}.", hint=_OTHER)
    for encoder_class in encoder_classes:
        if encoder_class not in {"CLIPTextModel", "CLIPTextModelWithProjection"}:
            message = (
                f"{quote(folder_name)} is a {class_name or 'model'} with the text encoder {encoder_class}, not CLIP."
            )
            raise CheckpointError(message, hint=_OTHER)
