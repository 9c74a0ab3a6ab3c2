"""`python -m omlx_jupyter serve`, `status` and `stop`."""

import sys

from .serve.command import main

if __name__ == "__main__":
    sys.exit(main())
