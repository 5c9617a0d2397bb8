"""Tools of hosts without a web UI: they have no tokenizer, prompts or layers of their own, but a file."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from lib_embedmerge import open_checkpoint
from lib_embedmerge.hosts.port import Host


class FileTools:
    """models: file name -> path of the checkpoints that the host can have."""

    def __init__(self, host: Host, models: Mapping[str, Path]) -> None:
        self._host = host
        self._models = models

    def files(self) -> tuple[Path, tuple[Path, ...]]:
        return self._models[self._host.active().model.facts.file_name], ()

    def own_tokenize(self, key: str, text: str) -> None:
        del key, text

    def own_rows(self, key: str, ids: Sequence[int]) -> torch.Tensor | None:
        """As transformers' own loader would have them."""
        from safetensors import safe_open

        (name,) = (
            encoder.source.table_name for encoder in open_checkpoint(self.files()[0]).encoders if encoder.key == key
        )
        with safe_open(self.files()[0], "pt") as file:
            rows: torch.Tensor = file.get_tensor(name)[list(ids)]
        return rows

    def spliced_vectors(self, name: str) -> Mapping[str, torch.Tensor] | None:
        del name
        return None

    def finds(self, name: str) -> bool:
        return name in self._host.library().names()

    def remember_conditionings(self) -> bool:
        return False

    def remembers_conditionings(self) -> bool:
        return False

    def switch_model(self) -> bool:
        chooser = self._host.chooser
        if chooser is None:
            return False
        other = next((one for one in self._host.checkpoints() if one != chooser.chosen), None)
        if other is None:
            return False
        chooser.choose(other)
        return True

    def load_another(self) -> Iterator[str]:
        """What is chosen is what is used."""
        return iter(())

    def loaded(self) -> list[weakref.ref[torch.nn.Module]]:
        return []

    def forget(self, path: Path) -> None:
        path.unlink(missing_ok=True)
