"""Pickles of the first textual inversions: what stands beside their vectors is read as plain data, and nothing runs."""

from __future__ import annotations

import collections
import io
import struct
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from arrays import equal
from foreign_files import torch_bytes, with_program

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files import pickle_names
from lib_embedmerge.files.pickle_file import load_tensors
from lib_embedmerge.files.pickle_names import Array
from lib_embedmerge.files.pickle_program import Program, UnsoundError, follow_pickle

VECTORS = torch.randn(3, 768, generator=torch.Generator().manual_seed(1))
FORMS = [pytest.param({}, id="zip"), pytest.param({"_use_new_zipfile_serialization": False}, id="old form")]


def parameters(rows: torch.Tensor = VECTORS) -> torch.nn.ParameterDict:
    return torch.nn.ParameterDict({"*": torch.nn.Parameter(rows.clone())})


def loaded(tmp_path: Path, content: object, options: dict[str, Any]) -> Any:
    path = tmp_path / "x.pt"
    path.write_bytes(torch_bytes(content, **options))
    return load_tensors(path)


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_first_textual_inversions_are_read(tmp_path: Path, options: dict[str, Any], dtype: torch.dtype) -> None:
    rows = VECTORS.to(dtype)
    content = {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters(rows)}
    path = tmp_path / "style.pt"
    path.write_bytes(torch_bytes(content, **options))
    embedding = load_embedding(path)
    assert (embedding.name, embedding.architecture.name, embedding.warnings) == ("style", "sd1", ())
    assert equal(embedding.vectors["clip_l"], rows.float())


@pytest.mark.parametrize("options", FORMS)
def test_parameters_of_any_kind_and_age(tmp_path: Path, options: dict[str, Any]) -> None:
    tensors = torch.nn.ParameterDict({"*": VECTORS})  # no Parameter, which newer torch keeps beside the others
    assert equal(loaded(tmp_path, {"a": tensors}, options)["a"]["*"], VECTORS)
    several = torch.nn.ParameterList([torch.nn.Parameter(VECTORS), torch.nn.Parameter(VECTORS + 1)])
    found = loaded(tmp_path, {"a": several, "b": parameters(), "c": parameters(VECTORS + 2)}, options)
    assert [equal(found["a"][str(n)], VECTORS + n) for n in (0, 1)] == [True, True]
    assert equal(found["c"]["*"], VECTORS + 2)
    old = parameters()
    del old.__dict__["_keys"]  # as torch before 1.12 wrote it
    assert equal(loaded(tmp_path, {"a": old}, options)["a"]["*"], VECTORS)


NUMPY = {
    "float32": np.float32(0.5), "float64": np.float64(-0.25), "int64": np.int64(-(2**40)), "uint8": np.uint8(200),
    "bool": np.bool_(True), "float16": np.float16(1.5), "big endian": np.array(7, dtype=">i4")[()],
    "text": np.str_("Grüße"),
}  # fmt: skip


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numbers_of_numpy_beside_the_vectors(tmp_path: Path, options: dict[str, Any], module: str) -> None:
    data = torch_bytes({"string_to_param": parameters(), "step": np.int64(500), **NUMPY}, **options)
    written = np._core.multiarray.__name__ if hasattr(np, "_core") else "numpy.core.multiarray"
    path = tmp_path / "x.pt"
    path.write_bytes(_renamed(data, f"c{written}\n".encode(), f"c{module}\n".encode()))
    facts = load_embedding(path).facts
    assert facts["step"] == "500"
    for name, value in NUMPY.items():
        assert facts[name] == str(value.item())


def _renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """The file with another module in its pickle."""
    if not data.startswith(b"PK"):
        return data.replace(old, new)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name).replace(old, new) for name in archive.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARRAYS: dict[str, Any] = {
    "table": np.arange(6.0, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
    "view": np.arange(24.0).reshape(4, 6)[::2, ::3],
    "big endian": np.arange(5, dtype=">f8"),
    "half": np.arange(5, dtype=np.float16),
    "empty": np.zeros((0, 4)),
    "one number": np.array(3.5),
    "complex": np.array([1 + 2j], dtype=np.complex64),
}


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_numpy_are_tensors(tmp_path: Path, options: dict[str, Any], name: str) -> None:
    found = loaded(tmp_path, {"x": ARRAYS[name]}, options)["x"]
    assert isinstance(found, Array) and found.values is not None
    expected = ARRAYS[name].astype(ARRAYS[name].dtype.newbyteorder("="))
    assert found.values.dtype == expected.dtype
    np.testing.assert_array_equal(found.values, expected)


def test_vectors_may_be_an_array(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(torch_bytes({"<cat>": VECTORS.numpy()}))
    assert equal(load_embedding(path).vectors["clip_l"], VECTORS)


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_what_is_no_number_stays_unread(tmp_path: Path) -> None:
    odd = {
        "objects": np.array([None, {"a": 1}], dtype=object),
        "texts": np.array(["a", "bc"]),
        "record": np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
        "date": np.datetime64("2026-01-01"),
        "bytes": np.bytes_(b"abc"),
        "defaults": collections.defaultdict(list, {"a": [1]}),
        "counter": collections.Counter("aab"),
        "size": VECTORS.shape,
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "raw": b"\xff\0",
        "set": {1, 2},
    }
    path = tmp_path / "x.pt"
    path.write_bytes(torch_bytes({"string_to_param": parameters(), **odd}))
    found: Any = load_tensors(path)
    assert found["objects"].values is found["texts"].values is found["record"].values is None
    assert found["date"] is None
    assert (found["defaults"], found["set"], found["raw"]) == ({"a": [1]}, {1, 2}, b"\xff\0")
    assert equal(load_embedding(path).vectors["clip_l"], VECTORS)


def test_an_array_of_objects_that_run_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(torch_bytes({"a": np.array([_Runs(tmp_path / "ran")], dtype=object)}))
    with pytest.raises(StorageError, match="such as"):
        load_tensors(path)
    assert not (tmp_path / "ran").exists()


def _called(name: str, arguments: bytes, state: bytes = b"") -> bytes:
    """A pickle that calls this with these, and builds the result with the state."""
    module, _, function = name.rpartition(".")
    return (
        b"\x80\x02c" + f"{module}\n{function}\n".encode() + arguments + b"R" + (state + b"b" if state else b"") + b"."
    )


_LIES = {
    "more rows than bytes": b"(K\x01K\x40K\x40\x86cnumpy\ndtype\nX\x02\0\0\0f8\x85R\x89X\x01\0\0\0at",
    "no shape": b"(K\x01NN\x89Nt",
    "negative": b"(K\x01J\xff\xff\xff\xff\x85cnumpy\ndtype\nX\x02\0\0\0f4\x85R\x89c_codecs\nencode\nX\0\0\0\0\x85Rt",
    "no state": b"N",
    "a short state": b"(K\x01K\x02t",
}


@pytest.mark.parametrize("lie", _LIES)
def test_arrays_that_lie_are_no_numbers(tmp_path: Path, lie: str) -> None:
    program = _called("numpy.core.multiarray._reconstruct", b"cnumpy\nndarray\nK\0\x85X\x01\0\0\0b\x87", _LIES[lie])
    (tmp_path / "x.pt").write_bytes(with_program(program))
    found = load_tensors(tmp_path / "x.pt")
    assert isinstance(found, Array) and found.values is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("numpy.core.multiarray.scalar", b")"),
        ("numpy.core.multiarray.scalar", b"K\x01K\x02\x86"),
        ("numpy.core.multiarray.scalar", b"cnumpy\ndtype\nX\x01\0\0\0O\x85RX\x01\0\0\0a\x86"),
        ("numpy.core.multiarray._reconstruct", b"c_codecs\nencode\n\x85"),
        ("numpy.dtype", b"K\x05\x85"),
        ("torch.nn.modules.container.ParameterDict", b")"),
        ("collections.defaultdict", b"c__builtin__\nlist\n\x85"),
        ("builtins.list", b")"),
    ],
)
def test_stand_ins_take_whatever_a_pickle_gives_them(tmp_path: Path, name: str, arguments: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(with_program(_called(name, arguments, b"}")))
    try:
        load_tensors(tmp_path / "x.pt")
    except StorageError as error:
        assert "x.pt" in error.message


def test_a_checkpoint_of_lightning_is_read(tmp_path: Path) -> None:
    """SD 1.4's own file names a class of pytorch_lightning as the key of its callbacks."""
    table = torch.ones(3, 768)
    data = torch_bytes(
        {"state_dict": {"text_model.embeddings.token_embedding.weight": table}, "callbacks": {_Runs: {}}}
    )
    module = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    path = tmp_path / "x.ckpt"
    path.write_bytes(_renamed(data, f"c{_Runs.__module__}\n_Runs\n".encode(), module))
    assert equal(open_checkpoint(path).encoders[0].vectors([2]), table[:1])


def test_an_older_torch_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.serialization, "safe_globals")
    (tmp_path / "plain.pt").write_bytes(torch_bytes({"string_to_param": {"*": VECTORS}, "step": 5}))
    assert load_embedding(tmp_path / "plain.pt").count == 3
    (tmp_path / "first.pt").write_bytes(torch_bytes({"string_to_param": parameters(), "more": parameters()}))
    assert equal(load_embedding(tmp_path / "first.pt").vectors["clip_l"], VECTORS)
    legacy = {"_use_new_zipfile_serialization": False}
    for content, options in (
        ({"string_to_param": parameters()}, legacy),
        ({"emb_params": VECTORS, "step": np.int64(5)}, {}),
        ({"string_to_param": parameters(), "step": np.int64(5)}, {}),
    ):
        (tmp_path / "x.pt").write_bytes(torch_bytes(content, **options))
        with pytest.raises(StorageError, match="this version of PyTorch cannot read safely") as caught:
            load_embedding(tmp_path / "x.pt")
        assert "embedmerge convert" in (caught.value.hint or "")


def test_several_threads_load_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(torch_bytes({"string_to_param": parameters(), "step": np.int64(5)}))
    faults: list[BaseException] = []
    before = torch.serialization.get_safe_globals()

    def load() -> None:
        try:
            for _ in range(30):
                load_embedding(path)
        except StorageError as error:
            faults.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_every_name_of_the_list_is_known_to_be_harmless() -> None:
    """The list is short, and nothing on it is the real one: whoever adds to it thinks about it here."""
    assert len(pickle_names.NAMES) == 20
    for stand_in, _ in pickle_names._STAND_INS:
        assert stand_in.__module__ == pickle_names.__name__


def test_big_endian_numbers_of_torch(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(torch_bytes({"emb_params": VECTORS}))) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            swapped = struct.pack(f">{len(data) // 4}f", *VECTORS.flatten().tolist()) if "/data/" in name else data
            archive.writestr(name, b"big" if name.endswith("byteorder") else swapped)
    assert equal(load_embedding(path).vectors["clip_l"], VECTORS)


# Programs, followed without being run.


@pytest.mark.parametrize(
    "program", [b"\x80\x02", b"\x80\x02}", b"\x80\x02R.", b"\x80\x02h\x05.", b"\x80\x02e.", b"\xff", b""]
)
def test_what_is_no_program_is_unsound(program: bytes) -> None:
    with pytest.raises(UnsoundError):
        follow_pickle(io.BytesIO(program), Program())


def test_what_a_program_names_and_costs() -> None:
    import pickle

    for protocol in (2, 3, 4, 5):
        program = Program()
        follow_pickle(
            io.BytesIO(pickle.dumps([Path, {1: (2, 3)}, {4}, frozenset([5]), b"x" * 300, Path], protocol)), program
        )
        assert program.protocol == protocol
        assert f"{Path.__module__}.Path" in program.names
        assert 5 < program.work < 200


def test_a_torch_load_that_a_web_ui_has_put_there_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTOMATIC1111's gives None, and a page of warnings, for what its own list of names does not have."""
    (tmp_path / "x.pt").write_bytes(torch_bytes({"string_to_param": parameters()}))
    monkeypatch.setattr(torch, "load", lambda *_, **__: None)
    assert load_embedding(tmp_path / "x.pt").count == 3
