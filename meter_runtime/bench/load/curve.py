"""A piecewise-constant power curve with exact energies.

Power is whole watts and time whole milliseconds, so that energy is a whole number of
milliwatt-seconds. Direction is by the sign of each piece: positive is forward.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import mul, sub


class StepCurve:
    """Power ``powers[i]`` (W) from ``starts_ms[i]`` to the next start, the last to ``end_ms``.

    ``starts_ms`` begins with 0 and increases.
    """

    __slots__ = ("_forward", "_powers", "_reverse", "_starts", "end_ms")

    def __init__(self, starts_ms: Sequence[int], powers: Sequence[int], end_ms: int) -> None:
        self._starts = starts_ms
        self._powers = powers
        self.end_ms = end_ms
        spans = map(sub, (*starts_ms[1:], end_ms), starts_ms)
        net = list(map(mul, powers, spans))
        self._forward = list(accumulate((max(0, e) for e in net), initial=0))
        # Most curves never yield: they need no second sum.
        self._reverse = (
            list(accumulate((max(0, -e) for e in net), initial=0)) if min(powers) < 0 else None
        )

    def index(self, at_ms: int) -> int:
        """Which piece holds at ``at_ms`` (0 to ``end_ms``)."""
        return bisect_right(self._starts, at_ms) - 1

    def power_of(self, index: int) -> int:
        return self._powers[index]

    def until(self, at_ms: int) -> tuple[int, int]:
        """Forward and reverse energy from 0 to ``at_ms``, mWs."""
        i = self.index(at_ms)
        part = self._powers[i] * (at_ms - self._starts[i])
        forward = self._forward[i]
        reverse = self._reverse[i] if self._reverse else 0
        return (forward + part, reverse) if part > 0 else (forward, reverse - part)
