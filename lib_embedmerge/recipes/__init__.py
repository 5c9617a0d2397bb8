"""Recipes: build embeddings from them, check whether they still fit a model, and rebuild them for other models."""
