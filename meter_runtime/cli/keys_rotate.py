"""``meter-runtime keys rotate``: a new key for an issuer, brought to every meter.

Each call goes on where the last one stopped: it takes the answers that came and asks the meters
that have not changed over yet. ``--finish`` ends it.
"""

import argparse
import asyncio
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from meter_runtime.aroute.commands import Code
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend import rotation, scs_send
from meter_runtime.headend.lab import ISSUER_KEYS, NEW_SYSTEM, SCS, Lab
from meter_runtime.headend.rotation import Answer, Rotation
from meter_runtime.headend.scs_store import ScsStore

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

_COMMAND = "keys.rotate"
_REASON = "key rotation"
VALID_S = 7 * 86_400


class Issuing(Protocol):
    """How this issuer's commands reach the meters."""

    def ask(self, meter_id: str, public_key: bytes) -> str:
        """Have the meter told; the request's id."""
        ...

    def answer(self, request_id: str) -> Answer: ...

    def close(self) -> None: ...


def register(actions: "Commands") -> None:
    parser = actions.add_parser("rotate", help="a new key for an issuer, and for every meter")
    parser.description = (
        "Make a new key for an issuer and have every enrolled meter change over, by a command that"
        " the old key signs. Call it again to take the answers and to ask anew; commands go on"
        " meanwhile, each by the key that its meter knows. Finish when all have changed."
    )
    parser.epilog = "example: meter-runtime keys rotate lab --by sato"
    parser.add_argument("lab", type=Path, metavar="LAB")
    parser.add_argument("--issuer", choices=tuple(ISSUER_KEYS), default=NEW_SYSTEM)
    parser.add_argument("--by", metavar="NAME", help="who is responsible; needed to ask meters")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="only show how far it has come")
    what.add_argument("--finish", action="store_true", help="the old key ends")
    parser.add_argument(
        "--leave",
        action="append",
        default=[],
        metavar="ID",
        help="with --finish: without this meter; it needs its trust file anew",
    )
    parser.set_defaults(act=_rotate)


def _rotate(args: argparse.Namespace) -> int:
    lab = Lab.open(args.lab)
    key_file = lab.issuer_key_file(args.issuer)
    state = rotation.under_way(key_file)
    if args.leave and not args.finish:
        raise UsageError("--leave goes with --finish")
    if args.finish:
        if state is None:
            raise UsageError(f"no rotation of {args.issuer}'s key is under way")
        return _finish(lab, state, args.leave)
    if args.status:
        print("no rotation is under way" if state is None else _table(lab, state))
        return 0
    if args.by is None:
        raise UsageError("--by NAME is missing: who is responsible for the new key?")
    if state is not None and state.finished:
        raise UsageError("this rotation is finished but for the trust files; call it with --finish")
    with closing(_issuing(lab, args.issuer, args.by)) as issuing:
        state = _round(lab, state or rotation.begin(key_file), issuing)
    print(_table(lab, state))
    return 0


def _round(lab: Lab, state: Rotation, issuing: Issuing) -> Rotation:
    """Take every answer there is, and ask every meter that is neither done nor asked."""
    for meter_id in lab.meters():
        step = state.step(meter_id)
        if step.request is not None and not step.confirmed:
            state = state.answered(meter_id, issuing.answer(step.request))
            step = state.step(meter_id)
        if step.request is None and not step.confirmed:
            try:
                state = state.asked(meter_id, issuing.ask(meter_id, state.new_public))
            except MeterError as failure:
                print(f"{meter_id}: not asked: {failure}")
    return state


def _finish(lab: Lab, state: Rotation, leave: list[str]) -> int:
    waiting = [
        meter_id
        for meter_id in lab.meters()
        if not state.step(meter_id).confirmed and meter_id not in leave
    ]
    if waiting and not state.finished:
        raise MeterError(
            f"not confirmed yet: {', '.join(waiting)}; call 'keys rotate' again, or leave a meter"
            " behind with --leave ID and give it its trust file by hand"
        )
    state.finish()
    lab.write_trust()
    state.close()
    print("the old key has ended; every meter's folder has a new trust file")
    for meter_id in leave:
        print(f"{meter_id}: give it {lab.meter(meter_id).trust}, and start it anew")
    return 0


def _table(lab: Lab, state: Rotation) -> str:
    meters = lab.meters()
    width = max(map(len, meters), default=0)
    lines = [f"  {meter_id:<{width}}  {_told(state, meter_id)}" for meter_id in meters]
    done = sum(state.step(meter_id).confirmed for meter_id in meters)
    return "\n".join([f"{done} of {len(meters)} meters have the new key", *lines])


def _told(state: Rotation, meter_id: str) -> str:
    step = state.step(meter_id)
    if step.confirmed:
        return "changed over"
    return "not asked" if step.request is None else f"asked, no answer yet ({step.request})"


def _issuing(lab: Lab, issuer: str, by: str) -> Issuing:
    return _ControlSide(lab, by) if issuer == SCS else _BusinessSide(lab, by)


class _ControlSide:
    """Through the Supervisory Control System's store."""

    def __init__(self, lab: Lab, by: str) -> None:
        self._lab = lab
        self._by = by
        self._store = ScsStore(lab.folder(SCS) / "scs.db")

    def ask(self, meter_id: str, public_key: bytes) -> str:
        return scs_send.issue(
            self._lab,
            self._store,
            _COMMAND,
            meter_id,
            {"public_key": public_key},
            by=self._by,
            reason=_REASON,
            valid_s=VALID_S,
        )

    def answer(self, request_id: str) -> Answer:
        task = self._store.task(request_id)
        if not task.final:
            return Answer.FAILED if task.expired(time.time()) else Answer.OPEN
        return _of_code(task.code)

    def close(self) -> None:
        self._store.close()


class _BusinessSide:
    """Through the New System and the relay."""

    def __init__(self, lab: Lab, by: str) -> None:
        from meter_runtime.headend.new_system import NewSystem

        self._by = by
        self._system = NewSystem.open(lab)

    def ask(self, meter_id: str, public_key: bytes) -> str:
        request = asyncio.run(
            self._system.issuing.issue(
                _COMMAND,
                meter_id,
                by=self._by,
                reason=_REASON,
                arguments={"public_key": public_key},
                valid_s=VALID_S,
            )
        )
        return request.id

    def answer(self, request_id: str) -> Answer:
        asyncio.run(self._system.issuing.poll(only=request_id))
        request = self._system.requests.find(request_id)
        if request.is_open:
            return Answer.OPEN
        return _of_code(request.code)

    def close(self) -> None:
        self._system.close()


def _of_code(code: str | None) -> Answer:
    match code:
        case Code.OK:
            return Answer.OK
        case Code.REJECTED:
            return Answer.REJECTED
        case _:
            return Answer.FAILED
