"""The outputs of a checkpoint's text encoders for single texts, as `compare` needs them.

The hidden states are those that the architecture's UNet is conditioned on. SDXL and its refiner use the output of the
penultimate layer without a norm, and CLIP-G's pooled output (after all layers, the final norm and the projection). SD1
and SD2 use the output of the last layer after the final norm. (Single files of SD2 contain one more layer, which is not
used.) Sources: sgm modules/encoders/modules.py (FrozenCLIPEmbedder, FrozenOpenCLIPEmbedder2), diffusers' pipelines.
encoder_states.py has all 77 positions, as a U-Net reads them; text_transformer.py computes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_embedmerge.checkpoints.comparison import Report
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.checkpoints.text_transformer import TextTransformer, Wanted
from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.arrays import Array, find_device, to_tensor
from lib_embedmerge.core.differences import OutputDifference, relative_distance

POSITIONS = MAX_VECTORS + 2
"""Positions of a chunk: 75 vectors, start and end."""


@dataclass(frozen=True)
class EncoderOutput:
    """The output of a text encoder for n vectors between a start and an end token.

    hidden: float32 [n + 1, width] on the CPU, the states at the vectors and at the end token. The state at the start
        token is left out, because it is the same for every text and so long that it would outweigh the others. The
        padding after the end is left out too: a prompt has other words there, and for a short text the padding would
        make up nearly all of a distance.
    pooled: float32 [width of the projection] on the CPU; None for encoders other than CLIP-G.
    """

    hidden: Tensor
    pooled: Tensor | None


def run_encoder(
    encoder: CheckpointEncoder, runs: Sequence[Array], report: Report, *, penultimate: bool
) -> list[EncoderOutput]:
    """The output for each of `runs`, which are float32 [n, width] with n from 0 to 75.

    report: called with the number of values that were read since its last call.
    penultimate: whether to return the states of the penultimate layer, not of the last one after the final norm.
    CheckpointError if the encoder is incomplete or its weights have shapes that no CLIP has.
    """
    transformer = TextTransformer(encoder, report=report)
    if not runs:
        return []
    # All texts have the same shape and go one by one, so that equal texts have equal outputs to the last bit.
    vectors, ends = join_runs(encoder, runs, min(POSITIONS, transformer.positions))
    with torch.inference_mode():
        output = transformer.run(vectors, ends, Wanted(int(penultimate), not penultimate, batch=1))
    return [
        EncoderOutput(
            output.hidden[index, 1 : end + 1].cpu(), None if output.pooled is None else output.pooled[index].cpu()
        )
        for index, end in enumerate(ends.tolist())
    ]


def join_runs(encoder: CheckpointEncoder, runs: Sequence[Array], positions: int = 0) -> tuple[Tensor, Tensor]:
    """The vectors of some texts between start and end tokens, filled up with the encoder's padding to equal lengths.

    runs: float32 [n, width] each; may require gradients.  positions: the least length; 77 for a whole chunk.
    Returns float32 [texts, longest, width] on the encoder's device, and int64 [texts], the positions of the end tokens.
    """
    device = find_device(encoder.vectors(()))
    tokenizer = encoder.tokenizer
    rows = to_tensor(encoder.vectors([tokenizer.start_id, tokenizer.end_id, encoder.padding_id]), device)
    start, end, padding = torch.split(rows, 1)
    longest = max(positions, *(len(run) + 2 for run in runs))
    texts = [
        torch.cat((start, to_tensor(run, device), end, padding.expand(longest - len(run) - 2, -1))) for run in runs
    ]
    return torch.stack(texts), torch.tensor([len(run) + 1 for run in runs], device=device)


def compare_outputs(a: EncoderOutput, b: EncoderOutput) -> OutputDifference:
    """The difference between two outputs of encoders of the same kind."""
    relative, cosine = _measure_difference(a.hidden, b.hidden)
    pooled = None if a.pooled is None or b.pooled is None else _measure_difference(a.pooled, b.pooled)[1]
    return OutputDifference(relative, cosine, pooled)


def _measure_difference(a: Tensor, b: Tensor) -> tuple[float | None, float | None]:
    """(relative distance, cosine) of two tensors, each as one vector.

    (None, None) if their shapes differ or a value is not finite.
    """
    if a.shape != b.shape:
        return None, None
    ours, theirs = a.double().flatten(), b.double().flatten()
    first, second = ours.norm().item(), theirs.norm().item()
    relative = relative_distance((ours - theirs).norm().item(), first, second)
    if relative is None:
        return None, None
    cosine = torch.dot(ours, theirs).item() / (first * second) if first and second else float(first == second)
    return relative, max(-1.0, min(1.0, cosine))
