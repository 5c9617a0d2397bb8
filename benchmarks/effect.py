"""`python -m benchmarks.effect --checkpoint A B`: how well compressing, porting and the meter work on real checkpoints.

With `--lab DIR` the lab models of `python -m benchmarks.lab` are measured, with phrases that they were not trained on.
The tables say how each way does on prompts, templates and queries that nothing was optimised on. README.md has more.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import torch
from torch import Tensor

from benchmarks.lab.readout import LabReadout
from lib_embedmerge.checkpoints.attention_probes import MEASURING, AttentionProbes
from lib_embedmerge.checkpoints.common_words import list_common_words
from lib_embedmerge.checkpoints.compressing import PRUNED, Compressed, Compressor
from lib_embedmerge.checkpoints.cross_attention import TextReader, open_text_reader
from lib_embedmerge.checkpoints.encoder_states import StateMaker
from lib_embedmerge.checkpoints.framed_prompts import FramedPrompts
from lib_embedmerge.checkpoints.model import CheckpointModel, open_checkpoint
from lib_embedmerge.checkpoints.porting import IDENTITY, Porter
from lib_embedmerge.checkpoints.reading_metric import load_metric, measure_squares
from lib_embedmerge.checkpoints.repairing import Repairer
from lib_embedmerge.checkpoints.text_metric import make_metric
from lib_embedmerge.core.optimising_texts import HELD_OUT

_TASKS = ((150, 75), (75, 16))
_SEED = 11


@dataclass
class Errors:
    """Errors of several ways, one for each prompt. by_way: the name of a way -> its errors."""

    by_way: dict[str, list[float]] = field(default_factory=dict)

    def add(self, errors: Mapping[str, float]) -> None:
        """Add the errors for one prompt."""
        for name, error in errors.items():
            self.by_way.setdefault(name, []).append(error)

    def count_wins(self) -> int:
        """For how many prompts `ours` is better than every other way."""
        ours = self.by_way["ours"]
        others = [errors for name, errors in self.by_way.items() if name != "ours"]
        return sum(all(mine < errors[index] for errors in others) for index, mine in enumerate(ours))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables as they are measured."""
    options = _make_parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    lab = options.lab
    paths = options.checkpoint or [lab / "lab-base.safetensors", lab / "lab-far.safetensors"]
    first, second = (open_checkpoint(path, device=options.device) for path in paths)
    phrases = (
        [text for text, _ in json.loads((lab / "lab.json").read_text(encoding="utf-8"))["held_out"]] if lab else None
    )
    if "meter" in options.only:
        _print_correlations(first, second, phrases, lab)
    if "port" in options.only:
        _print_port(first, second, options.words)
    if "compress" in options.only:
        _print_compress(first, range(options.first, options.first + options.prompts), phrases)
    if "repair" in options.only:
        _print_repair(first, options.words, phrases)
    return 0


def _print_compress(model: CheckpointModel, numbers: range, phrases: Sequence[str] | None) -> None:
    compressor = Compressor(model)
    collected = {task: Errors() for task in _TASKS}
    agreed = dict.fromkeys(_TASKS, 0)
    started = time.monotonic()
    for done, number in enumerate(numbers, 1):
        for full, few in _TASKS:
            ids = _make_prompt(model, random.Random(_SEED + number), full, phrases)
            found = compressor.compress(_look_up(model, ids), few, whole=False)
            errors = collected[full, few]
            errors.add({"ours": found.error, **found.baselines})
            mine, theirs = _compare_moments(model, compressor, ids, found)
            agreed[full, few] += (mine < theirs) == (found.error < found.baselines[PRUNED])
            means = ", ".join(f"{name} {statistics.mean(values):.3f}" for name, values in errors.by_way.items())
            seconds = time.monotonic() - started
            print(
                f"compress {full} to {few}: {done} prompts; ours best on {errors.count_wins()}; {means}; "
                f"second moments agree on {agreed[full, few]} (now {mine:.2f}, pruned {theirs:.2f}); {seconds:.0f} s",
                flush=True,
            )


def _print_port(a: CheckpointModel, b: CheckpointModel, count: int) -> None:
    words = list_common_words(a.encoders[0].tokenizer, 3000)
    unknown = random.Random(_SEED).sample(words[:2000], count)
    porter = Porter(a, b, unknown)
    metric = load_metric(b)
    maker = StateMaker(b.encoders, b.facts.architecture, keep=True)
    templates = FramedPrompts.read(HELD_OUT, b.encoders)
    errors = Errors()
    for number, token in enumerate(unknown, 1):
        block = _look_up(a, [token])
        found = porter.port(block, block, [0])
        truth = _run_all(templates, maker, _look_up(b, [token]))
        ways = {"ours": found.vectors, **found.starts}
        measured = {}
        for name, vectors in ways.items():
            states = _run_all(templates, maker, {key: torch.as_tensor(rows) for key, rows in vectors.items()})
            measured[name] = measure_squares(states - truth, metric).item() ** 0.5
        errors.add(measured)
        means = {name: statistics.mean(values) for name, values in errors.by_way.items()}
        closed = ", ".join(f"{name} {1 - mean / means[IDENTITY]:.0%}" for name, mean in means.items())
        print(f"port: {number} words; gap of identity closed: {closed}; R² {porter.map.score:.3f}", flush=True)


def _print_repair(model: CheckpointModel, count: int, phrases: Sequence[str] | None) -> None:
    """Repairs of phrases whose vectors are eight times as long as usual, of those that drown their prompts."""
    repairer = Repairer(model)
    order = random.Random(_SEED)
    errors = Errors()
    cosines: list[float] = []
    for number in range(1, count + 1):
        rows = _look_up(model, _make_prompt(model, order, 20, phrases)[: order.randint(1, 6)])
        found = repairer.repair({key: 8 * block for key, block in rows.items()})
        if found.was_needed:
            errors.add({"ours": found.disturbance, **found.baselines})
            cosines.append(found.cosine)
        print(f"repair: {len(cosines)} of {number} embeddings drown their prompts", flush=True)
    means = ", ".join(f"{name} {statistics.mean(values):.2f}" for name, values in errors.by_way.items())
    print(
        f"repair: what the other words suffer of these (1 is usual): {means}; ours best on {errors.count_wins()}; mean "
        f"cosine with what they were {statistics.mean(cosines):.2f}"
        if cosines
        else "repair: there was nothing to repair"
    )


def _print_correlations(
    a: CheckpointModel, b: CheckpointModel, phrases: Sequence[str] | None, lab: Path | None
) -> None:
    """Rank correlation with the difference of what the cross-attentions put out, of three measures.

    The lab models put out what their topics ask for; other models are asked with random queries.
    """
    models = (a, b)
    readers = [open_text_reader(model.path) for model in models]
    reads = [_make_reader(reader, lab, name) for reader, name in zip(readers, ("base", "far"), strict=True)]
    makers = [StateMaker(model.encoders, model.facts.architecture, keep=True) for model in models]
    forms = {"one model": make_metric(readers[0]).states, "two models": make_metric(readers[0], readers[1]).states}
    order = random.Random(_SEED)
    texts = [_make_prompt(a, order, order.choice((4, 8, 20, 40)), phrases) for _ in range(60)]
    outputs = [
        [maker.compute([_look_up(model, ids)]) for ids in texts] for model, maker in zip(models, makers, strict=True)
    ]
    pairs = {
        "one model": [(outputs[0][index], outputs[0][(index * 7 + 1) % len(texts)]) for index in range(len(texts))],
        "two models": list(zip(*outputs, strict=True)),
    }
    for title, listed in pairs.items():
        second = reads[0] if title == "one model" else reads[1]
        differences, meters, plain, pooled = [], [], [], []
        for ours, theirs in listed:
            read = (reads[0](ours.hidden[0]), second(theirs.hidden[0]))
            differences.append(
                sum((x - y).square().sum().item() / x.square().sum().item() for x, y in zip(*read, strict=True))
            )
            first, other = ours.hidden[0].numpy(), theirs.hidden[0].numpy()
            meters.append(float(forms[title].measure(first, other).mean()))
            plain.append(float(((first - other) ** 2).sum()))
            if ours.pooled is not None and theirs.pooled is not None:
                pooled.append(1 - torch.cosine_similarity(ours.pooled, theirs.pooled).item())
        print(
            f"rank correlation with the output difference, {title}: meter {_correlate(differences, meters):.3f}, "
            f"plain L2 {_correlate(differences, plain):.3f}, pooled cosine {_correlate(differences, pooled):.3f}",
            flush=True,
        )


def _make_reader(reader: TextReader, lab: Path | None, name: str) -> Callable[[Tensor], Sequence[Tensor]]:
    """What the cross-attentions of a U-Net put out for states, [positions, context]."""
    if lab is None:
        probes = AttentionProbes(reader, _SEED, "cpu")
        return lambda states: probes.read(states, MEASURING)
    readout = LabReadout(lab, name)
    return lambda states: [readout.read(states)]


def _compare_moments(
    model: CheckpointModel, compressor: Compressor, ids: Sequence[int], found: Compressed
) -> tuple[float, float]:
    """The relative distances of the second moments of keys and values from the wanted ones: of ours, and of pruning."""
    block = _look_up(model, ids)
    pruned = {key: rows[list(found.kept)] for key, rows in block.items()}
    wanted = compressor.find_moment(block)
    distances = [(compressor.find_moment(one) - wanted).norm() / wanted.norm() for one in (found.vectors, pruned)]
    return distances[0].item(), distances[1].item()


def _make_prompt(model: CheckpointModel, order: random.Random, count: int, phrases: Sequence[str] | None) -> list[int]:
    """The token ids of a prompt of at most `count` tokens: phrases with commas between them."""
    tokenizer = model.encoders[0].tokenizer
    words = list_common_words(tokenizer, 2000)
    ids: list[int] = []
    while True:
        phrase = order.choice(phrases) if phrases else tokenizer.decode(order.sample(words, order.randint(1, 3)))
        more = tokenizer.encode(phrase if not ids else f", {phrase}")
        if len(ids) + len(more) > count:
            return ids
        ids += more


def _look_up(model: CheckpointModel, ids: Sequence[int]) -> dict[str, Tensor]:
    return {encoder.key: torch.as_tensor(encoder.vectors(ids)) for encoder in model.encoders}


def _run_all(templates: FramedPrompts, maker: StateMaker, block: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.cat([templates.run(maker, number, block)[1:] for number in range(len(templates))])


def _correlate(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation; NaN if there is nothing to compare."""
    if len(first) != len(second):
        return float("nan")
    ranks = [numpy.argsort(numpy.argsort(values)) for values in (first, second)]
    return float(numpy.corrcoef(ranks[0], ranks[1])[0, 1])


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.effect", description="What improving vectors achieves.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", nargs=2, type=Path, metavar="PATH", help="two checkpoints of one architecture")
    source.add_argument("--lab", type=Path, metavar="DIR", help="the folder of the lab models")
    parts = ("meter", "port", "compress", "repair")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="some of the tables")
    parser.add_argument("--prompts", type=int, default=50, metavar="N", help="prompts to compress; default: 50")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="leave out so many prompts; default: 0")
    parser.add_argument(
        "--words", type=int, default=50, metavar="N", help="words to port, or embeddings to repair; default: 50"
    )
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="cpu", help="where to compute")
    parser.add_argument("--threads", type=int, metavar="N", help="default: those of torch")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
