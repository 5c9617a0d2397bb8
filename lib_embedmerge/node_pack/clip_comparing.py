"""Compare the text encoders of two CLIPs: their token tables, and what they make of a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from lib_embedmerge.checkpoints.comparison import compare_tables
from lib_embedmerge.core.architecture import find_encoder_title
from lib_embedmerge.core.differences import TableDifference
from lib_embedmerge.hosts.comfyui.clip_tables import make_encoders
from lib_embedmerge.hosts.exact_computing import compute_exactly

_TOP = 5
"""Tokens that are listed of those whose rows differ."""


@dataclass(frozen=True)
class Side:
    """One of the two. title: of the model.  clip: which reads expressions."""

    title: str
    clip: Any


def compare_clips(a: Side, b: Side, text: str) -> str:
    """The differences in lines of text. EmbedMergeStop for a mistake in the text."""
    lines = [f"A: {a.title}", f"B: {b.title}", ""]
    with compute_exactly():
        encoders = {encoder.key: encoder for encoder in make_encoders(b.clip.patcher)}
        for encoder in make_encoders(a.clip.patcher):
            title = find_encoder_title(encoder.key)
            other = encoders.pop(encoder.key, None)
            if other is None:
                lines.append(f"{title}: only A has it.")
                continue
            lines += _describe_table(title, compare_tables(encoder, other, _TOP, lambda _: None))
        lines += (f"{find_encoder_title(key)}: only B has it." for key in encoders)
    return "\n".join([*lines, "", *_compare_outputs(a, b, text)])


def _describe_table(title: str, difference: TableDifference) -> Iterator[str]:
    """The difference of two token tables in lines."""
    if difference.equal:
        yield f"{title}: the token tables are equal, so embeddings for A are right for B."
        return
    share = f"{difference.rows_differing:,} of {difference.rows:,}"
    furthest = ", ".join(
        f"{token.token.removesuffix('</w>')} {token.distance:.1%}" for token in difference.top if token.distance
    )
    yield f"{title}: {share} rows of the token tables differ. Furthest apart: {furthest or 'not known'}."


def _compare_outputs(a: Side, b: Side, text: str) -> Iterator[str]:
    """The difference of the encoded text in lines."""
    outputs = []
    for side in (a, b):
        cond, pooled = side.clip.encode_from_tokens(side.clip.tokenize(text), return_pooled=True)
        outputs.append((cond.float().cpu(), None if pooled is None else pooled.float().cpu()))
    for name, first, second in zip(("Encoded text", "Pooled output"), *outputs, strict=True):
        if first is None or second is None:
            continue
        if first.shape != second.shape:
            yield f"{name}: the sizes differ, {list(first.shape)} and {list(second.shape)}."
        elif torch.equal(first, second):
            yield f"{name}: equal."
        else:
            yield f"{name}: {_measure(first, second)}."


def _measure(first: torch.Tensor, second: torch.Tensor) -> str:
    one, other = first.double().flatten(), second.double().flatten()
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0).item()
    distance = (one - other).norm().item() / max(one.norm().item(), 1e-30)
    return f"cosine {cosine:.5f}, relative distance {distance:.2%}"
