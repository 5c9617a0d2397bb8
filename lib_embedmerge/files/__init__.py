"""Files on disk: writing, moving, locking and recognising them, and reading and writing their formats."""
