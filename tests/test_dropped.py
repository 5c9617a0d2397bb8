"""Files that are dropped into the page: held to a size, kept under a name of ours, gone after a look."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

import pytest

from lib_embedmerge.errors import StorageError
from lib_embedmerge.ui import dropped
from lib_embedmerge.ui.dropped import MAX_DROPPED, open_dropped_file


def said(name: object = "my_one.safetensors", size: object = 4, data: object = "YWJjZA==") -> str:
    return json.dumps({"name": name, "size": size, "data": data})


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "shown", "stored"),
    [
        ("my_one.safetensors", "my_one.safetensors", "dropped.safetensors"),
        ("MY.PT", "MY.PT", "dropped.pt"),
        ("../../etc/passwd", "passwd", "dropped"),
        ("C:\\Windows\\x.bin", "x.bin", "dropped.bin"),
        ("/etc/cron.d/x.safetensors", "x.safetensors", "dropped.safetensors"),
        ("\\\\server\\share\\x.pt", "x.pt", "dropped.pt"),
        ("", "dropped", "dropped"),
        ("..", "..", "dropped"),
        ("a\0b.pt", "a\0b.pt", "dropped.pt"),
        ("x.pt\0", "x.pt\0", "dropped"),
        ("x." + "y" * 300, "x." + "y" * 253, "dropped"),
        ("猫.safetensors", "猫.safetensors", "dropped.safetensors"),
        ("x.html:stream", "x.html:stream", "dropped"),
    ],
)
def test_it_lies_under_a_name_of_ours_and_is_gone_afterwards(
    temporary: Path, name: str, shown: str, stored: str
) -> None:
    with open_dropped_file(said(name)) as (path, told):
        assert (told, path.name) == (shown, stored)
        assert path.read_bytes() == b"abcd"
        assert path.parent.parent == temporary
    assert list(temporary.iterdir()) == []


def test_it_is_gone_after_a_fault_too(temporary: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_dropped_file(said()):
        raise ZeroDivisionError
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "did not arrive"),
        ("null", "did not arrive"),
        ("[]", "did not arrive"),
        ('{"name": "x.pt"}', "did not arrive"),
        (said(name=["x.pt"]), "did not arrive"),
        (said(size="4"), "did not arrive"),
        (said(data=None), "did not arrive completely"),
        (said(data={"path": "/etc/passwd"}), "did not arrive completely"),
        (said(data="YWJj*ZA=="), "did not arrive completely"),
        (said(data="YWJj"), "did not arrive completely"),
        (said(size=-4), "did not arrive completely"),
        (said(size=MAX_DROPPED + 1, data=None), "16,000,001 bytes; the page accepts at most 16,000,000"),
    ],
)
def test_what_is_refused(temporary: Path, text: str, fault: str) -> None:
    with pytest.raises(StorageError, match=fault), open_dropped_file(text):
        pass
    assert list(temporary.iterdir()) == []


def test_a_size_that_is_not_told_helps_nobody(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "MAX_DROPPED", 6)
    for size in (6, 7):
        text = said(size=3, data=base64.b64encode(b"x" * size * 2).decode("ascii"))
        with pytest.raises(StorageError, match="at most"), open_dropped_file(text):
            pass
    with open_dropped_file(said(size=6, data=base64.b64encode(b"x" * 6).decode("ascii"))) as (path, _):
        assert path.stat().st_size == 6
