"""Lab models as checkpoint files: SDXL's single-file layout in bfloat16, with the few tensors that loaders look for."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.lab.encoders import LabEncoder, Narrow
from benchmarks.lab.training import LabModel
from benchmarks.lab.unet import BLOCKS
from benchmarks.sdxl import CLIP_G, CLIP_L, UNET
from lib_embedmerge.core.architecture import CLIP_L as CLIP_L_KEY
from lib_embedmerge.core.architecture import VOCABULARY_SIZE

ROW_SPREAD = 0.014
"""Standard deviation of the numbers in a row that no word uses: about that of SDXL's own tables."""


def write_model(model: LabModel, path: Path, tables: dict[str, Tensor]) -> None:
    """Write a model.  tables: encoder key -> the rows of all tokens, [49408, width], of which those in use are set."""
    from safetensors.torch import save_file

    tensors = _list_unet(model)
    for encoder in (model.pair.clip_l, model.pair.clip_g):
        table = tables[encoder.key].clone()
        table[model.pair.ids] = encoder.rows.detach()
        tensors |= _list_clip_l(encoder, table) if encoder.key == CLIP_L_KEY else _list_clip_g(encoder, table)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}, str(path))


def make_tables(seed: int) -> dict[str, Tensor]:
    """Random rows for all tokens. The same for all models, as fine-tunes rarely change a rare word."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(VOCABULARY_SIZE, width, generator=generator) * ROW_SPREAD
        for key, width in (("clip_l", 768), ("clip_g", 1280))
    }


def _list_clip_l(encoder: LabEncoder, table: Tensor) -> dict[str, Tensor]:
    tensors = {
        f"{CLIP_L}embeddings.token_embedding.weight": table,
        f"{CLIP_L}embeddings.position_embedding.weight": encoder.positions,
        f"{CLIP_L}final_layer_norm.weight": encoder.norm.weight,
        f"{CLIP_L}final_layer_norm.bias": encoder.norm.bias,
    }
    names = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "out": "self_attn.out_proj"}
    for number, layer in enumerate(encoder.list_layers()):
        prefix = f"{CLIP_L}encoder.layers.{number}."
        for part in ("q", "k", "v", "out", "fc1", "fc2"):
            matrix = getattr(layer, part)
            name = prefix + names.get(part, f"mlp.{part}")
            tensors |= _name(name, matrix)
        for which in (1, 2):
            norm = getattr(layer, f"norm{which}")
            tensors |= {f"{prefix}layer_norm{which}.{kind}": getattr(norm, kind) for kind in ("weight", "bias")}
    return tensors


def _list_clip_g(encoder: LabEncoder, table: Tensor) -> dict[str, Tensor]:
    tensors = {
        f"{CLIP_G}token_embedding.weight": table,
        f"{CLIP_G}positional_embedding": encoder.positions,
        f"{CLIP_G}text_projection": encoder.projection.full()[0].T,
        f"{CLIP_G}logit_scale": torch.tensor(4.6),
        f"{CLIP_G}ln_final.weight": encoder.norm.weight,
        f"{CLIP_G}ln_final.bias": encoder.norm.bias,
    }
    names = {"out": "attn.out_proj", "fc1": "mlp.c_fc", "fc2": "mlp.c_proj"}
    for number, layer in enumerate(encoder.list_layers()):
        prefix = f"{CLIP_G}transformer.resblocks.{number}."
        three = [layer.q, layer.k, layer.v]
        tensors[f"{prefix}attn.in_proj_weight"] = torch.cat([part.full()[0] for part in three])
        tensors[f"{prefix}attn.in_proj_bias"] = torch.cat([part.full()[1] for part in three])
        for part, name in names.items():
            matrix = getattr(layer, part)
            tensors |= _name(prefix + name, matrix)
        for which in (1, 2):
            norm = getattr(layer, f"norm{which}")
            tensors |= {f"{prefix}ln_{which}.{kind}": getattr(norm, kind) for kind in ("weight", "bias")}
    return tensors


def _list_unet(model: LabModel) -> dict[str, Tensor]:
    unet = model.unet
    label = torch.zeros(1280, 2816)
    label[:, :1280] = unet.label.full()[0].detach()
    tensors = {
        f"{UNET}input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
        f"{UNET}input_blocks.0.0.bias": torch.zeros(320),
        f"{UNET}label_emb.0.0.weight": label,
        f"{UNET}label_emb.0.0.bias": unet.label.full()[1],
        f"{UNET}label_emb.0.2.weight": torch.eye(1280),
        f"{UNET}label_emb.0.2.bias": torch.zeros(1280),
    }
    for block, attention in zip(BLOCKS, unet.list_attentions(), strict=True):
        prefix = f"{UNET}{block}."
        for part in ("to_q", "to_k", "to_v"):
            tensors[f"{prefix}attn2.{part}.weight"] = getattr(attention, part).full()[0]
        tensors |= _name(f"{prefix}attn2.to_out.0", attention.to_out)
        tensors |= {f"{prefix}norm2.{kind}": getattr(attention.norm2, kind) for kind in ("weight", "bias")}
    return tensors


def list_readout(model: LabModel) -> dict[str, Tensor]:
    """What is not in a checkpoint: the states with which the topics ask, and how the teacher's vectors are read."""
    unet = model.unet
    states = {f"states.{block}": item.states for block, item in zip(BLOCKS, unet.list_attentions(), strict=True)}
    decoder = {"decode.weight": unet.decode.weight, "decode.bias": unet.decode.bias}
    return {name: tensor.detach().clone().contiguous() for name, tensor in (states | decoder).items()}


def _name(name: str, matrix: Narrow) -> dict[str, Tensor]:
    """The matrix and the bias of a linear layer, by their names."""
    weight, bias = matrix.full()
    return {f"{name}.weight": weight, f"{name}.bias": bias}
