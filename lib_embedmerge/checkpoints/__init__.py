"""Checkpoint files as a host: from a model's file or folder to its text encoders, its facts and its fingerprints."""
