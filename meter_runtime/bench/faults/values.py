"""Faults of the values: what a HEMS must be able to read, and rarely ever meets.

Data are changed where they enter the node, settings where the node gets them, so that every
property that shows the same thing shows it alike.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from meter_runtime.bench.faults.fault import Active, End, Fault
from meter_runtime.bench.faults.frames import GET_ANSWERS, GET_MAP, on_frames
from meter_runtime.bench.faults.interposer import Change
from meter_runtime.bench.faults.overlay import Veil, absent
from meter_runtime.bench.faults.parameters import Choice, Number, Parameter, Word
from meter_runtime.broute.echonet.data import ENERGY_UNITS_MWH
from meter_runtime.broute.echonet.frame import Esv, Frame, Property
from meter_runtime.broute.echonet.maps import decode_map, encode_map
from meter_runtime.broute.echonet.meter_class import METER_EOJ
from meter_runtime.units.contracts import Wiring

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

_MA_PER_W_TWO_LINES = 5
"""1 W shared by two lines of 100 V at unity power factor."""
_ABOVE_ANY_POWER_W = 1 << 31
_ABOVE_ANY_CURRENT_MA = 1 << 22
_MWH_PER_DWH = 100
_COEFFICIENT = 0xD3
_MOST_COEFFICIENT = 999_999

_CODES = tuple(f"{code:02X}" for code in ENERGY_UNITS_MWH)


def _show(bench: "Bench", change: Change) -> End:
    """Show changed settings from now on; the node that shows them is a new one."""
    bench.between.changes.append(change)
    _show_settings(bench)

    def end() -> None:
        bench.between.changes.remove(change)
        _show_settings(bench)

    return end


def _show_settings(bench: "Bench") -> None:
    broute = bench.meter.broute
    if broute is not None:
        broute.show(bench.between.changed())


def _always(value: int) -> Callable[[int | None], int | None]:
    return lambda _value: value


_HIDDEN = {
    "energy": Veil(forward=absent, reverse=absent),
    "power": Veil(power=absent),
    "current": Veil(current_r=absent, current_t=absent),
    "history": Veil(history=False),
    "all": Veil(absent, absent, absent, absent, absent, history=False),
}


def _no_data(bench: "Bench", active: Active) -> End:
    return bench.between.overlay.add(_HIDDEN[active.values["what"]])


def _rollover(bench: "Bench", active: Active) -> End:
    """Shift a register so that it stands a few counts before the wrap at 10^D7."""
    settings = bench.between.changed()
    count_mwh = ENERGY_UNITS_MWH[settings.energy_unit] * (settings.coefficient or 1)
    turn_mwh: int = 10**settings.effective_digits * count_mwh
    metering = bench.meter.metering
    register = active.values["register"]
    live = (metering.forward_mwh if register == "forward" else metering.reverse_mwh) or 0
    target_mwh = turn_mwh - active.values["within"] * count_mwh
    # Up to whole units of the history, so that live and stored values stay in step.
    shift_mwh = -(-((target_mwh - live) % turn_mwh) // _MWH_PER_DWH) * _MWH_PER_DWH

    def shifted(value: int | None) -> int | None:
        return None if value is None else value + shift_mwh

    veil = Veil(forward=shifted) if register == "forward" else Veil(reverse=shifted)
    return bench.between.overlay.add(veil)


def _coefficient(bench: "Bench", active: Active) -> End:
    text = active.values["value"]
    value = None if text == "absent" else int(text)
    end = _show(bench, lambda settings: replace(settings, coefficient=value))
    if value is not None:
        return end
    reveal = _hide_coefficient(bench, active)

    def both() -> None:
        reveal()
        end()

    return both


def _hide_coefficient(bench: "Bench", active: Active) -> End:
    """Refuse D3 and leave it out of the Get property map."""

    def wanted(frame: Frame, _peer: str) -> bool:
        return frame.esv in GET_ANSWERS and frame.seoj == METER_EOJ

    def hidden(item: Property) -> Property:
        if item.epc == _COEFFICIENT:
            return Property(item.epc)
        if item.epc == GET_MAP and item.edt:
            return Property(item.epc, encode_map(decode_map(item.edt) - {_COEFFICIENT}))
        return item

    def change(frame: Frame) -> list[Frame]:
        told = tuple(map(hidden, frame.properties))
        refused = any(item.epc == _COEFFICIENT for item in told)
        return [replace(frame, esv=Esv.GET_SNA if refused else frame.esv, properties=told)]

    return on_frames(bench, active, wanted, change)


def _unit(bench: "Bench", active: Active) -> End:
    code = int(active.values["code"], 16)
    return _show(bench, lambda settings: replace(settings, energy_unit=code))


def _negative_power(bench: "Bench", active: Active) -> End:
    watts = active.values["watts"]
    two_wire = bench.between.changed().wiring is Wiring.ONE_PHASE_TWO_WIRE
    share_ma = -watts * _MA_PER_W_TWO_LINES * (2 if two_wire else 1)
    return bench.between.overlay.add(
        Veil(power=_always(-watts), current_r=_always(share_ma), current_t=_always(share_ma))
    )


def _overflow(bench: "Bench", active: Active) -> End:
    sign = 1 if active.values["direction"] == "over" else -1
    power_w, current_ma = sign * _ABOVE_ANY_POWER_W, sign * _ABOVE_ANY_CURRENT_MA
    return bench.between.overlay.add(
        Veil(power=_always(power_w), current_r=_always(current_ma), current_t=_always(current_ma))
    )


FAULTS = (
    Fault(
        "no-data",
        "values",
        "The meter has no data: FFFFFFFE, 7FFFFFFE, 7FFE in place of values.",
        _no_data,
        (Parameter("what", Choice(tuple(_HIDDEN)), "all", "which values"),),
    ),
    Fault(
        "rollover",
        "values",
        "A register is about to wrap at 10 to the power of D7, after years in service.",
        _rollover,
        (
            Parameter("within", Number(1, 1_000_000, whole=True), 1, "counts before the wrap"),
            Parameter("register", Choice(("forward", "reverse")), "forward", "which register"),
        ),
    ),
    Fault(
        "coefficient",
        "values",
        "A meter behind a transformer: counts are to be multiplied by D3.",
        _coefficient,
        (
            Parameter(
                "value",
                Word("absent|[1-9][0-9]{0,5}", f"absent, or 1 to {_MOST_COEFFICIENT}"),
                "10",
                "D3; absent is a meter without it",
            ),
        ),
    ),
    Fault(
        "unit",
        "values",
        "A meter whose registers count in another unit (E1).",
        _unit,
        (Parameter("code", Choice(_CODES), "01", "E1: 00 is 1 kWh, 01 is 0.1, 0A is 10, …"),),
    ),
    Fault(
        "negative-power",
        "values",
        "The house feeds in: power and currents are negative.",
        _negative_power,
        (Parameter("watts", Number(1, 60_000, "W", whole=True), 1000, "towards the grid"),),
    ),
    Fault(
        "overflow",
        "values",
        "Power and currents are beyond their range: 7FFFFFFF and 7FFF, or 80000000 and 8000.",
        _overflow,
        (Parameter("direction", Choice(("over", "under")), "over", "which end of the range"),),
    ),
)
