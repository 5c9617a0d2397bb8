"""The options of the commands about effects: `effect`, `groups`, `tokens` and `shorten`."""

from __future__ import annotations

import argparse

from lib_embedmerge.cli import effect_commands
from lib_embedmerge.cli.shared_arguments import CHECKPOINT, SOURCE, Subparsers, add_device


def add_effect(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `effect`."""
    effect = subparsers.add_parser("effect", help="measure how differently an embedding acts on several checkpoints")
    effect.add_argument(
        "text", metavar="FILE_OR_SOURCE", help=f"an embedding file, the same on each checkpoint; or a text: {SOURCE}"
    )
    _add_checkpoints(effect, "the first one is compared with each of the others")
    effect.add_argument(
        "--remake", action="store_true", help="make the file's recipe again on each checkpoint, as rebuild does"
    )
    _add_measuring(effect)
    effect.set_defaults(command=effect_commands.effect)


def _add_checkpoints(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--checkpoint", metavar="PATH", action="extend", nargs="+", required=True, help=f"{CHECKPOINT}; {text}"
    )


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    """Options of everything that is measured."""
    parser.add_argument("--clip-skip", type=_skip, metavar="N", help="1 is the last layer, 2 the one before; default: "
                        "the one that the architecture takes")  # fmt: skip
    parser.add_argument("--embeddings", metavar="DIR", help="a folder of embeddings that texts and recipes may name")
    add_device(parser)


def _skip(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it cannot be below 1")
    return number
