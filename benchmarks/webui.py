"""A stand-in of AUTOMATIC1111 for what stands around the encoding of prompts: its `modules`, over real token tables.

It has what EmbedMerge's seam and the extension Embedding Merge (EM) ask for, and does the work that A1111 1.10.1 does
there or somewhat less, never more: it encodes nothing and reads no attention, and where A1111 has open_clip's tokenizer
for CLIP-G it has EmbedMerge's, which is quicker. CLIP-L's is transformers' slow one, as there.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch

from lib_embedmerge.tokenizer import clip_tokenizer
from lib_embedmerge.tokenizer.vocabulary import load_vocabulary

_CHUNK = 75
_START, _END = 49406, 49407
_WHOLE_TEXT = 999

Tokenize = Callable[[str], list[int]]


class Fix(NamedTuple):
    """Where in a chunk an embedding's vectors go."""

    offset: int
    embedding: Any


@dataclass
class Chunk:
    """75 tokens, later between start and end; 0 where an embedding's vector goes."""

    tokens: list[int] = field(default_factory=list)
    fixes: list[Fix] = field(default_factory=list)


class Database:
    """The web UI's embeddings: of names that begin with the same token the longest is found."""

    def __init__(self) -> None:
        self.ids_lookup: dict[int, list[tuple[list[int], Any]]] = {}
        self.word_embeddings: dict[str, Any] = {}
        self.skipped_embeddings: dict[str, Any] = {}

    def register_embedding_by_name(self, embedding: Any, model: Any, name: str) -> Any:
        """Add it, or take out what has the name where it is None."""
        ids = model.cond_stage_model.tokenize([name])[0]
        entries = self.ids_lookup.get(ids[0], [])
        if self.word_embeddings.pop(name, None) is not None:
            entries = [entry for entry in entries if entry[1].name != name]
        if embedding is not None:
            entries = [*entries, (ids, embedding)]
            self.word_embeddings[name] = embedding
        self.ids_lookup[ids[0]] = sorted(entries, key=lambda entry: -len(entry[0]))
        return embedding

    def find_embedding_at_position(self, tokens: list[int], offset: int) -> tuple[Any, int | None]:
        """The embedding whose name stands there, and of how many tokens the name is."""
        for ids, embedding in self.ids_lookup.get(tokens[offset], ()):
            if tokens[offset : offset + len(ids)] == ids:
                return embedding, len(ids)
        return None, None


class Node(torch.nn.Module):
    """A module that is only there to hold others."""

    def __init__(self, **children: torch.nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)


class Embedder(torch.nn.Module):
    """A hijacked text encoder. place: where in it the token table lies."""

    def __init__(self, table: torch.Tensor, place: Sequence[str], database: Database, tokenize: Tokenize) -> None:
        super().__init__()
        self._table = torch.nn.Embedding(table.shape[0], table.shape[1], _weight=table, _freeze=True)
        node = Node(wrapped=self._table)  # what puts embeddings between the rows
        for name in reversed(place):
            node = Node(**{name: node})
        self.wrapped = node
        self._database = database
        self._tokenize = tokenize

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [self._tokenize(text) for text in texts]

    def encode_embedding_init_text(self, text: str, nvpt: int = _WHOLE_TEXT) -> torch.Tensor:
        """The rows of a text's tokens, [n, width]; like the web UI's own it gives all, whatever `nvpt`."""
        del nvpt
        rows: torch.Tensor = self._table(torch.tensor([self._tokenize(text)], dtype=torch.int)).squeeze(0)
        return rows

    def tokenize_line(self, line: str) -> tuple[list[Chunk], int]:
        """A prompt's chunks, in which an embedding stays whole, and how many tokens they hold."""
        ids = self._tokenize(line)
        chunks = [Chunk()]
        position = 0
        while position < len(ids):
            embedding, length = self._database.find_embedding_at_position(ids, position)
            vectors = 1 if embedding is None else int(embedding.vectors)
            if len(chunks[-1].tokens) + vectors > _CHUNK:
                chunks.append(Chunk())
            tokens = chunks[-1].tokens
            if embedding is None:
                tokens.append(ids[position])
                position += 1
                continue
            chunks[-1].fixes.append(Fix(len(tokens), embedding))
            tokens += [0] * vectors
            position += length or 1
        count = _CHUNK * (len(chunks) - 1) + len(chunks[-1].tokens)
        for chunk in chunks:
            chunk.tokens = [_START, *chunk.tokens, *[_END] * (_CHUNK + 1 - len(chunk.tokens))]
        return chunks, count


class Conditioner(torch.nn.Module):
    """SDXL's two text encoders and an embedder of sizes; tokenizes with the first."""

    def __init__(self, *embedders: torch.nn.Module) -> None:
        super().__init__()
        self.embedders = torch.nn.ModuleList([*embedders, torch.nn.Identity()])

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        first: Any = self.embedders[0]
        found: list[list[int]] = first.tokenize(texts)
        return found


class StableDiffusionModelHijack:
    """What the web UI's token counter asks."""

    def __init__(self, database: Database, conditioner: Conditioner) -> None:
        self.embedding_db = database
        self.clip: Any = conditioner
        self.comments: list[str] = []

    def get_prompt_lengths(self, text: str) -> tuple[int, int]:
        """Tokens of a prompt, and how many it can have in as many chunks."""
        _, count = self.clip.embedders[0].tokenize_line(text)
        return count, math.ceil(max(count, 1) / _CHUNK) * _CHUNK


class Prompts(list[str]):
    """The web UI's SdConditioning."""

    def __init__(self, prompts: Sequence[str], *, is_negative_prompt: bool = False) -> None:
        super().__init__(prompts)
        self.is_negative_prompt = is_negative_prompt
        self.width = self.height = 1024


class StableDiffusionProcessing:
    """One generation of one picture."""

    hr_prompts = hr_negative_prompts = None
    all_hr_prompts = all_hr_negative_prompts = None

    def __init__(self, prompt: str, negative_prompt: str = "") -> None:
        self.prompt, self.negative_prompt = prompt, negative_prompt
        self.all_prompts, self.all_negative_prompts = [prompt], [negative_prompt]
        self.hr_prompt = self.hr_negative_prompt = ""
        self.extra_generation_params: dict[str, Any] = {}
        self.encoded: list[Sequence[str]] = []

    def cached_params(self, *arguments: Any) -> tuple[Any, ...]:
        """What the web UI keeps conditionings by."""
        return arguments

    def get_conds_with_caching(
        self, function: Any, required_prompts: Any, steps: Any, caches: Any, extra_network_data: Any
    ) -> None:
        """Encodes nothing: `function` gets the prompts, where there is one."""
        del steps, caches, extra_network_data
        if function is not None:
            function(required_prompts)

    def setup_conds(self, function: Any = None) -> None:
        """Both prompts, in the web UI's order."""
        for prompts, is_negative in ((self.all_negative_prompts, True), (self.all_prompts, False)):
            required = Prompts(prompts, is_negative_prompt=is_negative)
            self.get_conds_with_caching(function, required, 20, [[None, None]], None)


class Webui:
    """The stand-in, with a model in memory."""

    def __init__(self, checkpoint: Path, tables: Mapping[str, torch.Tensor], tokenize: Tokenize) -> None:
        """checkpoint: the file that the model is said to be of.  tables: of CLIP-L and CLIP-G, [49408, width].

        tokenize: CLIP-L's.
        """
        database = Database()
        places = ("transformer", "text_model", "embeddings", "token_embedding"), ("model", "token_embedding")
        self._first = Embedder(tables["clip_l"], places[0], database, tokenize)
        second = Embedder(tables["clip_g"], places[1], database, clip_tokenizer().encode)
        conditioner = Conditioner(self._first, second)
        self.hijack = StableDiffusionModelHijack(database, conditioner)
        self.model = Node(conditioner=conditioner, cond_stage_model=conditioner)
        self.model.sd_checkpoint_info = SimpleNamespace(  # type: ignore[assignment]  # torch thinks of modules alone
            filename=str(checkpoint), name_for_extra=checkpoint.stem, title=checkpoint.name, sha256=None
        )

    def embeddings_in(self, prompt: str) -> list[Any]:
        """The embeddings that a prompt uses, in order."""
        chunks, _ = self._first.tokenize_line(prompt)
        return [fix.embedding for chunk in chunks for fix in chunk.fixes]

    def install(self, embeddings: Path) -> None:
        """Put `modules` into sys.modules, with a folder of embeddings; for the rest of this process."""
        model_data = SimpleNamespace(sd_model=self.model)
        shared = {
            "opts": SimpleNamespace(include_styles_into_token_counters=False),
            "cmd_opts": SimpleNamespace(embeddings_dir=str(embeddings)),
            "sd_model": self.model,
        }
        callbacks = ("on_ui_tabs", "on_infotext_pasted", "on_script_unloaded", "on_model_loaded")
        contents: dict[str, dict[str, Any]] = {
            "modules": {},
            "modules.shared": shared,
            "modules.scripts": {"Script": object, "AlwaysVisible": True, "scripts_data": []},
            "modules.errors": {"report": print, "display": print},
            "modules.script_callbacks": dict.fromkeys(callbacks, lambda callback: None),
            "modules.devices": {"device": torch.device("cpu")},
            "modules.processing": {"StableDiffusionProcessing": StableDiffusionProcessing},
            "modules.sd_models": {
                "model_data": model_data,
                "checkpoint_aliases": {},
                "checkpoints_list": {},
                "reload_model_weights": lambda: None,
            },
            "modules.sd_hijack": {
                "model_hijack": self.hijack,
                "StableDiffusionModelHijack": StableDiffusionModelHijack,
            },
            "modules.textual_inversion": {},
            "modules.textual_inversion.textual_inversion": {"Embedding": PlainEmbedding},
        }
        for name, content in contents.items():
            install_module(name, content)


class PlainEmbedding:
    """The web UI's class Embedding; who makes one sets the rest."""

    def __init__(self, vec: Any, name: str) -> None:
        self.vec = vec
        self.name = name
        self.vectors = 0


def install_module(name: str, content: Mapping[str, Any]) -> None:
    """Put a module with this content into sys.modules, and into its package."""
    module = ModuleType(name)
    module.__path__ = []
    vars(module).update(content)
    sys.modules[name] = module
    package, _, rest = name.rpartition(".")
    if package:
        setattr(sys.modules[package], rest, module)


def slow_tokenizer(folder: Path) -> Tokenize:
    """transformers' slow CLIPTokenizer, over the vocabulary that EmbedMerge carries, written to the folder."""
    from transformers import CLIPTokenizer

    known = load_vocabulary()
    ids = {token: token_id for token_id, token in enumerate(known.tokens)}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *_merges(), ""]), encoding="utf-8")
    slow = CLIPTokenizer.from_pretrained(str(folder), clean_up_tokenization_spaces=False)

    def tokenize(text: str) -> list[int]:
        found: list[int] = slow(text, truncation=False, add_special_tokens=False, verbose=False).input_ids
        return found

    return tokenize


def _merges() -> Iterator[str]:
    known = load_vocabulary()
    return (f"{known.tokens[pair >> 16]} {known.tokens[pair & 0xFFFF]}" for pair in known.merges)
