"""Sources of every kind, thrown at the language: `python -m fuzz --sources 1000000` from the folder tests."""
