"""The merge-expression language: text to nodes and back. Knows no model and imports the standard library only."""
