"""Bytes on disk: how files are written, moved, locked and recognised, and what the formats of files hold."""
