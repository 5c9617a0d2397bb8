"""ComfyUI's tokenizers, written from the facts about comfy/sd1_clip.py, not from its code.

A text is cut into runs of one weight, a run into texts and calls of embeddings, these into tokens, and the tokens into
chunks of 77. Groups of fewer than eight tokens are not cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lib_embedmerge.tokenizer import clip_tokenizer

MARK = "embedding:"
START, END = 49406, 49407
SIZE, WHOLE = 77, 8
_BRACKETS = re.compile(r"(?<!\\)([()])")


def weigh(text: str, weight: float = 1.0) -> Iterator[tuple[str, float]]:
    """The runs of a text with their weights: `(x)` means 1.1, `(x:1.2)` means 1.2, `\\(` is a bracket."""
    depth, run = 0, ""
    for part in _BRACKETS.split(text):
        if part == "(":
            depth += 1
            if depth == 1:
                yield from [(_unescape(run), weight)] if run else []
                run = ""
                continue
        elif part == ")" and depth:
            depth -= 1
            if depth == 0:
                yield from _weigh_bracket(run, weight)
                run = ""
                continue
        run += part
    if run:
        yield _unescape("(" + run if depth else run), weight


def _unescape(run: str) -> str:
    return run.replace("\\(", "(").replace("\\)", ")")


def _weigh_bracket(inner: str, weight: float) -> Iterator[tuple[str, float]]:
    head, colon, number = inner.rpartition(":")
    try:
        yield from weigh(head, float(number)) if colon and head else weigh(inner, weight * 1.1)
    except ValueError:
        yield from weigh(inner, weight * 1.1)


class SDTokenizer:
    """The tokenizer of one text encoder."""

    def __init__(
        self,
        tokenizer_path: str | None = None,
        *,
        embedding_directory: Any = None,
        embedding_key: str = "clip_l",
        embedding_size: int = 768,
        pad_with_end: bool = True,
    ) -> None:
        del tokenizer_path
        self.embedding_directory = embedding_directory
        self.embedding_key = embedding_key
        self.embedding_size = embedding_size
        self.pad_token = END if pad_with_end else 0

    def _try_get_embedding(self, embedding_name: str) -> tuple[Any, str]:
        words = embedding_name.split()
        rest = " ".join(words[1:])
        for word in dict.fromkeys((words[0], words[0].strip(","))):
            if (found := self._load(word)) is not None:
                return found, f"{words[0][len(word) :]} {rest}" if word != words[0] else rest
        return None, rest

    def _load(self, name: str) -> Any:
        for top in map(Path, self.embedding_directory):
            for folder in (top, *(path for path in top.rglob("*") if path.is_dir())):
                for path in (folder / name, folder / f"{name}.safetensors"):
                    if path.is_file():
                        tensors = load_file(path)
                        return tensors.get(self.embedding_key, next(iter(tensors.values())))
        return None

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> list[Any]:
        groups = [group for run, weight in weigh(text) for group in self._make_groups(run, weight)]
        chunks = self._fill(groups)
        if return_word_ids:
            return chunks
        return [[(token, weight) for token, weight, _ in chunk] for chunk in chunks]

    def _make_groups(self, run: str, weight: float) -> Iterator[list[tuple[Any, float]]]:
        pieces = re.split(rf"[ \n](?={MARK})", run)
        for piece in filter(None, pieces):
            text = piece
            if piece.startswith(MARK):
                rows, text = self._try_get_embedding(piece.removeprefix(MARK).strip("\n"))
                if rows is not None:
                    yield [(row, weight) for row in rows.reshape(-1, rows.shape[-1])]
                if not text:
                    continue
            yield [(token, weight) for token in clip_tokenizer().encode(text)]

    def _fill(self, groups: list[list[tuple[Any, float]]]) -> list[list[tuple[Any, float, int]]]:
        chunks: list[list[tuple[Any, float, int]]] = [[(START, 1.0, 0)]]
        for number, group in enumerate(groups, 1):
            rest = group
            while rest:
                room = SIZE - 1 - len(chunks[-1])
                if len(rest) <= room:
                    chunks[-1] += ((token, weight, number) for token, weight in rest)
                    break
                if len(group) >= WHOLE:
                    chunks[-1] += ((token, weight, number) for token, weight in rest[:room])
                    rest = rest[room:]
                self._end(chunks[-1])
                chunks.append([(START, 1.0, 0)])
        self._end(chunks[-1])
        return chunks

    def _end(self, chunk: list[tuple[Any, float, int]]) -> None:
        chunk.append((END, 1.0, 0))
        chunk += [(self.pad_token, 1.0, 0)] * (SIZE - len(chunk))


class OtherTokenizer(SDTokenizer):
    """That of a text encoder such as T5: here its tokens are the words."""

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> list[Any]:
        del return_word_ids
        return [[(word, weight) for run, weight in weigh(text) for word in run.split()]]


class ClipTokenizers:
    """The tokenizer of a CLIP: one for each of its text encoders. keys: of these."""

    def __init__(self, keys: tuple[str, ...], embedding_directory: Any) -> None:
        sizes = {"clip_l": 768, "clip_g": 1280, "clip_h": 1024}
        for key in keys:
            kind = SDTokenizer if key in sizes else OtherTokenizer
            tokenizer = kind(
                embedding_directory=embedding_directory,
                embedding_key=key,
                embedding_size=sizes.get(key, 4096),
                pad_with_end=key == "clip_l",
            )
            setattr(self, key, tokenizer)

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options: Any) -> dict[str, Any]:
        return {
            key.removeprefix("clip_"): part.tokenize_with_weights(text, return_word_ids, **options)
            for key, part in vars(self).items()
            if hasattr(part, "embedding_key")
        }


def is_vector(token: object) -> bool:
    """Whether a token is the vector of an embedding."""
    return isinstance(token, torch.Tensor)
