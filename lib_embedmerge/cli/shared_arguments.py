"""Options and types of options that several commands have. This module imports nothing slow."""

from __future__ import annotations

import argparse

from lib_embedmerge.lang.choices import ATTENTION

SOURCE = (
    "an expression such as \"'cat'+'dog'*0.5\", or a prompt; - reads it from standard input; "
    "write -- before one that begins with -"
)
CHECKPOINT = "a model: a checkpoint file, a diffusers folder, or a folder with clip_l and clip_g files"


def count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("it cannot be negative")
    return number


def login(text: str) -> tuple[str, str]:
    user, _, password = text.partition(":")
    if not user or not password:
        raise argparse.ArgumentTypeError("it must have the form USER:PASSWORD")
    return user, password


def port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65536:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return number


Subparsers = argparse._SubParsersAction


def add_verbose(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--verbose", action="store_true", help=text)


def add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as",
        dest="read_as",
        choices=("prompt", "expression"),
        default="auto",
        help="how to read SOURCE; default: an expression begins with a quote, any other text is a prompt",
    )
    parser.add_argument(
        "--attention",
        choices=ATTENTION,
        default="drop",
        help="how to treat attention such as (word:1.2) in a prompt: drop (the default) removes it, scale replaces it "
        "by multiplication, keep keeps brackets, backslashes and LoRA tags as characters",
    )


def add_model_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--checkpoint", metavar="PATH", required=required, help=CHECKPOINT)
    add_text_encoder(parser)
    parser.add_argument("--embeddings", metavar="DIR", help="a folder of embeddings that texts may name")
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "auto"), default="cpu", help="where to compute; default: cpu"
    )


def add_text_encoder(parser: argparse.ArgumentParser) -> None:
    text = "a clip_l or clip_g file in place of the checkpoint's own encoder; can be given twice"
    parser.add_argument("--text-encoder", metavar="PATH", action="append", default=[], help=text)


def share(text: str) -> float:
    """An effect as a share of another subject."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("it must be a number from 0 on")
    return number
