"""The adapter for SD.Next, which runs its models as pipelines of diffusers."""
