"""The states of a checkpoint's text encoders as its U-Net reads them: all 77 positions of each chunk, with padding.

A chunk is start token, up to 75 vectors, end token, padding. Padding is the end token for CLIP-L and token 0 (`!`) for
CLIP-G and CLIP-H. AUTOMATIC1111 (`id_pad` of sd_hijack_clip), ComfyUI (`pad_with_end` of sd1_clip and sdxl_clip) and
diffusers (the pad tokens of SDXL's two tokenizers) agree on that, and so do the states here.

Clip skip counts as in the web UIs: 1 is the last layer, 2 the penultimate one. Without it, SDXL and its refiner take
the penultimate layer without a norm, SD1 and SD2 the last layer with the final norm. With it, both encoders of SDXL
take the chosen layer, as in ComfyUI and diffusers (AUTOMATIC1111 ignores it for CLIP-G). SDXL reads the states of
CLIP-L and CLIP-G side by side. The pooled output is that of CLIP-G, always of its last layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_embedmerge.checkpoints.comparison import Report
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.checkpoints.outputs import POSITIONS, join_runs
from lib_embedmerge.checkpoints.text_transformer import TextTransformer, Wanted
from lib_embedmerge.core.architecture import CLIP_G, Architecture, takes_penultimate
from lib_embedmerge.core.arrays import Array, to_tensor
from lib_embedmerge.errors import CheckpointError


@dataclass(frozen=True)
class States:
    """What a U-Net is given for some chunks.

    hidden: float32 [chunks, 77, context], the states of all text encoders side by side.
    pooled: float32 [chunks, 1280], of CLIP-G; None for models without it.
    """

    hidden: Tensor
    pooled: Tensor | None


class StateMaker:
    """Computes the states of a model. skip: how many of the last layers are left out."""

    def __init__(
        self,
        encoders: Sequence[CheckpointEncoder],
        architecture: Architecture,
        clip_skip: int | None = None,
        *,
        keep: bool = False,
        report: Report | None = None,
    ) -> None:
        """encoders: of the model, in the order of the architecture.  clip_skip: 1 is the last layer; None is the usual.

        keep, report: as for TextTransformer. With `keep`, SDXL's encoders take 3.3 GB.
        CheckpointError if the clip skip is not positive, or if an encoder cannot be run.
        """
        if clip_skip is not None and clip_skip < 1:
            raise CheckpointError(f"A clip skip of {clip_skip} is not possible.", expected="1 or more")
        penultimate = takes_penultimate(architecture)
        self.skip = int(penultimate) if clip_skip is None else clip_skip - 1
        self._normed = not penultimate
        self._encoders = tuple(encoders)
        self._transformers = tuple(TextTransformer(encoder, keep=keep, report=report) for encoder in encoders)

    @property
    def values(self) -> int:
        """The number of values that one `run` reads, for the progress."""
        return sum(transformer.values for transformer in self._transformers)

    def compute(self, chunks: Sequence[Mapping[str, Array]]) -> States:
        """The states of some chunks, on the CPU and without gradients. Arguments and errors are those of `run`."""
        with torch.inference_mode():
            states = self.run(chunks)
        # Clones, because tensors of the inference mode cannot be used under gradients.
        pooled = None if states.pooled is None else states.pooled.cpu().clone()
        return States(states.hidden.cpu().clone(), pooled)

    def estimate_steps(self, chunks: Sequence[Mapping[str, Array]], padding: Array, matrix: Array) -> Tensor:
        """For each vector the change of F if it became the vector of padding, to first order: float32 [all vectors].

        F is the sum of (x - p)T matrix (x - p) over all positions of all chunks, with the states x of a chunk and p of
        an empty one.  chunks: as for `run`.  padding: float32 [77, context], p.  matrix: float32 [context, context].
        """
        vectors = [{key: to_tensor(rows).clone().requires_grad_() for key, rows in chunk.items()} for chunk in chunks]
        hidden = self.run(vectors).hidden
        gaps = hidden - to_tensor(padding, str(hidden.device))
        ((gaps @ to_tensor(matrix, str(hidden.device))) * gaps).sum().backward()  # type: ignore[no-untyped-call] # as torch has it
        steps = []
        for chunk in vectors:
            change = torch.zeros(len(next(iter(chunk.values()))))
            for encoder in self._encoders:
                rows, row = chunk[encoder.key], to_tensor(encoder.vectors([encoder.padding_id]))
                assert rows.grad is not None  # since it requires one
                change = change + (rows.grad * (row.to(rows.device) - rows)).sum(dim=1).detach().cpu()
            steps.append(change)
        return torch.cat(steps)

    def run(self, chunks: Sequence[Mapping[str, Array]], positions: int = POSITIONS, *, pooled: bool = True) -> States:
        """The states of some chunks, on the model's device. Gradients flow to vectors that require them.

        chunks: at least one; for each the key of every encoder -> float32 [n, width], n from 0 to 75, the same n for
            each encoder.  positions: the least number of positions, 77 for all of a chunk.
        pooled: whether the pooled output is wanted.
        CheckpointError if a weight cannot be read, or if an encoder reads fewer than 77 positions.
        """
        parts: list[Tensor] = []
        pooled_output = None
        for encoder, transformer in zip(self._encoders, self._transformers, strict=True):
            vectors, ends = join_runs(encoder, [chunk[encoder.key] for chunk in chunks], positions)
            is_pooled = pooled and encoder.key == CLIP_G
            output = transformer.run(vectors, ends, Wanted(self.skip, self._normed, is_pooled))
            parts.append(output.hidden)
            pooled_output = output.pooled if is_pooled else pooled_output
        return States(torch.cat(parts, dim=-1), pooled_output)
