"""AUTOMATIC1111, Forge, reForge and their kin: one adapter for all of them."""
