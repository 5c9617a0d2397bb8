"""Where embeddings are called in texts of ComfyUI (hosts/comfyui/name_calls.py), and words for other text encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from memory_model import MemoryNames

from lib_embedmerge.hosts.comfyui.clip_origin import ClipOrigin, LoadedFile, find_loaded_files
from lib_embedmerge.hosts.comfyui.name_calls import LostCall, NameFinder, Names
from lib_embedmerge.hosts.comfyui.prompt_reading import write_words
from lib_embedmerge.hosts.comfyui.texts_in_use import TextsInUse
from lib_embedmerge.tokenizer import clip_tokenizer

ROW = {"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(1, 1280)}
NAMES = MemoryNames(dict.fromkeys(("catdog1", "my cat", "my", "cat(x)", "v1.5-cat.x"), ROW))
FILES = {"catdog1", "sub/catdog1", "catdog1.safetensors", "my", "cat(x)"}
"""What ComfyUI finds after `embedding:`."""


def find(text: str, which: Names = Names.BARE) -> list[str]:
    """The calls as `NAME=TEXT`, with a ! before what ComfyUI finds and a ? before what nobody finds."""
    finder = NameFinder(NAMES, clip_tokenizer(), which, lambda word: Path(word) if word in FILES else None)
    found = []
    for call in finder.find(text):
        mark = "?" if isinstance(call, LostCall) else "!" if call.file else ""
        found.append(f"{mark}{call.name}={text[call.start : call.end]}")
    return found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a catdog1, b", ["catdog1=catdog1"]),
        ("a CATDOG1.", ["catdog1=CATDOG1"]),
        ("catdog12", ["catdog1=catdog1"]),  # each digit is a token, as in A1111
        ("my cat my dog", ["my cat=my cat", "my=my"]),
        ("(catdog1:1.2) catdog1", ["catdog1=catdog1", "catdog1=catdog1"]),
        ("a cat\\(x\\) b", ["cat(x)=cat\\(x\\)"]),
        ("(my (cat:1.2))", ["my=my"]),  # brackets part words
        ("v1.5-cat.x, x", ["v1.5-cat.x=v1.5-cat.x"]),
        ("embedding:catdog1", ["!catdog1=embedding:catdog1"]),
        ("a embedding:sub/catdog1 b", ["!sub/catdog1=embedding:sub/catdog1"]),
        ("embedding:catdog1.safetensors, b", ["!catdog1.safetensors=embedding:catdog1.safetensors"]),
        ("embedding:catdog1, b", ["!catdog1=embedding:catdog1"]),
        ("embedding:catdog1,b", ["catdog1=embedding:catdog1"]),
        ("a,embedding:catdog1", ["catdog1=embedding:catdog1"]),
        ("embedding:CatDog1 b", ["catdog1=embedding:CatDog1"]),
        ("embedding:my cat", ["!my=embedding:my"]),  # ComfyUI's own meaning stays
        ("x,embedding:my cat", ["my cat=embedding:my cat"]),
        ("embedding:cat\\(x\\)", ["!cat(x)=embedding:cat\\(x\\)"]),
        ("embedding:nothing, b", ["?nothing=embedding:nothing,"]),
        ("x,embedding:nothing b catdog1", ["?nothing=embedding:nothing", "catdog1=catdog1"]),
        ("embedding: catdog1", ["!catdog1=embedding: catdog1"]),
        ("embedding:", []),
        ("a embedding:\n", []),
        ("", []),
        ("a ) b ( catdog1", ["catdog1=catdog1"]),
    ],
)
def test_calls(text: str, wanted: list[str]) -> None:
    assert find(text) == wanted


def test_which_names_are_found() -> None:
    text = "catdog1 embedding:catdog1 x,embedding:catdog1,y"
    assert find(text, Names.MARKED) == ["!catdog1=embedding:catdog1", "catdog1=embedding:catdog1"]
    assert find(text, Names.COMFYUI) == ["!catdog1=embedding:catdog1", "?catdog1,y=embedding:catdog1,y"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a <'cat'+'dog'*0.5> b", "a  cat dog  b"),
        ("a <'red'*2> <b>", "a  red  <b>"),
        ("no expression", "no expression"),
        ("a <'cat'*> b", "a <'cat'*> b"),
        ("<|start_header_id|>user<|end_header_id|> it's", "<|start_header_id|>user<|end_header_id|> it's"),
    ],
)
def test_words_for_other_text_encoders(text: str, wanted: str) -> None:
    assert write_words(text) == wanted


def link(node: str, output: int = 0) -> list[str | int]:
    return [node, output]


PROMPT: dict[str, dict[str, Any]] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sub\\a.safetensors"}},
    "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "b.safetensors"}},
    "3": {"class_type": "LoraLoader", "inputs": {"model": link("2"), "clip": link("1", 1), "lora_name": "l"}},
    "4": {"class_type": "CLIPSetLastLayer", "inputs": {"clip": link("3", 1), "stop_at_clip_layer": -2}},
    "5": {"class_type": "CLIPMergeSimple", "inputs": {"clip1": link("4"), "clip2": link("2", 1), "ratio": 0.5}},
    "6": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "l.st", "clip_name2": "g.st", "type": "sdxl"}},
    "7": {"class_type": "Reroute", "inputs": {"": link("6")}},
    "8": {"class_type": "Loop", "inputs": {"clip": link("8")}},
}


@pytest.mark.parametrize(
    ("start", "wanted"),
    [("4", "a"), ("5", "a + b"), ("7", "l + g"), ("8", "an unknown model"), ("none", "an unknown model")],
)
def test_the_files_of_a_clip(start: str, wanted: str) -> None:
    prompt = {**PROMPT, "9": {"inputs": {"clip": link(start)}}}
    assert ClipOrigin(find_loaded_files(prompt, "9")).title == wanted
    assert find_loaded_files(prompt, "missing") == ()


def test_a_file_is_called_without_its_folder() -> None:
    assert LoadedFile("checkpoints", "sub\\deep/model.v2.safetensors").title == "model.v2"


def test_changes_of_what_texts_name_are_counted() -> None:
    used, now = TextsInUse(), {"a": 1, "b": 1}
    assert used.count_changes("n", now.__getitem__) == 0
    used.note("n", "a", 1)
    used.note("n", "b", 1)
    used.note("m", "a", 1)
    assert used.count_changes("n", now.__getitem__) == 0
    now["a"] = 2
    assert used.count_changes("n", now.__getitem__) == 1
    assert used.count_changes("n", now.__getitem__) == 1  # until it is encoded again
    used.note("n", "a", 2)
    assert used.count_changes("n", now.__getitem__) == 1
    assert used.count_changes("m", now.__getitem__) == 1
    for number in range(100):
        used.note("n", f"text {number}", None)
    assert used.count_changes("n", lambda text: None if text.startswith("text") else 9) == 1
