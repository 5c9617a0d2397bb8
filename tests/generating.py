"""Whole generations on the doubles of the web UIs: what tests of prompts share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from contract.generations import Case, Watch, judge
from doubles.a1111 import A1111
from doubles.checkpoints import Checkpoints, make_checkpoints
from doubles.classic import Classic
from doubles.forge import Forge
from doubles.generation import (
    StableDiffusionProcessing,
    StableDiffusionProcessingImg2Img,
    StableDiffusionProcessingTxt2Img,
    process_images,
)
from doubles.installed import Surroundings
from doubles.neo import Neo
from doubles.reforge import ReForge

from lib_embedmerge.hosts.webui.host import WebuiHost
from lib_embedmerge.hosts.webui.prompt_hook import PromptHook
from lib_embedmerge.recipes.build import build_embedding


class FullA1111(A1111):
    """As with --no-half: in float32, so that vectors are not rounded."""

    dtype = torch.float32


DOUBLES: dict[str, type[A1111 | Forge]] = {
    "A1111": FullA1111, "reForge": ReForge, "Forge": Forge, "Forge Neo": Neo, "Forge Classic": Classic,
}  # fmt: skip


@dataclass
class Generated:
    """One generation. outputs: of the token layers, by encoder.  parameters: those of its JSON."""

    p: Any
    infotexts: list[str]
    comments: str
    parameters: dict[str, Any]
    outputs: Mapping[str, Sequence[torch.Tensor]]

    @property
    def calls(self) -> int:
        return sum(map(len, self.outputs.values()))


@dataclass
class Webui:
    """A double with our extension's host."""

    double: Any
    host: WebuiHost = field(default_factory=WebuiHost)

    def generate(self, prompt: Any = "", negative_prompt: Any = "", *, image: bool = False, **fields: Any) -> Generated:
        kind = StableDiffusionProcessingImg2Img if image else StableDiffusionProcessingTxt2Img
        return self.run(kind(prompt=prompt, negative_prompt=negative_prompt, **fields))

    def run(self, p: Any) -> Generated:
        watch = Watch()
        try:
            found = process_images(p)
            parameters = json.loads(found.js())["extra_generation_params"]
        finally:
            watch.end()
            p.close()
        return Generated(p, found.infotexts, found.comments, parameters, watch.outputs)

    def wrong(self, case: Case, generated: Generated, checkpoint: str = "alpha") -> list[str]:
        around = self.double.around
        files = [around.checkpoints[name].path for name in (checkpoint, "beta")]
        return judge(case, generated.outputs, files[0], files[1], around.embeddings)

    def settle(self) -> None:
        """As a generation begins: a model in memory, the folder of embeddings looked through where that is done."""
        self.double.prepare(StableDiffusionProcessing())
        self.double.begin()

    def save(self, name: str, source: str) -> None:
        self.settle()
        embedding = build_embedding(self.host.active().model, source, name)
        self.host.embedding_saved(embedding.save(self.host.embeddings_folder, overwrite=True))
        self.settle()

    def databases(self) -> list[Any]:
        engines = getattr(self.double.model, "engines", None)
        return [self.double.database] if engines is None else [engine.embeddings for engine in engines]

    def entries(self) -> list[Any]:
        """Everything in the databases, by identity."""
        return [
            (
                {first: [id(one) for _, one in found] for first, found in database.ids_lookup.items()},
                {name: id(one) for name, one in database.word_embeddings.items()},
                {name: id(one) for name, one in database.skipped_embeddings.items()},
            )
            for database in self.databases()
        ]

    def forget_conditionings(self) -> None:
        for owner, names in (
            (StableDiffusionProcessing, ("cached_c", "cached_uc")),
            (StableDiffusionProcessingTxt2Img, ("cached_hr_c", "cached_hr_uc")),
        ):
            for name in names:
                setattr(owner, name, [None] * self.double.cache_slots)

    def title(self, name: str) -> str:
        return str(self.double.around.info(name).title)


@pytest.fixture(scope="session")
def checkpoints(shared_folder: Path) -> Checkpoints:
    """The checkpoints of the doubles, for every test."""
    return make_checkpoints(shared_folder / "doubles")


@pytest.fixture(scope="module", params=DOUBLES)
def double(
    request: pytest.FixtureRequest, checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Webui]:
    """Before its first generation; nothing is loaded."""
    folder = tmp_path_factory.mktemp("webui")
    (folder / "embeddings").mkdir()
    scratch = tmp_path_factory.getbasetemp() / "tokenizers"
    with pytest.MonkeyPatch.context() as patch:
        yield Webui(DOUBLES[request.param](Surroundings(patch, checkpoints, folder / "embeddings", scratch)))
    shutil.rmtree(folder)


@pytest.fixture
def bare(double: Webui) -> Iterator[Webui]:
    """Without our extension."""
    data = dict(double.double.options.data)
    double.forget_conditionings()
    yield double
    double.double.options.data = data
    double.double.styles.by_name.clear()
    for path in double.double.around.embeddings.rglob("*.safetensors"):
        path.unlink()


@pytest.fixture
def webui(bare: Webui) -> Iterator[Webui]:
    """With it."""
    seam = PromptHook(lambda: bare.host)
    seam.install()
    yield bare
    seam.remove()


def refused(match: str | None = None) -> Any:
    """A block that raises our exception. It is imported when there is one, as in a web UI."""
    from lib_embedmerge.hosts.webui.generation_stop import EmbedMerge

    return pytest.raises(EmbedMerge, match=match)
