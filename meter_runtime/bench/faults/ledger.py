"""The faults at work on one bench: begun, timed, counted, ended.

One fault of a name is active at a time; begun again it starts anew with its new parameters. All
that takes time (a device unplugged, a meter restarted) is done in the background, one thing after
another; :meth:`Ledger.settled` waits for it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from meter_runtime.bench.faults import catalogue
from meter_runtime.bench.faults.fault import Active
from meter_runtime.bench.faults.parameters import checked, shown
from meter_runtime.clock import Timer, jst
from meter_runtime.errors import UsageError

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

log = logging.getLogger(__name__)

LONGEST_S = 45 * 86_400.0
MOST_EFFECTS = 1_000_000
MAX_ERRANDS = 64
"""Slow beginnings and ends that may wait; a bench asked for more is asked in vain."""

Told = Callable[[str, str, Mapping[str, Any]], None]
"""Called with "fault" or "clear", the fault's name, and its parameters for people."""


class Ledger:
    """What is wrong with a bench at present."""

    def __init__(self, bench: "Bench", told: Told) -> None:
        self._bench = bench
        self._told = told
        self._active: dict[str, Active] = {}
        self._timers: dict[str, Timer] = {}
        self._errands: deque[Coroutine[Any, Any, None]] = deque()
        self._runner: asyncio.Task[None] | None = None

    def inject(
        self,
        name: str,
        for_s: float | None,
        count: int | None,
        parameters: Mapping[str, object],
    ) -> None:
        """Begin a fault; UsageError or MeterError where that is not possible.

        An unknown name or value changes nothing; a fault that is refused only when it begins has
        ended an earlier one of its name.
        """
        fault = catalogue.find(name)
        values = checked(name, fault.parameters, parameters)
        if fault.momentary and (for_s is not None or count is not None):
            raise UsageError(f"fault {name} happens at once; it takes neither --for nor count")
        if count is not None and fault.counts is None:
            raise UsageError(f"fault {name} has no effects to count; end it by --for or clear")
        if for_s is not None and not 0 < for_s <= LONGEST_S:
            raise UsageError(f"fault {name}: --for takes more than 0 s, at most 45 days")
        if count is not None and not 0 < count <= MOST_EFFECTS:
            raise UsageError(f"fault {name}: count is 1 to {MOST_EFFECTS}")
        self.clear(name)
        clock = self._bench.clock
        active = Active(
            fault,
            values,
            spawn=self._spawn,
            over=self._spent,
            since=clock.wall(),
            until=None if for_s is None else clock.wall() + for_s,
            left=fault.usual_count if count is None else count,
        )
        end = fault.begin(self._bench, active)
        self._told("fault", name, shown(values))
        if end is None:
            return
        active.end = end
        self._active[name] = active
        if for_s is not None:
            self._timers[name] = clock.call_at(
                clock.monotonic() + for_s, lambda: self._finish(active)
            )

    def clear(self, name: str | None = None) -> None:
        """End a fault, or all of them, the newest first; harmless where it is not active."""
        if name is not None:
            catalogue.find(name)
        for active in reversed(tuple(self._active.values())):
            if name in (None, active.fault.name):
                self._finish(active)

    def report(self) -> list[dict[str, Any]]:
        """The active faults, oldest first."""
        return [
            {
                "name": active.fault.name,
                "group": active.fault.group,
                "parameters": shown(active.values),
                "since": _stamp(active.since),
                "until": None if active.until is None else _stamp(active.until),
                "effects": active.effects,
                "left": active.left,
            }
            for active in self._active.values()
        ]

    async def settled(self) -> None:
        """Wait until what begins or ends slowly has done so."""
        while self._runner is not None:
            await asyncio.wait((self._runner,))

    async def close(self) -> None:
        """Leave everything as it is; nothing is done in the background any more."""
        for timer in self._timers.values():
            timer.cancel()
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
        for errand in self._errands:
            errand.close()
        self._errands.clear()

    def _spent(self, active: Active) -> None:
        # Not at once: whoever takes effect now may be iterating over what the end changes.
        asyncio.get_running_loop().call_soon(self._finish, active)

    def _finish(self, active: Active) -> None:
        name = active.fault.name
        if self._active.get(name) is not active:
            return
        del self._active[name]
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        active.left = 0
        active.end()
        self._told("clear", name, {"effects": active.effects})

    def _spawn(self, errand: Coroutine[Any, Any, None]) -> None:
        if len(self._errands) >= MAX_ERRANDS:
            errand.close()
            raise UsageError(f"{MAX_ERRANDS} faults are still beginning or ending; wait for them")
        self._errands.append(errand)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run_errands(), name="faults")

    async def _run_errands(self) -> None:
        try:
            while self._errands:
                try:
                    await self._errands.popleft()
                except Exception:  # a fault that fails is a defect, and the bench outlives it
                    log.exception("a fault could not be begun or ended")
        finally:
            if self._runner is asyncio.current_task():
                self._runner = None


def _stamp(wall: float) -> str:
    return jst(wall).isoformat(timespec="seconds")
