"""`python -m instructx_core` is `instructx`."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":  # processes that a verb starts import the file that was run
    sys.exit(main())
