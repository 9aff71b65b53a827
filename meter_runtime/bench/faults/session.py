"""Faults of the session between a HEMS's module and the meter's."""

import random
from typing import TYPE_CHECKING

from meter_runtime.bench.air import Fate, Frame, UdpDatagram
from meter_runtime.bench.faults.fault import Active, End, Fault
from meter_runtime.bench.faults.line import LineEdit
from meter_runtime.bench.faults.parameters import Choice, Parameter, Seconds
from meter_runtime.bench.module.registers import Reg
from meter_runtime.bench.module.session import Session
from meter_runtime.bench.module.uart import UartWrite
from meter_runtime.comm.auth.eap_psk import KEY_BYTES
from meter_runtime.comm.auth.pana_message import PANA_PORT, MalformedPana, Type, parse
from meter_runtime.comm.skstack.replies import EventNumber
from meter_runtime.errors import MeterError

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

METER = "meter"
_REFUSED = f"EVENT {EventNumber.PANA_FAILED:02X} ".encode()


def _auth_refused(bench: "Bench", active: Active) -> End:
    """The meter's key is another one as often as a HEMS begins, whoever set it meanwhile."""
    meter = bench.dongle(METER).module
    wrong = random.Random(f"auth-refused {bench.options.seed}").randbytes(KEY_BYTES)
    right = meter.state.psk

    def impairment(frame: Frame, receiver: bytes | None, _rng: random.Random) -> Fate:
        nonlocal right
        if receiver == meter.mac and _is_pana(frame, Type.CLIENT_INITIATION):
            if meter.state.psk != wrong:
                right = meter.state.psk
            meter.state.psk = wrong
        return Fate()

    def refusal(write: UartWrite) -> list[UartWrite] | None:
        return [write] if _REFUSED in write.data else None

    told = LineEdit(active, refusal)
    bench.air.impairments.append(impairment)
    bench.dongle(METER).faults.append(told)

    def end() -> None:
        bench.air.impairments.remove(impairment)
        bench.dongle(METER).faults.remove(told)
        if meter.state.psk == wrong:
            meter.state.psk = right

    return end


def _joined(bench: "Bench", active: Active) -> Session:
    session = bench.dongle(METER).module.session.current
    if session is None:
        raise MeterError(f"fault {active.fault.name}: no HEMS is joined; let one join first")
    return session


def _expire(bench: "Bench", active: Active) -> None:
    bench.air.settle()
    _joined(bench, active)
    now = bench.clock.monotonic()
    for dongle in bench.dongles.values():
        session = dongle.module.session.current
        if session is not None:
            session.association.machine.expires_at = now
    bench.air.settle()


def _terminate(bench: "Bench", active: Active) -> None:
    bench.air.settle()
    _joined(bench, active)
    bench.dongle(METER).module.session.terminate(bench.clock.monotonic())
    bench.air.settle()


def _reauth_blocked(bench: "Bench", active: Active) -> End:
    """Within a session no PANA gets through; a HEMS that begins anew is heard."""

    def impairment(frame: Frame, _receiver: bytes | None, _rng: random.Random) -> Fate:
        in_session = bench.dongle(METER).module.session.current is not None
        if not in_session or not _is_pana(frame) or _is_pana(frame, Type.CLIENT_INITIATION):
            return Fate()
        return Fate(lost=active.strike())

    bench.air.impairments.append(impairment)
    timer = bench.clock.call_at(
        bench.clock.monotonic() + active.values["seconds"], lambda: active.over(active)
    )

    def end() -> None:
        timer.cancel()
        bench.air.impairments.remove(impairment)

    return end


def _frame_counter_jump(bench: "Bench", active: Active) -> None:
    """From now on the other side takes every frame under the session's key for a replay."""
    meter = bench.dongle(METER).module
    key_id = _joined(bench, active).key_id
    if key_id is None:
        raise MeterError("fault frame-counter-jump: the session has no key yet; try again")
    homes = [dongle.module for name, dongle in bench.dongles.items() if name != METER]
    of_meter = active.values["of"] == METER
    for module in [meter] if of_meter else homes:
        module.state.registers[Reg.FRAME_COUNTER] = 0
    for module in homes if of_meter else [meter]:
        module.replayed.clear()  # only the key in use matters
        module.replayed.add(key_id)


def _is_pana(frame: Frame, kind: Type | None = None) -> bool:
    body = frame.body
    if not isinstance(body, UdpDatagram) or body.destination_port != PANA_PORT:
        return False
    if kind is None:
        return True
    try:
        message = parse(body.payload)
    except MalformedPana:
        return False
    return message.type == kind


FAULTS = (
    Fault(
        "auth-refused",
        "session",
        "The meter refuses every join: the utility has changed the password.",
        _auth_refused,
        counts="joins",
    ),
    Fault(
        "expire",
        "session",
        "The session's life ends, and nobody has re-authenticated.",
        _expire,
        momentary=True,
    ),
    Fault(
        "terminate",
        "session",
        "The meter ends the session.",
        _terminate,
        momentary=True,
    ),
    Fault(
        "reauth-blocked",
        "session",
        "Re-authentication does not get through while the session lives.",
        _reauth_blocked,
        (Parameter("seconds", Seconds(1, 45 * 86_400), "60s", "how long"),),
        counts="PANA messages",
    ),
    Fault(
        "frame-counter-jump",
        "session",
        "A frame counter falls back after a brown-out: the other side drops every secured frame"
        " as a replay until a new session has a new key.",
        _frame_counter_jump,
        (Parameter("of", Choice(("meter", "hems")), "meter", "whose counter"),),
        momentary=True,
    ),
)
