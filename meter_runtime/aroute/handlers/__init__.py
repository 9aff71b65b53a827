"""What the commands do: one line for each row of the table, except ``keys.rotate``.

Handlers act through the small protocols of :mod:`~meter_runtime.aroute.handlers.ports`, which the
meter's wiring satisfies. What came before (signature, freshness, authority) and what comes after
(journal, signed result) is the gate's business: a handler is given typed arguments and gives back
an :class:`~meter_runtime.aroute.gate.Outcome`. Its details are compact maps: energies in mWh,
currents in mA, power in W, instants in UTC seconds. Where it is refused, ``reason`` says why.
"""

from dataclasses import dataclass

from meter_runtime.aroute.commands import (
    AdjustClock,
    Arguments,
    BadArgumentsError,
    Code,
    ReadHistory,
    RewritePassword,
    SetCredentials,
    SetDirection,
    SetLimit,
)
from meter_runtime.aroute.envelope import Command
from meter_runtime.aroute.gate import Outcome
from meter_runtime.aroute.handlers import broute, maintenance, reading, supply
from meter_runtime.aroute.handlers.ports import (
    BRouteControl,
    ClockSetter,
    Directives,
    History,
    Registers,
    Supply,
    Units,
)
from meter_runtime.units.contracts import SwitchPosition


@dataclass(frozen=True, slots=True)
class Handlers:
    """The :class:`~meter_runtime.aroute.gate.Applier` of one meter."""

    broute: BRouteControl
    registers: Registers
    history: History
    supply: Supply
    clock: ClockSetter
    units: Units
    directives: Directives

    async def apply(self, command: Command, arguments: Arguments) -> Outcome:
        """Carry out one command; ``arguments`` are its own.

        Raises BadArgumentsError where they make no sense together, and MeterError for what cannot
        be stored.
        """
        counter = command.counter
        match command.name, arguments:
            case "broute.set_credentials", SetCredentials():
                return await broute.set_credentials(self.broute, arguments, counter)
            case "broute.rewrite_password", RewritePassword():
                return await broute.rewrite_password(self.broute, arguments, counter)
            case "broute.revoke", _:
                return await broute.revoke(self.broute, counter)
            case "broute.status", _:
                return broute.status(self.broute)
            case "register.read", _:
                return reading.read_registers(self.registers, self.clock)
            case "history.read", ReadHistory():
                return reading.read_history(self.history, arguments, command.command_id)
            case "switch.open", _:
                return await supply.move(self.supply, SwitchPosition.OPEN)
            case "switch.close", _:
                return await supply.move(self.supply, SwitchPosition.CLOSED)
            case "limit.set", SetLimit():
                return supply.set_limit(self.supply, self.directives, arguments, counter)
            case "clock.adjust", AdjustClock():
                return maintenance.adjust_clock(self.clock, arguments)
            case "inventory.get", _:
                return maintenance.tell_inventory(self.units)
            case "config.direction", SetDirection():
                return maintenance.set_direction(self.directives, arguments, counter)
            case "self_test", _:
                return await maintenance.test_units(self.units)
            case name, _:
                raise BadArgumentsError(f"{name} is not carried out here")

    def proof(self, arguments: Arguments) -> bytes | None:
        """Credentials are proven, and nothing else."""
        if isinstance(arguments, SetCredentials | RewritePassword):
            return broute.proof(self.broute, arguments)
        return None

    def settle(self, name: str, before: int, counter: int) -> Outcome:
        """How a command ended that a power cut interrupted, by what is stored now.

        OK where that is this command's, as counter and, of credentials, version tell. Otherwise
        STORE_FAILED: what was before stands, or nobody can tell.
        """
        match name:
            case "broute.set_credentials" | "broute.rewrite_password" | "broute.revoke":
                stored = self.broute.version > before and self.broute.counter == counter
            case "limit.set":
                stored = self.directives.limit_counter == counter
            case "config.direction":
                stored = self.directives.direction_counter == counter
            case _:
                stored = False
        return Outcome(Code.OK if stored else Code.STORE_FAILED, {"reason": "interrupted"})
