"""What a HEMS reads from a meter whose values are out of the ordinary."""

import dataclasses
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio

from meter_runtime.clock import JST

from .fault_room import GET_RES, GET_SNA, QUICK, Home, joined_home

UNITS_MWH = {
    0x00: 10**6,
    0x01: 10**5,
    0x02: 10**4,
    0x03: 10**3,
    0x04: 10**2,
    0x0A: 10**7,
    0x0B: 10**8,
    0x0C: 10**9,
    0x0D: 10**10,
}
DIGITS = 8
NO_ENERGY = bytes.fromhex("FFFFFFFE")

MORNING = datetime(2026, 11, 22, 9, tzinfo=JST)
"""Yesterday stays yesterday for all that these tests let pass."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home() -> AsyncIterator[Home]:
    options = dataclasses.replace(QUICK, history_days=1, pv_kw=0, start=MORNING)
    async with joined_home(options) as joined:
        yield joined


async def counts(home: Home) -> tuple[int, int, int]:
    """E0, the register of EA, and the newest register in E2 of yesterday."""
    told = await home.get(0xE0, 0xEA)
    assert (await home.rx(await home.send(0xE5, esv=0x61, edt=b"\x01"))).service == 0x71
    row = (await home.get(0xE2))[0xE2]
    return number(told[0xE0]), number(told[0xEA][7:]), number(row[-4:])


def number(edt: bytes) -> int:
    return int.from_bytes(edt, "big")


def at_last_boundary_mwh(home: Home) -> int:
    newest = home.bench.meter.metering.ring.newest()
    assert newest is not None
    return newest.forward_dwh * 100


async def test_there_are_no_data(home: Home) -> None:
    async with home.trouble("no-data"):
        told = await home.get(0xE7, 0xE8, 0xE0, 0xEA)
        assert told[0xE7] == bytes.fromhex("7FFFFFFE")
        assert told[0xE8] == bytes.fromhex("7FFE7FFE")
        assert (told[0xE0], told[0xEA][7:]) == (NO_ENERGY, NO_ENERGY)
    async with home.trouble("no-data", what="history"):
        told = await home.get(0xE0, 0xEA)
        assert told[0xE0] != NO_ENERGY
        assert told[0xEA][7:] == NO_ENERGY


async def test_a_register_rolls_over(home: Home) -> None:
    async with home.trouble("rollover", within=1):
        live, boundary, yesterday = await counts(home)
        assert live == 10**DIGITS - 1
        assert 10**DIGITS - 1000 < yesterday <= boundary <= live
        await home.bench.advance(6 * 3600)
        live, boundary, yesterday = await counts(home)
        assert 0 <= boundary <= live < 1000
        assert yesterday > 10**DIGITS - 1000
    live, _, _ = await counts(home)
    forward = home.bench.meter.metering.forward_mwh
    assert forward is not None
    assert abs(live - forward // UNITS_MWH[0x01]) <= 1


async def test_the_coefficient_divides_every_count(home: Home) -> None:
    assert (await home.get(0xD3))[0xD3] == (1).to_bytes(4, "big")
    async with home.trouble("coefficient", value=10):
        told = await home.get(0xD3, 0xEA)
        assert number(told[0xD3]) == 10
        assert number(told[0xEA][7:]) == at_last_boundary_mwh(home) // (10 * UNITS_MWH[0x01])
    async with home.trouble("coefficient", value=1):
        assert number((await home.get(0xD3))[0xD3]) == 1


async def test_a_meter_may_have_no_coefficient(home: Home) -> None:
    plain = (await home.get(0x9F))[0x9F]
    async with home.trouble("coefficient", value="absent"):
        assert (await home.rx(await home.send(0xD3))).service == GET_SNA
        assert (await home.get(0x9F))[0x9F][0] == plain[0] - 1
    assert (await home.rx(await home.send(0xD3))).service == GET_RES


async def test_registers_count_in_every_unit(home: Home) -> None:
    for code, unit_mwh in UNITS_MWH.items():
        async with home.trouble("unit", code=f"{code:02X}"):
            told = await home.get(0xE1, 0xE0, 0xEA)
            forward = home.bench.meter.metering.forward_mwh
            assert forward is not None
            assert told[0xE1] == bytes((code,))
            assert number(told[0xEA][7:]) == at_last_boundary_mwh(home) // unit_mwh % 10**DIGITS
            assert 0 <= forward // unit_mwh % 10**DIGITS - number(told[0xE0]) <= 10


async def test_power_and_currents_are_negative(home: Home) -> None:
    async with home.trouble("negative-power", watts=1000):
        told = await home.get(0xE7, 0xE8)
        assert told[0xE7] == (-1000).to_bytes(4, "big", signed=True)
        assert told[0xE8] == (-50).to_bytes(2, "big", signed=True) * 2


@pytest.mark.parametrize(
    ("direction", "power", "current"), [("over", "7FFFFFFF", "7FFF"), ("under", "80000000", "8000")]
)
async def test_power_and_currents_leave_their_range(
    home: Home, direction: str, power: str, current: str
) -> None:
    async with home.trouble("overflow", direction=direction):
        told = await home.get(0xE7, 0xE8)
        assert told == {0xE7: bytes.fromhex(power), 0xE8: bytes.fromhex(current * 2)}
