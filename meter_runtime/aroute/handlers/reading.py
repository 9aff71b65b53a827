"""Commands that read what was measured: the registers now, and half-hours once more."""

from meter_runtime.aroute.commands import Code, ReadHistory
from meter_runtime.aroute.gate import Outcome
from meter_runtime.aroute.handlers.ports import ClockSetter, History, Registers


def read_registers(registers: Registers, clock: ClockSetter) -> Outcome:
    """Registers, power and currents at ``at``.

    With ``silent`` the unit does not answer now: the registers are the last that it told, power
    and currents null. UNIT_ABSENT before its first reading. ``reverse_mwh`` is null on a one-way
    meter, ``current_t_ma`` where there is no such line.
    """
    forward_mwh, power_w = registers.forward_mwh, registers.power_w
    if forward_mwh is None:
        return Outcome(Code.UNIT_ABSENT, {"reason": "the metering unit gave no reading yet"})
    plate = registers.unit.nameplate
    return Outcome(
        Code.OK,
        {
            "unit": plate.serial,
            "at": round(clock.wall(), 3),
            "forward_mwh": forward_mwh,
            "reverse_mwh": registers.reverse_mwh if plate.two_way else None,
            "power_w": power_w,
            "current_r_ma": registers.current_r_ma,
            "current_t_ma": registers.current_t_ma,
            "silent": power_w is None,
        },
    )


def read_history(history: History, said: ReadHistory, command_id: bytes) -> Outcome:
    """OK: the values follow on ``reading/history``, under the command's id in hex."""
    if not history.request_history(said.first, said.last, command_id):
        return Outcome(Code.BUSY, {"reason": "earlier requests are still being answered"})
    return Outcome(Code.OK, {"first": said.first, "last": said.last})
