"""The adapter for AUTOMATIC1111, Forge, reForge and their forks."""
