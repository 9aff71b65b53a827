"""Commands about the meter itself: its clock, its units, and how it tells what is fed in."""

from meter_runtime import __version__
from meter_runtime.aroute.commands import AdjustClock, Code, SetDirection
from meter_runtime.aroute.gate import Outcome
from meter_runtime.aroute.handlers.ports import ClockSetter, Directives, Units
from meter_runtime.discipline import Kind


def adjust_clock(clock: ClockSetter, said: AdjustClock) -> Outcome:
    """``by_s`` is what the clock is corrected by; ``how``: "slew" (up to 10 s, and gradually),
    "step", or "agreed" where it was right. NOT_PERMITTED where a better source keeps it.
    """
    correction = clock.adjust(said.wall)
    told = {"by_s": round(correction.by_s, 3), "how": correction.kind.value}
    if correction.kind is Kind.IGNORED:
        return Outcome(
            Code.NOT_PERMITTED, {**told, "reason": "the network keeps the clock, and is believed"}
        )
    return Outcome(Code.OK, {**told, "trust": clock.trust.value})


def tell_inventory(units: Units) -> Outcome:
    """The program's version and every slot."""
    return Outcome(Code.OK, {"version": __version__, **units.inventory()})


async def test_units(units: Units) -> Outcome:
    """What each unit finds of itself; OK also where that is not good: the test was carried out."""
    return Outcome(Code.OK, {"findings": await units.self_test()})


def set_direction(directives: Directives, said: SetDirection, counter: int) -> Outcome:
    """In force at once and after every restart; tells what is in force."""
    directives.say_direction(said.feed_in_as_forward, counter)
    return Outcome(Code.OK, {"feed_in_as_forward": directives.feed_in_as_forward})
