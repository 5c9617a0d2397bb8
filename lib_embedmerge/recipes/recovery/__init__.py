"""Recover the text that an embedding was made from, out of its vectors."""
