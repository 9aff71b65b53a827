"""What flows through a unit's terminals: the physical quantity behind every chip model.

A house's :class:`LoadSource` is integrated exactly, as the simulated metering unit does it: energy
follows monotonic time, and the energies of adjoining spans sum up to that of the whole. On a
three-wire supply the energy is shared by two lines in a fixed ratio, so that both always flow the
same way; a house whose lines do not is two supplies of one line each. Voltages sag with the
current. Not modelled: power factor, harmonics, and differences between the voltages of the lines.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meter_runtime.units.contracts import Wiring
from meter_runtime.units.metering.simulated import LoadSource

NOMINAL_MV = 101_000
"""Between a line and neutral; 202 V between lines, which is what a three-phase element sees."""

MWS_PER_MWH = 3600

SAG_MV_PER_A = 20
"""What each ampere takes off the voltage; energy towards the grid adds as much."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One line now, as an element of a meter sees it.

    ``forward_mws`` and ``reverse_mws`` are milliwatt-seconds since the unit was made; ``power_mw``
    is signed, ``current_ma`` is an effective value and has no sign.
    """

    forward_mws: int
    reverse_mws: int
    power_mw: int
    current_ma: int
    voltage_mv: int
    frequency_mhz: int


class Supply:
    """The terminals of one metering unit.

    ``start`` is what UTC time, in seconds, the load lives at while ``monotonic`` shows its present
    value. ``registers``, in milliwatt-seconds forward and reverse, are what the unit had counted by
    ``since``, which is ``start`` where it is None. A one-way unit counts nothing in reverse.
    ``r_percent`` is line R's share on a supply of two lines.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        load: LoadSource,
        start: float,
        registers: tuple[int, int] = (0, 0),
        *,
        since: float | None = None,
        wiring: Wiring = Wiring.ONE_PHASE_THREE_WIRE,
        two_way: bool = True,
        r_percent: int = 50,
        frequency_mhz: int = 50_000,
    ) -> None:
        self.wiring = wiring
        self.two_way = two_way
        self.frequency_mhz = frequency_mhz
        """Of the grid: 50 000 in the east, 60 000 in the west."""
        self._monotonic = monotonic
        self._load = load
        # Wall minus monotonic time: rounded once, at each reading, it loses no millisecond.
        self._epoch = start - monotonic()
        self._forward_mws, self._reverse_mws = registers
        self._house = [0, 0]
        self._r_percent = r_percent if self.lines == 2 else 100
        self._plugged = True
        self._flows: dict[int, Flow] = {}
        self._at_ms = round((start if since is None else since) * 1000)
        self._integrate()

    @property
    def lines(self) -> int:
        """How many elements a unit here has: R alone, or R and T."""
        return 1 if self.wiring is Wiring.ONE_PHASE_TWO_WIRE else 2

    @property
    def registers(self) -> tuple[int, int]:
        """What the unit counted, forward and reverse, in milliwatt-seconds."""
        self._integrate()
        return self._forward_mws, self._reverse_mws

    @property
    def house_mws(self) -> tuple[int, int]:
        """What flowed since ``since``, forward and reverse, whether a unit counted it or not."""
        self._integrate()
        return self._house[0], self._house[1]

    @property
    def plugged(self) -> bool:
        return self._plugged

    def unplug(self) -> None:
        """The unit is taken out: the house goes on, and nothing is counted."""
        self._integrate()
        self._plugged = False

    def plug(self) -> None:
        """The unit is back."""
        self._integrate()
        self._plugged = True

    def flow(self, line: int = 0) -> Flow:
        """Line R (0) or T (1) now; two lines' energies sum up to :attr:`registers` in whole mWh."""
        self._integrate()
        if line not in self._flows:
            self._flows[line] = self._flow_of(line)
        return self._flows[line]

    def tap(self, line: int = 0) -> Callable[[], Flow]:
        """What a chip on this line is connected to."""
        return lambda: self.flow(line)

    def _flow_of(self, line: int) -> Flow:
        load = self._load.power(self._at_ms)
        currents = [abs(current) for current in (load.r_ma or 0, load.t_ma or 0)][: self.lines]
        total_ma = sum(currents)
        power_mw = load.power_w * 1000
        if self.lines == 2:
            r_mw = power_mw * currents[0] // total_ma if total_ma else power_mw // 2
            power_mw = r_mw if line == 0 else power_mw - r_mw
        nominal = NOMINAL_MV * (2 if self.wiring is Wiring.THREE_PHASE_THREE_WIRE else 1)
        sag_mv = currents[line] * SAG_MV_PER_A // 1000
        return Flow(
            self._share(self._forward_mws, line),
            self._share(self._reverse_mws, line),
            power_mw,
            currents[line],
            nominal - (sag_mv if power_mw > 0 else -sag_mv),
            self.frequency_mhz,
        )

    def _share(self, energy_mws: int, line: int) -> int:
        if self.lines == 1:
            return energy_mws
        # In whole mWh: so neither line's energy ever falls, and the sum is the whole's, rounded
        # down.
        whole = energy_mws // MWS_PER_MWH
        of_t = whole * (100 - self._r_percent) // 100
        return (whole - of_t if line == 0 else of_t) * MWS_PER_MWH

    def _integrate(self) -> None:
        to_ms = round((self._epoch + self._monotonic()) * 1000)
        if to_ms <= self._at_ms:
            return
        forward, reverse = self._load.energy(self._at_ms, to_ms)
        self._house[0] += forward
        self._house[1] += reverse
        if self._plugged:
            self._forward_mws += forward
            if self.two_way:
                self._reverse_mws += reverse
        self._at_ms = to_ms
        self._flows.clear()
