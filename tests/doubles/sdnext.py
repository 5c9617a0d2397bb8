"""SD.Next: a pipeline of diffusers in memory, prompts encoded by prompt_parser_diffusers, one database for a pipeline.

The text encoders are embedding layers only, and the tokenizers are those of transformers. Sampling does nothing, so
that only prompts matter.
"""

# ruff: noqa: TID251 -- it takes the place of a web UI, whose modules import one another

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors.torch
import torch

from doubles.fast_tokenizer import fast_tokenizer
from doubles.installed import Options, Surroundings
from doubles.layers import table_layer

_WIDTHS = {"clip_l": 768, "clip_g": 1280, "clip_h": 1024}
_NAMES = ("alpha", "beta")
_LENGTH = 77
_ATTENTION = re.compile(r"\(([^()]*):[0-9.]+\)")
_NETWORK = re.compile(r"<(\w+):([^>]+)>")
_EDITING = re.compile(r"\[([^\[\]:]*):([^\[\]:]*):([0-9.]+)\]")


class TextEncoder(torch.nn.Module):
    """transformers' CLIPTextModel, as far as the token table. Its output is the rows."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.layer = table_layer(table.clone())
        self.slow_resizes = 0

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.layer

    def resize_token_embeddings(self, count: int, mean_resizing: bool = True) -> None:
        """In the same layer, with new rows after the old ones. slow_resizes: those that would take seconds."""
        self.slow_resizes += mean_resizing
        old = self.layer.weight.data
        self.layer.weight.data = torch.cat([old, torch.zeros(count - len(old), old.shape[1], dtype=old.dtype)])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.layer(ids)
        return rows


class StableDiffusionXLPipeline:
    """A pipeline, which encodes texts itself for the prompt parser "fixed". A refiner's may have no CLIP-L."""

    def __init__(self, info: Any, tables: dict[str, torch.Tensor], folder: Path) -> None:
        self.sd_checkpoint_info = info
        self.text_encoder = TextEncoder(tables["clip_l"]) if "clip_l" in tables else None
        self.text_encoder_2 = TextEncoder(tables["clip_g"])
        self.tokenizer = fast_tokenizer(folder) if "clip_l" in tables else None
        self.tokenizer_2 = fast_tokenizer(folder, "!")
        self.embedding_db: Any = None

    @property
    def encoders(self) -> tuple[tuple[TextEncoder, Any], ...]:
        pairs = (self.text_encoder, self.tokenizer), (self.text_encoder_2, self.tokenizer_2)
        return tuple((text_encoder, tokenizer) for text_encoder, tokenizer in pairs if text_encoder is not None)

    def encode(self, text: str) -> torch.Tensor:
        """As all of SD.Next's parsers do at last: chunks of 77 tokens through every text encoder."""
        found = []
        for text_encoder, tokenizer in self.encoders:
            ids = tokenizer(text, add_special_tokens=False).input_ids
            padding = 49407 if tokenizer is self.tokenizer else 0
            rows = [
                text_encoder(torch.tensor([[49406, *part, 49407, *[padding] * (_LENGTH - 2 - len(part))]]))
                for part in ([ids[first : first + 75] for first in range(0, len(ids), 75)] or [[]])
            ]
            found.append(torch.cat(rows, dim=1))
        return torch.cat(found, dim=-1)

    def __call__(self, **arguments: Any) -> None:
        """What it is given as text it encodes itself."""
        for name in ("prompt", "negative_prompt"):
            for text in arguments.get(name, ()):
                self.encode(text)


class EmbeddingDatabase:
    """textual_inversion.EmbeddingDatabase."""

    def __init__(self, host: SdNext) -> None:
        self._host = host
        self.ids_lookup: dict[int, list[Any]] = {}
        self.word_embeddings: dict[str, Any] = {}
        self.skipped_embeddings: dict[str, Any] = {}
        self.embeddings_used: list[str] = []

    def load_diffusers_embedding(self, filename: list[str]) -> None:
        if not self._host.options.diffusers_enable_embed:
            return
        for path in map(Path, filename):
            vectors = list(safetensors.torch.load_file(path).values())
            tokens = _tokens_of(path.stem, len(vectors[0]))
            embedding = SimpleNamespace(name=path.stem, filename=str(path), vec=vectors, tokens=tokens)
            if {rows.shape[1] for rows in vectors} != {768, 1280}:
                self.skipped_embeddings[path.stem] = embedding
                continue
            encoders = self._host.model.encoders
            insert_tokens([embedding], [tokenizer for _, tokenizer in encoders])
            for text_encoder, tokenizer in encoders:
                (rows,) = (rows for rows in vectors if rows.shape[1] == text_encoder.layer.weight.shape[1])
                if len(text_encoder.layer.weight) != len(tokenizer):
                    text_encoder.resize_token_embeddings(len(tokenizer))
                for token, row in zip(tokens, rows, strict=True):
                    text_encoder.layer.weight.data[tokenizer.convert_tokens_to_ids(token)] = row
            self.word_embeddings[path.stem] = embedding
            first = self._host.model.tokenizer.convert_tokens_to_ids(path.stem)
            self.ids_lookup.setdefault(first, []).append(([first], embedding))


def insert_tokens(embeddings: Sequence[Any], tokenizers: Sequence[Any]) -> None:
    from transformers import AddedToken

    added = [AddedToken(token, normalized=False) for embedding in embeddings for token in embedding.tokens]
    for tokenizer in tokenizers:
        tokenizer.add_tokens(added)


def _tokens_of(name: str, count: int) -> list[str]:
    return [name, *(f"{name}_{place}" for place in range(1, count))]


class DiffusersTextualInversionManager:
    """Writes all tokens of an embedding in place of its name."""

    def __init__(self, pipe: Any, tokenizer: Any) -> None:
        self._database = pipe.embedding_db
        self._database.embeddings_used.clear()
        del tokenizer

    def maybe_convert_prompt(self, prompt: str, tokenizer: Any) -> str:
        known = tokenizer.added_tokens_encoder
        for token in sorted(set(tokenizer.tokenize(prompt)) & set(known)):
            self._database.embeddings_used.append(token)
            tokens = [token]
            while f"{token}_{len(tokens)}" in known:
                tokens.append(f"{token}_{len(tokens)}")
            prompt = prompt.replace(token, " ".join(tokens))
        return prompt


class Processing:
    """StableDiffusionProcessing, as the API makes one."""

    def __init__(self, **fields: Any) -> None:
        self.prompt = fields.pop("prompt", "")
        self.negative_prompt = fields.pop("negative_prompt", "")
        self.override_settings = fields.pop("override_settings", {})
        self.refiner_prompt = fields.pop("refiner_prompt", "")
        self.refiner_negative = fields.pop("refiner_negative", "")
        self.enable_hr = fields.pop("enable_hr", False)
        self.refiner_start = fields.pop("refiner_start", 0)
        self.is_refiner_pass = False
        self.batch_size, self.n_iter = fields.pop("batch_size", 1), fields.pop("n_iter", 1)
        self.steps = fields.pop("steps", 2)
        self.styles = fields.pop("styles", [])
        self.extra_generation_params: dict[str, Any] = {}
        self.comments: dict[str, int] = {}
        self.prompts: list[str] = []
        self.negative_prompts: list[str] = []
        self.infotexts: list[str] = []

    def comment(self, text: str) -> None:
        self.comments[text] = 1


class PromptEmbedder:
    """Encodes the prompts of a pass, or finds them in the cache by their texts."""

    host: SdNext

    def __init__(self, prompts: list[str], negative_prompts: list[str], steps: int, parser: str) -> None:
        cache = self.host.cache
        key = str([prompts, negative_prompts, steps, parser])
        if key in cache:
            self.embeds = cache[key]
            return
        self.embeds = [
            self.encode(prompt, negative, parser)
            for pair in zip(prompts, negative_prompts, strict=True)
            for prompt, negative in _schedule(*pair)
        ]
        cache[key] = self.embeds

    def encode(self, prompt: str, negative: str, parser: str) -> Any:
        from modules import prompt_parser_diffusers

        name = "get_xhinker_text_embeddings" if parser == "xhinker" else "get_weighted_text_embeddings"
        return getattr(prompt_parser_diffusers, name)(self.host.model, prompt, negative, 1)


def _schedule(prompt: str, negative: str) -> Iterator[tuple[str, str]]:
    """Prompt editing, as far as the cases go: `[before:after:0.5]`."""
    if not _EDITING.search(prompt):
        yield prompt, negative
        return
    for group in (1, 2):
        yield _EDITING.sub(lambda match: match[group], prompt), negative  # noqa: B023 -- called at once


class SdNext:
    """The double, installed. Of model_data, sd_model is None while nothing is loaded, sd_refiner without a refiner."""

    def __init__(self, surroundings: Surroundings, selected: str = "alpha") -> None:
        self.around = surroundings
        self.cache: OrderedDict[str, Any] = OrderedDict()
        self.pipeline_prompts: dict[str, Any] = {}
        self.model_data = SimpleNamespace(sd_model=None, sd_refiner=None)
        self.infos = {info.title: info for info in map(self.info, _NAMES)}
        self.options = Options(
            sd_model_checkpoint=self.info(selected).title,
            sd_text_encoder="Default",
            embeddings_dir=str(surroundings.embeddings),
            diffusers_enable_embed=True,
            prompt_attention="native",
        )
        self.state = SimpleNamespace(job_count=0, end=self._end)
        self.encoded: list[str] = []
        PromptEmbedder.host = self
        parser = {
            "PromptEmbedder": PromptEmbedder,
            "DiffusersTextualInversionManager": DiffusersTextualInversionManager,
            "cache": self.cache,
            "get_weighted_text_embeddings": self._get_embeddings,
            "get_xhinker_text_embeddings": self._get_embeddings,
        }
        surroundings.install(
            shared={"opts": self.options, "state": self.state, "cmd_opts": SimpleNamespace(api=True, api_auth=None)},
            modeldata={"model_data": self.model_data},
            sd_models={"model_data": self.model_data, "reload_model_weights": self.load},
            sd_checkpoint={"checkpoints_list": dict(self.infos), "checkpoint_aliases": dict(self.infos)},
            model_te={"te_dict": {}},
            textual_inversion={"insert_tokens": insert_tokens},
            prompt_parser_diffusers=parser,
            sd_hijack_te={"prompt_cache": SimpleNamespace(cache=self.pipeline_prompts)},
            processing_args={"set_prompt": self._set_prompt},
            processing_diffusers={"process_diffusers": self._process},
            processing={"process_images_inner": self._process_inner},
            styles={"apply_curly_braces_to_prompt": _choose},
            ui_common={"update_token_counter": self._count},
            errors={"display": print},
            scripts={"scripts_data": [], "__file__": "/x/modules/scripts.py"},
        )

    def info(self, name: str) -> SimpleNamespace:
        """SD.Next's CheckpointInfo."""
        path = self.around.checkpoints[name].path
        return SimpleNamespace(filename=str(path), model_name=name, title=name, name=name, sha256=None)

    @property
    def model(self) -> Any:
        return self.model_data.sd_model

    def load(self) -> None:
        """reload_model_weights: the selected one, unless it is loaded."""
        info = self.infos[self.options.sd_model_checkpoint]
        if self.model is not None and self.model.sd_checkpoint_info.filename == info.filename:
            return
        self.cache.clear()
        tables = dict(self.around.checkpoints[info.name].tables)
        self.model_data.sd_model = model = StableDiffusionXLPipeline(info, tables, self.around.scratch)
        model.embedding_db = EmbeddingDatabase(self)
        model.embedding_db.load_diffusers_embedding(
            [str(path) for path in sorted(self.around.embeddings.rglob("*.safetensors"))]
        )

    def load_refiner(self, name: str, keys: Collection[str] = ("clip_l", "clip_g")) -> None:
        """As the setting "Refiner model" does. keys: of the text encoders that it has."""
        info = self.infos[name]
        tables = {key: rows for key, rows in self.around.checkpoints[name].tables.items() if key in keys}
        self.model_data.sd_refiner = StableDiffusionXLPipeline(info, tables, self.around.scratch)
        self.model_data.sd_refiner.embedding_db = EmbeddingDatabase(self)

    def generate(self, **fields: Any) -> Processing:
        """process_images, which restores the options that the request overrides."""
        p = Processing(**fields)
        self.load()
        before = dict(self.options.data)
        self.options.data.update(p.override_settings)
        self.state.job_count = 1
        from modules import processing

        try:
            processing.process_images_inner(p)
        finally:
            self.options.data.update(before)
        self.state.end()
        return p

    def _end(self) -> None:
        self.state.job_count = 0

    def _process_inner(self, p: Processing) -> None:
        from modules import processing_diffusers, styles

        count = p.batch_size * p.n_iter
        prompts, negatives = (
            [styles.apply_curly_braces_to_prompt(text)] * count for text in (p.prompt, p.negative_prompt)
        )
        for place in range(p.n_iter):
            batch = slice(place * p.batch_size, (place + 1) * p.batch_size)
            p.prompts = [_NETWORK.sub("", text) for text in prompts[batch]]
            p.negative_prompts = negatives[batch]
            processing_diffusers.process_diffusers(p)
            parameters = ", ".join(f"{key}: {value}" for key, value in p.extra_generation_params.items())
            p.infotexts += [f"{text}\nNegative prompt: {p.negative_prompt}\n{parameters}" for text in prompts[batch]]

    def _process(self, p: Processing) -> None:
        """process_diffusers: a pass, then that of hires fix."""
        from modules import processing_args

        passes = [(p.prompts, p.negative_prompts)]
        if p.enable_hr:
            second = [p.refiner_prompt] * len(p.prompts) if p.refiner_prompt else p.prompts
            passes.append((second, [p.refiner_negative] if p.refiner_negative else p.negative_prompts))
        for prompts, negatives in passes:
            lists = prompts, negatives, prompts, negatives
            _, arguments = processing_args.set_prompt(p, {}, ["prompt"], "StableDiffusionXL", None, p.steps, 1, *lists)
            self.model(**arguments)
        if p.enable_hr and p.refiner_start and self.model_data.sd_refiner is not None:
            p.is_refiner_pass = True
            for pair in zip(*passes[-1], strict=True):  # one text for each picture, in no list
                given: tuple[Any, ...] = {}, ["prompt"], "StableDiffusionXL", "fixed", p.steps, 1, *pair, *pair
                _, arguments = processing_args.set_prompt(p, *given)
                self.model_data.sd_refiner(**arguments)
            p.is_refiner_pass = False

    def _set_prompt(self, *given: Any) -> tuple[str, dict[str, Any]]:
        """set_prompt(p, args, possible, cls, prompt_attention, steps, clip_skip, and four lists of prompts)."""
        _, args, _, _, attention, steps, _, *texts = given
        lists = [[text] if isinstance(text, str) else text for text in texts]
        parser = attention or self.options.prompt_attention
        if parser == "fixed":
            args |= {"prompt": lists[0], "negative_prompt": lists[1]}
        else:
            args["prompt_embeds"] = PromptEmbedder(lists[0], lists[1], steps, parser).embeds
        return parser, args

    def _get_embeddings(self, pipe: Any, prompt: str = "", neg_prompt: str = "", clip_skip: Any = None) -> list[Any]:
        del clip_skip
        found = []
        for text in (prompt, neg_prompt):
            manager = DiffusersTextualInversionManager(pipe, pipe.tokenizer)
            converted = manager.maybe_convert_prompt(_ATTENTION.sub(r"\1", text), pipe.tokenizer)
            self.encoded.append(converted)
            found.append(pipe.encode(converted))
        return found

    def _count(self, text: str) -> int:
        return len(self.model.tokenizer(text, add_special_tokens=False).input_ids)


def _choose(prompt: str, seed: int = -1) -> str:
    """The first of the choices in curly brackets."""
    del seed
    return re.sub(r"\{([^{}]*)\}", lambda match: match[1].split("|")[0], prompt)
