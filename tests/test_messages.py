"""What a rule can check of the words that users read. `python -m tests.messages` lists them for people to read."""

from __future__ import annotations

import ast
import re

import pytest
from messages import DESCRIPTION, HELP, HINT, MESSAGE, Message, messages, parsed, python_files
from test_boundaries import ROOMS

from lib_embedmerge.api.refused_requests import REMEDIES as API_REMEDIES
from lib_embedmerge.cli.remedies import REMEDIES as CLI_REMEDIES
from lib_embedmerge.errors import Remedy
from lib_embedmerge.ui.views.error_view import REMEDIES as TAB_REMEDIES

INSTEAD = {
    # what no text says -> what it says instead
    r"\banew\b": "again",
    r"\btold\b|\bto tell of\b": "say, show, describe",
    r"\bbehind\b": "after",
    r"\btake[sn]? (?:\S+ )?away\b|\btook away\b": "remove",
    r"\btaken? for\b": "read as, treated as",
    r"\basked of\b|\bsayable\b|\bnameless\b": "plain words",
    r"\bmeanwhile\b": "in the meantime",
    r"\bany more\b": "no longer",
    r"\bexists? already\b|\bis there already\b": "already exists",
    r"\b(?:it|which|file|list) holds?\b|\bholds? (?:no|more|an?|the|several)\b": "contains",
    r"(?<!There )\b(?:is|are) no (?!longer|more)\w": "is not a",
    r"\bstands?\b(?<!as it stands)": "write, put, use",
    r"\b(?:goes?|went) along\b": "is renamed too, is kept",
    r"\b(?:goes?|went) with\b": "fits",
    r"\blook(?:ed|s)? into\b": "search, read",
    r"\blies? (?:beside|in)\b": "is",
    r"\bso long a\b|\bso large a\b": "too long",
    r"\bha(?:s|ve|d) to\b": "must",
    r"\bbut for\b": "except for",
    r"\bgive back\b|\bbring back\b|\bbrought back\b": "restore",
    r"\bwith zeros? only\b|\bof others?\b": "plain words",
    r"\bunasked\b|\bhalf of a surrogate\b|\bNUL\b": "broken character",
    r"\bwish(?:es)?\b|\bshelf\b|\brival\b|\bseam\b": "no names of the code",
}

STORED = {"Use the text as it stands, with a warning"}
"""Values of a setting that web UIs have saved already."""

FACE = re.compile(
    r"--[a-z]|\b[Tt]ick\b|\bembedmerge [a-z]|in Python\)|`show`|load_embedding|command line|\bthe list\b|"
    r"text_encoders\)|`bundled`"
)
"""Words of one face: options and commands of the command line, arguments of Python, widgets of the tab."""

LOWER = {*ROOMS[: ROOMS.index("api")]}
"""The rooms below all faces."""

FACE_WORDS = {
    # The command `convert` has no counterpart in the tab or the API, so all of them name it.
    "Convert it in an environment with PyTorch 2.5 or newer: embedmerge convert FILE.",
    "Convert it: embedmerge convert …",
    "Join it with the one for CLIP-L: embedmerge convert FIRST SECOND --name NAME.",
    "Join them: embedmerge convert … … --name NAME.",
    "Make a file of it: embedmerge convert … --name NAME",
    "Make a file of the embedding alone: embedmerge convert …",
    # The report is what every face asks for.
    (
        "Please report it. Add the text in the console and the text that Help, “Something went wrong?”, or the command "
        "`embedmerge report` shows."
    ),
    # Every program with a list has a button to refresh it.
    "Put one into the models folder and refresh the list.",
    "Refresh the list of embeddings.",
    "Refresh the list.",
    # The name of a host.
    "the command line",
}
"""Texts of the lower rooms that may name a command or a widget."""


def found(role: str) -> list[Message]:
    return [message for message in messages() if message.role == role]


def test_there_are_texts_to_check() -> None:
    assert len(messages()) > 1000
    assert len(found(MESSAGE)) > 250
    assert len(found(HINT)) > 150
    assert len(found(HELP)) > 40
    assert len(found(DESCRIPTION)) > 40
    files = {message.file.as_posix() for message in messages()}
    assert "javascript/embedmerge_library.js" in files
    assert any(message.text == "Save embedding" for message in messages())
    assert any(message.text == "tick all that are shown" for message in messages())  # a tooltip inside HTML


@pytest.mark.parametrize("words", INSTEAD)
def test_plain_words(words: str) -> None:
    wrong = [str(message) for message in messages() if re.search(words, message.text) and message.text not in STORED]
    assert wrong == [], f"write: {INSTEAD[words]}"


_COMMAND = re.compile(r": (?:embedmerge|pip install) .+[\w\"]$")


@pytest.mark.parametrize("role", [MESSAGE, HINT, DESCRIPTION])
def test_a_sentence_begins_with_a_capital_and_ends_with_a_full_stop(role: str) -> None:
    """A message may also begin with a name, which is a value or in quotes; a hint may end with a command to copy."""
    wrong = [
        str(message)
        for message in found(role)
        if re.match(r"[a-z]", message.text)
        or not (re.search(r"[.?:…]$", message.text) or (role == HINT and _COMMAND.search(message.text)))
    ]
    assert wrong == []


def test_help_of_options_is_as_argparse_writes_its_own() -> None:
    wrong = [
        str(message) for message in found(HELP) if re.match(r"[A-Z][a-z]", message.text) or message.text[-1] == "."
    ]
    assert wrong == []


def test_no_text_names_what_is_inside_the_program() -> None:
    classes = {
        node.name
        for path in python_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef) and re.search(r"[a-z][A-Z]", node.name)
    } - {"EmbedMerge"}
    modules = {path.stem for path in python_files() if "_" in path.stem and not path.stem.startswith("__")}
    assert len(classes) > 100
    assert len(modules) > 20
    inside = re.compile(rf"\b(?:{'|'.join(sorted(classes | modules))})\b|(?<!-m )\blib_embedmerge\b")
    assert [str(message) for message in messages() if inside.search(message.text)] == []


def _face_words() -> set[str]:
    package = [message for message in messages() if message.file.parts[0] == "lib_embedmerge"]
    lower = [message for message in package if message.file.parts[1].removesuffix(".py") in LOWER]
    return {message.text for message in lower if FACE.search(message.text)}


def test_lower_rooms_do_not_know_how_they_are_used() -> None:
    assert _face_words() == FACE_WORDS


def test_each_face_words_remedies_of_its_own() -> None:
    words = (CLI_REMEDIES, API_REMEDIES, TAB_REMEDIES)
    assert {remedy for remedies in words for remedy in remedies} == {*Remedy}
    assert all(sentence.endswith(".") for remedies in words for sentence in remedies.values())
