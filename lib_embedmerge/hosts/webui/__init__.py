"""The adapter for AUTOMATIC1111, Forge, reForge and their forks."""

from __future__ import annotations

HIRES_ATTRIBUTES = ("hr_prompts", "hr_negative_prompts")
"""The attributes of a StableDiffusionProcessing that hold the hires prompts of a batch; both are None without hires."""
