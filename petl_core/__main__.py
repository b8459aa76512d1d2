"""``python -m petl_core`` is the command line."""

import sys

from petl_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
