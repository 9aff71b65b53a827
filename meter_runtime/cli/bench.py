"""``meter-runtime bench``: the meter in a virtual laboratory, nothing to plug in."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime.bench.fitted import fitted_file
from meter_runtime.bench.hems import HemsProcess
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.module.explain import explain_modules
from meter_runtime.bench.options import BenchOptions, instant
from meter_runtime.cli.log import set_up_log
from meter_runtime.cli.parser import add_command
from meter_runtime.errors import UsageError
from meter_runtime.secret import Secret
from meter_runtime.units.contracts import Wiring

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

MAX_HISTORY_DAYS = 41
_HEMS = ("none", "momonga")
_WIRINGS = ("1P2W", "1P3W", "3P3W")
_WIRING = "1P3W"
_PROFILES = ("kansai", "aif-1.01", "aif-1.10")


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "bench",
        "Run a meter in a virtual radio room. It prints one line of JSON when everything serves:\n"
        "the serial device to open, the ID and the password.",
        "meter-runtime bench --hems-module bp35c2:echo=0 --history 40 --seed 7\n"
        "  meter-runtime bench --scenario scenarios/meter-reboot.toml --capture air.pcapng",
    )
    room = parser.add_argument_group("the room")
    room.add_argument(
        "--hems-module",
        action="append",
        metavar="PROFILE[:key=value,…]",
        help="a module for a HEMS: bp35a1, wsr35a1, rl7023-ips, bp35c2, rs-wsuha-p, rl7023-dss;"
        " keys echo, wopt, pace, tty; repeatable (default: bp35a1)",
    )
    room.add_argument(
        "--meter-module", default="bp35a1", metavar="PROFILE", help="the meter's own module"
    )
    room.add_argument(
        "--air",
        choices=("fast", "real"),
        default="fast",
        help="real: scan, join and airtime take their time; fast: the same without waiting",
    )
    room.add_argument("--seed", type=int, metavar="N", help="of everything random (default: 1)")
    room.add_argument(
        "--list-modules", action="store_true", help="explain each PROFILE, and do nothing else"
    )
    meter = parser.add_argument_group("the meter")
    meter.add_argument("--rbid", metavar="ID", help="32 characters 0-9 A-F (default: by the seed)")
    meter.add_argument("--password", metavar="TEXT", help="12 letters and digits (by the seed)")
    meter.add_argument("--profile", choices=_PROFILES, default="aif-1.01", help="of properties")
    meter.add_argument(
        "--units",
        type=Path,
        metavar="FILE.toml",
        help="which units are plugged in, as in examples/units (default: communication, metering)",
    )
    meter.add_argument("--wiring", choices=_WIRINGS, default=_WIRING, help="of the supply")
    meter.add_argument("--one-way", action="store_true", help="a meter without reverse energy")
    meter.add_argument(
        "--notification", choices=("inf", "infc"), default="inf", help="of half-hour values"
    )
    house = parser.add_argument_group("the house")
    house.add_argument("--load", type=Path, metavar="FILE.csv", help="play this load profile")
    house.add_argument("--pv-kw", type=float, default=4.0, metavar="KW", help="on the roof")
    house.add_argument(
        "--history", type=int, default=0, metavar="DAYS", help="days measured before it serves"
    )
    house.add_argument(
        "--start", metavar="TIME", help="when it begins to serve, 2026-11-22T23:58:00 (now)"
    )
    utility = parser.add_argument_group("the utility")
    utility.add_argument(
        "--mqtt", metavar="URL", help="the broker, mqtt://HOST[:PORT] (default: one of its own)"
    )
    utility.add_argument(
        "--lab",
        type=Path,
        metavar="DIR",
        help="a laboratory made by 'meter-runtime keys init': its keys, and its broker",
    )
    utility.add_argument(
        "--local",
        metavar="ADDRESS:PORT",
        help="the meter's local port, for 'handheld'; 'handheld press' holds its button",
    )
    utility.add_argument(
        "--presence", action="store_true", help="the local port is always open, without a button"
    )
    files = parser.add_argument_group("files")
    files.add_argument("--state", type=Path, metavar="DIR", help="keep the meter's memory here")
    files.add_argument("--tty-dir", type=Path, metavar="DIR", help="stable links hems0, hems1, …")
    files.add_argument("--control", type=Path, metavar="PATH", help="the control socket")
    files.add_argument("--ready-file", type=Path, metavar="FILE", help="the ready line, as a file")
    files.add_argument(
        "--capture", type=Path, metavar="FILE.pcapng", help="what crosses the air, for Wireshark"
    )
    files.add_argument(
        "--trace",
        type=Path,
        metavar="FILE.jsonl",
        help="what crosses each serial line and the air, and what happens",
    )
    played = parser.add_argument_group("a scenario")
    played.add_argument(
        "--scenario",
        type=Path,
        metavar="FILE.toml",
        help="set up, run and judge what this file says; --hems none: with a HEMS of your own",
    )
    played.add_argument("--junit", type=Path, metavar="FILE.xml", help="its verdicts, for CI")
    shown = parser.add_argument_group("on the terminal")
    shown.add_argument("--hems", choices=_HEMS, help="run a HEMS on hems0 (default: none)")
    shown.add_argument("--no-ui", action="store_true", help="no live view, the log instead")

    parser.set_defaults(defaults=parser)


def run(args: argparse.Namespace) -> int:
    if args.list_modules:
        print(explain_modules(), end="")
        return 0
    if args.scenario is not None:
        from meter_runtime.cli.bench_scenario import run_scenario

        set_up_log("warning")
        return run_scenario(args, args.defaults.parse_args([]))
    if args.junit is not None:
        raise UsageError("--junit tells the verdicts of a scenario; give --scenario, too")
    options = _options(args)
    live = not args.no_ui and sys.stdout.isatty()
    set_up_log("warning" if live else "info")
    return asyncio.run(_serve(options, args.hems == "momonga", live))


def _options(args: argparse.Namespace) -> BenchOptions:
    if not 0 <= args.history <= MAX_HISTORY_DAYS:
        raise UsageError(f"--history {args.history}: give 0 to {MAX_HISTORY_DAYS} days")
    if not 0 <= args.pv_kw <= 100:
        raise UsageError(f"--pv-kw {args.pv_kw:g}: give 0 to 100 kW")
    if args.units is not None and (args.one_way or args.wiring != _WIRING):
        raise UsageError("--units: the file says the wiring and the ways; leave out the options")
    options = BenchOptions(
        hems_modules=tuple(args.hems_module or ("bp35a1",)),
        meter_module=args.meter_module,
        air=args.air,
        seed=1 if args.seed is None else args.seed,
        route_b_id=args.rbid,
        password=None if args.password is None else Secret(args.password),
        load=args.load,
        pv_kw=args.pv_kw,
        history_days=args.history,
        echonet_profile=args.profile,
        units=args.units,
        wiring=Wiring(args.wiring),
        two_way=not args.one_way and args.wiring != "1P2W",
        notification=args.notification,
        mqtt=args.mqtt,
        lab=args.lab,
        local=args.local,
        presence=args.presence,
        state_dir=args.state,
        tty_dir=args.tty_dir,
        control=args.control,
        ready_file=args.ready_file,
        start=None if args.start is None else instant(args.start, "--start"),
        capture=args.capture,
        trace=args.trace,
    )
    # A wrong ID, password or file of units is told before anything is made.
    options.credentials()
    fitted_file(options)
    return options


async def _serve(options: BenchOptions, with_hems: bool, live: bool) -> int:
    """Until Ctrl-C or SIGTERM, which are heeded while the bench comes up, too."""
    serving = asyncio.create_task(_open_and_show(options, with_hems, live), name="bench")

    def end() -> None:
        if not serving.cancelling():  # a second Ctrl-C must not spoil the tidying up
            serving.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    return 0


async def _open_and_show(options: BenchOptions, with_hems: bool, live: bool) -> None:
    """Run the bench, and what was asked for beside it, until cancelled."""
    async with Bench(options) as bench:
        print(json.dumps(bench.ready_document()), flush=True)
        hems = None
        tasks: list[asyncio.Task[None]] = []
        if with_hems:
            hems = HemsProcess(bench.tty, bench.route_b_id, bench.credentials.password)
            tasks.append(asyncio.create_task(hems.run(), name="HEMS"))
        try:
            await _show(bench, hems, live)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _show(bench: Bench, hems: HemsProcess | None, live: bool) -> None:
    """Show the bench, live or as lines, until cancelled."""
    if live:
        from rich.console import Console

        from meter_runtime.bench.view import watch

        await watch(bench, hems, Console())
    elif hems is not None:
        await _narrate(bench, hems)
    else:
        await asyncio.Event().wait()


async def _narrate(bench: Bench, hems: HemsProcess) -> None:
    """The HEMS's story as plain lines, each reading beside the meter's own value."""
    async for name, value in hems.story():
        print(f"HEMS  {name}: {value}", flush=True)
        if name == "power_w":
            registers = bench.status()["registers"]
            print(
                f"meter power_w: {registers['power_w']}  forward_wh: {registers['forward_wh']}",
                flush=True,
            )
