"""The attributes in which a web UI keeps the prompts of hires fix."""

HIRES_ATTRIBUTES = ("hr_prompts", "hr_negative_prompts")
"""The attributes of a StableDiffusionProcessing that hold the hires prompts of a batch; both are None without hires."""
