"""What a disk refuses is told in words: never a number of the system's, on whatever system and from whatever place."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import lib_embedmerge
from lib_embedmerge.checkpoints.evidence import read_json
from lib_embedmerge.checkpoints.weights import open_weights
from lib_embedmerge.embeddings.editing import delete_embeddings, rename_embedding
from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.files.atomic_file import make_folder, write_atomically
from lib_embedmerge.files.disk_faults import describe_disk_fault, make_disk_error
from lib_embedmerge.files.safetensors_file import read_header

ROOT = Path(lib_embedmerge.__file__).parent

NUMBERS = [number for number in errno.errorcode if os.strerror(number)]


class WindowsError(PermissionError):
    """As Windows raises one."""

    def __init__(self, number: int, code: int) -> None:
        super().__init__(number, "Der Prozess kann nicht auf die Datei zugreifen")
        self.winerror = code


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_every_fault_has_words(number: int) -> None:
    error = make_disk_error(
        Path("folder", "x.safetensors"), OSError(number, os.strerror(number), "/secret/place"), "written"
    )
    assert "Errno" not in error.message
    assert str(number) not in error.message
    assert "/secret/place" not in error.message
    assert error.message.startswith("'x.safetensors' cannot be written: ")
    assert error.message.endswith(".")
    assert not error.message.endswith("..")
    assert error.hint


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EROFS, "x"), "the disk is read-only"),
        (OSError(errno.ENOSPC, "x"), "the disk is full"),
        (OSError(errno.EIO, "x"), "the disk could not be read or written"),
        (WindowsError(errno.EACCES, 32), "another program has the file open"),
        (WindowsError(errno.EACCES, 33), "another program has the file open"),
        (WindowsError(errno.EACCES, 5), "access is denied, or another program has the file open"),
        (WindowsError(errno.ENOENT, 206), "the name is too long"),
        (WindowsError(errno.EINVAL, 123), "the name contains characters that this disk does not allow"),
        (WindowsError(errno.ENOSPC, 112), "the disk is full"),
        (OSError(errno.EPROTO, "x"), "the system says: protocol error"),
        (OSError("the reader has no file"), "the system says: the reader has no file"),
        (OSError(), "the system says: it cannot be done"),
        (ValueError("embedded null byte"), "the name contains characters that this disk does not allow"),
    ],
    ids=repr,
)
def test_words(error: OSError | ValueError, words: str) -> None:
    assert describe_disk_fault(error) == words


def read_only(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "x")


DOINGS: dict[str, Callable[[Path], object]] = {
    "a header": read_header,
    "an embedding": load_embedding,
    "an old embedding": lambda path: load_embedding(path.with_name("old.pt")),
    "weights": open_weights,
    "a pickle": lambda path: open_weights(path.with_name("old.ckpt")),
    "a configuration": read_json,
    "writing": lambda path: write_atomically(path, b"x", overwrite=True),
    "a folder": lambda path: make_folder(path.parent / "new"),
    "a new name": lambda path: rename_embedding(path, "other1"),
    "a deletion": lambda path: delete_embeddings(path.parent, [path]),
}


@pytest.mark.parametrize("name", DOINGS)
def test_a_disk_that_refuses_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / "mine1.safetensors"
    for one in ("mine1.safetensors", "old.pt", "old.ckpt"):
        (tmp_path / one).write_bytes(b"x" * 40)
    for method in ("open", "mkdir", "unlink", "rename", "replace"):
        monkeypatch.setattr(Path, method, read_only)
    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(EmbedMergeError, match="the disk is read-only") as caught:
        DOINGS[name](path)
    assert "Errno" not in caught.value.render()
    assert path.exists()


def test_no_message_has_an_oserror_as_it_is() -> None:
    """`{error}` of one gives its number, in the system's language."""
    wrong = []
    for path in ROOT.rglob("*.py"):
        for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(handler, ast.ExceptHandler) and handler.type and "OSError" in ast.dump(handler.type):
                wrong += [f"{path.relative_to(ROOT)}:{line}" for line in _shown(handler)]
    assert wrong == []


def _shown(handler: ast.ExceptHandler) -> list[int]:
    found = []
    for node in ast.walk(handler):
        inner = node.value if isinstance(node, ast.FormattedValue) else None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str" and node.args:
            inner = node.args[0]
        if isinstance(inner, ast.Name) and inner.id == handler.name:
            assert isinstance(node, ast.expr)
            found.append(node.lineno)
    return found
