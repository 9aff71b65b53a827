"""All boundaries of a running meter, page by page over its control socket."""

from pathlib import Path
from typing import Any

from meter_runtime import control
from meter_runtime.cli.history_files import Profile
from meter_runtime.errors import MeterError
from meter_runtime.storage.ring import Flag, Record


def profile_of(path: Path, interval_s: int) -> Profile:
    """What the meter at this control socket serves of an interval, oldest first.

    Raises :class:`MeterError` when its unit is replaced meanwhile: two histories are not one.
    """
    first = _page(path, interval_s, None)
    records = _records(path, first)
    page = first
    while page["next"] is not None:
        slot = page["next"]
        page = _page(path, interval_s, slot)
        if (page["meter_id"], page["unit_serial"]) != (first["meter_id"], first["unit_serial"]):
            raise MeterError(f"{path}: its metering unit was replaced meanwhile; export again")
        if page["next"] is not None and page["next"] <= slot:
            raise _not_the_protocol(path)
        records += _records(path, page)
    return Profile(first["meter_id"], first["unit_serial"], interval_s, records)


def _page(path: Path, interval_s: int, from_slot: int | None) -> dict[str, Any]:
    answer = control.ask(path, "history-export", interval_s=interval_s, from_slot=from_slot)
    match answer:
        case {
            "meter_id": str(),
            "unit_serial": str(),
            "records": list(),
            "next": int() | None,
        }:
            return dict(answer)
    raise _not_the_protocol(path)


def _records(path: Path, page: dict[str, Any]) -> list[Record]:
    records = []
    for record in page["records"]:
        match record:
            case [int() as slot, int() as forward_dwh, int() as reverse_dwh, int() as flags]:
                records.append(Record(slot, forward_dwh, reverse_dwh, Flag(flags)))
            case _:
                raise _not_the_protocol(path)
    return records


def _not_the_protocol(path: Path) -> MeterError:
    return MeterError(
        f"{path}: the answer to history-export is not the meter's protocol; use the meter's version"
    )
