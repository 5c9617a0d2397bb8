"""What must reach the text encoders when a prompt with inline expressions is generated, and what the picture says.

CASES is a table: the request, as the web UIs' API takes it, and the texts that are then encoded. The doubles run it in
CI (tests/test_generation.py), each real web UI in the `webui` tier. Nothing of pytest here, as it runs inside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from arrays import as_tensor, as_tensors, equal

from lib_embedmerge import open_checkpoint
from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.ports import TextEncoder
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.lang.source import parse
from lib_embedmerge.tokenizer import clip_tokenizer
from lib_embedmerge.version import __version__

NAMED, NAMED_SOURCE = "emgenhost1", "'cat'-'dog'*0.5,'photo'"
"""An embedding that cases may name; whoever runs them saves it first."""

OTHER = "OTHER"
"""In a request, in place of a checkpoint's name: another checkpoint of the same architecture."""

_NOT_PLAIN = ("Hires prompt", "Hires negative prompt", "Hires schedule type", "Hires Distilled CFG Scale")
"""Parameters that are functions in most web UIs; the last but one is None in reForge, the last in Forge."""

_KEYS = {width: key for key, width in WIDTHS.items()}
_LENGTH = 77
_MERGED = re.compile("«(.*?)»")
TEMPORARY = re.compile("embedmerge[0-9]{20}")
"""What must be seen nowhere."""


@dataclass(frozen=True)
class Case:
    """One request.

    texts: each text that is encoded, no more than a chunk: plain tokens, and between « and » an expression, whose
        vectors stand there.  by_other: those that OTHER encodes.  image: whether it is for img2img.
    expressions: whether the prompts hold any.  pictures: how many come.
    """

    prompt: str
    texts: Sequence[str]
    negative: str = ""
    by_other: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    image: bool = False
    expressions: bool = True
    pictures: int = 1

    @property
    def request(self) -> dict[str, Any]:
        """The fields of the request."""
        return {"prompt": self.prompt, "negative_prompt": self.negative, **_USUAL, **self.settings}


_USUAL = {"steps": 2, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler"}
_HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.5}

CASES = {
    "no expression": Case(
        "a photo of a cat, {red|blue} it's", ["a photo of a cat, {red|blue} it's", ""], expressions=False
    ),
    "one": Case("a photo of <'cat'+'dog'*0.5>, in a park", ["a photo of «'cat'+'dog'*0.5», in a park", ""]),
    "curly brackets": Case("a photo of {'cat'-'dog'}", ["a photo of «'cat'-'dog'»", ""]),
    "alone": Case("<'cat'*1.5>", ["«'cat'*1.5»", ""]),
    "in the negative prompt": Case(
        "a photo", ["a photo", "blurry «'ugly'*1.5», «'bad'»"], "blurry <'ugly'*1.5>, (<'bad'>:1.2)"
    ),
    "the same in both": Case("a <'cat'*2>", ["a «'cat'*2»", "«'cat'*2»"], "<'cat'*2>"),
    "glued to marks": Case("x,<'cat'*2>,y.<'dog'*2>?;", ["x,«'cat'*2»,y.«'dog'*2»?;", ""]),
    "glued to words": Case("re<'cat'*2>ly 1<'dog'*2>2", ["re «'cat'*2» ly 1 «'dog'*2» 2", ""]),
    "glued to each other": Case("<'cat'*2><'cat'*2>{'dog'*2}", ["«'cat'*2»«'cat'*2»«'dog'*2»", ""]),
    "in quotes": Case("\"<'cat'*2>\" it<'dog'*2>'s", ["\"«'cat'*2»\" it «'dog'*2» 's", ""]),
    "lines": Case("cat\n<'dog'*2>\n,bird", ["cat «'dog'*2» ,bird", ""]),
    "attention": Case("(<'cat'+'dog'>:1.3) and ((<'a b'>)) [<'x'*2>]", ["«'cat'+'dog'» and «'a b'» «'x'*2»", ""]),
    "attention inside a text is text": Case("<'(cat:1.2) [dog] AND it'>", ["«'(cat:1.2) [dog] AND it'»", ""]),
    "editing": Case("a [<'cat'*2>:<'dog'*2>:0.5] b", ["a «'cat'*2» b", "a «'dog'*2» b", ""]),
    "editing, to nothing": Case("a [<'cat'*2>::1] b", ["a «'cat'*2» b", "a b", ""]),
    "editing, from nothing": Case("a [<'cat'*2>:1] b", ["a b", "a «'cat'*2» b", ""]),
    "editing around a word": Case("[dog:x <'cat'*2> y:0.5]", ["dog", "x «'cat'*2» y", ""]),
    "alternation": Case("a [<'cat'*2>|<'dog'*2>]", ["a «'cat'*2»", "a «'dog'*2»", ""]),
    "AND": Case("<'cat'*2> AND a <'dog'*2> :0.7", ["«'cat'*2»", "a «'dog'*2»", ""]),
    "BREAK": Case("<'cat'*2> BREAK dog <'bird'*2>", ["«'cat'*2»", "dog «'bird'*2»", ""]),
    "no vectors": Case("a<'':0>b <'cat':0>, c", ["a b , c", ""]),
    "zero vectors": Case("a <'':2> b", ["a «'':2» b", ""]),
    "75 vectors": Case("word <'a':75> end", ["word", "«'a':75»", "end", ""]),
    "each encoder by itself": Case("<L('cat')+G('dog')*2> <'cat'*2L/3G>", ["«L('cat')+G('dog')*2» «'cat'*2L/3G»", ""]),
    "functions": Case(
        "<norm(slerp('cat','dog',0.3),1.1)> <orth('king','man')>",
        ["«norm(slerp('cat','dog',0.3),1.1)» «orth('king','man')»", ""],
    ),
    "tokens": Case("<('cat'+'dog')*2:3,'x',00,000,256>", ["«('cat'+'dog')*2:3,'x',00,000,256»", ""]),
    "other scripts": Case("<'犬'+'été'> ü", ["«'犬'+'été'» ü", ""]),
    "a named embedding": Case(f"a {NAMED}, <'x {NAMED}'*0.5>", [f"a «'{NAMED}'», «'x {NAMED}'*0.5»", ""]),
    "a name of the old extension": Case("a <'EM_1'> <'cat'*2>", ["a <'EM_1'> «'cat'*2»", ""]),
    "choices of Dynamic Prompts": Case("{'a'|'b'} <'cat'*2>", ["{'a'|'b'} «'cat'*2»", ""]),
    "extra networks": Case("<lora:nosuch:1> <'cat'*2> <hypernet:nosuch:1>", ["«'cat'*2»", ""]),
    "batches": Case(
        "a <'cat'*2>", ["a «'cat'*2»", "«'bad'*2»"], "<'bad'*2>", settings={"n_iter": 2, "batch_size": 2}, pictures=4
    ),
    "img2img": Case("a <'cat'*2>", ["a «'cat'*2»", "«'bad'*2»"], "<'bad'*2>", image=True),
    "hires": Case("a <'cat'*2>", ["a «'cat'*2»", ""], settings=_HIRES),
    "hires with prompts of its own": Case(
        "a <'cat'*2>",
        ["a «'cat'*2»", "fine «'dog'*2»", "", "«'bad'*2»"],
        settings=_HIRES | {"hr_prompt": "fine <'dog'*2>", "hr_negative_prompt": "<'bad'*2>"},
    ),
    "hires with another checkpoint": Case(
        "a <'cat'*2>",
        ["a «'cat'*2»", "«'bad'*2»"],
        "<'bad'*2>",
        ["a «'cat'*2»", "«'bad'*2»"],
        settings=_HIRES | {"hr_checkpoint_name": OTHER},
    ),
    "recipes that follow the model": Case(
        f"a {NAMED}, <'x {NAMED}'>",
        [f"a «'{NAMED}'», «'x {NAMED}'»", ""],
        by_other=[f"a «{NAMED_SOURCE}», «cat(('x'),({NAMED_SOURCE}))»"],
        settings=_HIRES | {"hr_checkpoint_name": OTHER, "override_settings": {"embedmerge_follow": True}},
    ),
    "refiner": Case(
        "a <'cat'*2>",
        ["a «'cat'*2»", "«'bad'*2»"],
        "<'bad'*2>",
        ["a «'cat'*2»", "«'bad'*2»"],
        settings={"refiner_checkpoint": OTHER, "refiner_switch_at": 0.5},
    ),
}


@dataclass(frozen=True)
class Mistake:
    """A request that is refused. field: the prompt that holds the mistake.  marked: what of it."""

    field: str
    marked: str
    request: Mapping[str, Any]


MISTAKES = {
    "nothing follows": Mistake("prompt", "+", {"prompt": "a <lora:nosuch:1> b <'cat'+> c"}),
    "never closed": Mistake("prompt", "<", {"prompt": "a <'cat"}),
    "in the negative prompt": Mistake("negative_prompt", "blur", {"negative_prompt": "x <blur('a')>"}),
    "too many vectors": Mistake("prompt", "<'a':76>", {"prompt": "<'a':76>"}),
    "in the hires prompt": Mistake("hr_prompt", "*", {"prompt": "x", **_HIRES, "hr_prompt": "fine <'a'*>"}),
    "too many vectors in it": Mistake("hr_prompt", "<'a':76>", {"prompt": "x", **_HIRES, "hr_prompt": "b <'a':76>"}),
}


class Watch:
    """What the web UI's token layers give, whatever model it loads, until `end`.

    outputs: encoder key -> a tensor [batch, 77, width] for each call.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, list[torch.Tensor]] = {}
        self._hook = torch.nn.modules.module.register_module_forward_hook(self._record)

    def end(self) -> None:
        self._hook.remove()

    def _record(self, module: torch.nn.Module, _inputs: object, output: object) -> None:
        # The layers that web UIs put embeddings in with; what they are put around has no such key.
        if hasattr(module, "textual_inversion_key") and isinstance(output, torch.Tensor):
            self.outputs.setdefault(_KEYS[output.shape[-1]], []).append(output.detach().clone().cpu())


def judge(
    case: Case, outputs: Mapping[str, Sequence[torch.Tensor]], checkpoint: Path, other: Path | None, embeddings: Path
) -> list[str]:
    """What is wrong with `outputs`, which a Watch has seen; nothing where it is to the last bit what the case says.

    checkpoint, other: files of the models that encode; vectors are computed from these, not from the web UI's memory.
    """
    wrong = []
    wanted = dict(make_matrices(case.texts, checkpoint, embeddings))
    loaded = {key: [rows[""]] for key, rows in make_matrices([""], checkpoint, embeddings)}
    if case.by_other:
        assert other is not None, "there is no other checkpoint"
        for key, rows in make_matrices([*case.by_other, ""], other, embeddings):
            loaded[key].append(rows.pop(""))
            wanted[key] = {**wanted[key], **{f"{text} (by the other)": matrix for text, matrix in rows.items()}}
    if set(wanted) != set(outputs):
        return [f"encoders {sorted(outputs)}, not {sorted(wanted)}"]
    for key, matrices in wanted.items():
        found = [row for output in outputs[key] for row in output]
        wrong += [
            f"{key}: not encoded: {text!r}"
            for text, matrix in matrices.items()
            if not any(is_same(matrix, row) for row in found)
        ]
        wrong += [
            f"{key}: encoded besides: {find_nearest(row, matrices)}"
            for row in found
            # Some web UIs encode the empty prompt when they load a model.
            if not any(is_same(matrix, row) for matrix in (*matrices.values(), *loaded[key]))
        ]
    return wrong


def judge_infotexts(case: Case, infotexts: Sequence[str]) -> list[str]:
    """What is wrong with the pictures' infotexts."""
    wrong = [] if len(infotexts) == case.pictures else [f"{len(infotexts)} pictures, not {case.pictures}"]
    for infotext in infotexts:
        prompt, _, parameters = infotext.partition("\nSteps: ")
        typed = case.prompt + (f"\nNegative prompt: {case.negative}" if case.negative else "")
        if prompt != typed:
            wrong.append(f"the prompts are {prompt!r}")
        if (f"EmbedMerge: {__version__}" in parameters) != case.expressions:
            wrong.append(f"EmbedMerge's parameter: {parameters!r}")
        if TEMPORARY.search(infotext):
            wrong.append(f"a temporary name: {infotext!r}")
    return wrong


def judge_parameters(parameters: Mapping[str, Any]) -> list[str]:
    """What is wrong with the parameters in a generation's JSON, `Processed.js`.

    Most web UIs write null for what is no JSON, such as a function, and Forge Classic fails. Only the web UI's own may
    be so.
    """
    wrong = [f"{key} is no JSON" for key, value in parameters.items() if value is None and key not in _NOT_PLAIN]
    return wrong + ["a temporary name"] * bool(TEMPORARY.search(str(parameters)))


def make_matrices(
    texts: Sequence[str], checkpoint: Path, embeddings: Path
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Encoder key -> text -> what its token layer must give, float32 [77, width]."""
    model = open_checkpoint(checkpoint, embeddings=EmbeddingFolder(embeddings, clip_tokenizer()))
    pieces = {text: [_piece(place, part, model) for place, part in enumerate(_MERGED.split(text))] for text in texts}
    for encoder in model.encoders:
        yield encoder.key, {text: _matrix([rows[encoder.key] for rows in pieces[text]], encoder) for text in texts}


def _piece(place: int, part: str, model: Any) -> dict[str, torch.Tensor]:
    if place % 2:
        return as_tensors(evaluate(parse(part), model))
    ids = clip_tokenizer().encode(part)
    return as_tensors({encoder.key: encoder.vectors(ids) for encoder in model.encoders})


def _matrix(pieces: Sequence[torch.Tensor], encoder: TextEncoder) -> torch.Tensor:
    tokenizer = encoder.tokenizer
    start, end = (as_tensor(encoder.vectors([token])) for token in (tokenizer.start_id, tokenizer.end_id))
    rows = torch.cat([start, *pieces, end])
    return torch.cat([rows, as_tensor(encoder.vectors([encoder.padding_id] * (_LENGTH - len(rows))))])


def is_same(matrix: torch.Tensor, row: torch.Tensor) -> bool:
    """Whether a row of the web UI is that, to the last bit of its precision."""
    return equal(matrix.to(row.dtype), row)


def find_places(vectors: torch.Tensor, outputs: Sequence[torch.Tensor]) -> dict[str, Any]:
    """Calls of the layer, its dtype, and (call, row, position) wherever the vectors stand, to the last bit."""
    found = []
    for call, output in enumerate(outputs):
        for row, places in enumerate(output):
            for first in range(len(places) - len(vectors) + 1):
                here = places[first : first + len(vectors)]
                if here.dtype == torch.float32 and equal(here, vectors):
                    found.append((call, row, first))
    return {"calls": len(outputs), "dtypes": sorted({str(output.dtype) for output in outputs}), "found": found}


def find_nearest(row: torch.Tensor, matrices: Mapping[str, torch.Tensor]) -> str:
    """The text that comes closest, for people, and the places where it is another."""
    text, matrix = min(matrices.items(), key=lambda item: int((item[1] != row).any(-1).sum()))
    places = (matrix != row).any(-1).nonzero().flatten().tolist()
    return f"like {text!r} but for places {places}"
