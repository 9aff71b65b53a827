"""The MCP39F521 driver over models of the chip: what it counts, and what disturbs it."""

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from i2c_slot import EagerClock, OneBusBoard, SharedBus, Steps

from meter_runtime.bench.board.ade7953 import DEFAULT_ADDRESS as ADE7953_ADDRESS
from meter_runtime.bench.board.ade7953 import Ade7953Chip
from meter_runtime.bench.board.bus import Chip
from meter_runtime.bench.board.ds3231 import Ds3231Chip
from meter_runtime.bench.board.mb85rc256v import Mb85rc256v
from meter_runtime.bench.board.mcp39f521 import EEPROM_SIZE, Mcp39f521Chip
from meter_runtime.bench.board.supply import Supply
from meter_runtime.bench.load import LoadModel
from meter_runtime.errors import UsageError
from meter_runtime.units.contracts import MeteringUnit, Nameplate, UnitFailure, UnitKind, Wiring
from meter_runtime.units.metering import ade7953
from meter_runtime.units.metering.mcp39f521 import DRIVER, frames, netting
from meter_runtime.units.metering.mcp39f521.frames import FrameError
from meter_runtime.units.metering.mcp39f521.unit import Mcp39f521Unit
from meter_runtime.units.metering.simulated import LoadSource

TWO_WIRE = Wiring.ONE_PHASE_TWO_WIRE
THREE_WIRE = Wiring.ONE_PHASE_THREE_WIRE
R, T = 0x74, 0x75


def plate(wiring: Wiring = THREE_WIRE, *, two_way: bool = True, **calibration: int) -> Nameplate:
    return Nameplate(
        UnitKind.METERING,
        "MU-3W-60",
        "M00000000042",
        wiring=wiring,
        two_way=two_way,
        calibration=calibration,
    )


class House:
    """A unit's chips on a supply, and the bus they are on."""

    def __init__(self, load: LoadSource, wiring: Wiring = THREE_WIRE, *, kept: bool = True) -> None:
        self.clock = EagerClock()
        self.supply = Supply(
            self.clock.monotonic, load, self.clock.at, (7_200_000, 3_600_000), wiring=wiring
        )
        self.chips = [
            Mcp39f521Chip(self.supply.tap(line), kept=kept) for line in range(self.supply.lines)
        ]
        self.board = OneBusBoard(dict(zip((R, T), self.chips, strict=False)))
        self.bus = self.board.virtual
        self.wiring = wiring

    async def unit(self, **options: object) -> Mcp39f521Unit:
        unit: Mcp39f521Unit = await DRIVER.build(
            self.board.context(self.clock, plate(self.wiring), **options)
        )
        return unit

    @property
    def mwh(self) -> tuple[int, int]:
        forward, reverse = self.supply.registers
        return forward // 3600, reverse // 3600


def quiet() -> Steps:
    return Steps(EagerClock().at, [(3600, 400)])


# Frames


@given(st.binary(min_size=1, max_size=32), st.integers(0, 255))
def test_an_answer_is_taken_whole_or_not_at_all(data: bytes, trailing: int) -> None:
    body = bytes((0x06, len(data) + 3)) + data
    answer = body + bytes((sum(body) % 256,))
    assert frames.content(answer, len(data)) == data
    for end in range(len(answer)):
        with pytest.raises(FrameError):
            frames.content(answer[:end], len(data))
    with pytest.raises(FrameError):
        frames.content(answer + bytes((trailing,)), len(data))
    for bit in range(8 * len(answer)):
        damaged = bytearray(answer)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            frames.content(bytes(damaged), len(data))


@given(st.binary(max_size=40), st.integers(0, 32))
def test_any_bytes_are_an_answer_or_a_frame_error(answer: bytes, n: int) -> None:
    try:
        told = frames.content(answer, n)
    except FrameError:
        return
    assert len(told) == n


def test_requests_are_those_that_open_drivers_send() -> None:
    assert frames.read_request(0x02, 32).hex() == "a508410002" + "4e205e"
    assert frames.write_request(0xDC, b"\x00\x01").hex() == "a50a4100dc4d0200011c"


@pytest.mark.parametrize("n", [0, 33])
def test_a_frame_has_at_most_32_bytes(n: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        frames.read_request(0x02, n)
    with pytest.raises(ValueError, match="32 bytes"):
        frames.write_request(0x82, bytes(n))


# Energy


@pytest.mark.parametrize("wiring", [TWO_WIRE, THREE_WIRE, Wiring.THREE_PHASE_THREE_WIRE])
async def test_it_says_what_flowed_over_days(wiring: Wiring) -> None:
    house = House(LoadModel(5, pv_kw=4.0, wiring=wiring), wiring)
    unit = await house.unit()
    for _ in range(3 * 1440):
        house.clock.at += 60
        sample = await unit.read()
        forward, reverse = house.mwh
        assert 0 <= forward - sample.forward_mwh < 2
        assert 0 <= reverse - sample.reverse_mwh < 2
    load = LoadModel(5, pv_kw=4.0, wiring=wiring).power(round(house.clock.at * 1000))
    assert abs(sample.power_w - load.power_w) <= 1
    assert sample.current_r_ma == load.r_ma
    assert sample.current_t_ma == load.t_ma
    assert sample.reverse_mwh > 1_000_000
    # A bench's clock stands still while it is read: nobody may have waited for it.
    assert house.clock.waits == []


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(-6000, 6000), min_size=5, max_size=40),
    st.lists(st.integers(-6000, 6000), min_size=5, max_size=40),
    st.floats(0.1, 0.9),
)
def test_the_direction_is_that_of_the_sum(
    r_watts: list[int], t_watts: list[int], phase: float
) -> None:
    """Powers change between readings: what that hides is bounded, and cancels out."""

    async def live() -> None:
        clock = EagerClock()
        begin = clock.at - phase
        loads = [Steps(begin, [(1, watt) for watt in watts]) for watts in (r_watts, t_watts)]
        supplies = [Supply(clock.monotonic, load, clock.at, wiring=TWO_WIRE) for load in loads]
        chips: dict[int, Chip] = {
            address: Mcp39f521Chip(supply.tap())
            for address, supply in zip((R, T), supplies, strict=True)
        }
        unit = await DRIVER.build(OneBusBoard(chips).context(clock, plate()))
        truth = [0.0, 0.0]
        hidden_mwh = 0.0
        seconds = 60
        at_ms = round(clock.at * 1000)
        for _ in range(seconds):
            net = []
            for _ in range(1000):
                net.append(sum(load.power(at_ms).power_w for load in loads) / 3600)
                at_ms += 1
            forward, reverse = sum(w for w in net if w > 0), -sum(w for w in net if w < 0)
            truth[0] += forward
            truth[1] += reverse
            hidden_mwh += min(forward, reverse)
            clock.at += 1
            sample = await unit.read()
        # One count of each chip and direction in each reading, where the lines balance.
        slack = 4 + seconds
        assert truth[0] - hidden_mwh - slack <= sample.forward_mwh <= truth[0] + slack
        assert truth[1] - hidden_mwh - slack <= sample.reverse_mwh <= truth[1] + slack
        balance = (sample.forward_mwh - sample.reverse_mwh) - (truth[0] - truth[1])
        assert abs(balance) <= 4

    asyncio.run(live())


async def test_a_one_way_unit_shows_nothing_in_reverse() -> None:
    clock = EagerClock()
    supply = Supply(clock.monotonic, Steps(clock.at, [(60, -900)]), clock.at, wiring=TWO_WIRE)
    board = OneBusBoard({R: Mcp39f521Chip(supply.tap())})
    unit = await DRIVER.build(board.context(clock, plate(TWO_WIRE, two_way=False)))
    clock.at += 3600
    sample = await unit.read()
    assert (sample.forward_mwh, sample.reverse_mwh) == (0, 0)
    assert sample.power_w == -900
    assert sample.current_r_ma == -1000
    assert sample.current_t_ma is None


async def test_reading_clears_nothing_and_writes_nothing() -> None:
    house = House(quiet())
    unit = await house.unit()
    house.bus.transactions.clear()
    first = await unit.read()
    assert await unit.read() == first
    requests = [seen.written for seen in house.bus.transactions if seen.written]
    assert len(requests) == 8
    assert all(request[5] == frames.READ_BYTES for request in requests)


async def test_a_chip_that_counts_is_not_written_to() -> None:
    house = House(quiet())
    await house.unit()
    writes = (frames.WRITE_BYTES, frames.WRITE_PAGE)
    commands = [seen.written[5:6] + seen.written[2:3] for seen in house.bus.transactions]
    assert not any(code in writes for command in commands for code in command)


# Settings


async def test_another_interval_miscounts_and_is_put_right() -> None:
    clock = EagerClock()
    supply = Supply(clock.monotonic, Steps(clock.at, [(60, 3600)]), clock.at, wiring=TWO_WIRE)
    chip = Mcp39f521Chip(supply.tap(), kept=False, interval=4)
    board = OneBusBoard({R: chip})
    board.virtual.write(R, frames.write_request(0xDC, b"\x01\x00"))
    assert board.virtual.read(R, 1) == b"\x06"
    clock.at += 100
    assert chip.counters_mwh == (25_000, 0)
    unit = await DRIVER.build(board.context(clock, plate(TWO_WIRE)))
    clock.at += 100
    assert (await unit.read()).forward_mwh == 125_000
    assert await unit.self_test() == []


async def test_the_nameplates_calibration_is_written_once() -> None:
    house = House(quiet())
    calibration = plate(r_gain_current=40_386, t_phase=-48, r_range=0x00160F12)
    for _ in range(2):
        await DRIVER.build(house.board.context(house.clock, calibration))
    written = [
        (seen.address, seen.written[4], seen.written[7:-1])
        for seen in house.bus.transactions
        if seen.written[5:6] == bytes((frames.WRITE_BYTES,))
    ]
    assert written == [
        (R, 0x60, (40_386).to_bytes(2, "little")),
        (R, 0x82, b"\x12\x0f\x16\x00"),
        (T, 0x76, b"\xd0\xff"),
    ]


async def test_a_calibration_it_does_not_know_is_refused() -> None:
    house = House(quiet())
    context = house.board.context(house.clock, plate(r_gain_curent=1))
    with pytest.raises(UnitFailure, match=r'M00000000042: .*mean "r_gain_current"'):
        await DRIVER.build(context)


async def test_self_test_tells_what_is_wrong() -> None:
    house = House(quiet())
    unit = await house.unit()
    assert await unit.self_test() == []
    house.bus.write(R, frames.write_request(0x9E, b"\x05\x00"))
    house.bus.write(T, frames.write_request(0xDC, b"\x00\x00"))
    assert await unit.self_test() == [
        "i2c-7 address 0x74: accumulation interval 5: energy is miscounted",
        "i2c-7 address 0x75: energy is not counted",
    ]
    del house.bus.chips[R]
    assert "address 0x74: Remote I/O error" in (await unit.self_test())[0]


async def test_whether_registers_are_kept_is_the_units_or_the_configurations_word() -> None:
    house = House(quiet())
    assert not (await house.unit()).keeps_registers
    assert (await house.unit(volatile=False)).keeps_registers
    kept = house.board.context(house.clock, plate(keeps_registers=1))
    assert (await DRIVER.build(kept)).keeps_registers


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adresses": "0x74"}, 'no option "adresses"; did you mean "addresses"'),
        ({"addresses": "0x38"}, "give one or two of 0x74, 0x75, 0x76, 0x77"),
        ({"addresses": "0x74,0x74"}, "give one or two of"),
        ({"addresses": "0x74"}, "names 1 and unit M00000000042 has 2 elements"),
        ({"volatile": "yes"}, "give true or false"),
    ],
)
async def test_wrong_options_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        await House(quiet()).unit(**options)


async def test_chips_may_be_at_other_addresses() -> None:
    house = House(quiet())
    house.bus.chips[0x77] = house.bus.chips.pop(R)
    unit = await house.unit(addresses="0x77,0x75")
    assert (await unit.read()).forward_mwh == 2000


# Power


async def test_a_chip_that_lost_its_power_counts_on() -> None:
    house = House(Steps(EagerClock().at, [(60, 3600)]), kept=False)
    unit = await house.unit()
    house.clock.at += 10
    assert (await unit.read()).forward_mwh == 10_000
    house.chips[1].power_off()
    with pytest.raises(UnitFailure, match="0x75"):
        await unit.read()
    house.chips[1].power_on()
    house.clock.at += 2  # the chip is not enabled: line T's share is lost
    assert (await unit.read()).forward_mwh == 11_000
    house.clock.at += 10
    assert (await unit.read()).forward_mwh == 21_000


async def test_kept_registers_outlive_the_driver() -> None:
    house = House(LoadModel(5))
    unit = await house.unit(volatile=False)
    await unit.read()
    await unit.close()
    for chip in house.chips:
        chip.power_off()
    house.clock.at += 86_400
    for chip in house.chips:
        chip.power_on()
    sample = await (await house.unit(volatile=False)).read()
    assert 0 <= house.mwh[0] - sample.forward_mwh < 2


def opposed(clock: EagerClock) -> tuple[OneBusBoard, list[Mcp39f521Chip]]:
    """Line R takes 3600 W, line T gives 1800 W."""
    chips = []
    for watts in (3600, -1800):
        load = Steps(clock.at, [(60, watts)])
        supply = Supply(clock.monotonic, load, clock.at, wiring=TWO_WIRE)
        chips.append(Mcp39f521Chip(supply.tap()))
    return OneBusBoard(dict(zip((R, T), chips, strict=True))), chips


async def run(unit: MeteringUnit, clock: EagerClock, seconds: int) -> tuple[int, int]:
    for _ in range(seconds):
        clock.at += 1
        sample = await unit.read()
    return sample.forward_mwh, sample.reverse_mwh


async def test_what_circulated_is_remembered_in_the_chip() -> None:
    clock = EagerClock()
    board, chips = opposed(clock)
    unit: Mcp39f521Unit = await DRIVER.build(board.context(clock, plate()))
    assert await run(unit, clock, 600) == (300_000, 0)
    await unit.close()
    await unit.close()
    again: Mcp39f521Unit = await DRIVER.build(board.context(clock, plate()))
    assert await run(again, clock, 1) == (300_500, 0)
    records = [chips[0].eeprom[at : at + 16] for at in range(0, EEPROM_SIZE, 16)]
    assert {bytes(record) == b"\xff" * 16 for record in records[: netting.FIRST_PAGE]} == {True}


@pytest.mark.parametrize("seconds", [1, 19, 20, 21, 399])
async def test_an_end_without_warning_counts_ten_watt_hours_too_much_at_most(seconds: int) -> None:
    clock = EagerClock()
    board, _ = opposed(clock)
    unit: Mcp39f521Unit = await DRIVER.build(board.context(clock, plate()))
    forward, _ = await run(unit, clock, seconds)
    sample = await (await DRIVER.build(board.context(clock, plate()))).read()
    assert 0 <= sample.forward_mwh - forward < netting.STORE_MWH
    assert sample.forward_mwh - forward == sample.reverse_mwh


async def test_after_an_outage_what_turned_round_is_not_lost() -> None:
    clock = EagerClock()
    loads = [Steps(clock.at, [(600, 3600), (600, -3600)]) for _ in range(2)]
    supplies = [Supply(clock.monotonic, load, clock.at, wiring=TWO_WIRE) for load in loads]
    chips: dict[int, Chip] = {
        address: Mcp39f521Chip(supply.tap())
        for address, supply in zip((R, T), supplies, strict=True)
    }
    unit = await DRIVER.build(OneBusBoard(chips).context(clock, plate()))
    clock.at += 1200
    sample = await unit.read()
    assert (sample.forward_mwh, sample.reverse_mwh) == (1_200_000, 1_200_000)


async def test_a_record_of_counters_long_cleared_is_not_believed() -> None:
    clock = EagerClock()
    board, chips = opposed(clock)
    unit: Mcp39f521Unit = await DRIVER.build(board.context(clock, plate()))
    await run(unit, clock, 100)
    await unit.close()
    for chip in chips:
        board.virtual.write(R if chip is chips[0] else T, frames.write_request(0xDC, b"\x00\x00"))
    again: Mcp39f521Unit = await DRIVER.build(board.context(clock, plate()))
    assert await run(again, clock, 10) == (5000, 0)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1), st.integers(0, 2**16 - 1))
def test_a_record_is_whole_or_none(circulated: int, imported: int, count: int) -> None:
    page = netting.encode(circulated, imported, count)
    assert netting.decode(page) == (circulated, imported, count)
    for bit in range(128):
        damaged = bytearray(page)
        damaged[bit // 8] ^= 1 << bit % 8
        assert netting.decode(bytes(damaged)) is None
    for end in range(16):
        assert netting.decode(page[:end]) is None


@pytest.mark.parametrize("page", [b"\xff" * 16, b"\x00" * 16])
def test_a_blank_page_is_no_record(page: bytes) -> None:
    assert netting.decode(page) is None


@pytest.mark.parametrize("first", [0, 65_530])
async def test_the_newest_record_is_found_where_the_count_wraps(first: int) -> None:
    clock = EagerClock()
    board, chips = opposed(clock)
    for count in range(first, first + 40):
        page = netting.FIRST_PAGE + count % netting.PAGES_USED
        record = netting.encode(count - first, 0, count)
        board.virtual.write(R, frames.page_write_request(page, record))
    await DRIVER.build(board.context(clock, plate()))
    clock.at += 3600
    sample = await (await DRIVER.build(board.context(clock, plate()))).read()
    assert chips[1].counters_mwh[1] - sample.reverse_mwh == 39


# Disturbances


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 7)), min_size=1, max_size=1))
def test_a_flipped_bit_never_becomes_energy(flips: list[tuple[int, int]]) -> None:
    async def live() -> None:
        house = House(LoadModel(5, pv_kw=4.0))
        unit = await house.unit()
        for nth, bit in flips:
            house.bus.flip(nth, bit)
        for _ in range(3):
            house.clock.at += 1
            sample = await unit.read()
            forward, reverse = house.mwh
            assert 0 <= forward - sample.forward_mwh < 2
            assert 0 <= reverse - sample.reverse_mwh < 2

    asyncio.run(live())


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_few_refusals_are_healed(count: int) -> None:
    house = House(quiet())
    unit = await house.unit()
    house.bus.nak(R, count)
    assert (await unit.read()).forward_mwh == 2000


async def test_a_silent_unit_says_who_and_where_within_a_second_and_comes_back() -> None:
    house = House(quiet())
    unit = await house.unit()
    chip = house.bus.chips.pop(T)
    before = house.clock.at
    said = r"^MCP39F521 no\. M00000000042: i2c-7 address 0x75: Remote I/O error"
    with pytest.raises(UnitFailure, match=said):
        await unit.read()
    assert house.clock.at - before < 1
    house.bus.chips[T] = chip
    house.clock.at += 3600
    assert (await unit.read()).forward_mwh == house.mwh[0]


async def test_a_stuck_bus_is_told() -> None:
    house = House(quiet())
    unit = await house.unit()
    house.bus.stuck = True
    with pytest.raises(UnitFailure, match="the bus is stuck"):
        await unit.read()


async def test_a_chip_that_needs_time_to_answer_gets_it_from_then_on() -> None:
    class Slow(Mcp39f521Chip):
        """It has its answer ready 15 ms after the request."""

        asked_at = 0.0

        def write(self, data: bytes) -> None:
            self.asked_at = clock.at
            super().write(data)

        def read(self, n: int) -> bytes:
            ready = clock.at - self.asked_at >= 0.015
            return super().read(n) if ready else b"\xff" * n

    clock = EagerClock()
    supply = Supply(clock.monotonic, Steps(clock.at, [(60, 400)]), clock.at, wiring=TWO_WIRE)
    chip = Slow(supply.tap())
    board = OneBusBoard({R: chip})
    unit = await DRIVER.build(board.context(clock, plate(TWO_WIRE)))
    board.virtual.transactions.clear()
    clock.waits.clear()
    assert (await unit.read()).power_w == 400
    assert len(board.virtual.transactions) == 4
    assert clock.waits == pytest.approx([0.02, 0.02])


async def test_readings_at_once_count_once() -> None:
    clock = EagerClock()
    board, _ = opposed(clock)
    unit: Mcp39f521Unit = await DRIVER.build(board.context(clock, plate()))
    await run(unit, clock, 19)
    clock.at += 1  # and what circulated is stored
    for sample in await asyncio.gather(*(unit.read() for _ in range(5))):
        assert (sample.forward_mwh, sample.reverse_mwh) == (10_000, 0)


async def test_two_readings_at_once_do_not_mix_their_answers() -> None:
    house = House(quiet())
    unit = await house.unit()
    samples = await asyncio.gather(unit.read(), unit.read(), unit.self_test())
    assert samples[0] == samples[1]
    assert samples[2] == []


# Detection


async def test_one_chip_is_found_as_a_two_wire_unit_and_two_as_a_three_wire_one() -> None:
    house = House(quiet())
    assert DRIVER.detect is not None
    found = await DRIVER.detect(house.board.wires)
    assert found is not None
    assert (found.model, found.serial, found.driver) == ("MCP39F521", "MCP39F521@74", "mcp39f521")
    assert (found.wiring, found.fw_version) == (THREE_WIRE, "FC05")
    del house.bus.chips[T]
    found = await DRIVER.detect(house.board.wires)
    assert found is not None
    assert found.wiring is TWO_WIRE


async def test_a_unit_without_an_eeprom_is_built_as_it_is_detected() -> None:
    house = House(quiet())
    assert DRIVER.detect is not None
    unit = await DRIVER.build(house.board.context(house.clock))
    assert unit.nameplate == await DRIVER.detect(house.board.wires)


async def test_others_are_not_claimed() -> None:
    assert DRIVER.detect is not None
    clock = EagerClock()
    supply = Supply(clock.monotonic, quiet(), clock.at)
    others: list[Chip] = [
        Ds3231Chip(clock.monotonic),
        Mb85rc256v(),
        Ade7953Chip([supply.tap()]),
        Mcp39f521Chip(supply.tap(), version=0xFFFF),
    ]
    for other in others:
        assert await DRIVER.detect(OneBusBoard({R: other}).wires) is None
    assert await DRIVER.detect(OneBusBoard({}).wires) is None


async def test_a_stuck_bus_proves_nothing() -> None:
    house = House(quiet())
    house.bus.stuck = True
    assert DRIVER.detect is not None
    with pytest.raises(UnitFailure, match="the bus is stuck"):
        await DRIVER.detect(house.board.wires)


async def test_a_bus_that_hangs_costs_less_than_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(*_: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    house = House(quiet())
    monkeypatch.setattr(SharedBus, "write", hang)
    monkeypatch.setattr(SharedBus, "transfer", hang)
    monkeypatch.setattr("meter_runtime.units.metering.mcp39f521.unit.DETECT_BOUND_S", 0.01)
    assert DRIVER.detect is not None
    with pytest.raises(UnitFailure, match=r"i2c-7: no answer within 0\.01 s"):
        await DRIVER.detect(house.board.wires)


async def test_the_other_meter_chips_driver_does_not_claim_it() -> None:
    house = House(quiet())
    house.bus.chips[ADE7953_ADDRESS] = house.chips[0]
    assert ade7953.DRIVER.detect is not None
    assert await ade7953.DRIVER.detect(house.board.wires) is None


async def test_a_unit_that_is_not_there_cannot_be_built() -> None:
    board = OneBusBoard({})
    with pytest.raises(UnitFailure, match="nobody answers at i2c-7 addresses 0x74 to 0x77"):
        await DRIVER.build(board.context(EagerClock()))
    with pytest.raises(UnitFailure, match="M00000000042: i2c-7 address 0x74"):
        await DRIVER.build(board.context(EagerClock(), plate()))
