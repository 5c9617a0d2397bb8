"""Put this working tree, and what tests it, into a web UI's extensions: `python -m tests.webui.install DIR`.

These are the probe, which runs the tests, and the timer, which measures the start. `--sdnext` takes the probe for
SD.Next. `--remove` takes all out again.

DIR is the web UI's own folder; restart it afterwards.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_TESTS = ROOT / "tests"

_NOT_COPIED = ("tests", "benchmarks")
NAME = "embedmerge"
_SIGNS = {
    NAME: "lib_embedmerge",
    "embedmerge_probe": "contract",
    "embedmerge_sdnext": "contract",
    "embedmerge_timer": "scripts/embedmerge_timer.py",
    "embedmerge-probe": "contract",
    "embedmerge-sdnext": "contract",
}
"""Folder -> a file in it that shows that this program put it there; the last two by an older version of it."""


def parts(probe: str = "probe") -> dict[str, Path]:
    """Place below the web UI's `extensions` -> the file or folder that belongs there.

    The extension is what a user's `git clone` brings, without the tests and benchmarks. Web UIs load the others after
    it, as the timer needs: by name, or in SD.Next by path, where "-" is before "/".
    probe: the extension that runs the tests, `probe` or `sdnext`; empty for the timer alone.
    """
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, encoding="utf-8", timeout=60
    )
    names = sorted({file.partition("/")[0] for file in tracked.stdout.split("\0") if file} - set(_NOT_COPIED))
    found = {f"{NAME}/{name}": ROOT / name for name in names}
    found["embedmerge_timer/scripts"] = _TESTS / "webui" / "timer" / "scripts"
    if probe:
        found[f"embedmerge_{probe}/scripts"] = _TESTS / "webui" / probe / "scripts"
        found[f"embedmerge_{probe}/contract"] = _TESTS / "contract"
        found[f"embedmerge_{probe}/arrays.py"] = _TESTS / "arrays.py"
    return {place: source for place, source in found.items() if source.exists()}


def stale_files(webui: Path) -> list[str]:
    """Python files of the installed copy that differ from this tree's."""
    stale = []
    for place, source in parts().items():
        for file in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            copy = webui / "extensions" / place / file.relative_to(source)
            if not copy.is_file() or copy.read_bytes() != file.read_bytes():
                stale.append(str(copy.relative_to(webui)))
    return stale


def remove(webui: Path) -> None:
    """Take all of them out. A folder of these names that is not ours stays, with a SystemExit."""
    for name, sign in _SIGNS.items():
        folder = webui / "extensions" / name
        if not folder.exists():
            continue
        if folder.is_symlink() or not (folder / sign).exists():
            raise SystemExit(f"{folder} was not put there by this program. Remove it by hand.")
        shutil.rmtree(folder)


def install(webui: Path, probe: str = "probe") -> None:
    """Copy the extension and those that test it in, in place of older copies. probe: as for `parts`."""
    if not (webui / "extensions").is_dir():
        raise SystemExit(f"{webui} is no web UI: it has no folder 'extensions'.")
    remove(webui)
    for place, source in parts(probe).items():
        target = webui / "extensions" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.webui.install", description="Install into a web UI.")
    parser.add_argument("webui", type=Path, metavar="DIR", help="the web UI's folder")
    parser.add_argument("--sdnext", action="store_true", help="the web UI is SD.Next")
    parser.add_argument("--remove", action="store_true", help="take it out again")
    options = parser.parse_args()
    if options.remove:
        remove(options.webui)
    else:
        install(options.webui, "sdnext" if options.sdnext else "probe")
    return 0


if __name__ == "__main__":
    sys.exit(main())
