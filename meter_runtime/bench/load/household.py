"""A household's load: invented, plausible, and the same for the same seed.

Each JST day is drawn from the seed and its date alone, so any instant is found without those
before it. Modelled: standby, refrigerator, lighting, screens, cooking, laundry, heating and
cooling by season, weekday and weekend, and a photovoltaic roof under passing clouds. Not
modelled: voltage, power factor, transients below five seconds.
"""

import math
from collections import OrderedDict
from operator import add
from random import Random

from meter_runtime.bench.load.curve import StepCurve
from meter_runtime.clock import jst
from meter_runtime.units.contracts import Wiring
from meter_runtime.units.metering.simulated import Load

STEP_S = 5
_STEPS = 86_400 // STEP_S
_DAY_MS = 86_400_000
_JST_MS = 9 * 3_600_000
_STARTS = [i * STEP_S * 1000 for i in range(_STEPS)]
_DAYS_KEPT = 48
_PV_PEAK_SHARE = 0.85
"""Of its rated power a roof yields at best: dirt, heat and angle take the rest."""


def _hour(hour: float) -> int:
    return min(_STEPS, max(0, round(hour * 3600 / STEP_S)))


class LoadModel:
    """The load of one house with ``pv_kw`` on its roof, on a supply of this ``wiring``."""

    def __init__(
        self, seed: int, pv_kw: float = 0.0, wiring: Wiring = Wiring.ONE_PHASE_THREE_WIRE
    ) -> None:
        self._seed = seed
        self._pv_w = round(pv_kw * 1000)
        self._wiring = wiring
        house = Random(f"{seed} house")
        self._standby_w = house.randint(60, 140)
        self._fridge_w = house.randint(70, 110)
        self._climate_w = house.randint(450, 900)
        self._r_share = house.randint(42, 58)
        self._days: OrderedDict[int, StepCurve] = OrderedDict()

    def power(self, at_ms: int) -> Load:
        """What flows at this instant."""
        day, within = divmod(at_ms + _JST_MS, _DAY_MS)
        curve = self._day(day)
        power = curve.power_of(curve.index(within))
        return Load(power, *line_currents(power, self._wiring, self._r_share))

    def energy(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """Forward and reverse energy between two instants, mWs."""
        first, start = divmod(from_ms + _JST_MS, _DAY_MS)
        last, end = divmod(to_ms + _JST_MS, _DAY_MS)
        before = self._day(first).until(start)
        forward, reverse = -before[0], -before[1]
        for day in range(first, last):
            whole = self._day(day).until(_DAY_MS)
            forward += whole[0]
            reverse += whole[1]
        after = self._day(last).until(end)
        return forward + after[0], reverse + after[1]

    def _day(self, day: int) -> StepCurve:
        """The curve of JST day ``day`` (days since 1970-01-01)."""
        curve = self._days.get(day)
        if curve is None:
            curve = StepCurve(_STARTS, self._draw(day), _DAY_MS)
            if len(self._days) >= _DAYS_KEPT:
                self._days.popitem(last=False)
            self._days[day] = curve
        else:
            self._days.move_to_end(day)
        return curve

    def _draw(self, day: int) -> list[int]:
        date = jst(day * 86_400 - 9 * 3600)
        rng = Random(f"{self._seed} {day}")
        at_home = date.weekday() >= 5
        season = math.cos(2 * math.pi * (date.timetuple().tm_yday - 20) / 365)
        powers = [self._standby_w] * _STEPS
        self._refrigerator(rng, powers)
        _living(rng, powers, at_home)
        _cooking(rng, powers, at_home)
        self._climate(rng, powers, at_home, season)
        if rng.random() < (0.7 if at_home else 0.35):
            begin = rng.uniform(7.0, 10.5)
            _run(powers, begin, begin + 0.7, rng.randint(180, 320))
        flicker = [b % 23 - 11 for b in rng.randbytes(_STEPS)]
        powers = list(map(add, powers, flicker))
        if self._pv_w:
            _yield(rng, powers, self._pv_w, season)
        return powers

    def _refrigerator(self, rng: Random, powers: list[int]) -> None:
        at = -rng.uniform(0.0, 0.6)
        while at < 24:
            run = rng.uniform(0.2, 0.32)
            _run(powers, at, at + run, self._fridge_w)
            at += run + rng.uniform(0.33, 0.6)

    def _climate(self, rng: Random, powers: list[int], at_home: bool, season: float) -> None:
        """A heat pump: much in winter, some in summer, nothing between."""
        demand = season if season > 0 else -0.8 * season
        if demand < 0.35:
            return
        spans = [(6.0, 8.3), (17.5, 23.2)]
        if at_home:
            spans.append((9.0, 17.5))
        for begin, end in spans:
            at = begin + rng.uniform(-0.4, 0.4)
            _run(powers, at, at + 0.3, round(1.6 * self._climate_w * demand))
            at += 0.3
            while at < end:
                run = rng.uniform(0.1, 0.4)
                _run(powers, at, at + run, round(self._climate_w * demand * rng.uniform(0.5, 1)))
                at += run + rng.uniform(0.0, 0.15)


def line_currents(power_w: int, wiring: Wiring, r_share: int = 50) -> tuple[int | None, int | None]:
    """Currents of lines R and T in mA at unity power factor and nominal voltage.

    ``r_share`` is the percentage of the power on line R of a single-phase three-wire supply.
    """
    match wiring:
        case Wiring.ONE_PHASE_TWO_WIRE:
            return power_w * 10, None
        case Wiring.ONE_PHASE_THREE_WIRE:
            r = power_w * r_share // 10
            return r, power_w * 10 - r
        case Wiring.THREE_PHASE_THREE_WIRE:
            line = round(power_w * 1000 / (200 * math.sqrt(3)))
            return line, line


def _run(powers: list[int], begin: float, end: float, power_w: int) -> None:
    """Something that takes ``power_w`` between two hours of the day."""
    a, b = _hour(begin), _hour(end)
    powers[a:b] = [p + power_w for p in powers[a:b]]


def _living(rng: Random, powers: list[int], at_home: bool) -> None:
    """Light and screens: a little in the morning, much in the evening."""
    rise, bed = rng.uniform(5.8, 7.0), rng.uniform(22.3, 24.0)
    _run(powers, rise, 8.0, rng.randint(40, 90))
    dusk = rng.uniform(16.8, 18.2)
    for _ in range(3):
        begin = dusk + rng.uniform(0.0, 1.2)
        _run(powers, begin, bed - rng.uniform(0.0, 1.5), rng.randint(25, 60))
    _run(powers, rng.uniform(18.0, 19.5), bed, rng.randint(60, 140))
    if at_home:
        _run(powers, rng.uniform(9.0, 11.0), rng.uniform(14.0, 17.0), rng.randint(60, 160))


def _cooking(rng: Random, powers: list[int], at_home: bool) -> None:
    """Kettle, toaster and microwave oven at meals; a hob that switches at dinner."""
    meals = [rng.uniform(6.4, 7.4), rng.uniform(18.0, 19.3)]
    if at_home:
        meals.append(rng.uniform(11.7, 12.6))
    for meal in meals:
        for power_w in (1200, 1000, 1300):
            begin = meal + rng.uniform(-0.3, 0.3)
            _run(powers, begin, begin + rng.uniform(0.04, 0.1), power_w + rng.randint(-60, 60))
    at, done = meals[1] - 0.4, meals[1] + 0.2
    while at < done:
        heat = rng.uniform(20, 90) / 3600
        _run(powers, at, at + heat, 1400)
        at += heat + rng.uniform(10, 60) / 3600


def _yield(rng: Random, powers: list[int], pv_w: int, season: float) -> None:
    """Take off what the roof gives: a bell between sunrise and sunset, cut by clouds."""
    half_day = 6.0 - 1.2 * season
    sunrise, sunset = _hour(11.9 - half_day), _hour(11.9 + half_day)
    clear = rng.choice((0.95, 0.9, 0.75, 0.5, 0.25))
    at = sunrise
    while at < sunset:
        # A passing sky: clear-sky power for the most part of a clear day.
        sky = 1.0 if rng.random() < clear else rng.uniform(0.15, 0.7)
        until = min(sunset, at + rng.randint(6, 120))
        scale = -pv_w * _PV_PEAK_SHARE * sky * (0.9 if clear > 0.5 else 0.7)
        angle = math.pi / (sunset - sunrise)
        for i in range(at, until):
            powers[i] += int(scale * math.sin((i - sunrise) * angle) ** 1.3)
        at = until
