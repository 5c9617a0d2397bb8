"""The program's version, on its own so that packaging reads it without importing anything else."""

VERSION = "0.1.0"
