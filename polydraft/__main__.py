"""`python -m polydraft`: the same as the `polydraft` command."""

import sys

from polydraft.cli import main

if __name__ == "__main__":
    sys.exit(main())
