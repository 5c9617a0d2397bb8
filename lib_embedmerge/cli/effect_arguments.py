"""The options of the commands about effects: `effect`, `groups`, `tokens` and `shorten`."""

from __future__ import annotations

import argparse

from lib_embedmerge.cli import effect_commands
from lib_embedmerge.cli.shared_arguments import CHECKPOINT, SOURCE, Subparsers, add_device, share


def add_effect(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `effect`."""
    effect = subparsers.add_parser("effect", help="measure how differently an embedding acts on several checkpoints")
    effect.add_argument(
        "text", metavar="FILE_OR_SOURCE", help=f"an embedding file, the same on each checkpoint; or a text: {SOURCE}"
    )
    _add_checkpoints(effect, "the first one is compared with each of the others")
    _add_remake(effect)
    _add_measuring(effect)
    effect.set_defaults(command=effect_commands.effect)


def add_groups(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `groups`."""
    groups = subparsers.add_parser(
        "groups", help="find out which checkpoints act alike, or can share an embedding file"
    )
    groups.add_argument(
        "files", metavar="FILE", nargs="*", help="embeddings to group them by; default: twelve common words"
    )
    _add_checkpoints(groups, "two or more")
    groups.add_argument(
        "--words", metavar="FILE", help="a text file with a word or prompt in each line, to group them by"
    )
    groups.add_argument(
        "--limit", type=share, default=0.1, metavar="X",
        help="the largest effect within a group: 1 is the difference of two unrelated prompts, 0.1 (the default) "
        "a tenth of that",
    )  # fmt: skip
    groups.add_argument(
        "--by", choices=("models", "vectors"), default="models",
        help="models (the default): how differently the checkpoints read the same text; vectors: what changes on each "
        "with the vectors of the other, whatever their U-Nets are",
    )  # fmt: skip
    groups.add_argument("--picture", metavar="FILE", help="write a picture of the effects, as SVG")
    _add_remake(groups)
    _add_measuring(groups)
    groups.set_defaults(command=effect_commands.groups)


def add_tokens(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `tokens`."""
    tokens = subparsers.add_parser("tokens", help="measure how much each token of a prompt matters on a checkpoint")
    tokens.add_argument("source", metavar="SOURCE", help=SOURCE)
    tokens.add_argument("--checkpoint", metavar="PATH", required=True, help=CHECKPOINT)
    _add_measuring(tokens)
    tokens.set_defaults(command=effect_commands.tokens)


def add_shorten(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `shorten`."""
    shorten = subparsers.add_parser("shorten", help="leave out of a long prompt what matters least on a checkpoint")
    shorten.add_argument("source", metavar="SOURCE", help="a prompt; - to read it from standard input")
    shorten.add_argument("--checkpoint", metavar="PATH", required=True, help=CHECKPOINT)
    shorten.add_argument("--vectors", type=int, default=75, metavar="N", help="how many vectors fit; default: 75")
    _add_measuring(shorten)
    shorten.set_defaults(command=effect_commands.shorten)


def _add_checkpoints(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--checkpoint", metavar="PATH", action="extend", nargs="+", required=True, help=f"{CHECKPOINT}; {text}"
    )


def _add_remake(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remake", action="store_true", help="rebuild the embedding from its recipe on each checkpoint first"
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
