"""Tools of a web UI: its own tokenizer, layers, database and caches, reached through its own modules.

The same code asks the real web UIs and their doubles. It shares none with lib_embedmerge.hosts, which it judges.
"""

# ruff: noqa: TID251 -- it asks a web UI, and so imports its modules

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from arrays import equal

from lib_embedmerge import open_checkpoint
from lib_embedmerge.errors import CheckpointError

_WORDS = (2368, 1929, 1125)
"""Token ids of cat, dog and photo."""

_KEYS = {768: "clip_l", 1280: "clip_g", 1024: "clip_h"}
CACHES = (("StableDiffusionProcessing", ["c", "uc"]), ("StableDiffusionProcessingTxt2Img", ["hr_c", "hr_uc"]))


class WebuiTools:
    """Of the web UI whose `modules` can be imported. load: whether a switch of model also loads it, where the web UI
    would do that at the next generation."""

    def __init__(self, *, load: bool = True) -> None:
        from modules import processing, sd_models, shared

        self._processing, self._sd_models, self._shared = processing, sd_models, shared
        self._load = load
        self._before: Any = None
        self.lacks: str | None = None
        """What the web UI lacks for a check that could not be made; None if it lacks nothing."""

    @property
    def _is_forge(self) -> bool:
        return hasattr(self._sd_models, "forge_model_reload")

    @property
    def _model(self) -> Any:
        return self._sd_models.model_data.sd_model

    def files(self) -> tuple[Path, tuple[Path, ...]]:
        if self._is_forge:
            parameters = self._sd_models.model_data.forge_loading_parameters
            return Path(parameters["checkpoint_info"].filename), tuple(
                map(Path, parameters["additional_modules"] or ())
            )
        label = getattr(self._shared.opts, "sd_text_encoder", "None")
        encoders: tuple[Path, ...] = ()
        if label not in ("Automatic", "None"):
            from modules import sd_text_encoder

            options = {option.label: Path(option.te_info.filename) for option in sd_text_encoder.text_encoder_options}
            encoders = (options[label],)
        return Path(self._sd_models.select_checkpoint().filename), encoders

    def own_tokenize(self, key: str, text: str) -> list[int] | None:
        place = self.places().get(key)
        return None if place is None else list(place.tokenize([text])[0])

    def own_rows(self, key: str, ids: Sequence[int]) -> torch.Tensor | None:
        place = self.places().get(key)
        if place is None:
            return None
        table = layer_of(place).wrapped
        with torch.no_grad():
            return table(torch.tensor(list(ids), device=table.weight.device)).detach().clone()

    def spliced_vectors(self, name: str) -> Mapping[str, torch.Tensor] | None:
        places = self.places()
        return {key: self._spliced(place, name) for key, place in places.items()} if places else None

    def finds(self, name: str) -> bool | None:
        if not self.places():
            return None
        lines = [place.tokenize_line(f"x, {name}, y")[0] for place in self.places().values()]
        return any(chunk.fixes for chunks in lines for chunk in chunks)

    def _spliced(self, place: Any, name: str) -> torch.Tensor:
        chunks, _ = place.tokenize_line(f"x, {name}, y")
        (chunk,) = (chunk for chunk in chunks if chunk.fixes)
        (fix,) = chunk.fixes
        layer = layer_of(place)
        layer.embeddings.fixes = [chunk.fixes]
        with torch.no_grad():
            rows = layer(torch.tensor([chunk.tokens], device=layer.wrapped.weight.device))
        first = fix.offset + 1
        return rows[0, first : first + int(fix.embedding.vectors)].detach().clone()

    def remember_conditionings(self) -> bool:
        for class_name, names in CACHES:
            for name in names:
                setattr(getattr(self._processing, class_name), f"cached_{name}", ["a prompt", "its conditioning"])
        return True

    def remembers_conditionings(self) -> bool:
        return any(
            any(getattr(getattr(self._processing, class_name), f"cached_{name}"))
            for class_name, names in CACHES
            for name in names
        )

    def switch_model(self) -> bool:
        other = self._other()
        if other is None:
            return False
        if self._is_forge:
            _select_on_forge(other.title)
            if self._load:
                self._sd_models.forge_model_reload()
        else:
            self._shared.opts.set("sd_model_checkpoint", other.title)
        gc.collect()
        return True

    def _other(self) -> Any:
        """The checkpoint of before the last switch, else the next one of this architecture with other tables."""
        current, _ = self.files()
        infos = {Path(info.filename): info for info in self._sd_models.checkpoints_list.values()}
        if self._before in infos and self._before != current:
            found = infos[self._before]
        else:
            others, self.lacks = find_others(current, infos.values())
            found = next(iter(others), None)
        self._before = current
        return found

    def load_another(self) -> Iterator[str]:
        selected = self._selected()
        if not self._load or selected.filename != self._model.sd_checkpoint_info.filename:
            return
        try:
            for info in list(self._sd_models.checkpoints_list.values()):
                if info.filename != selected.filename and architecture_of_file(Path(info.filename)) is not None:
                    self._put_in_memory(info)
                    yield Path(info.filename).name
        finally:
            self._put_in_memory(selected)

    def _selected(self) -> Any:
        current, _ = self.files()
        return next(info for info in self._sd_models.checkpoints_list.values() if Path(info.filename) == current)

    def _put_in_memory(self, info: Any) -> None:
        """As hires fix does it."""
        if not self._is_forge:
            with self._sd_models.SkipWritingToConfig():
                self._sd_models.reload_model_weights(info=info)
            return
        selected = self._selected()
        try:
            _select_on_forge(info.title)
            self._sd_models.forge_model_reload()
        finally:
            _select_on_forge(selected.title)

    def loaded(self) -> Sequence[weakref.ref[torch.nn.Module]]:
        return [weakref.ref(layer_of(place).wrapped) for place in self.places().values()]

    def forget(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        for database in self.databases():
            database.skipped_embeddings.pop(path.stem, None)
            if path.stem in database.word_embeddings:
                if self._is_forge:
                    database.register_embedding_by_name(None, path.stem)
                else:
                    database.register_embedding_by_name(None, self._model, path.stem)

    def databases(self) -> list[Any]:
        if self._is_forge:
            return [place.embeddings for place in self.places().values()]
        from modules import sd_hijack

        return [sd_hijack.model_hijack.embedding_db]

    def places(self) -> dict[str, Any]:
        """Encoder key -> the web UI's object with tokenize and tokenize_line. Empty while no model is loaded."""
        if not self._load:
            return {}
        model = self._model
        if self._is_forge:
            names = ("text_processing_engine", "text_processing_engine_l", "text_processing_engine_g")
            found = [getattr(model, name) for name in names if hasattr(model, name)]
        else:
            holder = model.cond_stage_model
            found = [one for one in getattr(holder, "embedders", [holder]) if hasattr(one, "tokenize_line")]
        return {_KEYS[layer_of(place).wrapped.weight.shape[1]]: place for place in found}


def _select_on_forge(title: str) -> None:
    """Select a checkpoint. Forge Neo asks for the kind of models for which its page remembers it, too."""
    from modules_forge import main_entry

    change = main_entry.checkpoint_change
    preset = {"preset": None} if "preset" in inspect.signature(change).parameters else {}
    change(title, save=False, **preset)


def layer_of(place: Any) -> Any:
    """The web UI's own layer around the token table, which puts embeddings in."""
    encoder = place.text_encoder if hasattr(place, "text_encoder") else place.wrapped
    if hasattr(encoder, "transformer"):
        return encoder.transformer.text_model.embeddings.token_embedding
    return encoder.model.token_embedding


def find_others(selected: Path, infos: Iterable[Any]) -> tuple[list[Any], str | None]:
    """The web UI's other checkpoints of the architecture of `selected` whose token tables all differ from its own, and
    what it lacks if there are none.
    """
    wanted = architecture_of_file(selected)
    alike = [
        info
        for info in infos
        if Path(info.filename) != selected and architecture_of_file(Path(info.filename)) == wanted
    ]
    found = [info for info in alike if _have_other_tables(selected, Path(info.filename))]
    if found:
        return found, None
    if alike:
        return [], "the text encoders of the web UI's checkpoints of this architecture do not differ"
    return [], "the web UI has no second checkpoint of this architecture"


def _have_other_tables(one: Path, other: Path) -> bool:
    """Whether all token tables of two checkpoints differ, in the rows of a few words."""
    pairs = zip(open_checkpoint(one).encoders, open_checkpoint(other).encoders, strict=True)
    return all(not equal(first.vectors(_WORDS), second.vectors(_WORDS)) for first, second in pairs)


def architecture_of_file(path: Path) -> Any:
    try:
        return open_checkpoint(path).facts.architecture
    except CheckpointError:
        return None
