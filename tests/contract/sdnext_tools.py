"""Tools of SD.Next: its own tokenizers, layers, database and caches, reached through its own modules.

The same code asks the real SD.Next and its double. It shares none with lib_embedmerge.hosts, which it judges.
"""

# ruff: noqa: TID251 -- it asks a web UI, and so imports its modules

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ftfy
import torch

from contract.webui_tools import architecture_of_file

_KEYS = {768: "clip_l", 1280: "clip_g", 1024: "clip_h"}


class SdNextTools:
    """Of the SD.Next whose `modules` can be imported."""

    def __init__(self) -> None:
        from modules import modeldata, prompt_parser_diffusers, sd_checkpoint, sd_models, shared

        self._parser, self._sd_models, self._shared = prompt_parser_diffusers, sd_models, shared
        self._checkpoints, self._model_data = sd_checkpoint, modeldata.model_data
        self._before: Any = None

    @property
    def _model(self) -> Any:
        return self._model_data.sd_model

    def files(self) -> tuple[Path, tuple[Path, ...]]:
        return Path(self.selected().filename).absolute(), ()

    def own_tokenize(self, key: str, text: str) -> list[int] | None:
        if key not in self._places():
            return None
        tokenizer = self._places()[key][1]
        # Newer transformers repair no damaged text, which the CLIP models were trained with, and so does EmbedMerge.
        ids: list[int] = tokenizer(ftfy.fix_text(text), add_special_tokens=False).input_ids
        return ids

    def own_rows(self, key: str, ids: Sequence[int]) -> torch.Tensor | None:
        if key not in self._places():
            return None
        layer = self._places()[key][0].get_input_embeddings()
        with torch.no_grad():
            rows: torch.Tensor = layer(torch.tensor(list(ids), device=layer.weight.device)).detach().clone()
        return rows

    def spliced_vectors(self, name: str) -> Mapping[str, torch.Tensor] | None:
        if self._model is None:
            return None
        found = {}
        for key, (text_encoder, tokenizer) in self._places().items():
            manager = self._parser.DiffusersTextualInversionManager(self._model, tokenizer)
            prompt = manager.maybe_convert_prompt(f"x, {name}, y", tokenizer)
            ids = tokenizer(prompt, add_special_tokens=False).input_ids
            assert ids[:2] == tokenizer("x,", add_special_tokens=False).input_ids
            assert ids[-2:] == tokenizer(", y", add_special_tokens=False).input_ids
            assert all(token >= 49408 for token in ids[2:-2]), ids
            layer = text_encoder.get_input_embeddings()
            with torch.no_grad():
                found[key] = layer(torch.tensor(ids[2:-2], device=layer.weight.device)).detach().clone()
        return found

    def finds(self, name: str) -> bool | None:
        if self._model is None:
            return None
        tokenizers = [tokenizer for _, tokenizer in self._places().values()]
        ids = [tokenizer(f"x, {name}, y", add_special_tokens=False).input_ids for tokenizer in tokenizers]
        return any(token >= 49408 for some in ids for token in some)

    def remember_conditionings(self) -> bool:
        self._parser.cache["a prompt"] = {"prompt_embeds": "its conditioning"}
        return True

    def remembers_conditionings(self) -> bool:
        return bool(self._parser.cache)

    def switch_model(self) -> bool:
        current, other = self.selected(), self.find_other()
        if other is None:
            return False
        self._before = current
        self._load(other)
        return True

    def load_another(self) -> Iterator[str]:
        selected = self.selected()
        if self._model is None:
            return
        try:
            for info in self._infos():
                if info.filename != selected.filename:
                    self._load(info)
                    self._shared.opts.data["sd_model_checkpoint"] = selected.title
                    yield Path(info.filename).name
        finally:
            self._load(selected)

    def loaded(self) -> Sequence[weakref.ref[torch.nn.Module]]:
        return [weakref.ref(text_encoder.get_input_embeddings()) for text_encoder, _ in self._places().values()]

    def forget(self, path: Path) -> None:
        """As SD.Next would if it could: a name that is gone is no token any more."""
        path.unlink(missing_ok=True)
        if self._model is None:
            return
        database = self._model.embedding_db
        database.word_embeddings.pop(path.stem, None)
        database.skipped_embeddings.pop(path.stem, None)

    def _load(self, info: Any) -> None:
        self._shared.opts.data["sd_model_checkpoint"] = info.title
        self._sd_models.reload_model_weights()
        gc.collect()

    def find_other(self) -> Any:
        """A checkpoint with the same text encoders that is not selected: the one before, if there was one; or None."""
        others = [info for info in self._infos() if info.filename != self.selected().filename]
        return self._before if self._before in others else next(iter(others), None)

    def selected(self) -> Any:
        title = self._shared.opts.sd_model_checkpoint
        return self._checkpoints.checkpoint_aliases[title]

    def _infos(self) -> list[Any]:
        """The checkpoints that have the same text encoders as the selected one."""
        infos = list(self._checkpoints.checkpoints_list.values())
        wanted = architecture_of_file(Path(self.selected().filename))
        return [info for info in infos if architecture_of_file(Path(info.filename)) == wanted]

    def _places(self) -> dict[str, tuple[Any, Any]]:
        """Encoder key -> (text encoder, tokenizer)."""
        pairs = [
            (getattr(self._model, f"text_encoder{suffix}", None), getattr(self._model, f"tokenizer{suffix}", None))
            for suffix in ("", "_2")
        ]
        return {_KEYS[one.get_input_embeddings().weight.shape[1]]: (one, other) for one, other in pairs if one}
