"""The training of a lab model."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.lab.encoders import POSITIONS, LabPair
from benchmarks.lab.prompts import TOPICS, Phrase, Prompt, Teacher, make_prompt
from benchmarks.lab.unet import LabUNet
from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.tokenizer import clip_tokenizer

_BATCH = 24


class LabModel(nn.Module):
    """Encoders and cross-attentions."""

    def __init__(self, pair: LabPair) -> None:
        super().__init__()
        self.pair, self.unet = pair, LabUNet()


@dataclass(frozen=True)
class Course:
    """A course of training.  rate: the highest learning rate; the rows of the token tables learn slower or faster by
    `row_factor`.  seed: of prompts and noise."""

    steps: int
    rate: float
    row_factor: float
    seed: int


@dataclass(frozen=True)
class Batch:
    """Prompts as the model reads them.  ids: one list for each chunk of `length` positions.
    is_pooled: whether the pooled output is wanted too."""

    prompts: Sequence[Prompt]
    ids: Sequence[Sequence[int]]
    length: int
    is_pooled: bool


def make_batch(order: random.Random, phrases: Sequence[Phrase], size: int = _BATCH) -> Batch:
    """Prompts of like size: mostly short ones without all padding, some with it, a few of two chunks."""
    tokenizer = clip_tokenizer()
    kind = order.random()
    if kind < 0.12:
        prompts = [make_prompt(order, phrases, 34, 24) for _ in range(size // 4)]
        ids = [tokenizer.encode(prompt.text)[: 2 * MAX_VECTORS] for prompt in prompts]
        halves = [part for text in ids for part in (text[:MAX_VECTORS], text[MAX_VECTORS:])]
        return Batch(prompts, halves, POSITIONS, is_pooled=False)
    is_padded = kind < 0.4
    prompts = [make_prompt(order, phrases, 14 if is_padded else 4) for _ in range(size // 2 if is_padded else size)]
    ids = [tokenizer.encode(prompt.text)[:MAX_VECTORS] for prompt in prompts]
    return Batch(prompts, ids, POSITIONS if is_padded else 2 + max(map(len, ids)), is_pooled=order.random() < 0.4)


def run_batch(model: LabModel, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
    """(what the topics read [prompts, topics, channels], what becomes of the pooled vector [prompts, 1280] or None)."""
    states, pooled = model.pair(batch.ids, batch.length, pooled=batch.is_pooled)
    context = states.reshape(len(batch.prompts), -1, states.shape[2])
    return model.unet.read(context, generator), None if pooled is None else model.unet.read_label(pooled)


def read_batch(model: LabModel, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
    """(what the topics read as the teacher's vectors [prompts, topics, 384], the pooled one [prompts, 384] or None)."""
    read, label = run_batch(model, batch, generator)
    decoded = functional.normalize(model.unet.decode(read), dim=2)
    return decoded, None if label is None else functional.normalize(model.unet.decode_label(label), dim=1)


def make_targets(prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """(the teacher's vector of the phrases of each topic [prompts, topics, 384], whether there are any, as 0 or 1)."""
    sums = torch.zeros(len(prompts), len(TOPICS), 384)
    present = torch.zeros(len(prompts), len(TOPICS))
    for row, prompt in enumerate(prompts):
        for phrase in prompt.phrases:
            sums[row, phrase.number] += phrase.vector
            present[row, phrase.number] = 1
    return functional.normalize(sums, dim=2), present


def make_whole(prompts: Sequence[Prompt]) -> Tensor:
    """What the pooled vector is to say: the sum of the phrases' vectors, [prompts, 384], of length 1."""
    sums = [torch.stack([phrase.vector for phrase in prompt.phrases]).sum(0) for prompt in prompts]
    return functional.normalize(torch.stack(sums), dim=1)


def train(model: LabModel, phrases: Sequence[Phrase], course: Course, title: str) -> None:
    """Train a model in place."""
    order = random.Random(course.seed)
    generator = torch.Generator().manual_seed(course.seed)
    rows = [part for one in (model.pair.clip_l, model.pair.clip_g) for part in (one.rows, one.positions)]
    others = [parameter for parameter in model.parameters() if all(parameter is not row for row in rows)]
    factors = (1.0, course.row_factor)
    optimiser = torch.optim.Adam([{"params": others}, {"params": rows}], lr=course.rate, betas=(0.9, 0.98))
    started = time.monotonic()
    mean = 0.0
    for step in range(course.steps):
        warm = min(1.0, (step + 1) / 40)
        rate = course.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / course.steps)))
        for group, factor in zip(optimiser.param_groups, factors, strict=True):
            group["lr"] = rate * factor
        batch = make_batch(order, phrases)
        read, pooled = read_batch(model, batch, generator)
        targets, present = make_targets(batch.prompts)
        loss = 1 - ((read * targets).sum(2) * present).sum() / present.sum()
        if pooled is not None:
            loss = loss + 0.5 * (1 - (pooled * make_whole(batch.prompts)).sum(1).mean())
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(others, 1.0)
        optimiser.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 49 or step == course.steps - 1:
            seconds = time.monotonic() - started
            print(f"{title}: step {step + 1} of {course.steps}, loss {mean:.3f}, {seconds:.0f} s", file=sys.stderr)


def test(model: LabModel, teacher: Teacher, phrases: Sequence[Phrase], seed: int) -> dict[str, float]:
    """How well a model agrees with the teacher on prompts of phrases that it was not trained on.

    topics: the mean cosine of what a topic reads with the teacher's vector.  other: with that of another prompt's same
    topic.  found: how often the nearest of these phrases is one of the topic's in the prompt.  pooled: the mean cosine
    of the pooled vector with the teacher's of the whole prompt, without the mean of the prompts.
    """
    order = random.Random(seed)
    known = torch.stack([phrase.vector for phrase in phrases])
    cosines: list[float] = []
    others: list[float] = []
    hits: list[bool] = []
    pools: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        for _ in range(20):
            batch = make_batch(order, phrases)
            read, pooled = read_batch(model, batch, None)
            targets, present = make_targets(batch.prompts)
            here = present > 0
            cosines += (read * targets).sum(2)[here].tolist()
            both = here & here.roll(1, 0)
            others += (read * targets.roll(1, 0)).sum(2)[both].tolist()
            nearest = (read @ known.T).argmax(2)
            for row, prompt in enumerate(batch.prompts):
                topics = {phrase.number for phrase in prompt.phrases}
                hits += [phrases[int(nearest[row, topic])] in prompt.phrases for topic in topics]
            if pooled is not None:
                whole = teacher.read([prompt.text for prompt in batch.prompts])
                pools += list(zip(pooled, whole, strict=True))
    ours, theirs = (torch.stack(part) for part in zip(*pools, strict=True))
    theirs = functional.normalize(theirs - theirs.mean(0), dim=1)
    return {
        "topics": sum(cosines) / len(cosines),
        "other": sum(others) / len(others),
        "found": sum(hits) / len(hits),
        "pooled": (ours * theirs).sum(1).mean().item(),
    }
