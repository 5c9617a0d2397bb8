"""The programs that EmbedMerge runs in, and the models they have: web UIs, checkpoint files, memory (port.Host)."""
