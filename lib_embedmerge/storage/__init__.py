"""Files: embeddings, the formats they come in, and the cache of what is known about big files."""
