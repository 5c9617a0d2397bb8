"""How fast it is, as ratios: `python -m benchmarks`. What each line means stands in README.md."""
