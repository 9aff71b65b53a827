"""The B-route's part of ``meter-runtime status``: diagnosis, probable causes, signal, counters."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_NONE = "-"
_ACTIVE = 1
RECENT_SHOWN = 5
"""Of the happenings that the status holds."""

Status = Mapping[str, Any]


def rows(broute: Status) -> Iterator[str]:
    """What the section holds, line by line; what it does not hold is left out."""
    if broute.get("in_service", True):
        yield from _diagnosis(broute)
    else:
        yield _not_in_service(broute)
    causes = broute.get("causes")
    if causes:
        yield f"look for: {'; '.join(cause['text'] for cause in causes)}"
    yield from _signal(broute.get("signal"))
    if broute.get("failed_joins"):
        yield f"failed joins in a row {broute['failed_joins']}"
    if broute.get("message") != _ACTIVE:
        yield from _recent(broute.get("recent") or ())
    counters = {name: count for name, count in (broute.get("counters") or {}).items() if count}
    if counters:
        yield _joined(*(f"{_words(name)} {count:,}" for name, count in counters.items()))


def _diagnosis(broute: Status) -> Iterator[str]:
    yield _joined(
        f"message {broute.get('message', _NONE)}: {broute.get('text', _NONE)}",
        _gravity(broute),
        "undefined combination" if broute.get("undefined_combination") else None,
    )
    items = broute.get("items")
    if items:
        yield _joined(*(f"{_words(name)} {value}" for name, value in items.items()))
    session = broute.get("session")
    if session:
        yield _joined(
            broute.get("medium"),
            f"HEMS {session.get('peer', _NONE)}",
            f"since {session['since']}" if session.get("since") else None,
            f"until {session['expires']}" if session.get("expires") else None,
        )
    else:
        yield _joined(broute.get("medium"), "no HEMS joined")


def _gravity(broute: Status) -> str | None:
    if broute.get("alarm"):
        return "ALARM"
    if not broute.get("expected"):
        return None
    until = broute.get("expected_until")
    return _joined(
        f"expected: {broute.get('expected_because', _NONE)}", f"until {until}" if until else None
    )


def _not_in_service(broute: Status) -> str:
    why = broute.get("why_not") or {}
    reason = f"not in service: {why['text']}" if why else "not in service"
    return _joined(reason, *why.get("findings", ()), _gravity(broute))


def _signal(signal: Status | None) -> Iterator[str]:
    if signal:
        yield (
            f"signal {signal['last_dbm']:g} dBm at {signal['at']}; the last"
            f" {signal['datagrams']}: {signal['min_dbm']:g} to {signal['max_dbm']:g},"
            f" mean {signal['mean_dbm']:g}"
        )


def _recent(recent: Sequence[Status]) -> Iterator[str]:
    for happening in recent[-RECENT_SHOWN:]:
        times = happening["times"]
        yield _joined(
            happening["at"], _words(happening["kind"]), f"{times:,} times" if times > 1 else None
        )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _joined(*parts: object) -> str:
    return "  ".join(str(part) for part in parts if part not in {None, ""})
