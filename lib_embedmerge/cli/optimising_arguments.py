"""The options of the commands that improve vectors: `compress`, `port` and `repair`."""

from __future__ import annotations

import argparse

from lib_embedmerge.cli import optimising_commands
from lib_embedmerge.cli.shared_arguments import CHECKPOINT, SOURCE, Subparsers, add_device, add_reading, count

_FILE = "an embedding: a .safetensors, .pt, .bin or .png file"


def add_optimising(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the three commands."""
    compress = subparsers.add_parser("compress", help="make fewer vectors that do the same as a long text or embedding")
    compress.add_argument("source", metavar="FILE_OR_SOURCE", help=f"{_FILE}; or a text of any length: {SOURCE}")
    compress.add_argument("--vectors", type=count, required=True, metavar="N", help="how many to make, 1 to 75")
    compress.add_argument("--seed", type=int, default=0, metavar="N", help="of the random queries; default: 0")
    add_reading(compress)
    _add_model(compress, "--checkpoint", "checkpoint", "the model to make them for")
    _add_target(compress, "the name of the embedding; default for a file: its name and the number of vectors")
    compress.set_defaults(command=optimising_commands.compress)

    port = subparsers.add_parser("port", help="carry a trained embedding to another model of the same architecture")
    port.add_argument("file", metavar="FILE", help=_FILE)
    _add_model(port, "--from", "naming", "the model that it was made for")
    _add_model(port, "--to", "checkpoint", "the model to carry it to")
    _add_target(port, "the name of the embedding; default: its name and that of the model")
    port.set_defaults(command=optimising_commands.port)

    repair = subparsers.add_parser("repair", help="repair an embedding that drowns the other words of a prompt")
    repair.add_argument("file", metavar="FILE", help=_FILE)
    _add_model(repair, "--checkpoint", "checkpoint", "the model that it is used with")
    _add_target(repair, "the name of the copy; default: its name and -repaired")
    repair.set_defaults(command=optimising_commands.repair)


def _add_model(parser: argparse.ArgumentParser, option: str, name: str, text: str) -> None:
    parser.add_argument(option, dest=name, metavar="PATH", required=True, help=f"{text}. {CHECKPOINT}, with its U-Net")


def _add_target(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--name", help=name)
    parser.add_argument("--output", metavar="DIR", help="where to save it; default: beside the file, for a text here")
    parser.add_argument("--force", action="store_true", help="replace an existing file of that name")
    parser.add_argument("--steps", type=count, metavar="N", help="how many steps to search; default: enough for most")
    add_device(parser)
