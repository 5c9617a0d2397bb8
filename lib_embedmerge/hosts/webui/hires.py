"""Where a web UI keeps the prompts of hires fix."""

HIRES = ("hr_prompts", "hr_negative_prompts")
"""The attributes of a StableDiffusionProcessing that hold the hires prompts of a batch; both are None without hires."""
