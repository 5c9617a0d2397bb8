"""`python -m lib_embedmerge`: the command line."""

from lib_embedmerge.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
