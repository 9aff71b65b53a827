"""Durations as people write them: ``90s``, ``30m``, ``1h30m``, ``2d``."""

import re

from meter_runtime.errors import UsageError

_UNITS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(
    "".join(rf"(?:(\d{{1,9}}(?:\.\d{{1,3}})?){unit})?" for unit in _UNITS_S), re.ASCII
)


def parse_duration(text: str) -> float:
    """Seconds, more than none; :class:`UsageError` says how to write one."""
    found = _DURATION.fullmatch(text.strip().lower())
    seconds = 0.0
    if found is not None:
        amounts = zip(found.groups(), _UNITS_S.values(), strict=True)
        seconds = sum(float(amount) * unit_s for amount, unit_s in amounts if amount)
    if not seconds:
        raise UsageError(f'"{text}" is no duration; write one like 90s, 30m, 1h30m or 2d')
    return seconds


def format_duration(seconds: float) -> str:
    """The two largest units that matter: ``3d 4h``, ``1h 30m``, ``45s``."""
    left = int(seconds)
    parts: list[tuple[int, str]] = []
    for unit, unit_s in _UNITS_S.items():
        amount, left = divmod(left, unit_s)
        if amount or parts:
            parts.append((amount, unit))
    shown = [f"{amount}{unit}" for amount, unit in parts[:2] if amount]
    return " ".join(shown) or "0s"
