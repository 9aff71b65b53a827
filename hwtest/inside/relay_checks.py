"""The relay driver, :mod:`meter_runtime.units.optional.relay`, as a Pi 4's profile wires it.

The relay itself is a loop that looks at the coils' lines and moves those of the feedback.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from hwtest.inside.pi_header import Header, header
from meter_runtime.units.contracts import SwitchPosition
from meter_runtime.units.optional import relay

TRAVEL_S = 0.03
LOOK_S = 0.002
PULSE_MS = 150


class Armature:
    """A relay with travelling time: it moves once a coil was on for that long, and stays."""

    def __init__(self, slot: Header) -> None:
        self._slot = slot
        self.both_coils = False
        self.moving = asyncio.Event()
        """It has begun to move, for the first time."""
        self.drives_s: list[float] = []
        """How long each drive kept a coil on."""
        self._on_since: float | None = None
        self._rest_in(relay.FEEDBACK_CLOSED)

    async def live(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        opening = self._slot.active(relay.COIL_OPEN)
        closing = self._slot.active(relay.COIL_CLOSE)
        self.both_coils |= opening and closing
        now = time.monotonic()
        if not opening and not closing:
            if self._on_since is not None:
                self.drives_s.append(now - self._on_since)
            self._on_since = None
        elif self._on_since is None:
            self._on_since = now
            self._rest_in(None)
            self.moving.set()
        elif now - self._on_since >= TRAVEL_S:
            self._rest_in(relay.FEEDBACK_OPEN if opening else relay.FEEDBACK_CLOSED)

    def _rest_in(self, role: str | None) -> None:
        for each in (relay.FEEDBACK_OPEN, relay.FEEDBACK_CLOSED):
            self._slot.put(each, active=each == role)


@contextlib.asynccontextmanager
async def fitted() -> AsyncIterator[tuple[relay.RelayUnit, Armature, Header]]:
    """A relay, closed, and the unit that drives it."""
    with header("optional") as slot:
        unit = await relay.build(slot.context({"serial": "HWTEST", "pulse_ms": PULSE_MS}))
        # The driver's own resistors have pulled the feedback by now.
        armature = Armature(slot)
        living = asyncio.create_task(armature.live())
        try:
            yield unit, armature, slot
        finally:
            living.cancel()
            await unit.close()


async def settled(unit: relay.RelayUnit) -> SwitchPosition:
    """The position once the kernel has debounced the feedback."""
    await asyncio.sleep(0.05)
    return await unit.position()


async def the_relay_follows_its_coils() -> str:
    async with fitted() as (unit, armature, slot):
        seen = [await settled(unit)]
        for _ in range(3):
            await unit.open_contacts()
            seen.append(await settled(unit))
            await unit.close_contacts()
            seen.append(await settled(unit))
        findings = await unit.self_test()
        resting = not slot.active(relay.COIL_OPEN) and not slot.active(relay.COIL_CLOSE)
    closed, opened = SwitchPosition.CLOSED, SwitchPosition.OPEN
    assert seen == [closed, *(3 * [opened, closed])], seen
    assert not findings, findings
    assert not armature.both_coils, "both coils were on"
    assert resting, "a coil is on between drives"
    assert len(armature.drives_s) == 6, armature.drives_s
    low, high = min(armature.drives_s) * 1000, max(armature.drives_s) * 1000
    assert PULSE_MS - 30 <= low <= high <= PULSE_MS + 100, armature.drives_s
    return f"six drives of {low:.0f} to {high:.0f} ms; never both coils, none on in between"


async def a_drive_that_is_cancelled_lets_go() -> str:
    async with fitted() as (unit, armature, slot):
        before = await settled(unit)
        drive = asyncio.create_task(unit.open_contacts())
        await armature.moving.wait()
        drive.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drive
        assert not slot.active(relay.COIL_OPEN), "the coil is still on"
        position = await settled(unit)
    assert before is SwitchPosition.CLOSED, before
    assert position is SwitchPosition.BETWEEN, position
    return "the coil's line is off at once; the contacts have stopped in between"


async def a_wire_that_is_off_is_found() -> str:
    with header("optional") as slot:
        unit = await relay.build(slot.context({"serial": "HWTEST"}))
        position = await settled(unit)
        findings = await unit.self_test()
        await unit.close()
    assert position is SwitchPosition.BETWEEN, position
    assert len(findings) == 1, findings
    return findings[0]


CHECKS = (
    the_relay_follows_its_coils,
    a_drive_that_is_cancelled_lets_go,
    a_wire_that_is_off_is_found,
)
