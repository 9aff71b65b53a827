"""What a terminal shows of a meter's answer and of its diagnosis."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from meter_runtime.clock import jst

if TYPE_CHECKING:
    from meter_runtime.headend.handheld import Answer

_LABEL = 14


def answer_document(answer: "Answer") -> dict[str, Any]:
    """The answer, for JSON. The proof is left out: it is the New System's to judge."""
    import msgspec

    result = answer.result
    return {
        "code": result.code.value,
        "verified": answer.verified,
        "credential_version": result.credential_version,
        "applied_at": None if result.applied_at is None else _when(result.applied_at),
        "clock_trust": result.clock_trust,
        "diagnosis": None if result.diagnosis is None else result.diagnosis.message,
        "details": msgspec.to_builtins(
            result.details, builtin_types=(), str_keys=True, enc_hook=repr
        ),
    }


def answer_lines(answer: "Answer") -> Iterator[str]:
    """The answer, for a person on a doorstep."""
    from meter_runtime.broute.diagnosis import Message

    result = answer.result
    yield _row("answer", f"{result.code.value}: {result.code.means}")
    if answer.verified is None:
        yield _row("signature", "this meter's key is not in the terminal; the New System checks it")
    else:
        yield _row("signature", "the meter's own")
    if result.applied_at is not None:
        yield _row("done at", _when(result.applied_at))
    if result.diagnosis is not None:
        message = Message(result.diagnosis.message)
        yield _row("B-route", f"{int(message)} {message.text}")
    reason = result.details.get("reason")
    if isinstance(reason, str):
        yield _row("reason", _plain(reason))


def status_lines(meter: str, document: Mapping[str, Any]) -> Iterator[str]:
    """The diagnosis; what the meter does not tell is left out."""
    yield _row("meter", meter)
    clock = _table(document.get("clock"))
    if clock:
        yield _row("clock", f"{_plain(clock.get('now'))} ({_plain(clock.get('trust'))})")
    broute = _table(document.get("broute"))
    if broute:
        yield _row("B-route", f"{_plain(broute.get('message'))} {_plain(broute.get('text'))}")
    why_not = _table(broute.get("why_not"))
    if why_not:
        yield _row("", _plain(why_not.get("text")))
    for name, state in _table(broute.get("items")).items():
        yield _row("", f"{_plain(name).replace('_', ' ')}: {_plain(state)}")
    causes = broute.get("causes")
    for cause in causes if isinstance(causes, list) else ():
        yield _row("", f"probably: {_plain(_table(cause).get('text'))}")
    if broute.get("expected") is True:
        yield _row("", f"expected: {_plain(broute.get('expected_because'))}; no alarm")
    signal = _table(broute.get("signal"))
    if signal:
        yield _row("signal", f"{_plain(signal.get('last_dbm'))} dBm")
    for slot, unit in _table(document.get("units")).items():
        told = _table(unit)
        words = (told.get("model"), told.get("serial"), told.get("state"), told.get("reason"))
        yield _row(_plain(slot), " ".join(_plain(word) for word in words if word) or "-")
    findings = document.get("findings")
    if isinstance(findings, list) and findings:
        yield _row("findings", " ".join(_plain(code) for code in findings))


def _row(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}".rstrip()


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(value: object) -> str:
    """What came over a line, for a screen: nothing that a terminal would obey."""
    text = str(value)[:200]
    return "".join(sign if sign.isprintable() else "�" for sign in text)


def _when(at: float) -> str:
    return jst(at).isoformat(timespec="seconds")
