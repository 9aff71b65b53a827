"""``meter-runtime headend scs|send|sent``: the control side."""

import argparse
import asyncio
import contextlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime.aroute.commands import COMMANDS
from meter_runtime.aroute.messages import Topics
from meter_runtime.aroute.trust import Issuer
from meter_runtime.cli.log import set_up_log
from meter_runtime.cli.parser import add_command
from meter_runtime.cli.until_signal import until_signal
from meter_runtime.comm.mqtt import MqttBearer, MqttSettings
from meter_runtime.duration import parse_duration
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend import scs_send
from meter_runtime.headend.lab import ISSUERS, SCS, Lab
from meter_runtime.headend.relay_client import ControlSide
from meter_runtime.headend.scs import SupervisoryControl
from meter_runtime.headend.scs_store import ScsStore

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands, Parser

_SHOWN = 20


def register(commands: "Commands") -> None:
    serving = add_command(
        commands,
        "scs",
        "Run the Supervisory Control System: bring requests from the relay to the meters over\n"
        "MQTT, and the meters' results back. Ends with SIGTERM.",
        "meter-runtime headend scs --lab lab",
    )
    _add_lab(serving)
    serving.set_defaults(act=_serve)

    sending = add_command(
        commands,
        "send",
        "Send a command to a meter from the control side. 'headend scs' must run, now or later:\n"
        "it does the sending. Exit status 1 when the meter does not answer OK in time.",
        "meter-runtime headend send register.read --lab lab --meter M1 --by sato --wait 30",
    )
    sending.add_argument("command_name", metavar="COMMAND", help=f"one of: {_commands()}")
    _add_lab(sending)
    sending.add_argument("--meter", required=True, metavar="ID")
    sending.add_argument("--by", required=True, metavar="NAME", help="who is responsible for it")
    sending.add_argument("--reason", default="", metavar="TEXT", help="a work order, for the meter")
    sending.add_argument(
        "--arg", action="append", default=[], metavar="KEY=VALUE", help="an argument; repeatable"
    )
    sending.add_argument(
        "--expires",
        default="1h",
        metavar="DURATION",
        help="the meter no longer obeys it then (default: 1h)",
    )
    sending.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="for the result (default: do not)"
    )
    sending.add_argument("--json", action="store_true", help="one document")
    sending.set_defaults(act=_send)

    listing = add_command(
        commands,
        "sent",
        "List the control side's last commands and how they ended.",
        "meter-runtime headend sent --lab lab",
    )
    _add_lab(listing)
    listing.add_argument("--json", action="store_true", help="one document")
    listing.set_defaults(act=_sent)


def run(args: argparse.Namespace) -> int:
    lab = Lab.open(args.lab)
    with contextlib.closing(ScsStore(lab.folder(SCS) / "scs.db")) as store:
        status: int = args.act(args, lab, store)
    return status


def _commands() -> str:
    mine = Issuer(SCS, b"", ISSUERS[SCS])
    return ", ".join(name for name in COMMANDS if mine.may(name) and name != "keys.rotate")


def _add_lab(parser: "Parser") -> None:
    parser.add_argument("--lab", type=Path, required=True, metavar="LAB", help="see 'keys init'")


def _serve(_: argparse.Namespace, lab: Lab, store: ScsStore) -> int:
    set_up_log("info")
    settings = lab.mqtt(SCS, f"scs-{lab.utility}")
    settings.check()
    asyncio.run(_run(lab, store, settings))
    return 0


async def _run(lab: Lab, store: ScsStore, settings: MqttSettings) -> None:
    rng = random.Random()
    bearer = MqttBearer(settings, subscriptions=[Topics(lab.utility, "+").results], rng=rng)
    control = SupervisoryControl(lab, ControlSide.of(lab), bearer, store, rng=rng)
    serving = asyncio.create_task(control.run())
    ending = asyncio.create_task(until_signal())
    print(f"scs: relay {lab.relay.host}, broker {lab.broker_url}", flush=True)
    try:
        await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (serving, ending):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def _send(args: argparse.Namespace, lab: Lab, store: ScsStore) -> int:
    if args.command_name == "keys.rotate":
        raise UsageError(
            "a key is changed with 'meter-runtime keys rotate', which keeps the new one"
        )
    request_id = scs_send.issue(
        lab,
        store,
        args.command_name,
        args.meter,
        scs_send.read_arguments(args.arg),
        by=args.by,
        reason=args.reason,
        valid_s=parse_duration(args.expires),
    )
    task = scs_send.wait_for_end(store, request_id, args.wait)
    document = scs_send.document(lab, task)
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        print(_told(document))
    if not args.wait:
        return 0
    if task.result is None:
        raise MeterError(
            f"{request_id}: no result within {args.wait:g} s; it is sent again until it expires:"
            " see 'headend sent'"
        )
    return 0 if task.code == "OK" else 1


def _sent(args: argparse.Namespace, lab: Lab, store: ScsStore) -> int:
    documents = [scs_send.document(lab, task) for task in store.own(_SHOWN)]
    if args.json:
        print(json.dumps(documents, indent=2))
    else:
        print("\n".join(map(_told, documents)) or "nothing was sent")
    return 0


def _told(document: dict[str, Any]) -> str:
    head = "{request}  {command} to {meter_id} by {by}".format_map(document)
    result = document["result"]
    if result is None:
        return f"{head}: no result yet, sent {document['sent']} times"
    lines = [f"{head}: {result['code']}"]
    lines += [f"  {key}: {json.dumps(value)}" for key, value in result["details"].items()]
    return "\n".join(lines)
