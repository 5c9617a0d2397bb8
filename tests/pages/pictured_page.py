"""`embedmerge serve` on a host that makes pictures: `python -m tests.pages.pictured_page serve ...`.

Its pictures are drawn, in half a second each.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from drawn_pictures import DrawnPictures

from lib_embedmerge.cli import main
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost

if __name__ == "__main__":
    CheckpointHost.pictures = DrawnPictures(seconds=0.5)
    sys.exit(main(sys.argv[1:]))
