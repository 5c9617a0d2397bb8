"""What views need of the notes by model. rating.py saves them; this module imports nothing heavy."""

from __future__ import annotations

from lib_embedmerge.embeddings.model_notes import ModelNote, find_model_note

__all__ = ["ModelNote", "find_model_note"]
