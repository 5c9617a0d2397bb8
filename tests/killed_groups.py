"""A program for test_grouped_writes.py: groups of files, killed at random moments, and what each of them leaves.

python killed_groups.py FOLDER KILLS SEED     # prints what it found, as JSON; fails where something was not right
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from killing import exit_code

from lib_embedmerge.files.atomic_file import remove_abandoned_files
from lib_embedmerge.files.grouped_writes import WriteGroup

COUNT, SIZE = 40, 400_000
TEMPORARY = ".embedmerge-*.tmp"
ATTEMPTS = 20
"""How often to try for each kill that is to hit the middle."""


def name(number: int) -> str:
    return f"file{number:02}.bin"


def content(number: int, version: int) -> bytes:
    return f"{number} {version} ".encode() * (SIZE // 5)


def run(folder: Path, version: int) -> None:
    """One group. The files of even numbers replace those that are there, and the others are new."""
    with WriteGroup() as group:
        for number in range(COUNT):
            group.add(folder / name(number), content(number, version), overwrite=number % 2 == 0)
        faults = group.finish()
    assert faults == [None] * COUNT, faults


def forked(folder: Path, version: int) -> int:
    """The same in a process of its own; its id."""
    child = os.fork()
    if child == 0:
        try:
            run(folder, version)
        except BaseException as error:  # noqa: BLE001 -- a fork must not go on as its parent
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return child


def prepare(folder: Path, version: int) -> None:
    """The files of even numbers as an earlier version, and no others."""
    for path in folder.glob("*.bin"):
        path.unlink()
    for number in range(0, COUNT, 2):
        (folder / name(number)).write_bytes(content(number, version))


def check(folder: Path, version: int) -> int:
    """Each file is whole, of the version or the one before; how many are of the version."""
    new = 0
    for number in range(COUNT):
        path = folder / name(number)
        if number % 2 and not path.exists():
            continue
        found = path.read_bytes()
        is_new = found == content(number, version)
        assert is_new or (number % 2 == 0 and found == content(number, version - 1)), f"{path.name} is torn"
        new += is_new
    others = [path for path in folder.iterdir() if path.suffix != ".bin"]
    assert all(path.match(TEMPORARY) for path in others), others
    return new


def main(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    folder.mkdir()
    prepare(folder, 0)
    begun = time.monotonic()
    assert exit_code(forked(folder, 1)) == 0
    takes, middle, attempts, left = time.monotonic() - begun, 0, 0, 0
    while middle < kills:
        attempts += 1
        assert attempts < ATTEMPTS * kills, f"only {middle} kills came in the middle"
        prepare(folder, attempts)
        child = forked(folder, attempts + 1)
        time.sleep(chance.uniform(0, takes))
        os.kill(child, signal.SIGKILL)
        assert exit_code(child) in (0, -signal.SIGKILL), "a group failed by itself"
        new = check(folder, attempts + 1)
        written = len(list(folder.glob(TEMPORARY)))
        left += written > 0
        # In the middle: some are written, and not all are in their places.
        middle += (new > 0 or written > 0) and new < COUNT
        takes *= 1.05 if not new and not written else 0.95 if new == COUNT else 1
        remove_abandoned_files(folder)
        assert not list(folder.glob(TEMPORARY)), "what killed groups left is not swept"
    print(json.dumps({"middle": middle, "attempts": attempts, "left": left}))  # noqa: T201 -- to the test


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
