"""Where the log goes: standard error, one line an entry; journald adds the time."""

import logging
import sys


def set_up_log(level: str) -> None:
    """Log this package at ``level`` (debug, info, warning, error)."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("meter_runtime").setLevel(level.upper())
