"""Prompts with an embedding as web UIs cut them into chunks, and their states, through which gradients flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_embedmerge.checkpoints.encoder_states import StateMaker
from lib_embedmerge.core.arrays import to_tensor
from lib_embedmerge.core.effect_texts import Template, lay_out
from lib_embedmerge.core.ports import TextEncoder

Block = Mapping[str, Tensor]
"""Encoder key -> float32 [n, width], the vectors of an embedding or of a text."""


@dataclass(frozen=True)
class FramedPrompts:
    """The vectors of the words of some templates. around: for each, encoder key -> (those before, those after)."""

    around: Sequence[Mapping[str, tuple[Tensor, Tensor]]]

    @classmethod
    def read(cls, templates: Sequence[Template], encoders: Sequence[TextEncoder]) -> FramedPrompts:
        """Look up the words of some templates."""
        found = []
        for template in templates:
            rows = {}
            for encoder in encoders:
                encode = encoder.tokenizer.encode
                before, after = (to_tensor(encoder.vectors(encode(text))) for text in (template.before, template.after))
                rows[encoder.key] = before, after
            found.append(rows)
        return cls(found)

    def __len__(self) -> int:
        return len(self.around)

    def fill(self, number: int, block: Block, *, whole: bool = True) -> list[dict[str, Tensor]]:
        """The chunks of the template `number` with these vectors: for each, encoder key -> [n, width], n up to 75.

        whole: as for `lay_out`.
        """
        around = self.around[number]
        before, after = next(iter(around.values()))
        count = len(next(iter(block.values())))
        chunks: list[dict[str, Tensor]] = []
        for spans in lay_out(len(before), count, len(after), whole=whole):
            chunk = {}
            for key, rows in block.items():
                parts = {"before": around[key][0], "x": rows, "after": around[key][1]}
                chunk[key] = torch.cat([rows[:0], *(parts[name][start:end] for name, (start, end) in spans)])
            chunks.append(chunk)
        return chunks

    def run(self, maker: StateMaker, number: int, block: Block, *, whole: bool = True) -> Tensor:
        """The states of the template `number` with these vectors: [77 * chunks, context]."""
        return maker.run(self.fill(number, block, whole=whole), pooled=False).hidden.flatten(0, 1)
