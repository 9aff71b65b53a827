"""What an operator may ask of a running bench over its control socket.

The meter's own answers come from whichever meter has power at the time; the rest moves time and
makes trouble.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from meter_runtime import report
from meter_runtime.clock import jst
from meter_runtime.control import Handler
from meter_runtime.errors import UsageError

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

SETTLE_WITHIN_S = 20.0
"""How long an answer waits for a fault that takes time to begin or end."""


def handlers(bench: "Bench") -> dict[str, Handler]:
    """The requests a bench answers."""

    async def answer_status(_request: dict[str, Any]) -> object:
        return bench.status()

    async def answer_history(request: dict[str, Any]) -> object:
        return await report.handlers(bench.meter)["history"](request)

    async def answer_export(request: dict[str, Any]) -> object:
        return await report.handlers(bench.meter)["history-export"](request)

    async def answer_advance(request: dict[str, Any]) -> object:
        seconds = request.get("seconds")
        if not isinstance(seconds, int | float):
            raise UsageError('"advance" takes a number of seconds')
        await bench.advance(seconds)
        return _now(bench)

    async def answer_clock(request: dict[str, Any]) -> object:
        match request:
            case {"set": int() | float() as wall}:
                bench.set_clock(wall)
            case {"step": int() | float() as seconds}:
                bench.set_clock(bench.clock.wall() + seconds)
            case {"rate": int() | float() as ppm}:
                bench.clock.rate_ppm = ppm
            case _:
                raise UsageError('"clock" takes "set", "step" or "rate", and a number')
        return _now(bench)

    async def answer_inject(request: dict[str, Any]) -> object:
        match request:
            case {"fault": str() as name, **others}:
                for_s, count = others.get("for_s"), others.get("count")
                parameters = others.get("parameters", {})
            case _:
                raise UsageError('"inject" takes the name of a fault')
        if not isinstance(for_s, int | float | None) or not isinstance(count, int | None):
            raise UsageError('"inject": "for_s" is seconds, "count" a whole number')
        if not isinstance(parameters, dict):
            raise UsageError('"inject": "parameters" is an object')
        bench.faults_at_work.inject(name, for_s, count, parameters)
        await _settled(bench)
        return {"faults": bench.faults()}

    async def answer_clear(request: dict[str, Any]) -> object:
        name = request.get("fault")
        if not isinstance(name, str | None):
            raise UsageError('"clear" takes the name of a fault, or none for all')
        before = [active["name"] for active in bench.faults()]
        bench.clear(name)
        await _settled(bench)
        left = [active["name"] for active in bench.faults()]
        return {"cleared": [each for each in before if each not in left]}

    async def answer_press(_request: dict[str, Any]) -> object:
        await bench.press_button()
        return {}

    return {
        "status": answer_status,
        "history": answer_history,
        "history-export": answer_export,
        "advance": answer_advance,
        "clock": answer_clock,
        "inject": answer_inject,
        "clear": answer_clear,
        "press-button": answer_press,
    }


async def _settled(bench: "Bench") -> None:
    try:
        # Real time: an operator waits.
        async with asyncio.timeout(SETTLE_WITHIN_S):
            await bench.faults_at_work.settled()
    except TimeoutError:
        pass


def _now(bench: "Bench") -> dict[str, Any]:
    return {"now": jst(bench.clock.wall()).isoformat(timespec="seconds")}
