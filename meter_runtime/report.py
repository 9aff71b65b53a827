"""What the running meter tells its operator over the control socket: status and history.

Plain documents for JSON: energies in Wh, power in W, currents in A, instants in JST ISO-8601.
"""

from datetime import timedelta
from typing import Any

from meter_runtime import __version__
from meter_runtime.broute.service import BRouteService
from meter_runtime.clock import (
    HALF_HOUR_S,
    SLOTS_PER_DAY,
    Clock,
    first_slot_of,
    jst,
    jst_day,
    slot_start,
)
from meter_runtime.control import Handler
from meter_runtime.errors import UsageError
from meter_runtime.functions.switching import SwitchStatus
from meter_runtime.functions.voltage import VoltageStatus
from meter_runtime.metrology.identity import VERSION as METROLOGY_VERSION
from meter_runtime.runtime import Meter
from meter_runtime.storage.ring import FINE_DEPTHS, LOAD_PROFILE_DEPTH
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.combination import is_valid
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.keeper import Slot, SlotState

OLDEST_DAY = 99
"""Days ago that may be asked for, as on the B-route (EPC E5)."""

EXPORT_PAGE = 4_096
"""Slots in an answer to ``history-export``: at most 180 kB, of 16 MiB that it may have."""

_DEPTHS = {HALF_HOUR_S: LOAD_PROFILE_DEPTH, **FINE_DEPTHS}
_SET_BACK_S = 86_400


def handlers(meter: Meter) -> dict[str, Handler]:
    """The requests every running meter answers."""

    async def answer_status(_request: dict[str, Any]) -> object:
        return status(meter)

    async def answer_history(request: dict[str, Any]) -> object:
        day = request.get("day", 0)
        if not isinstance(day, int) or not 0 <= day <= OLDEST_DAY:
            raise UsageError(f"day {day!r}: give 0 (today) to {OLDEST_DAY}")
        return history(meter, day, reverse=bool(request.get("reverse", False)))

    async def answer_export(request: dict[str, Any]) -> object:
        interval_s, from_slot = request.get("interval_s"), request.get("from_slot")
        if not isinstance(interval_s, int) or interval_s not in _DEPTHS:
            known = ", ".join(str(known) for known in _DEPTHS)
            raise UsageError(f"interval_s {interval_s!r}: give one of {known}")
        if from_slot is not None and not isinstance(from_slot, int):
            raise UsageError(f"from_slot {from_slot!r}: give a slot, or none for the first page")
        return export_page(meter, interval_s, from_slot)

    return {"status": answer_status, "history": answer_history, "history-export": answer_export}


def status(meter: Meter) -> dict[str, Any]:
    """The meter at a glance."""
    metering, clock = meter.metering, meter.clock
    oldest, newest = metering.ring.oldest(), metering.ring.newest()
    return {
        "meter_id": meter.config.meter.id,
        "version": __version__,
        "metrology_version": METROLOGY_VERSION,
        "uptime_s": int(clock.monotonic() - meter.started_at),
        "clock": _clock(clock),
        "units": {slot.profile.name: _unit(meter, slot) for slot in meter.keeper.slots.values()},
        "combination": {
            "ok": is_valid(meter.crew.findings),
            "in_service": meter.crew.service.in_service,
            "findings": [
                {
                    "code": finding.code,
                    "severity": finding.severity.value,
                    "text": finding.text(),
                    "text_ja": finding.text("ja"),
                }
                for finding in meter.crew.findings
            ],
        },
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
        "storage": _storage(meter),
        "switch": _switch(meter.crew.switching.status),
        "voltage": _voltage(meter.crew.voltage.status),
        "broute": meter.provisioning.report(),
        "aroute": None if meter.aroute is None else meter.aroute.report(),
        "local_port": None if meter.local_port is None else meter.local_port.report(),
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


def export_page(meter: Meter, interval_s: int, from_slot: int | None) -> dict[str, Any]:
    """The boundaries of the next :data:`EXPORT_PAGE` slots, and at which slot to go on.

    A record is ``[slot, forward, reverse, flags]``, energies in 0.1 Wh and the slot
    ``epoch // interval_s``. ``from_slot`` is None for the first page, ``next`` after the last.
    """
    metering = meter.metering
    newest = metering.ring.newest()
    # A clock that was set back has boundaries after now, until it comes there again.
    latest = max(meter.clock.wall(), slot_start(newest.slot) if newest is not None else 0)
    last = int(latest + _SET_BACK_S) // interval_s
    first = last - _DEPTHS[interval_s] - _SET_BACK_S // interval_s
    begin = first if from_slot is None else max(first, from_slot)
    end = min(begin + EXPORT_PAGE, last + 1)
    coarse = interval_s == HALF_HOUR_S
    found = (
        metering.record(slot) if coarse else metering.fine_record(interval_s, slot)
        for slot in range(begin, end)
    )
    return {
        "meter_id": meter.config.meter.id,
        "unit_serial": meter.metering.unit.nameplate.serial,
        "records": [
            [record.slot, record.forward_dwh, record.reverse_dwh, int(record.flags)]
            for record in found
            if record is not None
        ],
        "next": end if end <= last else None,
    }


def _clock(clock: Clock) -> dict[str, Any]:
    shown: dict[str, Any] = {"now": _stamp(clock.wall()), "trust": clock.trust.value}
    if isinstance(clock, SystemClock):
        step = clock.last_step
        shown |= {
            "source": clock.source.value,
            "slewing_s": round(clock.slewing_s, 3),
            "rtc": clock.rtc,
            "rtc_trouble": clock.rtc_trouble,
            "last_step": None
            if step is None
            else {
                "at": _stamp(step.at),
                "by_s": round(step.by_s, 3),
                "source": step.source.value,
            },
        }
    return shown


def _storage(meter: Meter) -> dict[str, Any]:
    """Where the history is, what waits for it to work again, and what is wrong with the rest."""
    recorder, vault = meter.metering.recorder, meter.credentials
    troubles = []
    if recorder.failing:
        troubles.append("nothing can be stored: metering goes on in memory")
    if meter.metering.ring.header_lost:
        troubles.append("the load profile's header was lost: its history begins anew")
    if meter.metering.ring.corrupt:
        troubles.append(f"{meter.metering.ring.corrupt} half-hours are damaged: served as no data")
    if vault is None or vault.damaged:
        troubles.append("the stored credentials cannot be used")
    elif vault.unerased:
        troubles.append("replaced credentials are not erased yet")
    if meter.journal.corrupt:
        troubles.append(f"{meter.journal.corrupt} entries of the journal are damaged")
    return {
        "place": meter.stores.ring.name,
        "failing": recorder.failing,
        "waiting": recorder.pending,
        "dropped": recorder.dropped,
        "troubles": troubles,
    }


def _switch(status: SwitchStatus) -> dict[str, Any] | None:
    """The supply's switch; None where none is fitted."""
    if not status.fitted:
        return None
    return {
        "position": status.position.value,
        "wanted": status.wanted.value,
        "by": status.origin.name.lower(),
        "since": None if status.since is None else _stamp(status.since),
        "mismatch": status.mismatch,
        "moving": status.moving,
        "stored": status.stored,
        "operations": status.operations,
        "trips": status.trips,
        "locked_out": status.locked_out,
    }


def _voltage(status: VoltageStatus) -> dict[str, Any] | None:
    """The line voltages; None where no voltage unit is fitted."""
    if not status.fitted:
        return None
    sample = status.sample
    return {
        "r_n_v": None if sample is None else _thousandth(sample.r_n_mv),
        "t_n_v": None if sample is None else _thousandth(sample.t_n_mv),
        "r_t_v": None if sample is None else _thousandth(sample.r_t_mv),
        "band": {line.value: side.name.lower() for line, side in status.sides.items()},
        "waiting": status.waiting,
        "dropped": status.dropped,
    }


def _unit(meter: Meter, slot: Slot) -> dict[str, Any] | None:
    """Who is in a slot; None while nobody is or was."""
    if slot.unit is None:
        if slot.state is SlotState.ABSENT:
            return None
        return {"model": None, "serial": None, "state": slot.state.value, "reason": slot.reason}
    shown = _plate(slot.nameplate or slot.unit.nameplate)
    state = slot.state.value
    match slot.profile.kind:
        case UnitKind.COMMUNICATION:
            # A bare module tells who it is once it is up.
            own = _plate(slot.unit.nameplate)
            shown = shown if shown["serial"] else own
            state = _link_state(meter.broute)
        case UnitKind.METERING if meter.metering.faulty:
            state = "faulted"
        case _:
            pass
    return {**shown, "state": state, **({"reason": slot.reason} if slot.reason else {})}


def _link_state(broute: BRouteService | None) -> str:
    if broute is None:
        return "idle"
    if not broute.link.unit_normal:
        return "faulted"
    return "active" if broute.link.started else "starting"


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
