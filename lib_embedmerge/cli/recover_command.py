"""`embedmerge recover`: what an embedding is made of, on the best of some checkpoints, and kept in its file."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any


def recover(options: argparse.Namespace) -> dict[str, Any]:
    """The recovered expression and what each checkpoint leaves; with --save also the file that has it now."""
    from lib_embedmerge.cli.progress import progress_bar
    from lib_embedmerge.embeddings.embedding import load_embedding
    from lib_embedmerge.facade import open_checkpoint
    from lib_embedmerge.recipes.recovery.recover import recover_among
    from lib_embedmerge.recipes.recovery.save_recovered import save_recovered

    embedding = load_embedding(options.file, bundled=options.bundled)
    checkpoints = dict.fromkeys(options.checkpoint)
    models = ((path, partial(open_checkpoint, path, device=options.device)) for path in checkpoints)
    with progress_bar("Recovering", quiet=options.json) as progress:

        def done(count: int) -> None:
            if progress:
                progress(count, len(checkpoints))

        done(0)
        recovered = recover_among(embedding, models, done)
    saved = None
    if options.save:
        model = open_checkpoint(recovered.best.checkpoint)
        with progress_bar("Fingerprinting the model (only once)", quiet=options.json) as progress:
            saved = save_recovered(embedding, recovered.best, model, force=options.force, progress=progress)
    return {"name": embedding.name, **recovered.as_json(), "file": str(saved) if saved else None}
