"""Commands about the supply: open or close its switch, and limit its current."""

from typing import Any

from meter_runtime.aroute.commands import Code, SetLimit
from meter_runtime.aroute.gate import Outcome
from meter_runtime.aroute.handlers.ports import Directives, Supply
from meter_runtime.functions.switch_events import Refusal, SwitchRefusedError
from meter_runtime.units.contracts import SwitchPosition

_CODES = {
    Refusal.NO_UNIT: Code.UNIT_ABSENT,
    Refusal.SILENT: Code.UNIT_ABSENT,
    Refusal.MOVING: Code.BUSY,
    Refusal.TOO_SOON: Code.BUSY,
    Refusal.NOT_PERMITTED: Code.NOT_PERMITTED,
    Refusal.NOT_STORED: Code.STORE_FAILED,
}

_MAX_REASON = 200


async def move(supply: Supply, wanted: SwitchPosition) -> Outcome:
    """OK once the feedback says that the contacts are there.

    UNIT_ABSENT with ``mismatch`` where they were driven and are elsewhere: the unit does not do
    what it is told, and what is wanted stands.
    """
    try:
        position = await supply.command(wanted)
    except SwitchRefusedError as refused:
        reason = {"reason": str(refused)[:_MAX_REASON]}
        return Outcome(_CODES[refused.refusal], {**_state(supply), **reason})
    state = {**_state(supply), "position": position.value}
    if position is not wanted:
        return Outcome(Code.UNIT_ABSENT, {**state, "reason": "the contacts did not follow"})
    return Outcome(Code.OK, state)


def set_limit(supply: Supply, directives: Directives, said: SetLimit, counter: int) -> Outcome:
    """In force at once and after every restart. Nobody can limit without a switching unit."""
    if said.limit_a is not None and not supply.status.fitted:
        return Outcome(Code.UNIT_ABSENT, {"reason": Refusal.NO_UNIT.value})
    directives.say_limit(said.limit_a, counter)
    return Outcome(Code.OK, {"limit_a": said.limit_a})


def _state(supply: Supply) -> dict[str, Any]:
    status = supply.status
    return {
        "position": status.position.value,
        "wanted": status.wanted.value,
        "mismatch": status.mismatch,
    }
