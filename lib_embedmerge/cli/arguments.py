"""The options of the command line. This module imports nothing slow, so that usage errors appear at once."""

from __future__ import annotations

import argparse

from lib_embedmerge.cli import commands, serve_command
from lib_embedmerge.cli.command_examples import EXAMPLES
from lib_embedmerge.cli.effect_arguments import add_effect, add_groups, add_shorten, add_tokens
from lib_embedmerge.cli.optimising_arguments import add_optimising
from lib_embedmerge.cli.shared_arguments import (
    CHECKPOINT,
    SOURCE,
    Subparsers,
    add_device,
    add_model_options,
    add_reading,
    add_text_encoder,
    add_verbose,
    count,
    login,
    port,
    share,
)
from lib_embedmerge.core.groupings import GROUPINGS
from lib_embedmerge.version import __version__


def make_argument_parser() -> argparse.ArgumentParser:
    """The parser of the command line. The options that it returns hold `name_of_command` and `command`, a function of
    the options; some hold functions of the result, `exit_code` and `afterwards`, which is for when it was printed."""
    parser = argparse.ArgumentParser(
        prog="embedmerge",
        description="Make textual-inversion embeddings from text. All that is needed is a checkpoint file.",
        epilog=EXAMPLES[""],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"embedmerge {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_build(subparsers)
    _add_show(subparsers)
    _add_list(subparsers)
    _add_rebuild(subparsers)
    _add_recover(subparsers)
    _add_convert(subparsers)
    _add_restore(subparsers)
    _add_compare(subparsers)
    add_effect(subparsers)
    add_groups(subparsers)
    add_tokens(subparsers)
    add_shorten(subparsers)
    add_optimising(subparsers)
    _add_parse(subparsers)
    _add_info(subparsers)
    _add_report(subparsers)
    _add_serve(subparsers)
    _add_demo(subparsers)
    for name, subparser in subparsers.choices.items():
        subparser.epilog = EXAMPLES[name]
        subparser.formatter_class = argparse.RawDescriptionHelpFormatter
        subparser.add_argument("--json", action="store_true", help="print the result as JSON")
        subparser.set_defaults(name_of_command=name)
    return parser


def check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program with a usage error if an option is given without another one that it needs."""
    if getattr(options, "follow", False) and options.embeddings is None:
        parser.error("--follow needs --embeddings, the folder of the embeddings that SOURCE names")
    if options.name_of_command == "compare" and options.effect and not (options.source or options.embedding):
        parser.error("--effect needs --source or --embedding")
    if options.name_of_command == "convert" and (options.to is None) != (options.checkpoint is None):
        parser.error("use --to and --checkpoint together")
    if options.name_of_command == "convert" and options.to is None and (options.naming or options.only_shared):
        parser.error("use --from and --only-shared only with --to")
    if options.name_of_command == "convert" and options.name and options.to and len(options.paths) > 1:
        parser.error("--name cannot be used with --to and several files")
    if getattr(options, "checkpoint", "") is not None or not hasattr(options, "text_encoder"):
        return
    if options.text_encoder or options.device != "cpu" or (options.embeddings and options.name_of_command == "show"):
        parser.error("--text-encoder and --device need --checkpoint; so does --embeddings of show")


def _add_build(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    build = subparsers.add_parser("build", help="make an embedding from text and save it")
    build.add_argument("source", metavar="SOURCE", help=SOURCE)
    build.add_argument("--name", required=True, help="the name of the embedding, as a file and in prompts")
    build.add_argument("--output", metavar="DIR", help="where to save it; default: the --embeddings folder, else here")
    add_reading(build)
    build.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="precision of the numbers")
    build.add_argument("--force", action="store_true", help="replace an existing file of that name")
    build.add_argument("--split", action="store_true", help="make name-1, name-2, ... if one embedding is too short")
    build.add_argument(
        "--follow",
        action="store_true",
        help="for embeddings in SOURCE, use their recipes instead of their saved vectors",
    )
    build.add_argument("--notes", default="", help="notes to save in the file")
    build.add_argument("--negative", action="store_true", help="mark it as meant for negative prompts")
    add_model_options(build, required=True)
    add_verbose(build, "print all metadata")
    build.set_defaults(command=commands.build)


def _add_show(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    show = subparsers.add_parser("show", help="show an embedding: its metadata, its vectors, whether it fits a model")
    show.add_argument("file", metavar="FILE", help="a .safetensors, .pt, .bin or .png file")
    show.add_argument("--bundled", metavar="NAME", help="the name of one embedding, if the file contains several")
    show.add_argument("--nearest", type=count, default=3, metavar="N", help="how many nearest tokens; default: 3")
    add_model_options(show, required=False)
    show.add_argument("--vectors", action="store_true", help="print the statistics of all vectors, not just the first")
    doctor = show.add_mutually_exclusive_group()
    doctor.add_argument(
        "--check",
        dest="doctor",
        action="store_const",
        const="check",
        help="say which vectors are faulty: zero, far too long, …",
    )
    doctor.add_argument(
        "--fix", dest="doctor", action="store_const", const="fix", help="also save a copy without these, as NAME-fixed"
    )
    add_verbose(show, "print all metadata")
    show.set_defaults(command=commands.show)


def _add_list(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    listing = subparsers.add_parser(
        "list", help="list a folder of embeddings: what each is for, whether it fits a model"
    )
    add_model_options(listing, required=False)
    listing.add_argument(
        "--groups",
        action="store_true",
        help="show which were made with the same model; slower, because it reads all vectors",
    )
    listing.set_defaults(command=commands.list_embeddings)


def _add_rebuild(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    rebuild = subparsers.add_parser("rebuild", help="rebuild embeddings for other checkpoints from their recipes")
    rebuild.add_argument("paths", metavar="FILE_OR_DIR", nargs="+", help="embeddings, or folders of them")
    rebuild.add_argument(
        "--checkpoint", metavar="PATH", action="extend", nargs="+", required=True, help=f"{CHECKPOINT}; one or more"
    )
    rebuild.add_argument("--output", metavar="DIR", help="where to save the new files; default: beside the originals")
    rebuild.add_argument(
        "--embeddings", metavar="DIR", help="embeddings that recipes name; default: folder of the first file"
    )
    rebuild.add_argument(
        "--groups", type=share, nargs="?", const=0.1, metavar="X",
        help="make one version for each group of checkpoints that can share it, because its effect differs by at most "
        "X between them; 1 is the difference of two unrelated prompts; default: 0.1",
    )  # fmt: skip
    add_device(rebuild)
    rebuild.set_defaults(command=commands.rebuild, exit_code=commands.find_rebuild_exit_code)


def _add_recover(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    recover = subparsers.add_parser("recover", help="find the text or the sum of texts that an embedding is made of")
    recover.add_argument("file", metavar="FILE", help="a .safetensors, .pt, .bin or .png file")
    recover.add_argument("--bundled", metavar="NAME", help="which embedding of a file that contains several")
    recover.add_argument(
        "--checkpoint", metavar="PATH", action="extend", nargs="+", required=True,
        help=f"{CHECKPOINT}; with several, the one that explains it best is named",
    )  # fmt: skip
    recover.add_argument("--save", action="store_true", help="save the recovered text in the file as its recipe")
    recover.add_argument(
        "--force",
        action="store_true",
        help="save it even if it gives different vectors or the file already has a recipe",
    )
    add_device(recover)
    recover.set_defaults(command=commands.recover)


def _add_convert(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    convert = subparsers.add_parser(
        "convert", help="convert embeddings of any format to safetensors files with metadata"
    )
    convert.add_argument(
        "paths", metavar="FILE", nargs="+",
        help="a .pt, .bin, .safetensors or .png file; learned_embeds.bin and learned_embeds_2.bin are joined",
    )  # fmt: skip
    convert.add_argument("--output", metavar="DIR", help="where to save them; default: beside each file")
    convert.add_argument("--name", help="the name of the embedding; default: that of the file, or the one stored in it")
    convert.add_argument("--force", action="store_true", help="replace existing files of these names")
    convert.add_argument("--to", choices=("sdxl", "sd1", "sd2"), help="make them for models of another architecture")
    convert.add_argument("--checkpoint", metavar="PATH", help=f"with --to, the model to make them for. {CHECKPOINT}")
    convert.add_argument(
        "--from", dest="naming", metavar="PATH",
        help="with --to, a checkpoint of the kind that they were made for; needed if one side is SD 2, whose CLIP-H no "
        "other model has",
    )  # fmt: skip
    convert.add_argument(
        "--only-shared",
        action="store_true",
        help="with --to, do not estimate the vectors of a text encoder that they have none for; make them zero, unless "
        "they are text",
    )
    convert.set_defaults(command=commands.convert, exit_code=commands.find_convert_exit_code)


def _add_restore(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    restore = subparsers.add_parser(
        "restore", help="find the texts of a whole library, and build them for other checkpoints"
    )
    restore.add_argument("paths", metavar="FOLDER", nargs="+", help="a folder of embeddings, or a file")
    restore.add_argument(
        "--checkpoint", metavar="PATH", nargs="+", required=True,
        help=f"find the words with these models, and make a version of each embedding for each of them. {CHECKPOINT}",
    )  # fmt: skip
    restore.add_argument("--dry-run", action="store_true", help="write nothing: say what would be written")
    restore.add_argument(
        "--output",
        metavar="DIR",
        help="save everything in DIR and leave the originals alone; default: add the text to the originals, whose "
        "vectors stay the same, and save versions beside them",
    )
    restore.add_argument("--sure", action="store_true", help="skip embeddings in which some words are not certain")
    restore.add_argument("--report", metavar="FILE", help="write a report to look through: .html, or .json")
    add_device(restore)
    restore.set_defaults(command=commands.restore)


def _add_compare(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    compare = subparsers.add_parser("compare", help="show how checkpoints differ: token tables, layers, their effect")
    compare.add_argument("first", metavar="CHECKPOINT", help=CHECKPOINT)
    compare.add_argument(
        "others", metavar="CHECKPOINT", nargs="+", help="others to compare with it and with each other"
    )
    by = compare.add_mutually_exclusive_group()
    by.add_argument(
        "--source", metavar="EXPR", help=f"compare the outputs of the text encoders for this text: {SOURCE}"
    )
    by.add_argument("--embedding", metavar="FILE", help="compare them for this embedding, as saved and rebuilt")
    compare.add_argument(
        "--effect", action="store_true", help="measure the effect of the text or embedding on each pair, as effect does"
    )
    compare.add_argument("--embeddings", metavar="DIR", help="a folder of embeddings that texts and recipes may name")
    compare.add_argument("--top", type=count, default=10, metavar="N", help="how many tokens to list; default: 10")
    add_device(compare)
    add_verbose(compare, "with several checkpoints, print the layers and tokens of each pair")
    compare.set_defaults(command=commands.compare)


def _add_parse(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parse = subparsers.add_parser("parse", help="show how a text is read: its parts, tokens and mistakes")
    parse.add_argument("source", metavar="SOURCE", help=SOURCE)
    parse.add_argument("--by", choices=GROUPINGS, default="parts", help="what to group the tokens by; default: parts")
    add_reading(parse)
    add_model_options(parse, required=False)
    parse.set_defaults(command=commands.parse)


def _add_info(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    info = subparsers.add_parser("info", help="show what a checkpoint is: layout, architecture, fingerprints")
    info.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    add_text_encoder(info)
    info.set_defaults(command=commands.info, embeddings=None, device="cpu")


def _add_report(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    report = subparsers.add_parser("report", help="print what a bug report needs: versions, and what a model is")
    report.add_argument("--checkpoint", metavar="PATH", help=f"{CHECKPOINT}; described without its name")
    add_text_encoder(report)
    report.set_defaults(command=commands.report, embeddings=None, device="cpu")


def _add_serve(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    serve = subparsers.add_parser("serve", help="start a web page of its own, which is the same as the tab in web UIs")
    serve.add_argument("--checkpoint", metavar="PATH", help=f"{CHECKPOINT}; default: the demo checkpoint")
    serve.add_argument("--models", metavar="DIR", help="a folder of checkpoints to choose from on the page")
    serve.add_argument(
        "--embeddings",
        metavar="DIR",
        help=f"the embeddings folder, ComfyUI's folder, or its YAML file; default: {serve_command.EMBEDDINGS}",
    )
    serve.add_argument(
        "--port", type=port, metavar="N", help="the port to use; default: the first free one from 7860 on"
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to listen on; default: 127.0.0.1, for this computer only. Others ask for --login, "
        "or for the token in the address that is printed",
    )
    serve.add_argument(
        "--login", type=login, metavar="USER:PASSWORD", help="the login of the page and the HTTP API; default: none"
    )
    serve.add_argument("--open", action="store_true", help="open the page in the browser")
    serve.set_defaults(command=serve_command.serve, afterwards=serve_command.wait_until_stopped)


def _add_demo(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    demo = subparsers.add_parser("demo", help="try everything on a small checkpoint that the program makes")
    demo.set_defaults(command=commands.demo)
