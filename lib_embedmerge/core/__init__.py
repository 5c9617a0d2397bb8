"""The pure core: ports, arithmetic on vectors, evaluation. Imports torch, never a web UI, gradio or a file format."""
