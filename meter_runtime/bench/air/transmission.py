"""One frame on its way: its fragments, its tries, and who has heard what of it so far.

Bookkeeping of the medium; it decides nothing about time, strength or chance.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from meter_runtime.bench.air import phy
from meter_runtime.bench.air.frames import EnergyRequest, Frame
from meter_runtime.bench.air.impairments import Fate

MAX_QUEUED_FRAMES = 64
"""Frames a station may have waiting behind the one it sends; more fail at once."""


class Station(Protocol):
    """What takes part in the air: a virtual module."""

    @property
    def mac(self) -> bytes: ...

    @property
    def deadline(self) -> float | None:
        """When it wants :meth:`tick`."""
        ...

    def take_radio(self) -> list[Frame | EnergyRequest]:
        """What it wants of the air since last asked."""
        ...

    def tick(self, now: float) -> None: ...

    def sent(self, frame: Frame, *, received: bool, airtime_s: float, now: float) -> None:
        """Its frame left the air after ``airtime_s`` of sending, or the MAC gave up on it.

        ``received``: unicast was acknowledged, broadcast found the channel free.
        """
        ...

    def hears(self, frame: Frame) -> bool:
        """Its receiver is on, tuned to the frame's channel, and its filter takes the frame."""
        ...

    def hear(self, frame: Frame, lqi: int, now: float) -> None: ...

    def energy(self, channel: int, lqi: int) -> None:
        """The answer to an :class:`EnergyRequest`."""
        ...


Wake = Callable[[], None]


@dataclass(slots=True, eq=False)
class Transmission:
    """One frame, from its first carrier sense to its acknowledgement."""

    frame: Frame
    parts: tuple[int, ...]
    """Payload octets of each fragment."""
    part: int = 0
    """The fragment that is tried."""
    tries: int = 0
    backoffs: int = 0
    airtime_s: float = 0.0
    """Sent so far, repeats included."""
    lqi: int = 0
    """At the last receiver that has all of it."""
    fates: dict[bytes, Fate] = field(default_factory=dict)
    _heard: dict[bytes, int] = field(default_factory=dict)

    @property
    def part_airtime_s(self) -> float:
        return phy.airtime_s(self.parts[self.part])

    @property
    def backoff_exponent(self) -> int:
        return min(phy.MIN_BACKOFF_EXPONENT + self.backoffs, phy.MAX_BACKOFF_EXPONENT)

    def arrived(self, receiver: bytes) -> bool:
        """The fragment arrived there; True when it completes the frame, once."""
        before = self._heard.get(receiver, 0)
        after = before | 1 << self.part
        self._heard[receiver] = after
        return after != before and after == (1 << len(self.parts)) - 1

    def next_part(self) -> bool:
        """Go on to the next fragment; False after the last."""
        self.part += 1
        self.tries = self.backoffs = 0
        return self.part < len(self.parts)


@dataclass(slots=True, eq=False)
class Radio:
    """A station as the medium keeps it."""

    station: Station
    wake: Wake
    mac: bytes
    queue: list[Frame] = field(default_factory=list)
    sending: Transmission | None = None
