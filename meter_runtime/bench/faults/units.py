"""Faults of the plug-in units and of what joins them to the board.

A unit is pulled, put back and swapped as by hand: its slot is empty for a while, and nobody is
told. What disturbs a bus or a chip is done to the virtual ones; drivers and runtime are the real
ones and have to cope.
"""

import random
from typing import TYPE_CHECKING, TypeVar

from meter_runtime.bench.board.plugged import PulseOutputs, Switch, label
from meter_runtime.bench.faults.fault import Active, End, Fault
from meter_runtime.bench.faults.parameters import Choice, Number, Parameter, Seconds
from meter_runtime.clock import sleep_until
from meter_runtime.errors import MeterError
from meter_runtime.units.contracts import UnitKind

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

SLOTS = tuple(kind.value for kind in UnitKind)

_OUT = Parameter("out", Seconds(1, 86_400), "2s", "how long the slot is empty")

P = TypeVar("P")


def _slot(default: str = "metering") -> Parameter:
    return Parameter("slot", Choice(SLOTS), default, "whose unit")


def _unplug(bench: "Bench", active: Active) -> End:
    slot = active.values["slot"]
    bench.body.unit(slot)
    active.spawn(bench.unplug_unit(slot))
    return lambda: active.spawn(bench.plug_unit(slot))


def _swap(bench: "Bench", active: Active) -> None:
    slot = active.values["slot"]
    bench.body.unit(slot)

    async def swap() -> None:
        await bench.unplug_unit(slot)
        await _pass(bench, active)
        await bench.plug_unit(slot, another=True)

    active.spawn(swap())


def _wrong_id(bench: "Bench", active: Active) -> End:
    slot, what = active.values["slot"], active.values["id"]
    unit = bench.body.unit(slot)
    eeprom = unit.eeprom
    if eeprom is None:
        raise MeterError(f"the {slot} unit has no ID EEPROM; take one that has")

    async def reinsert(*, right: bool) -> None:
        await bench.unplug_unit(slot)
        await _pass(bench, active)
        if right:
            label(unit)
        elif what == "blank":
            eeprom.content[:] = b"\xff" * len(eeprom.content)
        else:
            label(unit, damaged=True)
        await bench.plug_unit(slot)

    active.spawn(reinsert(right=False))
    return lambda: active.spawn(reinsert(right=True))


def _nak(bench: "Bench", active: Active) -> End:
    contact = bench.body.board.socket(active.values["slot"]).contact
    contact.refuses = active.strike

    def end() -> None:
        contact.refuses = None

    return end


def _bit_flip(bench: "Bench", active: Active) -> End:
    contact = bench.body.board.socket(active.values["slot"]).contact
    rng, rate = random.Random(f"bit-flip {bench.options.seed}"), active.values["rate"]

    def spoils(answer: bytes) -> bytes:
        if not answer or rng.random() >= rate or not active.strike():
            return answer
        seen = bytearray(answer)
        seen[rng.randrange(len(seen))] ^= 1 << rng.randrange(8)
        return bytes(seen)

    contact.spoils = spoils

    def end() -> None:
        contact.spoils = None

    return end


def _stuck_bus(bench: "Bench", _active: Active) -> End:
    board = bench.body.board
    names = {slot.i2c for slot in board.profile.slots if slot.i2c is not None}

    def hold(stuck: bool) -> None:
        for name in names:
            board.bus(name).stuck = stuck

    hold(True)
    return lambda: hold(False)


def _latched_relay(bench: "Bench", _active: Active) -> End:
    switch = _part(bench, "optional", Switch, "a switching unit")
    switch.stuck = True

    def end() -> None:
        switch.stuck = False

    return end


def _missing_pulses(bench: "Bench", _active: Active) -> End:
    outputs = _part(bench, "metering", PulseOutputs, "a unit that tells its energy by pulses")
    outputs.cut = True

    def end() -> None:
        outputs.cut = False

    return end


def _part(bench: "Bench", slot: str, kind: type[P], wanted: str) -> P:
    for part in bench.body.unit(slot).parts:
        if isinstance(part, kind):
            return part
    raise MeterError(f"the {slot} slot does not hold {wanted}; start the bench with --units")


async def _pass(bench: "Bench", active: Active) -> None:
    await sleep_until(bench.clock, bench.clock.monotonic() + active.values["out"])


FAULTS = (
    Fault(
        "unit-unplug",
        "units",
        "A unit is pulled out while the meter runs; clear puts the same one back.",
        _unplug,
        (_slot(),),
    ),
    Fault(
        "unit-swap",
        "units",
        "A unit is replaced by another one of its model while the meter runs.",
        _swap,
        (_slot(), _OUT),
        momentary=True,
    ),
    Fault(
        "wrong-id",
        "units",
        "A unit is pulled and put back, and its ID EEPROM no longer says what it is.",
        _wrong_id,
        (
            _slot(),
            Parameter("id", Choice(("damaged", "blank")), "damaged", "what the EEPROM holds"),
            _OUT,
        ),
    ),
    Fault(
        "nak",
        "units",
        "A unit's chips do not acknowledge: a cold joint, a brown-out, a chip that hangs.",
        _nak,
        (_slot(),),
        counts="a transaction",
    ),
    Fault(
        "bit-flip",
        "units",
        "Bits turn on the way from a unit's chips: I2C by itself notices nothing.",
        _bit_flip,
        (_slot(), Parameter("rate", Number(0.001, 1), 0.2, "of the answers")),
        counts="an answer",
    ),
    Fault(
        "stuck-bus",
        "units",
        "A chip holds SDA low: nobody on the bus can be spoken with.",
        _stuck_bus,
    ),
    Fault(
        "latched-relay",
        "units",
        "The switching unit's relay is stuck: its coils pull, its contacts stay.",
        _latched_relay,
    ),
    Fault(
        "missing-pulses",
        "units",
        "A pulse line is cut: energy flows and no pulse comes.",
        _missing_pulses,
    ),
)
