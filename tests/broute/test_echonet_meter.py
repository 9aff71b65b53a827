"""What each property of the meter and of the node profile says, and what it says without data."""

import pytest
from home_meter import EUI64, ROUTE_B_ID, Home, HomeMeter, at, home, settings, slot_of
from hypothesis import given
from hypothesis import strategies as st
from real_meter_frames import FRAMES

from meter_runtime.broute.echonet.data import ENERGY_UNITS_MWH, MeterSettings
from meter_runtime.broute.echonet.frame import Esv, Frame, Property, encode
from meter_runtime.broute.echonet.node import EchonetNode
from meter_runtime.broute.echonet.node_profile import NODE_EOJ
from meter_runtime.errors import UsageError
from meter_runtime.units.contracts import Wiring

NO_ENERGY = bytes.fromhex("FFFFFFFE")


@pytest.mark.parametrize(
    ("watt", "edt"),
    [
        (0x4A8, "000004A8"),
        (0, "00000000"),
        (-1, "FFFFFFFF"),
        (None, "7FFFFFFE"),
        (0x7FFFFFFD, "7FFFFFFD"),
        (0x7FFFFFFE, "7FFFFFFF"),
        (1 << 40, "7FFFFFFF"),
        (-0x7FFFFFFF, "80000001"),
        (-0x80000000, "80000000"),
        (-(1 << 40), "80000000"),
    ],
)
def test_power_is_signed_and_knows_its_limits(watt: int | None, edt: str) -> None:
    assert home(HomeMeter(watt=watt)).edt(0xE7) == bytes.fromhex(edt)


@pytest.mark.parametrize(
    ("milliampere", "edt"),
    [
        (None, "7FFE"),
        (0, "0000"),
        (49, "0000"),
        (50, "0001"),
        (-49, "0000"),
        (-50, "FFFF"),
        (9_800, "0062"),
        (3_276_549, "7FFD"),
        (3_276_550, "7FFF"),
        (99_999_999, "7FFF"),
        (-3_276_700, "8001"),
        (-3_276_750, "8000"),
        (-99_999_999, "8000"),
    ],
)
def test_a_current_is_rounded_to_the_nearest_tenth_of_an_ampere(
    milliampere: int | None, edt: str
) -> None:
    data = HomeMeter(r_ma=milliampere, t_ma=milliampere)
    assert home(data).edt(0xE8) == bytes.fromhex(edt * 2)


def test_a_two_wire_meter_has_no_t_phase() -> None:
    two_wire = home(HomeMeter(), wiring=Wiring.ONE_PHASE_TWO_WIRE)
    assert two_wire.edt(0xE8) == bytes.fromhex("000A7FFE")


def test_a_three_wire_meter_shows_both_phases() -> None:
    assert home(HomeMeter()).edt(0xE8) == bytes.fromhex("000AFFEC")


@pytest.mark.parametrize("unit", ENERGY_UNITS_MWH)
def test_a_register_drops_the_fraction_of_a_count(unit: int) -> None:
    one = ENERGY_UNITS_MWH[unit]
    data = HomeMeter(forward=7 * one, reverse=7 * one - 1)
    controller = home(data, energy_unit=unit)
    assert controller.edt(0xE1) == bytes((unit,))
    assert controller.edt(0xE0) == bytes.fromhex("00000007")
    assert controller.edt(0xE3) == bytes.fromhex("00000006")


@pytest.mark.parametrize("digits", range(1, 9))
def test_a_register_wraps_at_its_effective_digits(digits: int) -> None:
    data = HomeMeter(forward=(10**digits + 3) * 100_000)
    controller = home(data, effective_digits=digits)
    assert controller.edt(0xD7) == bytes((digits,))
    assert controller.edt(0xE0) == bytes.fromhex("00000003")
    data.forward = (10**digits - 1) * 100_000
    assert int.from_bytes(controller.edt(0xE0), "big") == 10**digits - 1


def test_a_coefficient_divides_every_register() -> None:
    data = HomeMeter(forward=120 * 50 * 100_000)
    data.boundaries[slot_of("2026-11-22 14:00")] = (120 * 40 * 1000, 0)
    controller = home(data, coefficient=120)
    assert controller.edt(0xD3) == bytes.fromhex("00000078")
    assert controller.edt(0xE0) == bytes.fromhex("00000032")
    assert controller.edt(0xEA)[7:] == bytes.fromhex("00000028")


def test_a_register_without_data_is_never_a_zero() -> None:
    data = HomeMeter(forward=None, reverse=None, watt=None, r_ma=None, t_ma=None)
    told = home(data, "aif-1.10").get(0xE0, 0xE3, 0xE7, 0xE8, 0xEA, 0xEB)
    assert told.esv == Esv.GET_RES
    assert [edt[-4:].hex().upper() for _, edt in told.properties] == [
        "FFFFFFFE",
        "FFFFFFFE",
        "7FFFFFFE",
        "7FFE7FFE",
        "FFFFFFFE",
        "FFFFFFFE",
    ]


def test_the_half_hour_value_is_stamped_with_its_boundary() -> None:
    data = HomeMeter(boundaries={slot_of("2026-11-22 14:00"): (5_000_000, 70_000)})
    controller = home(data)
    assert controller.edt(0xEA) == bytes.fromhex("07EA0B160E000000001388")
    assert controller.edt(0xEB) == bytes.fromhex("07EA0B160E000000000046")


def test_a_missed_half_hour_keeps_its_stamp_and_has_no_data() -> None:
    data = HomeMeter(boundaries={slot_of("2026-11-22 13:30"): (5_000_000, 70_000)})
    assert home(data).edt(0xEA) == bytes.fromhex("07EA0B160E0000FFFFFFFE")


def test_the_clock_is_told_in_japan_standard_time() -> None:
    controller = home(HomeMeter(now=at("2027-01-01 00:00:59")))
    assert controller.edt(0x97) == bytes.fromhex("0000")
    assert controller.edt(0x98) == bytes.fromhex("07EB0101")


def test_a_clock_never_set_is_not_told() -> None:
    data = HomeMeter(trusted=False, boundaries={slot_of("2026-11-22 14:00"): (1, 1)})
    controller = home(data)
    told = controller.get(0x97, 0x98, 0xE0)
    assert told.esv == Esv.GET_SNA
    assert [bool(edt) for _, edt in told.properties] == [False, False, True]
    assert controller.edt(0xEA)[7:] == NO_ENERGY


@pytest.mark.parametrize("epc", [0x97, 0x98, 0x80, 0xE0, 0xE7])
def test_what_the_home_may_only_read_cannot_be_set(epc: int) -> None:
    controller = home()
    before = controller.edt(epc)
    assert not controller.set(epc, before)
    assert controller.edt(epc) == before


def test_one_minute_data_carry_the_last_whole_minute() -> None:
    data = HomeMeter()
    data.minutes[int(data.now) // 60] = (5_000_000, 70_000)
    controller = home(data, "aif-1.10")
    assert controller.edt(0xD0) == bytes.fromhex("07EA0B160E0A000000138800000046")
    data.minutes.clear()
    assert controller.edt(0xD0) == bytes.fromhex("07EA0B160E0A00FFFFFFFEFFFFFFFE")


def test_one_minute_data_of_a_one_way_meter_have_no_reverse() -> None:
    data = HomeMeter()
    data.minutes[int(data.now) // 60] = (5_000_000, 70_000)
    assert home(data, "aif-1.10", two_way=False).edt(0xD0)[7:] == bytes.fromhex("00001388FFFFFFFE")


def test_the_route_b_number_is_the_second_generation_s() -> None:
    assert home(profile="aif-1.10").edt(0xC0) == bytes.fromhex(ROUTE_B_ID)
    assert home().get(0xC0).esv == Esv.GET_SNA


@pytest.mark.parametrize(
    ("profile", "release"),
    [("kansai", "00004600"), ("aif-1.01", "00004600"), ("aif-1.10", "00005201")],
)
def test_the_release_follows_the_profile(profile: str, release: str) -> None:
    assert home(profile=profile).edt(0x82) == bytes.fromhex(release)


def test_the_fault_status_follows_the_meter() -> None:
    data = HomeMeter(faulty=True)
    controller = home(data)
    assert controller.edt(0x88) == b"\x41"
    data.faulty = False
    assert controller.edt(0x88) == b"\x42"


@pytest.mark.parametrize("place", ["00", "08", "61", "FF", "01" + "22" * 16])
def test_the_home_may_name_the_place(place: str) -> None:
    controller = home()
    assert controller.set(0x81, bytes.fromhex(place))
    assert controller.edt(0x81) == bytes.fromhex(place)


@pytest.mark.parametrize("place", ["", "01", "02", "07", "6161", "61" + "22" * 16, "01" * 18])
def test_a_place_of_a_wrong_form_is_refused(place: str) -> None:
    controller = home()
    assert not controller.set(0x81, bytes.fromhex(place))
    assert controller.edt(0x81) == b"\x61"


def test_kansai_tells_no_coefficient() -> None:
    assert home(profile="kansai").get(0xD3).esv == Esv.GET_SNA
    assert home(profile="kansai", coefficient=1).get(0xD3).esv == Esv.GET_SNA
    assert home(profile="aif-1.01").edt(0xD3) == bytes.fromhex("00000001")


@pytest.mark.parametrize("epc", [0xE3, 0xE4, 0xEB])
def test_reverse_values_are_absent_on_one_way_meters(epc: int) -> None:
    assert home(two_way=False).get(epc).esv == Esv.GET_SNA


def test_the_node_profile_lists_itself_and_the_meter() -> None:
    node = Home(EchonetNode(settings(), HomeMeter()), NODE_EOJ)
    told = {epc: node.edt(epc).hex().upper() for epc in (0x80, 0x82, 0xD3, 0xD4, 0xD6, 0xD7)}
    assert told == {
        0x80: "30",
        0x82: "010E0100",
        0xD3: "000001",
        0xD4: "0002",
        0xD6: "01028801",
        0xD7: "010288",
    }
    assert node.edt(0x83) == bytes.fromhex("FEFFFFF00000000000") + EUI64
    assert node.edt(0x8D) == b"A1B2C3" + bytes(6)
    assert node.edt(0x9D) == bytes.fromhex("0280D5")
    assert node.edt(0x9E) == b"\x00"
    assert node.edt(0x9F) == bytes.fromhex("0D80828388" + "8A8D9D9E9F" + "D3D4D6D7")


def test_an_address_the_unit_has_not_told_yet_is_not_made_up() -> None:
    node = Home(EchonetNode(settings(), HomeMeter(address=None)), NODE_EOJ)
    assert node.get(0x83).esv == Esv.GET_SNA


@given(
    st.one_of(st.none(), st.integers(0, 1 << 60)),
    st.one_of(st.none(), st.integers(-(1 << 40), 1 << 40)),
    st.one_of(st.none(), st.integers(-(1 << 40), 1 << 40)),
)
def test_live_values_always_fit_their_fields(
    energy: int | None, watt: int | None, milliampere: int | None
) -> None:
    data = HomeMeter(forward=energy, reverse=energy, watt=watt, r_ma=milliampere, t_ma=milliampere)
    told = home(data).get(0xE0, 0xE3, 0xE7, 0xE8)
    assert told.esv == Esv.GET_RES
    assert [len(edt) for _, edt in told.properties] == [4, 4, 4, 4]
    registers = {told.properties[0].edt, told.properties[1].edt}
    assert (registers == {NO_ENERGY}) == (energy is None)


REAL_STATE = MeterSettings("F24G366505", coefficient=1, energy_unit=0x01, effective_digits=6)


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        ("1081000102880105FF017201E704000004A8", HomeMeter(watt=1192)),
        ("1081000102880105FF017201E80400620022", HomeMeter(r_ma=9_800, t_ma=3_400)),
        ("1081000102880105FF017201D30400000001", HomeMeter()),
        ("1081000102880105FF017201D70106", HomeMeter()),
        ("1081000102880105FF017201E0040000FE73", HomeMeter(forward=0xFE73 * 100_000)),
        ("1081000102880105FF017201820400004600", HomeMeter()),
        ("1081000102880105FF0152018300", HomeMeter()),
        ("1081000102880105FF017201880142", HomeMeter()),
        ("1081000102880105FF017201810161", HomeMeter()),
        ("1081000102880105FF0172018D0C463234473336363530350000", HomeMeter()),
        ("1081000102880105FF017201 97020E1A", HomeMeter(now=at("2026-05-20 14:26:40"))),
        ("1081000102880105FF017201980407EA0514", HomeMeter(now=at("2026-05-20 14:26:40"))),
        ("1081000102880105FF0152019C00", HomeMeter()),
        ("1081000102880105FF0172019D0403808188", HomeMeter()),
        ("1081000102880105FF0172019E040381E5ED", HomeMeter()),
        ("1081000102880105FF0172019F111941414160404000624300414040430202", HomeMeter()),
        (
            "1081000102880105FF017201EA0B07EA05140E00000000FE68",
            HomeMeter(
                now=at("2026-05-20 14:26:40"),
                boundaries={slot_of("2026-05-20 14:00"): (0xFE68 * 1000 + 999, 0)},
            ),
        ),
        (
            "1081000602880105FF017202EA0B07E20A020E1E00000373AFEB0B07E20A020E1E0000016A72",
            HomeMeter(
                now=at("2018-10-02 14:31:00"),
                boundaries={slot_of("2018-10-02 14:30"): (0x373AF * 1000, 0x16A72 * 1000)},
            ),
        ),
        (
            "108106E102880105FF017206800130880142E70400000698E80400A00028E0040004F3FDE3040000000B",
            HomeMeter(
                watt=1688,
                r_ma=16_000,
                t_ma=4_000,
                forward=0x4F3FD * 100_000 + 99_999,
                reverse=0xB * 100_000,
            ),
        ),
    ],
)
def test_a_real_meter_s_state_gives_the_real_meter_s_bytes(answer: str, data: HomeMeter) -> None:
    expected = bytes.fromhex(answer)
    assert expected in FRAMES
    count, at_property, asked = expected[11], 12, []
    for _ in range(count):
        asked.append(Property(expected[at_property]))
        at_property += 2 + expected[at_property + 1]
    tid = int.from_bytes(expected[2:4], "big")
    request = encode(Frame(tid, expected[7:10], expected[4:7], Esv.GET, tuple(asked)))
    assert EchonetNode(REAL_STATE, data).handle(request) == expected


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"profile": "kansia"}, '"kansai" is near'),
        ({"serial": "1234567890123"}, "12 ASCII"),
        ({"serial": "メータ"}, "12 ASCII"),
        ({"maker_code": bytes(2)}, "3 bytes"),
        ({"place_code": 0x01}, "place code"),
        ({"energy_unit": 0x05}, "EPC E1"),
        ({"effective_digits": 9}, "1 to 8"),
        ({"coefficient": 0}, "controller would read zero"),
        ({"coefficient": 1_000_000}, "1 to 999999"),
        ({"profile": "kansai", "coefficient": 40}, "no EPC D3"),
        ({"profile": "aif-1.10", "route_b_id": None}, "EPC C0"),
        ({"route_b_id": "00"}, "32 characters"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        settings(**wrong)  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)


def test_the_route_b_id_is_not_shown_in_a_repr() -> None:
    assert ROUTE_B_ID not in repr(settings("aif-1.10"))
