"""Small models that mean something, for measuring what random weights cannot tell: see README.md."""
