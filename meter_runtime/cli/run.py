"""``meter-runtime run``: the firmware service on its hardware."""

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime import config, report, runtime
from meter_runtime.cli.log import set_up_log
from meter_runtime.cli.parser import add_command
from meter_runtime.control import ControlServer
from meter_runtime.device_key import load_device_key
from meter_runtime.notify import Notifier
from meter_runtime.rtc import open_rtc
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.real_board import open_board

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

DEFAULT_CONFIG = Path("/etc/meter-runtime/meter.toml")


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "run",
        "Run the meter: discover its units, check them, measure, store and serve until SIGTERM.",
        "meter-runtime run --config /etc/meter-runtime/meter.toml",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"the configuration (default: {DEFAULT_CONFIG})",
    )


def run(args: argparse.Namespace) -> int:
    settings = config.load(args.config)
    set_up_log(settings.log.level)
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: config.Config) -> None:
    notifier = Notifier()
    board = open_board(settings.board.profile, settings.board.gpio)
    if settings.broute.id is not None:
        await runtime.check_port(settings)
    device_key = load_device_key(settings.storage.device_key_file)
    async with AsyncExitStack() as opened:
        opened.callback(board.close)
        clock = SystemClock(open_rtc(settings.clock.rtc))
        opened.callback(clock.close)
        stores = runtime.open_stores(settings)
        opened.callback(stores.close)
        clock.start(runtime.persisted_time(stores))
        meter = await runtime.build(settings, stores, clock, device_key, board=board)
        opened.push_async_callback(meter.close)
        await _run(settings, meter, notifier)


async def _run(settings: config.Config, meter: runtime.Meter, notifier: Notifier) -> None:
    server = ControlServer(settings.control.path, report.handlers(meter))
    await server.start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, meter.stop)
    if notifier.watchdog_s is not None:
        meter.supervisor.add("watchdog", _feeder(notifier, notifier.watchdog_s))
    notifier.ready(f"meter {settings.meter.id} measures and serves")
    try:
        await meter.run()
    finally:
        notifier.stopping()
        await server.close()


def _feeder(notifier: Notifier, interval_s: float) -> Callable[[], Awaitable[None]]:
    async def feed() -> None:
        while True:
            notifier.alive()
            await asyncio.sleep(interval_s)

    return feed
