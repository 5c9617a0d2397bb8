"""`python -m benchmarks.lab --output DIR`: train the lab models and write them as checkpoint files."""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.lab.encoders import LabPair
from benchmarks.lab.model_files import ROW_SPREAD, list_readout, make_tables, write_model
from benchmarks.lab.prompts import FRAME_WORDS, Teacher, find_words, make_phrases
from benchmarks.lab.starts import start_from_rows
from benchmarks.lab.training import Course, LabModel, test, train
from lib_embedmerge.core.architecture import PADDING_IDS, SDXL, WIDTHS
from lib_embedmerge.tokenizer import clip_tokenizer

_WORDS = 3000
_PHRASES = 7000
_HELD_OUT = 1000
_SEED = 2024

SDXL_WIDTHS = {key: WIDTHS[key] for key in SDXL.encoders}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train three models: `base`, and two fine-tunes of it, `near` and `far`."""
    options = _make_parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(_SEED)
    started = time.monotonic()
    teacher = Teacher()
    words = find_words(_WORDS)
    phrases = make_phrases(teacher, words, _PHRASES, _SEED)
    held_out, known = phrases[:_HELD_OUT], phrases[_HELD_OUT:]
    tables = make_tables(_SEED)
    turns = {key: torch.linalg.qr(torch.randn(width, 384))[0] for key, width in SDXL_WIDTHS.items()}
    base = LabModel(_make_pair(teacher, words, tables, turns))
    start_from_rows(base, turns, known)
    steps = options.steps
    courses = {
        "base": (known, Course(steps, 2e-3, 0.05, 1)),
        "near": (known[::2], Course(max(1, steps // 8), 5e-4, 0.05, 2)),
        "far": (known[1::2], Course(max(1, steps // 3), 2e-3, 0.2, 3)),
    }
    report: dict[str, dict[str, float]] = {}
    for name, (used, course) in courses.items():
        model = base if name == "base" else copy.deepcopy(base)
        train(model, used, course, name)
        report[name] = test(model, teacher, held_out, 4)
        write_model(model, options.output / f"lab-{name}.safetensors", tables)
        _write_readout(model, options.output / f"lab-{name}-readout.pt")
        print(name, json.dumps(report[name]), flush=True)
    facts = {"words": words, "held_out": [[phrase.text, phrase.number] for phrase in held_out], "agreement": report}
    facts_path = options.output / "lab.json"
    facts_path.write_text(json.dumps({**facts, "seconds": time.monotonic() - started}), encoding="utf-8")
    return 0


def _make_pair(teacher: Teacher, words: Sequence[str], tables: dict[str, Tensor], turns: dict[str, Tensor]) -> LabPair:
    """Encoders whose rows start as what the teacher says of each word, turned into the width, plus noise."""
    tokenizer = clip_tokenizer()
    every = [*words, *FRAME_WORDS.split()]
    ids = {number: word for word in every for number in tokenizer.encode(word)}
    for token in (tokenizer.start_id, tokenizer.end_id, *PADDING_IDS.values()):
        ids.setdefault(token, "")
    vectors = teacher.read(list(ids.values()))
    vectors = functional.normalize(vectors - vectors.mean(0), dim=1)
    rows = {}
    for key, turn in turns.items():
        meant = vectors @ turn.T * len(turn) ** 0.5 * ROW_SPREAD
        rows[key] = 0.9 * meant + 0.45 * tables[key][list(ids)]
    return LabPair(list(ids), rows)


def _write_readout(model: LabModel, path: Path) -> None:
    torch.save(list_readout(model), path)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lab", description="Train the lab models: README.md.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the models (0.7 GB)")
    parser.add_argument("--steps", type=int, default=350, metavar="N", help="of the base model; default: 350")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: 2")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
