"""``meter-runtime headend relay``: the Relay Server, until SIGTERM."""

import argparse
import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime.cli.log import set_up_log
from meter_runtime.cli.parser import add_command
from meter_runtime.cli.until_signal import until_signal
from meter_runtime.headend import relay
from meter_runtime.headend.lab import RELAY, Lab
from meter_runtime.headend.relay_spool import Spool

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "relay",
        "Run the Relay Server: the business side puts requests there and takes results, the\n"
        "control side fetches and answers; it connects to neither. Ends with SIGTERM.",
        "meter-runtime headend relay --lab lab",
    )
    parser.add_argument("--lab", type=Path, required=True, metavar="LAB", help="see 'keys init'")


def run(args: argparse.Namespace) -> int:
    lab = Lab.open(args.lab)
    set_up_log("info")
    with contextlib.closing(Spool(lab.folder(RELAY) / "spool.db")) as spool:
        asyncio.run(_serve(lab, spool))
    return 0


async def _serve(lab: Lab, spool: Spool) -> None:
    address = lab.relay
    async with relay.serve(lab, spool):
        print(
            f"relay on {address.host}: business port {address.business_port},"
            f" control port {address.control_port}",
            flush=True,
        )
        await until_signal()
