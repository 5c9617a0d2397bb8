"""Embeddings and their files: vectors, tags and names, and the folder of embeddings."""
