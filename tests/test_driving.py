"""The program that runs tests in a real web UI: it waits until the web UI has measured its whole start."""

from __future__ import annotations

import pytest
from webui import drive

_PROFILE = {"total": 9.5, "records": {"load scripts": 0.3, "load scripts/embedmerge.py": 0.0097}}
"""What web UIs answer, in seconds. Until their start has ended it is null."""


def test_the_start_is_measured_once_it_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {
        "/internal/profile-startup": iter([None, None, _PROFILE]),
        "/embedmerge-timer/times": iter([{"before_ui": 62.2}]),
    }
    monkeypatch.setattr(drive, "_read", lambda address: next(answers[address]))
    monkeypatch.setattr(drive.time, "sleep", lambda _: None)
    drive._print_times("")
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed == [["script", "9.7", "ms"], ["before_ui", "62.2", "ms"], ["all", "71.9", "ms"]]
