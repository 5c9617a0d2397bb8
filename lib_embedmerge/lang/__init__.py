"""The language of merge expressions: text to nodes and back. Knows no model and imports only the standard library."""
