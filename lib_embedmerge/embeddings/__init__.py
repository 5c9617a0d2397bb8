"""An embedding as a file: its vectors, its tag, its names, and the folder of embeddings."""
