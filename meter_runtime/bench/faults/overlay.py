"""The meter's data as a fault shows them: one change at one place, so that all values agree.

What the live register shows, the half-hour values and the history go through the same change, as
they would in a meter that really was so.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meter_runtime.broute.echonet.data import MeterData

_MWH_PER_DWH = 100
_VERSION_BITS = 20

Change = Callable[[int | None], int | None]


def unchanged(value: int | None) -> int | None:
    return value


def absent(_value: int | None) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class Veil:
    """One fault's changes. Energies are in mWh, power in W, currents in mA."""

    forward: Change = unchanged
    reverse: Change = unchanged
    power: Change = unchanged
    current_r: Change = unchanged
    current_t: Change = unchanged
    history: bool = True
    """Boundaries and minutes are shown."""


class Overlay:
    """The veils over one meter's data."""

    def __init__(self) -> None:
        self.version = 0
        self._veils: list[Veil] = []

    def add(self, veil: Veil) -> Callable[[], None]:
        """Lay a veil over everything; returns how to lift it."""
        self._veils.append(veil)
        self.version += 1

        def lift() -> None:
            self._veils.remove(veil)
            self.version += 1

        return lift

    def over(self, data: MeterData) -> MeterData:
        """These data, seen through whatever veils there are at the time."""
        return _Veiled(data, self)

    @property
    def history(self) -> bool:
        return all(veil.history for veil in self._veils)

    def changed(self, what: str, value: int | None) -> int | None:
        """A value through all veils; ``what`` is a field of :class:`Veil`."""
        for veil in self._veils:
            value = getattr(veil, what)(value)
        return value


class _Veiled:
    """Implements :class:`meter_runtime.broute.echonet.data.MeterData`."""

    def __init__(self, data: MeterData, overlay: Overlay) -> None:
        self._data = data
        self._overlay = overlay

    @property
    def epoch(self) -> int:
        return self._data.epoch << _VERSION_BITS | self._overlay.version

    def wall(self) -> float:
        return self._data.wall()

    def clock_trusted(self) -> bool:
        return self._data.clock_trusted()

    def eui64(self) -> bytes | None:
        return self._data.eui64()

    def fault(self) -> bool:
        return self._data.fault()

    def forward_mwh(self) -> int | None:
        return self._overlay.changed("forward", self._data.forward_mwh())

    def reverse_mwh(self) -> int | None:
        return self._overlay.changed("reverse", self._data.reverse_mwh())

    def power_w(self) -> int | None:
        return self._overlay.changed("power", self._data.power_w())

    def current_r_ma(self) -> int | None:
        return self._overlay.changed("current_r", self._data.current_r_ma())

    def current_t_ma(self) -> int | None:
        return self._overlay.changed("current_t", self._data.current_t_ma())

    def boundary(self, slot: int) -> tuple[int, int] | None:
        return self._registers(self._data.boundary(slot))

    def minute(self, minute: int) -> tuple[int, int] | None:
        return self._registers(self._data.minute(minute))

    def _registers(self, pair: tuple[int, int] | None) -> tuple[int, int] | None:
        if pair is None or not self._overlay.history:
            return None
        forward = self._overlay.changed("forward", pair[0] * _MWH_PER_DWH)
        reverse = self._overlay.changed("reverse", pair[1] * _MWH_PER_DWH)
        if forward is None or reverse is None:
            return None
        return forward // _MWH_PER_DWH, reverse // _MWH_PER_DWH
