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

    def __init__(self, surroundings: Surroundings, selected: str = "alpha") -> None:
        super().__init__(surroundings, selected)
        self.options.sd_text_encoder = "Automatic"
        options = [
            SimpleNamespace(label=f"TE: {info.name_for_extra}", te_info=SimpleNamespace(filename=info.filename))
            for info in self.infos.values()
        ]
        surroundings.install(sd_text_encoder={"text_encoder_options": options})

    def load(self, build: Any = None) -> None:
        """Always a new object; the old one is gone before the new one is made."""
        info = self.infos[self.options.sd_model_checkpoint]
        self.model_data.sd_model = None
        self.model_data.sd_model = (build or _sdxl)(self, info)

    def tables(self, info: Any) -> dict[str, torch.Tensor]:
        label = self.options.sd_text_encoder
        return super().tables(info if label in ("Automatic", "None") else self.around.info(label.removeprefix("TE: ")))

    def _option_changed(self, key: str) -> None:
        if key in ("sd_model_checkpoint", "sd_text_encoder") and self.model is not None:
            self.load()


def _sdxl(host: ReForge, info: Any) -> Model:
    tables = host.tables(info)
    embedders = [
        host.wrap(like_transformers(host.layer(tables[key], key)), open_clip=False) for key in ("clip_l", "clip_g")
    ]
    conditioner = Conditioner(*embedders)
    return Model(info, conditioner=conditioner, cond_stage_model=conditioner, is_sdxl=True)
