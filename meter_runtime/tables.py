"""Files of TOML that people write: read, with each mistake told in one line."""

import tomllib
from pathlib import Path
from typing import Any

from meter_runtime.errors import MeterError, UsageError


def read_table(path: Path, absent: str) -> dict[str, Any]:
    """The table in ``path``; ``absent`` is the advice for a file that is not there.

    Raises :class:`UsageError` for what is no TOML, :class:`MeterError` for what cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as wrong:
        raise UsageError(f"{path}: not TOML: {wrong}") from None
    except UnicodeDecodeError as wrong:
        raise UsageError(f"{path}: not UTF-8 text at byte {wrong.start}") from None
    except FileNotFoundError:
        raise UsageError(f"{path}: {absent}") from None
    except OSError as failure:
        raise MeterError(f"{path}: cannot be read: {failure.strerror}") from None
