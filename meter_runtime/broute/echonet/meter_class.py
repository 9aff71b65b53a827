"""The low-voltage smart meter, class 0x0288, as one table.

Everything the home can learn about this class follows from :data:`TABLE`: which properties a
profile serves, their access, the maps, and the documentation page. ECHONET Appendix release R,
3.3.25, and the super class of all device objects. The sets per profile are those of real meters
and of the utility's terms of service; a one-way meter lacks the reverse properties.
"""

from meter_runtime.broute.echonet.data import AIF_1_01, AIF_1_10, MeterData, MeterSettings
from meter_runtime.broute.echonet.definition import (
    PropertyDefinition,
    PropertyMaps,
    ServedObject,
    maps_of,
)
from meter_runtime.broute.echonet.history import DayHistory, Direction, RangeHistory
from meter_runtime.broute.echonet.values import (
    EnergyScale,
    calendar_date,
    clock_time,
    currents,
    date_time,
    power,
    u32,
)
from meter_runtime.clock import HALF_HOUR_S, slot_at, slot_start
from meter_runtime.units.contracts import Wiring

METER_EOJ = bytes.fromhex("028801")

FAULT = b"\x41"
NO_FAULT = b"\x42"

_MINUTE_S = 60
_POSITION_FOLLOWS = 0x01
_RESERVED_PLACES = range(0x02, 0x08)

_AIF = frozenset({AIF_1_01.name, AIF_1_10.name})
_SECOND_GENERATION = frozenset({AIF_1_10.name})


class Meter:
    """The state behind the class: the live data, and what the home has set."""

    def __init__(self, settings: MeterSettings, data: MeterData, maps: PropertyMaps) -> None:
        self.settings = settings
        self.data = data
        self.maps = maps
        self.place = bytes((settings.place_code,))
        self.coefficient = settings.coefficient or 1
        self.scale = EnergyScale(settings.energy_unit, self.coefficient, settings.effective_digits)
        self.days = DayHistory(data, self.scale)
        self.half_hours = RangeHistory(
            data,
            self.scale,
            step_s=HALF_HOUR_S,
            max_count=12,
            registers_at=data.boundary,
            two_way=settings.two_way,
        )
        self.minutes = RangeHistory(
            data,
            self.scale,
            step_s=_MINUTE_S,
            max_count=10,
            registers_at=data.minute,
            two_way=settings.two_way,
        )
        self._has_t_phase = settings.wiring is not Wiring.ONE_PHASE_TWO_WIRE

    def set_place(self, edt: bytes, _now: float) -> bool:
        """81: one byte, or 01 and sixteen bytes of position."""
        match len(edt):
            case 1 if edt[0] != _POSITION_FOLLOWS and edt[0] not in _RESERVED_PLACES:
                self.place = edt
            case 17 if edt[0] == _POSITION_FOLLOWS:
                self.place = edt
            case _:
                return False
        return True

    def clock_time(self, now: float) -> bytes | None:
        """97, or nothing while the clock was never set."""
        return clock_time(now) if self.data.clock_trusted() else None

    def calendar_date(self, now: float) -> bytes | None:
        """98, or nothing while the clock was never set."""
        return calendar_date(now) if self.data.clock_trusted() else None

    def route_b_number(self, _now: float) -> bytes | None:
        """C0: 00, the maker code, and the last twelve bytes of the route B ID (*unverified*)."""
        route_b_id = self.settings.route_b_id
        if route_b_id is None:
            return None
        return b"\x00" + self.settings.maker_code + bytes.fromhex(route_b_id)[4:]

    def currents(self, _now: float) -> bytes:
        """E8; a single-phase two-wire meter has no T phase."""
        t_ma = self.data.current_t_ma() if self._has_t_phase else None
        return currents(self.data.current_r_ma(), t_ma)

    def at_slot(self, slot: int, direction: Direction) -> bytes:
        """EA, EB of one half hour: its nominal boundary and the register there."""
        registers = self.data.boundary(slot) if self.data.clock_trusted() else None
        energy = None if registers is None else registers[direction]
        return date_time(slot_start(slot)) + u32(self.scale.of_dwh(energy))

    def last_minute(self, now: float) -> bytes:
        """D0: the last whole minute and the registers there."""
        minute = int(now // _MINUTE_S)
        registers = self.data.minute(minute) if self.data.clock_trusted() else None
        forward, reverse = (None, None) if registers is None else registers
        return (
            date_time(minute * _MINUTE_S)
            + u32(self.scale.of_dwh(forward))
            + u32(self.scale.of_dwh(reverse if self.settings.two_way else None))
        )


TABLE: tuple[PropertyDefinition[Meter], ...] = (
    PropertyDefinition(
        0x80,
        "Operation status",
        "動作状態",
        "1",
        "30 on",
        lambda _m, _now: b"\x30",
        announced=True,
    ),
    PropertyDefinition(
        0x81,
        "Installation location",
        "設置場所",
        "1 or 17",
        "place code, 61 unless set; 01 and a 16-byte position",
        lambda m, _now: m.place,
        write=Meter.set_place,
        announced=True,
    ),
    PropertyDefinition(
        0x82,
        "Standard version information",
        "規格Version情報",
        "4",
        "00 00, appendix release, revision",
        lambda m, _now: m.settings.limits.release,
    ),
    PropertyDefinition(
        0x88,
        "Fault status",
        "異常発生状態",
        "1",
        "41 fault, 42 none",
        lambda m, _now: FAULT if m.data.fault() else NO_FAULT,
        announced=True,
    ),
    PropertyDefinition(
        0x8A,
        "Manufacturer code",
        "メーカコード",
        "3",
        "FFFFF0 (testing)",
        lambda m, _now: m.settings.maker_code,
    ),
    PropertyDefinition(
        0x8D,
        "Serial number",
        "製造番号",
        "12",
        "the metering unit's, ASCII, padded with NUL",
        lambda m, _now: m.settings.serial.encode().ljust(12, b"\0"),
    ),
    PropertyDefinition(
        0x97,
        "Current time setting",
        "現在時刻設定",
        "2",
        "hh mm, JST; refused while the clock was never set",
        Meter.clock_time,
    ),
    PropertyDefinition(
        0x98,
        "Current date setting",
        "現在年月日設定",
        "4",
        "YYYY MM DD, JST; refused while the clock was never set",
        Meter.calendar_date,
    ),
    PropertyDefinition(
        0x9D,
        "Status change announcement property map",
        "状変アナウンスプロパティマップ",
        "≤ 17",
        "property map",
        lambda m, _now: m.maps.announced,
    ),
    PropertyDefinition(
        0x9E,
        "Set property map",
        "Setプロパティマップ",
        "≤ 17",
        "property map",
        lambda m, _now: m.maps.settable,
    ),
    PropertyDefinition(
        0x9F,
        "Get property map",
        "Getプロパティマップ",
        "≤ 17",
        "property map",
        lambda m, _now: m.maps.gettable,
    ),
    PropertyDefinition(
        0xC0,
        "Route B identification number",
        "Bルート識別番号",
        "16",
        "00, maker code, 12 bytes",
        Meter.route_b_number,
        profiles=_SECOND_GENERATION,
    ),
    PropertyDefinition(
        0xD0,
        "One-minute measured cumulative amounts of electric energy (forward, reverse)",
        "1分積算電力量計測値（正方向、逆方向計測値）",
        "15",
        "YYYY MM DD hh mm ss, forward, reverse at the last whole minute",
        Meter.last_minute,
        profiles=_SECOND_GENERATION,
    ),
    PropertyDefinition(
        0xD3,
        "Coefficient",
        "係数",
        "4",
        "1 to 999 999",
        lambda m, _now: u32(m.coefficient),
        profiles=_AIF,
    ),
    PropertyDefinition(
        0xD7,
        "Number of effective digits for cumulative amounts of electric energy",
        "積算電力量有効桁数",
        "1",
        "1 to 8; registers wrap at 10^digits",
        lambda m, _now: bytes((m.settings.effective_digits,)),
    ),
    PropertyDefinition(
        0xE0,
        "Measured cumulative amount of electric energy (forward)",
        "積算電力量計測値（正方向計測値）",
        "4",
        "register; FFFFFFFE no data",
        lambda m, _now: u32(m.scale.of_mwh(m.data.forward_mwh())),
    ),
    PropertyDefinition(
        0xE1,
        "Unit for cumulative amounts of electric energy",
        "積算電力量単位（正方向、逆方向計測値）",
        "1",
        "00 1, 01 0.1, 02 0.01, 03 0.001, 04 0.0001, 0A 10, 0B 100, 0C 1000, 0D 10000 kWh",
        lambda m, _now: bytes((m.settings.energy_unit,)),
    ),
    PropertyDefinition(
        0xE2,
        "Historical data of measured cumulative amounts of electric energy 1 (forward)",
        "積算電力量計測値履歴１（正方向計測値）",
        "194",
        "days ago, then the registers at 00:00 … 23:30; FFFFFFFE no data",
        lambda m, now: m.days.read(Direction.FORWARD, now),
    ),
    PropertyDefinition(
        0xE3,
        "Measured cumulative amount of electric energy (reverse)",
        "積算電力量計測値（逆方向計測値）",
        "4",
        "register; FFFFFFFE no data",
        lambda m, _now: u32(m.scale.of_mwh(m.data.reverse_mwh())),
        two_way_only=True,
    ),
    PropertyDefinition(
        0xE4,
        "Historical data of measured cumulative amounts of electric energy 1 (reverse)",
        "積算電力量計測値履歴１（逆方向計測値）",
        "194",
        "as E2",
        lambda m, now: m.days.read(Direction.REVERSE, now),
        two_way_only=True,
    ),
    PropertyDefinition(
        0xE5,
        "Day for which the historical data 1 is to be retrieved",
        "積算履歴収集日１",
        "1",
        "0 to 99 days ago (history: 40); FF never set",
        lambda m, now: m.days.chosen(now),
        write=lambda m, edt, now: m.days.choose(edt, now),
    ),
    PropertyDefinition(
        0xE7,
        "Measured instantaneous electric power",
        "瞬時電力計測値",
        "4",
        "signed, W, negative = reverse; 7FFFFFFE no data, 7FFFFFFF over, 80000000 under",
        lambda m, _now: power(m.data.power_w()),
    ),
    PropertyDefinition(
        0xE8,
        "Measured instantaneous currents",
        "瞬時電流計測値",
        "4",
        "R, T: signed, 0.1 A; 7FFE no data or no such phase, 7FFF over, 8000 under",
        Meter.currents,
    ),
    PropertyDefinition(
        0xEA,
        "Cumulative amount of electric energy measured at fixed time (forward)",
        "定時積算電力量計測値（正方向計測値）",
        "11",
        "YYYY MM DD hh mm ss of the last half hour, register; announced each half hour",
        lambda m, now: m.at_slot(slot_at(now), Direction.FORWARD),
    ),
    PropertyDefinition(
        0xEB,
        "Cumulative amount of electric energy measured at fixed time (reverse)",
        "定時積算電力量計測値（逆方向計測値）",
        "11",
        "as EA",
        lambda m, now: m.at_slot(slot_at(now), Direction.REVERSE),
        two_way_only=True,
    ),
    PropertyDefinition(
        0xEC,
        "Historical data of measured cumulative amounts of electric energy 2",
        "積算電力量計測値履歴２（正方向、逆方向計測値）",
        "7 + 8n",
        "as set by ED, then n × (forward, reverse), newest first",
        lambda m, now: m.half_hours.read(now),
        profiles=_AIF,
    ),
    PropertyDefinition(
        0xED,
        "Day and time for which the historical data 2 is to be retrieved",
        "積算履歴収集日２",
        "7",
        "YYYY MM DD hh mm (00 or 30), n = 1 to 12 half hours",
        lambda m, _now: m.half_hours.chosen(),
        write=lambda m, edt, now: m.half_hours.choose(edt, now),
        profiles=_AIF,
    ),
    PropertyDefinition(
        0xEE,
        "Historical data of measured cumulative amounts of electric energy 3",
        "積算電力量計測値履歴３（正方向、逆方向計測値）",
        "7 + 8n",
        "as set by EF, then n × (forward, reverse), newest first",
        lambda m, now: m.minutes.read(now),
        profiles=_SECOND_GENERATION,
    ),
    PropertyDefinition(
        0xEF,
        "Day and time for which the historical data 3 is to be retrieved",
        "積算履歴収集日３",
        "7",
        "YYYY MM DD hh mm, n = 1 to 10 minutes",
        lambda m, _now: m.minutes.chosen(),
        write=lambda m, edt, now: m.minutes.choose(edt, now),
        profiles=_SECOND_GENERATION,
    ),
)


def served_rows(profile: str, *, two_way: bool) -> tuple[PropertyDefinition[Meter], ...]:
    """The rows a meter of this profile and direction serves."""
    return tuple(
        row for row in TABLE if profile in row.profiles and (two_way or not row.two_way_only)
    )


def serve(settings: MeterSettings, data: MeterData) -> ServedObject:
    """The meter object at work."""
    rows = served_rows(settings.profile, two_way=settings.two_way)
    return ServedObject(METER_EOJ, rows, Meter(settings, data, maps_of(rows)))
