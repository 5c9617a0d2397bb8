"""What must reach SD.Next's text encoders when a prompt with inline expressions is generated, as a table.

The double runs it in CI (tests/test_sdnext.py), the real SD.Next in the `webui` tier. Nothing of pytest
here, as it runs inside SD.Next. SD.Next encodes a text for CLIP-G once more for the pooled vector, with the brackets of
attention in it, and has zeros for an empty negative prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from contract import generations
from contract.generations import NAMED, NAMED_SOURCE
from lib_embedmerge.core.architecture import WIDTHS

_KEYS = {width: key for key, width in WIDTHS.items()}
_LENGTH = 77


@dataclass(frozen=True)
class Case:
    """One request. texts: as in generations.Case, for every encoder.  pooled: those that CLIP-G alone reads besides."""

    prompt: str
    texts: Sequence[str]
    negative: str = ""
    pooled: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    expressions: bool = True
    pictures: int = 1

    @property
    def request(self) -> dict[str, Any]:
        """The fields of the request."""
        usual = {"steps": 2, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler"}
        prompts = {"prompt": self.prompt, "negative_prompt": self.negative}
        return {**usual, **prompts, **self.fields, "override_settings": dict(self.settings)}


def _parsed_by(parser: str) -> dict[str, str]:
    return {"prompt_attention": parser}


CASES = {
    "no expression": Case("a photo of a cat, it's", ["a photo of a cat, it's"], expressions=False),
    "one": Case("a photo of <'cat'+'dog'*0.5>, in a park", ["a photo of «'cat'+'dog'*0.5», in a park"]),
    "curly brackets": Case("a photo of {'cat'-'dog'}", ["a photo of «'cat'-'dog'»"]),
    "a choice of one": Case("{red} <'cat'*2>", ["red «'cat'*2»"]),
    "alone": Case("<'cat'*1.5>", ["«'cat'*1.5»"]),
    "several vectors": Case("a <'red cat','dog'*2>", ["a «'red cat','dog'*2»"]),
    "in the negative prompt": Case(
        "a photo", ["a photo", "blurry «'ugly'*1.5», «'bad'»"], "blurry <'ugly'*1.5>, <'bad'>"
    ),
    "the same in both": Case("a <'cat'*2>", ["a «'cat'*2»", "«'cat'*2»"], "<'cat'*2>"),
    "glued to marks": Case("x,<'cat'*2>,y.<'dog'*2>?;", ["x,«'cat'*2»,y.«'dog'*2»?;"]),
    "glued to words": Case("re<'cat'*2>ly 1<'dog'*2>2", ["re «'cat'*2» ly 1 «'dog'*2» 2"]),
    "glued to each other": Case("<'cat'*2><'cat'*2>{'dog'*2}", ["«'cat'*2»«'cat'*2»«'dog'*2»"]),
    "attention": Case(
        "(<'cat'+'dog'>:1.3) and <'a b'>", ["«'cat'+'dog'» and «'a b'»"], pooled=["(«'cat'+'dog'»:1.3) and «'a b'»"]
    ),
    "editing": Case("a [<'cat'*2>:<'dog'*2>:0.5] b", ["a «'cat'*2» b", "a «'dog'*2» b"]),
    "no vectors": Case("a<'':0>b <'cat':0>, c", ["a b , c"]),
    "each encoder by itself": Case("<L('cat')+G('dog')*2> <'cat'*2L/3G>", ["«L('cat')+G('dog')*2» «'cat'*2L/3G»"]),
    "functions": Case("<norm(slerp('cat','dog',0.3),1.1)>", ["«norm(slerp('cat','dog',0.3),1.1)»"]),
    "other scripts": Case("<'犬'+'été'> ü", ["«'犬'+'été'» ü"]),
    "a named embedding": Case(
        f"a {NAMED}, <'x {NAMED}'*0.5>",
        [f"a «'{NAMED}'», «'x {NAMED}'*0.5»"],
        pooled=[f"a «{NAMED_SOURCE.split(',')[0]}», «'x {NAMED}'*0.5»"],  # of more vectors it takes the first
    ),
    "extra networks": Case("<lora:nosuch:1> <'cat'*2>", [" «'cat'*2»"]),
    "batches": Case(
        "a <'cat'*2>", ["a «'cat'*2»", "«'bad'*2»"], "<'bad'*2>", fields={"n_iter": 2, "batch_size": 2}, pictures=4
    ),
    "compel": Case("a <'cat'*2>", ["a «'cat'*2»", "«'bad'*2»"], "<'bad'*2>", settings=_parsed_by("compel")),
    "a1111": Case("a <'cat'*2>", ["a «'cat'*2»", "«'bad'*2»"], "<'bad'*2>", settings=_parsed_by("a1111")),
    "xhinker": Case("a <'cat'*2>", ["a «'cat'*2»", "b «'bad'*2»"], "b <'bad'*2>", settings=_parsed_by("xhinker")),
    "fixed": Case("a <'cat'*2>", ["a «'cat'*2»", "«'bad'*2»"], "<'bad'*2>", settings=_parsed_by("fixed")),
    "hires": Case(
        "a <'cat'*2>",
        ["a «'cat'*2»"],
        fields={"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "hr_force": True, "denoising_strength": 0.5},
    ),
    "hires with a prompt of its own": Case(
        "b <'cat'*2>",
        ["b «'cat'*2»", "fine «'dog'*3»"],
        fields={
            "enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "hr_force": True, "denoising_strength": 0.5,
            "refiner_prompt": "fine <'dog'*3>",
        },
    ),
}  # fmt: skip


class Watch:
    """What the embedding layers over token tables give to the text encoders, until `end`.

    outputs: encoder key -> a tensor [batch, 77, width] for each call. Forward hooks of the layers have run then.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, list[torch.Tensor]] = {}
        self._original: Callable[..., Any] = torch.nn.Embedding.__call__
        watch = self

        def call(layer: torch.nn.Embedding, *args: Any, **kwargs: Any) -> Any:
            output = watch._original(layer, *args, **kwargs)
            if layer.weight.shape[0] >= 49408:
                rows = output.detach().clone().cpu()
                watch.outputs.setdefault(_KEYS[rows.shape[-1]], []).extend(_chunks(rows))
            return output

        torch.nn.Embedding.__call__ = call  # type: ignore[method-assign] # until `end`

    def end(self) -> None:
        torch.nn.Embedding.__call__ = self._original  # type: ignore[method-assign] # as it was


def judge(
    case: Case,
    outputs: Mapping[str, Sequence[torch.Tensor]],
    checkpoint: Path,
    embeddings: Path,
    refiner: Path | None = None,
) -> list[str]:
    """What is wrong with `outputs`, which a Watch has seen; nothing where it is to the last bit what the case says.

    checkpoint: the file or folder of the model that encodes; vectors are computed from it, not from SD.Next's memory.
    refiner: of a refiner that encodes the same texts.
    """
    texts = list(case.texts)
    allowed = dict(generations.make_matrices([*texts, *case.pooled, ""], checkpoint, embeddings))
    wanted = {key: {text: matrices[text] for text in texts} for key, matrices in allowed.items()}
    for key, matrices in generations.make_matrices([*texts, ""], refiner, embeddings) if refiner else ():
        allowed[key] |= {f"{text} (by the refiner)": matrix for text, matrix in matrices.items()}
        wanted[key] |= {f"{text} (by the refiner)": matrices[text] for text in texts}
    if set(wanted) != set(outputs):
        return [f"encoders {sorted(outputs)}, not {sorted(wanted)}"]
    wrong = []
    for key, matrices in wanted.items():
        found = [row for output in outputs[key] for row in output]
        wrong += [
            f"{key}: not encoded: {text!r}"
            for text, matrix in matrices.items()
            if not any(generations.is_same(matrix[: len(row)], row) for row in found)
        ]
        wrong += [
            f"{key}: encoded besides: {_find_nearest(row, matrices)}"
            for row in found
            if not any(generations.is_same(matrix[: len(row)], row) for matrix in allowed[key].values())
        ]
    return wrong


def _find_nearest(row: torch.Tensor, matrices: Mapping[str, torch.Tensor]) -> str:
    return generations.find_nearest(row, {text: matrix[: len(row)] for text, matrix in matrices.items()})


def _chunks(rows: torch.Tensor) -> list[torch.Tensor]:
    """Rows of a call as [batch, n, width]. One parser of SD.Next does not pad to 77; other calls are of no prompt."""
    return [rows] if rows.dim() == 3 and rows.shape[1] <= _LENGTH else []
