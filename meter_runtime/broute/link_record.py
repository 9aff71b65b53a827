"""What is remembered of the link for whoever looks for a fault: how well, and what of late.

Both are bounded. Neither holds an address: what is told to the utility names no device of the home.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

from meter_runtime.clock import jst

SIGNAL_WINDOW = 64
"""Datagrams that the signal strength is told of."""
RECENT = 20
"""Happenings that are remembered."""


class Signal:
    """How strong the home was received, over its last :data:`SIGNAL_WINDOW` datagrams."""

    def __init__(self) -> None:
        self._dbm: deque[float] = deque(maxlen=SIGNAL_WINDOW)
        self._last_at = 0.0

    def heard(self, rssi_dbm: float, wall: float) -> None:
        """A datagram came with this strength."""
        self._dbm.append(rssi_dbm)
        self._last_at = wall

    def forget(self) -> None:
        """It was another home's."""
        self._dbm.clear()

    def report(self) -> dict[str, Any] | None:
        """In dBm; None where the link never told."""
        if not self._dbm:
            return None
        return {
            "last_dbm": round(self._dbm[-1], 1),
            "min_dbm": round(min(self._dbm), 1),
            "max_dbm": round(max(self._dbm), 1),
            "mean_dbm": round(sum(self._dbm) / len(self._dbm), 1),
            "datagrams": len(self._dbm),
            "at": _stamp(self._last_at),
        }


@dataclass(slots=True)
class _Happening:
    kind: str
    at: float
    times: int = 1


class Recent:
    """The last :data:`RECENT` happenings; one that only repeats itself is counted instead."""

    def __init__(self) -> None:
        self._happenings: deque[_Happening] = deque(maxlen=RECENT)

    def add(self, kind: str, wall: float) -> None:
        """This happened now."""
        last = self._happenings[-1] if self._happenings else None
        if last is not None and last.kind == kind:
            last.at = wall
            last.times += 1
        else:
            self._happenings.append(_Happening(kind, wall))

    def report(self) -> list[dict[str, Any]]:
        """Oldest first; ``at`` is when it happened last."""
        return [
            {"kind": each.kind, "at": _stamp(each.at), "times": each.times}
            for each in self._happenings
        ]


def _stamp(wall: float) -> str:
    return jst(wall).isoformat(timespec="seconds")
