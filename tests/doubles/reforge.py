"""reForge: A1111's shape, but transformers' layout for both encoders, float32, a new object for every model, and an
option for text encoders of another checkpoint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from doubles.a1111 import A1111
from doubles.installed import Surroundings
from doubles.layers import Conditioner, Model, like_transformers


class ReForge(A1111):
    """The double, installed."""

    dtype = torch.float32
    cache_slots = 3
    early_hires = inference_mode = True

    def __init__(self, surroundings: Surroundings, selected: str = "alpha") -> None:
        super().__init__(surroundings, selected)
        self.options.sd_text_encoder = "Automatic"
        options = [
            SimpleNamespace(label=f"TE: {info.name_for_extra}", te_info=SimpleNamespace(filename=info.filename))
            for info in self.infos.values()
        ]
        surroundings.install(sd_text_encoder={"text_encoder_options": options})

    def load(self, build: Any = None, info: Any = None) -> None:
        """Always a new object; the old one is gone before the new one is made."""
        info = info or self.selected
        self.model_data.sd_model = None
        self.model_data.sd_model = (build or build_model)(self, info)

    def encoded(self, cache: list[Any]) -> None:
        """The parameters themselves, not a copy."""
        cache[2] = self.hijack.extra_generation_params

    def recalled(self, cache: list[Any]) -> None:
        self.hijack.extra_generation_params.update(cache[2])

    def tables(self, info: Any) -> dict[str, torch.Tensor]:
        label = self.options.sd_text_encoder
        return super().tables(info if label in ("Automatic", "None") else self.around.info(label.removeprefix("TE: ")))

    def _option_changed(self, key: str) -> None:
        if key in ("sd_model_checkpoint", "sd_text_encoder") and self.model is not None:
            self.load()


def build_model(host: ReForge, info: Any) -> Model:
    """Both encoders in the layout of transformers."""
    embedders = [
        host.wrap(like_transformers(host.layer(table, key)), open_clip=False)
        for key, table in host.tables(info).items()
    ]
    if "clip_g" not in host.tables(info):
        return Model(info, cond_stage_model=embedders[0])
    conditioner = Conditioner(*embedders)
    return Model(info, conditioner=conditioner, cond_stage_model=conditioner if embedders[1:] else embedders[0])
