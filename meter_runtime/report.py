"""What the running meter tells its operator over the control socket: status and history.

Plain documents for JSON: energies in Wh, power in W, currents in A, instants in JST ISO-8601.
"""

from datetime import timedelta
from typing import Any

from meter_runtime import __version__
from meter_runtime.clock import SLOTS_PER_DAY, first_slot_of, jst, jst_day, slot_start
from meter_runtime.control import Handler
from meter_runtime.errors import UsageError
from meter_runtime.metrology.identity import VERSION as METROLOGY_VERSION
from meter_runtime.runtime import Meter
from meter_runtime.units.contracts import Nameplate

OLDEST_DAY = 99
"""Days ago that may be asked for, as on the B-route (EPC E5)."""


def handlers(meter: Meter) -> dict[str, Handler]:
    """The requests every running meter answers."""

    async def answer_status(_request: dict[str, Any]) -> object:
        return status(meter)

    async def answer_history(request: dict[str, Any]) -> object:
        day = request.get("day", 0)
        if not isinstance(day, int) or not 0 <= day <= OLDEST_DAY:
            raise UsageError(f"day {day!r}: give 0 (today) to {OLDEST_DAY}")
        return history(meter, day, reverse=bool(request.get("reverse", False)))

    return {"status": answer_status, "history": answer_history}


def status(meter: Meter) -> dict[str, Any]:
    """The meter at a glance."""
    metering, clock, broute = meter.metering, meter.clock, meter.broute
    oldest, newest = metering.ring.oldest(), metering.ring.newest()
    communication = None
    if broute is not None:
        state = "active" if broute.link.started else "starting"
        if not broute.link.unit_normal:
            state = "faulted"
        communication = {**_plate(broute.unit.nameplate), "state": state}
    return {
        "meter_id": meter.config.meter.id,
        "version": __version__,
        "metrology_version": METROLOGY_VERSION,
        "uptime_s": int(clock.monotonic() - meter.started_at),
        "clock": {"now": _stamp(clock.wall()), "trust": clock.trust.value},
        "units": {
            "communication": communication,
            "metering": {
                **_plate(meter.metering_unit.nameplate),
                "state": "faulted" if metering.faulty else "active",
            },
            "optional": None,
        },
        "combination": {"ok": True, "findings": []},
        "registers": {
            "forward_wh": _thousandth(metering.forward_mwh),
            "reverse_wh": _thousandth(metering.reverse_mwh),
            "power_w": metering.power_w,
            "current_r_a": _thousandth(metering.current_r_ma),
            "current_t_a": _thousandth(metering.current_t_ma),
        },
        "history": {
            "stored": len(metering.ring),
            "oldest": None if oldest is None else _stamp(slot_start(oldest.slot)),
            "newest": None if newest is None else _stamp(slot_start(newest.slot)),
            "corrupt": metering.ring.corrupt,
        },
        "broute": {"in_service": False} if broute is None else broute.report(),
        "aroute": None,
    }


def history(meter: Meter, day: int, *, reverse: bool) -> dict[str, Any]:
    """The 48 register values of a JST day, and the one that closes it."""
    date = jst_day(meter.clock.wall()) - timedelta(days=day)
    first = first_slot_of(date)

    def value_wh(slot: int) -> float | None:
        record = meter.metering.record(slot)
        if record is None:
            return None
        return (record.reverse_dwh if reverse else record.forward_dwh) / 10

    return {
        "day": day,
        "date": date.isoformat(),
        "direction": "reverse" if reverse else "forward",
        "unit_kwh": meter.config.broute.energy_unit,
        "values_wh": [value_wh(first + i) for i in range(SLOTS_PER_DAY)],
        "next_wh": value_wh(first + SLOTS_PER_DAY),
    }


def _plate(plate: Nameplate) -> dict[str, Any]:
    shown: dict[str, Any] = {"model": plate.model, "serial": plate.serial}
    if plate.wiring is not None:
        shown |= {"wiring": plate.wiring.value, "two_way": plate.two_way}
    if plate.capacity_a is not None:
        shown["capacity_a"] = plate.capacity_a
    if plate.fw_version:
        shown["firmware"] = plate.fw_version
    return shown


def _stamp(wall: float) -> str:
    return jst(wall).isoformat(timespec="seconds")


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000
