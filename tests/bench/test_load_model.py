"""The household model: the same for the same seed, exact, additive, quick and alive."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_runtime.bench.load import LoadModel
from meter_runtime.bench.load.curve import StepCurve
from meter_runtime.bench.load.household import line_currents
from meter_runtime.units.contracts import Wiring

HALF_HOUR_MS = 1_800_000
DAY_MS = 86_400_000
MIDNIGHT_MS = 20_700 * DAY_MS - 9 * 3_600_000
"""A JST midnight in September."""
MODEL = LoadModel(11, 4.5)

offsets = st.integers(0, 3 * DAY_MS)


def test_the_same_seed_gives_the_same_house() -> None:
    a, b, c = LoadModel(1, 3.0), LoadModel(1, 3.0), LoadModel(2, 3.0)
    moments = range(MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS, 60_000)
    powers = [[m.power(at).power_w for at in moments] for m in (a, b, c)]
    assert powers[0] == powers[1] != powers[2]


def test_the_order_of_questions_does_not_matter() -> None:
    forth, back = LoadModel(1), LoadModel(1)
    days = [MIDNIGHT_MS + n * DAY_MS for n in range(60)]
    assert [forth.energy(d, d + DAY_MS) for d in days] == [
        back.energy(d, d + DAY_MS) for d in reversed(days)
    ][::-1]


@settings(deadline=None)
@given(offsets, offsets, offsets)
def test_energies_of_adjoining_spans_add_up(a: int, b: int, c: int) -> None:
    a, b, c = (MIDNIGHT_MS + offset for offset in sorted((a, b, c)))
    whole, one, two = MODEL.energy(a, c), MODEL.energy(a, b), MODEL.energy(b, c)
    assert whole == (one[0] + two[0], one[1] + two[1])
    assert min(*one, *two) >= 0


def test_energy_is_the_sum_of_power_by_sign() -> None:
    begin, end = MIDNIGHT_MS + 7 * 3_600_000, MIDNIGHT_MS + 19 * 3_600_000
    powers = [MODEL.power(at).power_w for at in range(begin, end, 1000)]
    forward = sum(p for p in powers if p > 0) * 1000
    reverse = -sum(p for p in powers if p < 0) * 1000
    assert MODEL.energy(begin, end) == (forward, reverse)
    assert forward > 0 < reverse


def test_a_house_without_a_roof_never_yields() -> None:
    assert LoadModel(4).energy(MIDNIGHT_MS, MIDNIGHT_MS + 20 * DAY_MS)[1] == 0


def test_nothing_is_yielded_at_night() -> None:
    for day in range(20):
        night = MIDNIGHT_MS + day * DAY_MS
        assert MODEL.energy(night, night + 4 * 3_600_000)[1] == 0


def test_days_are_plausible_and_differ() -> None:
    house = LoadModel(4)
    days = [
        house.energy(MIDNIGHT_MS + n * DAY_MS, MIDNIGHT_MS + (n + 1) * DAY_MS)[0] / 3.6e9
        for n in range(365)
    ]
    assert len(set(days)) == 365
    assert all(2 < kwh < 40 for kwh in days)


def test_present_power_looks_alive() -> None:
    evening = MIDNIGHT_MS + 19 * 3_600_000
    powers = [MODEL.power(evening + n * 1000).power_w for n in range(600)]
    assert len(set(powers)) > 15


def test_forty_one_days_of_boundaries_take_little_time() -> None:
    best = 10.0
    for seed in range(2):
        house = LoadModel(seed, 4.5)
        began = time.perf_counter()
        for n in range(41 * 48):
            at = MIDNIGHT_MS + n * HALF_HOUR_MS
            house.energy(at, at + HALF_HOUR_MS)
        best = min(best, time.perf_counter() - began)
    assert best < 2.0


def test_the_days_in_memory_are_bounded() -> None:
    house = LoadModel(4)
    house.energy(MIDNIGHT_MS, MIDNIGHT_MS + 200 * DAY_MS)
    assert len(house._days) <= 48


@pytest.mark.parametrize("wiring", list(Wiring))
@pytest.mark.parametrize("power_w", [0, 1, 2345, -2345])
def test_currents_have_the_sign_of_the_power_and_carry_it(wiring: Wiring, power_w: int) -> None:
    r, t = line_currents(power_w, wiring, 45)
    assert r is not None
    assert r * power_w >= 0
    match wiring:
        case Wiring.ONE_PHASE_TWO_WIRE:
            assert (r, t) == (power_w * 10, None)
        case Wiring.ONE_PHASE_THREE_WIRE:
            assert t is not None
            assert (r + t) * 100 == power_w * 1000
        case Wiring.THREE_PHASE_THREE_WIRE:
            assert r == t
            assert abs(r * 200 * 3**0.5 - power_w * 1000) < 200


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(-9, 9)), min_size=1, max_size=20),
    st.data(),
)
def test_a_curve_integrates_as_its_milliseconds_do(
    pieces: list[tuple[int, int]], data: st.DataObject
) -> None:
    starts, powers, at = [], [], 0
    each: list[int] = []
    for span, power in pieces:
        starts.append(at)
        powers.append(power)
        each += [power] * span
        at += span
    curve = StepCurve(starts, powers, at)
    until = data.draw(st.integers(0, at))
    forward = sum(p for p in each[:until] if p > 0)
    assert curve.until(until) == (forward, forward - sum(each[:until]))
