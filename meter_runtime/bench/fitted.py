"""Which units a bench's meter has: those of a file, or the ones that its other options ask for.

Without a file there are a communication unit with a Wi-SUN module and a metering unit of
MCP39F521 chips, one on two wires and two on three, which keep their counters without power.
"""

import random
from dataclasses import replace

from meter_runtime.bench.board.plugged import KEEPS
from meter_runtime.bench.options import BenchOptions
from meter_runtime.errors import UsageError
from meter_runtime.units.catalogue import shipped
from meter_runtime.units.contracts import UnitKind, Wiring
from meter_runtime.units.fitted_file import FittedFile, PluggedUnit, load

COMMUNICATION = {False: "CU-RF-920-1", True: "CU-RF-920-2"}
"""By two-way, as :data:`METERING` is."""

METERING = {
    Wiring.ONE_PHASE_TWO_WIRE: {False: "MU-1P2W-120-1", True: "MU-1P2W-120-1"},
    Wiring.ONE_PHASE_THREE_WIRE: {False: "MU-1P3W-60-1", True: "MU-1P3W-60-2"},
    Wiring.THREE_PHASE_THREE_WIRE: {False: "MU-3P3W-60-1", True: "MU-3P3W-60-2"},
}


def fitted_file(options: BenchOptions) -> FittedFile:
    """The units, at most one for each slot. A metering unit without a serial gets the seed's.

    UsageError and MeterError as :func:`meter_runtime.units.fitted_file.load` raises them, and
    UsageError for a file with two units for one slot.
    """
    if options.units is None:
        return FittedFile((_communication(options), _metering(options)))
    found = load(options.units, shipped())
    slots = [unit.slot for unit in found.units]
    for slot in slots:
        if slots.count(slot) > 1:
            raise UsageError(f"{options.units}: the board has one {slot} slot; leave one unit")
    return found


def _communication(options: BenchOptions) -> PluggedUnit:
    kind = UnitKind.COMMUNICATION
    rng = random.Random(f"communication unit {options.seed}")
    model = shipped().known(kind, COMMUNICATION[options.two_way])
    return PluggedUnit(
        kind, replace(model.nameplate(f"C{rng.randrange(10**9):09d}"), maker="bench")
    )


def _metering(options: BenchOptions) -> PluggedUnit:
    kind = UnitKind.METERING
    model = shipped().known(kind, METERING[options.wiring][options.two_way])
    plate = replace(
        model.nameplate(""),
        maker="bench",
        driver="mcp39f521",
        two_way=options.two_way,
        calibration={KEEPS: 1},
    )
    return PluggedUnit(kind, plate)
