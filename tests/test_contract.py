"""Every host keeps the contract: files, memory, and the web UIs' doubles. Real web UIs: tests/webui."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from contract.checks import CHECKS
from contract.file_tools import FileTools
from contract.sdnext_tools import SdNextTools
from contract.tools import Tools
from contract.webui_tools import WebuiTools
from doubles.a1111 import A1111
from doubles.checkpoints import Checkpoint, Checkpoints
from doubles.classic import Classic
from doubles.comfyui import CLIP, install, make_clip_of
from doubles.forge import Forge
from doubles.generation import StableDiffusionProcessing
from doubles.installed import Surroundings
from doubles.neo import Neo
from doubles.reforge import ReForge
from doubles.sdnext import SdNext
from generating import checkpoints  # noqa: F401 -- a fixture

from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.hosts.comfyui.clip_origin import find_origin
from lib_embedmerge.hosts.comfyui.comfy_host import ComfyHost
from lib_embedmerge.hosts.memory_host import MemoryEncoder, MemoryHost, MemoryModel
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.hosts.sdnext.sdnext_host import SdNextHost
from lib_embedmerge.hosts.webui.host import WebuiHost

Made = tuple[Host, Tools]


class NotLoadedForgeTools(WebuiTools):
    """Forge before its first generation: a prompt loads the model, here only for as long as it is looked at."""

    def __init__(self, forge: Forge) -> None:
        super().__init__(load=False)
        self._forge = forge

    def spliced_vectors(self, name: str) -> Mapping[str, torch.Tensor] | None:
        with self._loaded():
            return WebuiTools().spliced_vectors(name)

    def finds(self, name: str) -> bool | None:
        with self._loaded():
            return WebuiTools().finds(name)

    @contextmanager
    def _loaded(self) -> Iterator[None]:
        data = self._forge.model_data
        before = data.sd_model, data.forge_hash
        self._forge.reload()
        try:
            yield
        finally:
            data.sd_model, data.forge_hash = before


def _memory(around: Surroundings) -> Made:
    path = around.embeddings.parent / "memory.safetensors"
    path.hardlink_to(around.checkpoints["alpha"].path)
    tables = around.checkpoints["alpha"].tables
    model = MemoryModel([MemoryEncoder(key, table.float().numpy()) for key, table in tables.items()])
    host = MemoryHost(model, around.embeddings)
    return host, FileTools(host, {path.name: path})


def _checkpoint(around: Surroundings) -> Made:
    folder = around.embeddings.parent / "models"
    folder.mkdir()
    models = {f"{name}.safetensors": around.checkpoints[name].path for name in ("alpha", "beta")}
    for name, path in models.items():
        (folder / name).hardlink_to(path)
    host = CheckpointHost(around.embeddings, models=folder)
    return host, FileTools(host, models)


def _a1111(around: Surroundings) -> Made:
    A1111(around).load()
    return WebuiHost(), WebuiTools()


def _reforge(around: Surroundings) -> Made:
    ReForge(around).load()
    return WebuiHost(), WebuiTools()


def _forge(around: Surroundings) -> Made:
    Forge(around).reload()
    return WebuiHost(), WebuiTools()


def _classic(around: Surroundings) -> Made:
    Classic(around).load()
    return WebuiHost(), WebuiTools()


def _neo(around: Surroundings) -> Made:
    Neo(around).reload()
    return WebuiHost(), WebuiTools()


def _neo_not_loaded(around: Surroundings) -> Made:
    return WebuiHost(), NotLoadedForgeTools(Neo(around))


def _forge_not_loaded(around: Surroundings) -> Made:
    return WebuiHost(), NotLoadedForgeTools(Forge(around))


def _sdnext(around: Surroundings) -> Made:
    SdNext(around).load()
    return SdNextHost(), SdNextTools()


def _sdnext_not_loaded(around: Surroundings) -> Made:
    SdNext(around)
    return SdNextHost(), SdNextTools()


class ClipTools(FileTools):
    """A CLIP of ComfyUI, which reads the embeddings that its texts call."""

    def __init__(self, host: Host, models: Mapping[str, Path], clip: CLIP) -> None:
        super().__init__(host, models)
        self._clip = clip

    def own_rows(self, key: str, ids: Sequence[int]) -> torch.Tensor | None:
        layer = getattr(self._clip.cond_stage_model, key).transformer.get_input_embeddings()
        rows: torch.Tensor = layer(torch.tensor(list(ids)))
        return rows.detach()

    def spliced_vectors(self, name: str) -> Mapping[str, torch.Tensor] | None:
        tokens = self._clip.tokenize(f"a embedding:{name} b")
        found = {key: [token for chunk in tokens[key] for token, _ in chunk if torch.is_tensor(token)] for key in "lg"}
        assert all(found.values())
        return {f"clip_{key}": torch.stack(rows) for key, rows in found.items()}

    def finds(self, name: str) -> bool:
        tokens = self._clip.tokenize(f"a embedding:{name} b")
        return any(torch.is_tensor(token) for chunk in tokens["l"] for token, _ in chunk)


def _comfyui(around: Surroundings) -> Made:
    folder = around.embeddings.parent / "checkpoints"
    folder.mkdir()
    path = folder / "alpha.safetensors"
    path.hardlink_to(around.checkpoints["alpha"].path)
    install(around.patch, {"embeddings": [around.embeddings], "checkpoints": [folder]})
    clip = make_clip_of(dict(around.checkpoints["alpha"].tables), ("clip_l", "clip_g"), [around.embeddings])
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": path.name}},
        "2": {"class_type": "EmbedMergeBuild", "inputs": {"clip": ["1", 1]}},
    }
    host = ComfyHost(clip, find_origin(prompt, "2"))
    return host, ClipTools(host, {path.name: path}, clip)


HOSTS: dict[str, Callable[[Surroundings], Made]] = {
    "memory": _memory,
    "checkpoint": _checkpoint,
    "A1111": _a1111,
    "reForge": _reforge,
    "Forge": _forge,
    "Forge, not loaded": _forge_not_loaded,
    "Forge Neo": _neo,
    "Forge Neo, not loaded": _neo_not_loaded,
    "Forge Classic": _classic,
    "SD.Next": _sdnext,
    "SD.Next, not loaded": _sdnext_not_loaded,
    "ComfyUI": _comfyui,
}


@pytest.fixture(scope="module", params=HOSTS)
def made(
    request: pytest.FixtureRequest, checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("host")
    scratch = tmp_path_factory.getbasetemp() / "tokenizers"
    with pytest.MonkeyPatch.context() as patch:
        (folder / "embeddings").mkdir()
        yield HOSTS[request.param](Surroundings(patch, checkpoints, folder / "embeddings", scratch))
    shutil.rmtree(folder)


@pytest.mark.parametrize("check", CHECKS)
def test_contract(made: Made, check: str) -> None:
    host, tools = made
    CHECKS[check](host, tools)


def test_a_check_can_fail(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other rows than the host's are noticed, where the program can be asked for them at all."""
    host, tools = made
    check = CHECKS["vectors_are_rows_of_the_programs_table"]
    if tools.own_rows(host.active().model.encoders[0].key, [1]) is None:
        check(host, tools)
        return
    monkeypatch.setattr(tools, "own_rows", lambda key, ids: torch.zeros(len(ids), 1))
    with pytest.raises(AssertionError):
        check(host, tools)


@pytest.mark.parametrize(
    ("names", "lacks"),
    [
        (("alpha", "one"), "the web UI has no second checkpoint of this architecture"),
        (("alpha", "copy", "one"), "the text encoders of the web UI's checkpoints of this architecture do not differ"),
        (("alpha", "copy", "beta"), None),
    ],
)
@pytest.mark.parametrize("kind", [Neo, Classic])
def test_what_a_web_ui_lacks_for_a_switch_is_said(
    checkpoints: Checkpoints, tmp_path: Path, kind: type[Neo | Classic], names: tuple[str, ...], lacks: str | None
) -> None:
    copied = tmp_path / "copy.safetensors"
    copied.hardlink_to(checkpoints["alpha"].path)
    (tmp_path / "embeddings").mkdir()
    by_name = {**checkpoints.by_name, "copy": Checkpoint(copied, checkpoints["alpha"].tables)}
    chosen = Checkpoints(checkpoints.folder, {name: by_name[name] for name in names})
    with pytest.MonkeyPatch.context() as patch:
        double = kind(Surroundings(patch, chosen, tmp_path / "embeddings", tmp_path / "tokenizers"))
        double.prepare(StableDiffusionProcessing())
        tools = WebuiTools()
        assert tools.switch_model() is (lacks is None)
        assert tools.lacks == lacks
        assert tools.files()[0].stem == ("beta" if lacks is None else "alpha")


def test_the_embeddings_folder_is_left_empty(made: Made) -> None:
    """Every check cleans up."""
    host, _ = made
    assert [path for path in Path(host.embeddings_folder).rglob("*") if path.is_file()] == []
