"""Small files that others read while they are written: whole or not at all."""

import contextlib
import os
from pathlib import Path

from meter_runtime.storage.media import failure


def write_atomically(path: Path, text: str) -> None:
    """Put ``text`` (UTF-8) in place of what is at ``path``; :class:`MeterError` where it cannot."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, "utf-8")
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise failure(path, "write", error) from None
