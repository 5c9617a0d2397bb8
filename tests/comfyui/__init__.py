"""The same checks in a real ComfyUI."""
