"""The mains line: carries frames between modems, or loses them.

What it models: the level at which modems hear each other, attenuation by what is plugged in along
the line, packets lost to noise, MAC acknowledgement with repeats. What it does not: airtime,
collisions, tone maps, routing over third stations. A frame that arrives does so at once.

The line also runs its stations' timers, oldest first.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from meter_runtime.bench.plc.frames import LineFrame
from meter_runtime.clock import Clock, Timer

QUIET_SNR_DB = 30.0
"""Signal over noise of two modems in one house, with nothing in the way. *Unverified*."""
THRESHOLD_DB = 0.0
"""At this signal over noise half of the frames are lost. *Unverified*: a robust mode's."""
_WIDTH_DB = 1.5
MAX_RETRIES = 3
"""macMaxFrameRetries: repeats of a frame that nobody acknowledged."""
MAX_FRAMES = 4096
"""Frames of one :meth:`Line.settle`; more is two stations that answer each other for ever."""

_LQI_ZERO_DB, _LQI_PER_DB, _MAX_LQI = -10.0, 4.0, 0xFF


class Station(Protocol):
    """What is plugged into the line: a modem or an adapter."""

    @property
    def extended(self) -> bytes:
        """Its EUI-64."""
        ...

    @property
    def deadline(self) -> float | None:
        """When it wants :meth:`tick`."""
        ...

    def take_line(self) -> list[LineFrame]:
        """What it wants to send since last asked."""
        ...

    def hear(self, frame: LineFrame, lqi: int, now: float) -> None: ...

    def sent(self, frame: LineFrame, *, received: bool, now: float) -> None:
        """Its frame was acknowledged, or finally not; nobody acknowledges one for everybody."""
        ...

    def tick(self, now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class LineCrossing:
    """One frame that was sent, and whether anybody received it."""

    at: float
    frame: LineFrame
    received: bool


@dataclass(slots=True, eq=False)
class _Outlet:
    station: Station
    wake: Callable[[], None]


class Line:
    """The wiring of one house. After each :meth:`settle` every station's ``wake`` is called."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.listeners: list[Callable[[LineCrossing], None]] = []
        self.packet_error_rate = 0.0
        """The share of all frames that noise destroys, 0 to 1, before any repeat."""
        self._clock = clock
        self._rng = rng
        self._attenuation: dict[bytes, float] = {}
        self._outlets: list[_Outlet] = []
        self._timer: Timer | None = None
        self._settling = False

    def attach(self, station: Station, wake: Callable[[], None] = lambda: None) -> None:
        """Plug a station in."""
        if any(outlet.station.extended == station.extended for outlet in self._outlets):
            raise ValueError(f"two stations have the address {station.extended.hex().upper()}")
        self._outlets.append(_Outlet(station, wake))

    def detach(self, station: Station) -> None:
        """Pull a station out; harmless where it is not in."""
        self._outlets = [each for each in self._outlets if each.station is not station]

    def set_attenuation(self, extended: bytes, db: float) -> None:
        """Put ``db`` decibels between a station and everybody else; 0 takes them away."""
        if db:
            self._attenuation[extended] = db
        else:
            self._attenuation.pop(extended, None)

    def snr_db(self, one: bytes, other: bytes) -> float:
        """Signal over noise of what one station hears of the other."""
        lost = self._attenuation.get(one, 0.0) + self._attenuation.get(other, 0.0)
        return QUIET_SNR_DB - lost

    def settle(self) -> None:
        """Play everything that is due by now, and arm the next timer.

        Call it before and after anything that gives a station input.
        """
        if self._settling:
            return
        self._settling = True
        try:
            self._play(self._clock.monotonic())
            for outlet in tuple(self._outlets):
                outlet.wake()
        finally:
            self._settling = False
        self._arm()

    def _play(self, now: float) -> None:
        left = MAX_FRAMES
        while left > 0 and (frames := self._collect(now)):
            for frame in frames[:left]:
                self._carry(frame, now)
            left -= len(frames)

    def _collect(self, now: float) -> list[LineFrame]:
        """What the stations want to send, once those whose time has come were told."""
        stations = [outlet.station for outlet in self._outlets]
        for station in stations:
            if station.deadline is not None and station.deadline <= now:
                station.tick(now)
        return [frame for station in stations for frame in station.take_line()]

    def _carry(self, frame: LineFrame, now: float) -> None:
        received = False
        sender = None
        for outlet in tuple(self._outlets):
            station = outlet.station
            if station.extended == frame.source:
                sender = station
            elif frame.destination in (None, station.extended) and self._arrives(frame, station):
                received = True
                station.hear(frame, self._lqi(frame, station), now)
        for listener in tuple(self.listeners):
            listener(LineCrossing(now, frame, received))
        if sender is not None:
            sender.sent(frame, received=received or frame.destination is None, now=now)

    def _arrives(self, frame: LineFrame, receiver: Station) -> bool:
        margin = (self.snr_db(frame.source, receiver.extended) - THRESHOLD_DB) / _WIDTH_DB
        weak = 1 / (1 + math.exp(min(max(margin, -60.0), 60.0)))
        lost = 1 - (1 - weak) * (1 - self.packet_error_rate)
        tries = 1 if frame.destination is None else 1 + MAX_RETRIES
        # Every try is drawn, so that one lost frame more or less moves no other draw.
        draws = [self._rng.random() for _ in range(tries)]
        return any(draw >= lost for draw in draws)

    def _lqi(self, frame: LineFrame, receiver: Station) -> int:
        over = self.snr_db(frame.source, receiver.extended) - _LQI_ZERO_DB
        return min(max(round(over * _LQI_PER_DB), 0), _MAX_LQI)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadlines = [outlet.station.deadline for outlet in self._outlets]
        due = min((each for each in deadlines if each is not None), default=None)
        self._timer = None if due is None else self._clock.call_at(due, self.settle)
