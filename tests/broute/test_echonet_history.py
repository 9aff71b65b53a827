"""Day rows and chosen ranges: which registers the home sees, and of which day."""

import struct

import pytest
from home_meter import Home, HomeMeter, at, home, slot_of
from hypothesis import given
from hypothesis import strategies as st
from real_meter_frames import FRAMES

from meter_runtime.broute.echonet.frame import Esv, encode
from meter_runtime.clock import jst_day

NO_ENERGY = 0xFFFFFFFE
MIDNIGHT = slot_of("2026-11-22 00:00")


def row(controller: Home, epc: int = 0xE2) -> tuple[int, list[int]]:
    """Days ago, and the 48 registers."""
    edt = controller.edt(epc)
    assert len(edt) == 194
    days_ago, *registers = struct.unpack(">H48I", edt)
    return days_ago, registers


def forty_five_days() -> HomeMeter:
    data = HomeMeter()
    data.store_days("2026-10-09", 45)
    return data


def test_before_any_day_was_set_the_row_is_empty() -> None:
    controller = home(forty_five_days())
    assert controller.edt(0xE5) == b"\xff"
    assert row(controller) == (0xFF, [NO_ENERGY] * 48)
    assert row(controller, 0xE4) == (0xFF, [NO_ENERGY] * 48)


def test_today_ends_at_the_last_boundary() -> None:
    controller = home(forty_five_days())
    assert controller.set(0xE5, b"\x00")
    days_ago, registers = row(controller)
    assert days_ago == 0
    assert registers[:29] == [MIDNIGHT + i for i in range(29)]
    assert registers[29:] == [NO_ENERGY] * 19


def test_a_boundary_at_this_very_instant_is_no_future() -> None:
    data = forty_five_days()
    data.now = at("2026-11-22 14:30:00")
    controller = home(data)
    controller.set(0xE5, b"\x00")
    assert row(controller)[1][29] == MIDNIGHT + 29


def test_rows_hold_register_values_of_the_chosen_day_in_both_directions() -> None:
    controller = home(forty_five_days())
    assert controller.set(0xE5, b"\x03")
    start = slot_of("2026-11-19 00:00")
    assert row(controller) == (3, [start + i for i in range(48)])
    assert row(controller, 0xE4) == (3, [(start + i) * 100 // 1000 for i in range(48)])


def test_forty_days_back_are_served_and_no_more() -> None:
    controller = home(forty_five_days())
    assert controller.set(0xE5, bytes((40,)))
    assert row(controller) == (40, [slot_of("2026-10-13 00:00") + i for i in range(48)])
    for days in (41, 42, 99):
        assert controller.set(0xE5, bytes((days,)))
        assert row(controller) == (days, [NO_ENERGY] * 48)


@pytest.mark.parametrize("edt", [b"", b"\x64", b"\xfe", b"\xff", b"\x00\x01"])
def test_a_day_out_of_range_or_of_a_wrong_size_is_refused(edt: bytes) -> None:
    controller = home()
    controller.set(0xE5, b"\x07")
    assert not controller.set(0xE5, edt)
    assert controller.edt(0xE5) == b"\x07"


def test_a_missing_boundary_has_no_data_among_its_neighbours() -> None:
    data = forty_five_days()
    del data.boundaries[MIDNIGHT - 46]
    controller = home(data)
    controller.set(0xE5, b"\x01")
    registers = row(controller)[1]
    assert registers[2] == NO_ENERGY
    assert NO_ENERGY not in registers[:2] + registers[3:]


def test_the_chosen_date_stays_when_midnight_passes() -> None:
    data = forty_five_days()
    data.now = at("2026-11-22 23:59:59")
    controller = home(data)
    controller.set(0xE5, b"\x00")
    before = row(controller)[1]
    data.now = at("2026-11-23 00:00:01")
    assert row(controller) == (1, before)
    assert controller.edt(0xE5) == b"\x01"


def test_a_choice_grown_older_than_ninety_nine_days_is_forgotten() -> None:
    data = forty_five_days()
    controller = home(data)
    controller.set(0xE5, b"\x63")
    data.now += 86_400
    assert controller.edt(0xE5) == b"\xff"
    assert row(controller) == (0xFF, [NO_ENERGY] * 48)


def test_both_rows_of_one_answer_and_the_day_agree_across_midnight() -> None:
    class AtMidnight(HomeMeter):
        def wall(self) -> float:
            """The clock passes midnight with whatever is read next."""
            self.now += 1.0
            return self.now - 1.0

    data = AtMidnight()
    data.store_days("2026-11-20", 4)
    data.now = at("2026-11-22 23:59:58")
    controller = home(data)
    controller.set(0xE5, b"\x00")
    told = controller.get(0xE2, 0xE4, 0xE5, 0x97, 0x98)
    forward, reverse, day, clock, date = (edt for _, edt in told.properties)
    assert forward[:2] == reverse[:2] == b"\x00" + day == b"\x00\x00"
    assert clock == bytes((23, 59))
    assert date == bytes.fromhex("07EA0B16")


def test_setting_the_day_and_reading_its_row_go_in_one_request() -> None:
    controller = home(forty_five_days())
    answer = controller.ask(Esv.SET_GET, (0xE5, b"\x02"), then_get=(0xE2, 0xE5))
    assert answer is not None
    assert answer.esv == Esv.SET_GET_RES
    assert answer.properties_get is not None
    assert answer.properties_get[0].edt[:2] == b"\x00\x02"
    assert answer.properties_get[1].edt == b"\x02"


def test_an_untrusted_clock_has_no_history() -> None:
    data = forty_five_days()
    data.trusted = False
    controller = home(data, "aif-1.01")
    controller.set(0xE5, b"\x01")
    controller.set(0xED, bytes.fromhex("07EA0B160E0001"))
    assert row(controller) == (1, [NO_ENERGY] * 48)
    assert controller.edt(0xEC)[7:] == bytes.fromhex("FFFFFFFE" * 2)


def test_a_stored_row_is_read_once_while_nothing_is_added() -> None:
    data = forty_five_days()
    controller = home(data)
    controller.set(0xE5, b"\x01")
    first = row(controller)
    reads = data.boundary_reads
    assert row(controller) == first
    assert data.boundary_reads == reads
    data.boundaries[MIDNIGHT - 48] = (77_000, 0)
    data.epoch += 1
    assert row(controller)[1][0] == 77


def test_a_clock_put_back_hides_what_is_future_again() -> None:
    data = forty_five_days()
    controller = home(data)
    controller.set(0xE5, b"\x00")
    assert row(controller)[1][28] == MIDNIGHT + 28
    data.now = at("2026-11-22 10:10:00")
    registers = row(controller)[1]
    assert registers[20] == MIDNIGHT + 20
    assert registers[21:] == [NO_ENERGY] * 27


def test_a_clock_put_back_before_the_chosen_day_forgets_the_choice() -> None:
    data = forty_five_days()
    controller = home(data)
    controller.set(0xE5, b"\x00")
    data.now -= 86_400
    assert row(controller)[0] == 0xFF


def test_a_real_meter_s_row_is_reproduced_bit_for_bit() -> None:
    real = next(frame for frame in FRAMES if frame[12:14] == bytes.fromhex("E2C2"))
    days_ago, *registers = struct.unpack(">H48I", real[14:])
    data = HomeMeter()
    first = slot_of("2026-11-11 00:00")
    data.boundaries = {first + i: (register * 1000, 0) for i, register in enumerate(registers)}
    controller = home(data)
    assert controller.set(0xE5, bytes((days_ago,)))
    controller.tid = 0
    assert encode(controller.get(0xE2)) == real


INITIAL = bytes.fromhex("FFFFFFFFFFFF01")


@pytest.mark.parametrize(("chosen", "history"), [(0xED, 0xEC), (0xEF, 0xEE)])
def test_a_range_never_chosen_is_one_entry_without_data(chosen: int, history: int) -> None:
    controller = home(forty_five_days(), "aif-1.10")
    assert controller.edt(chosen) == INITIAL
    assert controller.edt(history) == INITIAL + bytes.fromhex("FFFFFFFEFFFFFFFE")


def test_a_range_of_half_hours_goes_back_from_the_chosen_instant() -> None:
    controller = home(forty_five_days())
    choice = bytes.fromhex("07EA0B160E1E03")
    assert controller.set(0xED, choice)
    assert controller.edt(0xED) == choice
    edt = controller.edt(0xEC)
    assert edt[:7] == choice
    newest = MIDNIGHT + 29
    assert struct.unpack(">6I", edt[7:]) == (
        NO_ENERGY,
        NO_ENERGY,
        newest - 1,
        (newest - 1) // 10,
        newest - 2,
        (newest - 2) // 10,
    ), "14:30 is not reached yet, 14:00 and 13:30 are"


def test_a_range_may_begin_at_this_very_instant() -> None:
    data = forty_five_days()
    data.now = at("2026-11-22 14:30:00")
    controller = home(data)
    controller.set(0xED, bytes.fromhex("07EA0B160E1E01"))
    assert struct.unpack(">2I", controller.edt(0xEC)[7:])[0] == MIDNIGHT + 29


def test_a_range_ends_where_the_forty_days_do() -> None:
    controller = home(forty_five_days())
    assert controller.set(0xED, bytes.fromhex("07EA0A0D000002"))
    newest = slot_of("2026-10-13 00:00")
    assert struct.unpack(">4I", controller.edt(0xEC)[7:]) == (
        newest,
        newest // 10,
        NO_ENERGY,
        NO_ENERGY,
    )


def test_a_range_of_a_one_way_meter_has_no_reverse() -> None:
    controller = home(forty_five_days(), two_way=False)
    controller.set(0xED, bytes.fromhex("07EA0B160E0001"))
    assert struct.unpack(">2I", controller.edt(0xEC)[7:]) == (MIDNIGHT + 28, NO_ENERGY)


def test_a_range_of_minutes_goes_back_minute_by_minute() -> None:
    data = HomeMeter()
    minute = int(at("2026-11-22 14:09:00")) // 60
    data.minutes = {minute - i: ((500 - i) * 1000, (50 - i) * 1000) for i in range(3)}
    controller = home(data, "aif-1.10")
    assert controller.set(0xEF, bytes.fromhex("07EA0B160E0904"))
    registers = struct.unpack(">8I", controller.edt(0xEE)[7:])
    assert registers == (500, 50, 499, 49, 498, 48, NO_ENERGY, NO_ENERGY)


@pytest.mark.parametrize(
    "edt",
    [
        "07EA0B160E1E00",
        "07EA0B160E1E0D",
        "07EA0B160E0F01",
        "07EA0B16180001",
        "07EA021E000001",
        "07EA0D01000001",
        "0000010100001E",
        "00000101000001",
        "27100101000001",
        "FFFFFFFFFFFF01",
        "07EA0B160E1E",
        "07EA0B160E1E0100",
        "",
    ],
)
def test_an_instant_no_calendar_has_is_refused(edt: str) -> None:
    controller = home()
    assert not controller.set(0xED, bytes.fromhex(edt))
    assert controller.edt(0xED) == INITIAL


def test_one_request_takes_at_most_ten_minutes() -> None:
    controller = home(profile="aif-1.10")
    assert controller.set(0xEF, bytes.fromhex("07EA0B160E090A"))
    assert not controller.set(0xEF, bytes.fromhex("07EA0B160E090B"))


@given(st.binary(min_size=6, max_size=8))
def test_any_range_is_refused_or_answered_in_full(edt: bytes) -> None:
    controller = home(forty_five_days(), "aif-1.10")
    for chosen, history in ((0xED, 0xEC), (0xEF, 0xEE)):
        taken = controller.set(chosen, edt)
        told = controller.edt(history)
        assert told[:7] == (edt if taken else INITIAL)
        assert len(told) == 7 + 8 * told[6]


@given(st.integers(1, 9998), st.integers(1, 12), st.integers(1, 28), st.integers(0, 47))
def test_the_edges_of_the_calendar_are_answered(
    year: int, month: int, day: int, half_hour: int
) -> None:
    controller = home(forty_five_days())
    choice = struct.pack(">HBBBBB", year, month, day, half_hour // 2, half_hour % 2 * 30, 12)
    assert controller.set(0xED, choice)
    assert len(controller.edt(0xEC)) == 7 + 8 * 12


@given(st.integers(0, 99), st.integers(0, 120 * 86_400))
def test_a_row_always_names_the_day_that_was_chosen(days: int, later: int) -> None:
    data = forty_five_days()
    chosen = jst_day(data.now - days * 86_400)
    controller = home(data)
    assert controller.set(0xE5, bytes((days,)))
    data.now += later
    days_ago, registers = row(controller)
    if days_ago == 0xFF:
        assert (jst_day(data.now) - chosen).days > 99
        return
    assert jst_day(data.now - days_ago * 86_400) == chosen
    start = slot_of(f"{chosen.isoformat()} 00:00")
    told = {start + i: count for i, count in enumerate(registers) if count != NO_ENERGY}
    expected = {slot: slot for slot in range(start, start + 48) if slot in data.boundaries}
    if days_ago > 40:
        expected = {}
    assert told == {slot: count for slot, count in expected.items() if slot * 1800 <= data.now}
