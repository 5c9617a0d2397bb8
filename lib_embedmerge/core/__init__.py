"""The core: ports, outlines, evaluation and arithmetic on vectors. Knows no web UI, no gradio and no file format."""
