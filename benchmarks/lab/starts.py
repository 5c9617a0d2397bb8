"""Where the training of a lab model starts: layers pass on what the rows of words say, and topics look for their words.

Without this, most of the training would go into finding out where in a row the teacher's vector is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from benchmarks.lab.encoders import LabEncoder
from benchmarks.lab.prompts import TOPICS, Phrase
from benchmarks.lab.training import LabModel, make_batch, make_targets, make_whole, run_batch
from benchmarks.lab.unet import LabAttention

_SHARPNESS = 2.0
"""Standard deviation of the scores that a topic gives to positions."""

_BATCHES = 60
_RIDGE = 0.03


def start_from_rows(model: LabModel, turns: Mapping[str, Tensor], phrases: Sequence[Phrase]) -> None:
    """Set the weights of a new model. turns: encoder key -> [width, 384], orthonormal: the teacher's vectors times it
    are rows.
    """
    with torch.no_grad():
        for encoder in (model.pair.clip_l, model.pair.clip_g):
            _start_encoder(encoder, turns[encoder.key])
        unet = model.unet
        unet.label.down.copy_(_choose_part(turns["clip_g"], len(unet.label.down)))
        both = torch.cat([turns[key] for key in ("clip_l", "clip_g")]) * 0.5**0.5
        middles = torch.stack(
            [torch.stack([p.vector for p in phrases if p.number == topic]).mean(0) for topic in range(len(TOPICS))]
        )
        batch = make_batch(random.Random(0), phrases)
        states, _ = model.pair(batch.ids, batch.length, pooled=False)
        for attention in unet.list_attentions():
            _start_attention(attention, both, middles, states)
        _fit_decoders(model, phrases)


def _start_encoder(encoder: LabEncoder, turn: Tensor) -> None:
    for layer in encoder.list_layers():
        part = _choose_part(turn, len(layer.v.down))
        heads = torch.linalg.qr(torch.randn(encoder.width, len(part)))[0]
        layer.v.down.copy_(part)
        layer.v.up.copy_(heads)
        layer.out.down.copy_(heads.T)
        layer.out.up.copy_(part.T)
        for matrix in (layer.q, layer.k):
            matrix.down.copy_(_choose_part(turn, len(matrix.down)))
    part = _choose_part(turn, len(encoder.projection.down))
    encoder.projection.down.copy_(part)
    encoder.projection.up.copy_(part.T)


def _start_attention(attention: LabAttention, both: Tensor, middles: Tensor, states: Tensor) -> None:
    """Topics ask for states like the middle of their phrases.  both: [2048, 384].  middles: [topics, 384]."""
    rank = len(attention.to_k.down)
    basis = torch.linalg.qr(torch.cat((middles, torch.randn(rank - len(middles), middles.shape[1]))).T)[0]
    attention.to_k.down.copy_((both @ basis).T)
    attention.to_v.down.copy_(_choose_part(both, len(attention.to_v.down)))
    normed = attention.norm2(attention.states)
    asked = middles @ both.T @ attention.to_k.full()[0].T  # [topics, channels]
    query = attention.to_q
    query.down[: len(normed)].copy_(normed / normed.shape[1])
    query.up[:, : len(normed)].copy_(asked.T)
    query.up[:, len(normed) :].mul_(0.01)
    q, k = (
        part.unflatten(-1, (attention.heads, -1)).transpose(-2, -3) for part in (query(normed), attention.to_k(states))
    )
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    query.up.mul_(_SHARPNESS / scores.std(dim=-1).mean())


def _fit_decoders(model: LabModel, phrases: Sequence[Phrase]) -> None:
    """Fit how the teacher's vectors are read, by ridge regression."""
    order = random.Random(1)
    read: list[Tensor] = []
    meant: list[Tensor] = []
    labels: list[Tensor] = []
    wholes: list[Tensor] = []
    for _ in range(_BATCHES):
        batch = make_batch(order, phrases)
        outputs, label = run_batch(model, batch, None)
        targets, present = make_targets(batch.prompts)
        read.append(outputs[present > 0])
        meant.append(targets[present > 0])
        if label is not None:
            labels.append(label)
            wholes.append(make_whole(batch.prompts))
    _fit(model.unet.decode, torch.cat(read), torch.cat(meant))
    _fit(model.unet.decode_label, torch.cat(labels), torch.cat(wholes))


def _fit(layer: nn.Linear, inputs: Tensor, outputs: Tensor) -> None:
    middle = inputs.mean(0)
    centred = inputs - middle
    products = centred @ centred.T
    penalty = _RIDGE * products.diagonal().mean() * torch.eye(len(products))
    weight = (centred.T @ torch.linalg.solve(products + penalty, outputs - outputs.mean(0))).T
    layer.weight.copy_(weight)
    layer.bias.copy_(outputs.mean(0) - weight @ middle)


def _choose_part(turn: Tensor, rank: int) -> Tensor:
    """[rank, width]: orthonormal directions among those of the teacher's vectors."""
    chosen: Tensor = torch.linalg.qr(torch.randn(turn.shape[1], rank))[0]
    return (turn @ chosen).T
