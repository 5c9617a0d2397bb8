"""What is done with recipes: build embeddings, compare them with a model, make them again for other models."""
