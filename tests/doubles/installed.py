"""What the doubles of the web UIs share: checkpoint infos, options, and putting modules into sys.modules."""

from __future__ import annotations

import hashlib
import html
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from doubles.checkpoints import Checkpoints
from doubles.tokenizer import slow_tokenizer


@dataclass(frozen=True)
class Surroundings:
    """What a double is put into. embeddings: the folder of embeddings.  scratch: where tokenizers are written."""

    patch: pytest.MonkeyPatch
    checkpoints: Checkpoints
    embeddings: Path
    scratch: Path

    def tokenize(self, texts: Sequence[str], pad_token: str = "<|endoftext|>") -> list[list[int]]:
        """As transformers does, which knows the special tokens, and the padding one, by their spelling."""
        slow = slow_tokenizer(self.scratch, pad_token)
        return [slow(text, add_special_tokens=False, verbose=False).input_ids for text in texts]

    def open_clip(self, texts: Sequence[str]) -> list[list[int]]:
        """As open_clip does, to which special tokens' spellings are plain text, and which unescapes entities."""
        slow = slow_tokenizer(self.scratch)
        plain = (slow.tokenize(html.unescape(html.unescape(text)), split_special_tokens=True) for text in texts)
        return [slow.convert_tokens_to_ids(tokens) for tokens in plain]

    def info(self, name: str) -> SimpleNamespace:
        """A web UI's CheckpointInfo."""
        path = self.checkpoints[name].path
        return SimpleNamespace(
            filename=str(path),
            name_for_extra=name,
            title=f"{path.name} [{name[:10]}]",
            sha256=hashlib.sha256(name.encode()).hexdigest(),
        )

    def infos(self) -> dict[str, SimpleNamespace]:
        """checkpoints_list: title -> CheckpointInfo, in the order of names."""
        infos = map(self.info, sorted(self.checkpoints.by_name))
        return {info.title: info for info in infos}

    def install(self, **modules: dict[str, Any]) -> None:
        """Put modules of these names, as attributes of a package `modules`, into sys.modules until the test ends.

        A name with `__` in it is a module of another package: modules_forge__main_entry.
        """
        for name, content in modules.items():
            package, _, rest = name.rpartition("__")
            self._install(package.replace("__", ".") or "modules", rest, content)

    def _install(self, package: str, name: str, content: dict[str, Any]) -> None:
        parent = sys.modules.get(package)
        if parent is None:
            parent = ModuleType(package)
            parent.__path__ = []
            self.patch.setitem(sys.modules, package, parent)
        module = ModuleType(f"{package}.{name}")
        vars(module).update(content)
        self.patch.setitem(sys.modules, module.__name__, module)
        self.patch.setattr(parent, name, module, raising=False)


class Options:
    """shared.opts: attributes, which are in `data`, and `set`, which also does what hangs on an option."""

    sd_model_checkpoint: str
    sd_text_encoder: str

    def __init__(self, on_change: Callable[[str], None] | None = None, **values: Any) -> None:
        self._on_change = on_change
        self.data = {**_OPTIONS, **values}

    def __getattr__(self, key: str) -> Any:
        if key == "data" or key not in self.data:
            raise AttributeError(key)
        return self.data[key]

    def __setattr__(self, key: str, value: Any) -> None:
        if key in ("data", "_on_change"):
            super().__setattr__(key, value)
        else:
            self.data[key] = value

    def set(self, key: str, value: Any, *, is_api: bool = False, run_callbacks: bool = True) -> None:
        del is_api
        setattr(self, key, value)
        if self._on_change and run_callbacks:
            self._on_change(key)


_OPTIONS = {
    "CLIP_stop_at_last_layers": 1,
    "emphasis": "Original",
    "use_old_emphasis_implementation": False,
    "persistent_cond_cache": True,
    "include_styles_into_token_counters": True,
}
"""What a web UI's options have from the start."""
