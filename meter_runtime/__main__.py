"""``python -m meter_runtime``: the same as the command ``meter-runtime``."""

import sys

from meter_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
