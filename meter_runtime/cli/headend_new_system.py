"""``meter-runtime headend``: commands issued by the New System, their answers, letters, the log.

The register's own commands are :mod:`~meter_runtime.cli.headend_register`'s and
:mod:`~meter_runtime.cli.headend_selection`'s. A password is never shown here: it stands in the
letter.
"""

import argparse
import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime.cli import headend_register, headend_selection
from meter_runtime.cli.headend_register import add_by, add_lab, opened, show
from meter_runtime.cli.parser import add_command
from meter_runtime.clock import jst
from meter_runtime.duration import parse_duration
from meter_runtime.errors import MeterError, UsageError

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands
    from meter_runtime.headend.audit import Entry
    from meter_runtime.headend.new_system import NewSystem
    from meter_runtime.headend.register_requests import Request

_POLL_EVERY_S = 0.5
_LONGEST_WAIT_S = 86_400


def register(commands: "Commands") -> None:
    """Add all commands of the New System."""
    headend_register.register(commands)
    headend_selection.register(commands)

    issuing = add_command(
        commands,
        "issue",
        "Sign a command, seal it to a meter, and leave it at the Relay Server.\n"
        "ID and password are drawn here, and nobody sees them before the letter.",
        'meter-runtime headend issue broute.rewrite_password --meter M-0001 --by "Mori Aoi"'
        ' --reason "letter lost" --lab lab --wait 60',
    )
    issuing.add_argument("command_name", metavar="COMMAND", help="broute.set_credentials, …")
    issuing.add_argument("--meter", required=True, metavar="ID")
    add_by(issuing)
    issuing.add_argument("--reason", default="", metavar="TEXT", help="the meter keeps it, too")
    issuing.add_argument(
        "--arg", action="append", default=[], metavar="KEY=VALUE", help="an argument; repeatable"
    )
    issuing.add_argument(
        "--expires",
        default="1d",
        metavar="DURATION",
        help="the meter no longer obeys it then (default: 1d)",
    )
    issuing.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="SECONDS",
        help="for the meter's answer (default: do not); exit status 1 where it is not OK",
    )
    issuing.add_argument(
        "--on-site",
        action="store_true",
        help="for a terminal: a work order, and nothing goes to the Relay Server",
    )
    issuing.add_argument(
        "--out", type=Path, metavar="FILE", help="write the work order: a .pdf, .png or .txt file"
    )
    issuing.add_argument("--json", action="store_true", help="one document")
    add_lab(issuing)
    issuing.set_defaults(act=_issue)

    polling = add_command(
        commands,
        "poll",
        "Send what could not be sent, and fetch the answers that the relay has.\n"
        "Exit status 1 where something still cannot be sent.",
        "meter-runtime headend poll --lab lab",
    )
    polling.add_argument("--json", action="store_true", help="one document")
    add_lab(polling)
    polling.set_defaults(act=_poll)

    listing = add_command(
        commands,
        "requests",
        "All commands that were issued, and what became of them.",
        "meter-runtime headend requests --meter M-0001 --lab lab",
    )
    listing.add_argument("--meter", metavar="ID", help="of this meter only")
    listing.add_argument("--json", action="store_true", help="one document, with the answers")
    add_lab(listing)
    listing.set_defaults(act=_requests)

    writing = add_command(
        commands,
        "letter",
        "Write the letter with ID and password, once, after the meter proved that it has them.\n"
        "The draft is destroyed: another letter takes another password.",
        'meter-runtime headend letter 3f2a91c0 --out letter.pdf --lab lab --by "Mori Aoi"',
    )
    writing.add_argument("request", metavar="REQUEST", help="its id, or how it begins")
    writing.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .pdf or .txt file, a new one"
    )
    add_by(writing)
    writing.add_argument(
        "--font", type=Path, metavar="FILE.ttf", help="for a name in Japanese in a PDF"
    )
    add_lab(writing)
    writing.set_defaults(act=_letter)

    auditing = add_command(
        commands,
        "audit",
        "Who did what, when, and on whose behalf; with --check, whether all of it is there.",
        "meter-runtime headend audit --check --lab lab",
    )
    auditing.add_argument(
        "--check", action="store_true", help="follow the chain; prints the last link to write down"
    )
    auditing.add_argument("--last", type=int, metavar="N", help="entries (default: all)")
    auditing.add_argument("--json", action="store_true", help="one document")
    add_lab(auditing)
    auditing.set_defaults(act=_audit)


def run(args: argparse.Namespace) -> int:
    status: int = args.act(args)
    return status


def _issue(args: argparse.Namespace) -> int:
    if not 0 <= args.wait <= _LONGEST_WAIT_S:
        raise UsageError(f"--wait: 0 to {_LONGEST_WAIT_S} seconds")
    if args.on_site and args.wait:
        raise UsageError("--wait: an answer from on site comes by 'headend take-result'")
    if args.out is not None and not args.on_site:
        raise UsageError("--out goes with --on-site; 'headend work-order' writes one later, too")
    valid_s = parse_duration(args.expires)
    arguments = dict(_argument(text) for text in args.arg)
    with opened(args) as system:
        request = asyncio.run(_issued(system, args, arguments, valid_s))
        if args.out is not None:
            system.work_orders.write(system.now(), args.by, request.id, args.out)
    if args.json:
        print(json.dumps(_document(request), indent=2, ensure_ascii=False))
    else:
        _tell(request)
    return 0 if _is_well(request, waited=args.wait > 0) else 1


async def _issued(
    system: "NewSystem", args: argparse.Namespace, arguments: dict[str, Any], valid_s: float
) -> "Request":
    deadline = time.monotonic() + args.wait
    request = await system.issuing.issue(
        args.command_name,
        args.meter,
        by=args.by,
        reason=args.reason,
        arguments=arguments,
        valid_s=valid_s,
        on_site=args.on_site,
    )
    while request.is_open and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_EVERY_S)
        # It is stored, so that a relay that is away just now is waited for, too.
        with contextlib.suppress(MeterError):
            await system.issuing.poll(request.id)
        request = system.requests.find(request.id)
    return request


def _argument(text: str) -> tuple[str, Any]:
    """``key=value``; a value is JSON where it can be, else a string."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f'--arg "{key}": write it as KEY=VALUE')
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _is_well(request: "Request", *, waited: bool) -> bool:
    from meter_runtime.headend.register_requests import State

    good = {State.DONE, State.POSTED}
    if not waited:
        good |= {State.SENT, State.ON_SITE}
    return request.state in good


def _poll(args: argparse.Namespace) -> int:
    from meter_runtime.headend.register_requests import State

    with opened(args) as system:
        looked_at = asyncio.run(system.issuing.poll())
    if args.json:
        print(json.dumps([_document(each) for each in looked_at], indent=2, ensure_ascii=False))
    elif not looked_at:
        print("nothing is open")
    else:
        for request in looked_at:
            _tell(request)
    return 1 if any(each.state is State.PREPARED for each in looked_at) else 0


def _requests(args: argparse.Namespace) -> int:
    with opened(args) as system:
        requests = system.requests.all(args.meter)
        system.viewed("requests", args.meter or "")
    if args.json:
        print(json.dumps([_document(each) for each in requests], indent=2, ensure_ascii=False))
        return 0
    show(
        (
            {
                "request": each.id[:8],
                "command": each.command,
                "meter": each.meter,
                "by": each.by,
                "until": _when(each.expiry),
                "state": each.state.value,
                "answer": each.code,
                "": each.said,
            }
            for each in requests
        ),
        as_json=False,
    )
    return 0


def _letter(args: argparse.Namespace) -> int:
    with opened(args) as system:
        request = system.letters.post(system.now(), args.by, args.request, args.out, args.font)
    print(f"{args.out}: the letter of request {request.id[:8]}; its draft is destroyed")
    return 0


def _audit(args: argparse.Namespace) -> int:
    if args.last is not None and args.last < 1:
        raise UsageError("--last: one entry or more")
    with opened(args) as system:
        if args.check:
            head = system.audit.check()
            if args.json:
                print(json.dumps({"entries": head.number, "head": head.chain.hex()}))
            else:
                print(f"{head.number} entries, none missing; the last link: {head.chain.hex()}")
            return 0
        entries = list(system.audit.entries(args.last))
    if args.json:
        print(json.dumps([_entry(each) for each in entries], indent=2, ensure_ascii=False))
        return 0
    for each in entries:
        whose = f" for {each.on_behalf_of}" if each.on_behalf_of else ""
        details = ", ".join(f"{key} {value}" for key, value in each.details.items() if value)
        print(
            f"{each.number:>5}  {_when(each.at)}  {each.who}{whose}: {each.what} {each.subject}"
            + (f"  ({details})" if details else "")
        )
    return 0


def _entry(entry: "Entry") -> dict[str, Any]:
    return {
        "number": entry.number,
        "at": _when(entry.at),
        "who": entry.who,
        "on_behalf_of": entry.on_behalf_of,
        "what": entry.what,
        "subject": entry.subject,
        "details": dict(entry.details),
        "chain": entry.chain.hex(),
    }


def _tell(request: "Request") -> None:
    answer = f", {request.code}" if request.code else ""
    said = f": {request.said}" if request.said else ""
    command = f"{request.id[:8]} {request.command} to {request.meter}"
    print(f"{command}: {request.state.value}{answer}{said}")


def _document(request: "Request") -> dict[str, Any]:
    """Everything of a request that may be shown."""
    return {
        "id": request.id,
        "command": request.command,
        "meter": request.meter,
        "issuer": request.issuer,
        "counter": request.counter,
        "not_before": _when(request.not_before),
        "expiry": _when(request.expiry),
        "by": request.by,
        "reason": request.reason,
        "contract": request.contract,
        "state": request.state.value,
        "code": request.code,
        "said": request.said,
        "answered_at": None if request.answered_at is None else _when(request.answered_at),
        "answer": None if request.result is None else _answer(request.result),
    }


def _answer(message: bytes) -> dict[str, Any]:
    """The meter's result, whose signature was verified when it was stored."""
    import msgspec

    from meter_runtime.aroute.results import peek

    result = peek(message)
    told: dict[str, Any] = {
        "credential_version": result.credential_version,
        "applied_at": None if result.applied_at is None else _when(result.applied_at),
        "clock_trust": result.clock_trust,
        "diagnosis": None if result.diagnosis is None else result.diagnosis.message,
        "details": msgspec.to_builtins(
            result.details, builtin_types=(), str_keys=True, enc_hook=repr
        ),
    }
    return told


def _when(at: float) -> str:
    return jst(at).isoformat(timespec="seconds")
