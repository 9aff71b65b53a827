"""Faults of the power line, in a house whose B-route is on it."""

from typing import TYPE_CHECKING

from meter_runtime.bench.faults.fault import Active, End, Fault
from meter_runtime.bench.faults.parameters import Choice, Number, Parameter
from meter_runtime.errors import MeterError

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench
    from meter_runtime.bench.plc import PlcHouse

_HEMS, _METER = "hems", "meter"


def _house(bench: "Bench") -> "PlcHouse":
    house = bench.body.plc
    if house is None:
        raise MeterError(
            "this house's B-route is on the radio; give the bench --units with a PLC"
            " communication unit, such as examples/units/plc.toml"
        )
    return house


def _attenuation(bench: "Bench", active: Active) -> End:
    house = _house(bench)
    at_meter = active.values["at"] == _METER
    extended = house.modem.extended if at_meter else house.hems.adapter.extended

    def put(db: float) -> None:
        house.line.settle()
        house.line.set_attenuation(extended, db)

    put(active.values["db"])
    return lambda: put(0.0)


def _noise(bench: "Bench", active: Active) -> End:
    house = _house(bench)

    def make(rate: float) -> None:
        house.line.settle()
        house.line.packet_error_rate = rate

    make(active.values["rate"])
    return lambda: make(0.0)


FAULTS = (
    Fault(
        "plc-attenuation",
        "plc",
        "Something between the sockets swallows the signal: a power strip with a filter, a UPS.",
        _attenuation,
        (
            Parameter("db", Number(0, 100, "dB"), 30, "of the way; the line has 30 to lose"),
            Parameter("at", Choice((_HEMS, _METER)), _HEMS, "in front of whom"),
        ),
    ),
    Fault(
        "plc-noise",
        "plc",
        "An appliance makes noise on the wiring: an inverter, a charger, a dimmer.",
        _noise,
        (
            Parameter(
                "rate", Number(0, 1), 0.9, "share of packets lost, each of them tried four times"
            ),
        ),
    ),
)
