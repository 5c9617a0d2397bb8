"""Where models come from while a program runs: each web UI, a folder of checkpoint files, or memory (port.Host)."""
