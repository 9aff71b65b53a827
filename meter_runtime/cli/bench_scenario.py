"""``meter-runtime bench --scenario FILE``: play a file, tell the story, judge it.

Exit status 0 when everything came as expected, 1 when not.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.scenario import Report, Scenario, bench_options, junit, load, play
from meter_runtime.bench.scenario.story import Story
from meter_runtime.errors import UsageError

_THE_FILES = (
    "hems_module",
    "meter_module",
    "air",
    "start",
    "rbid",
    "password",
    "profile",
    "wiring",
    "units",
    "one_way",
    "notification",
    "load",
    "pv_kw",
    "history",
)
"""Options of the command that a scenario says itself."""
_INTERRUPTED = 130


def run_scenario(args: argparse.Namespace, defaults: argparse.Namespace) -> int:
    """Play ``args.scenario``; ``defaults`` is what the arguments are where nobody gave them."""
    for name in _THE_FILES:
        if getattr(args, name) != getattr(defaults, name):
            option = name.replace("_", "-")
            raise UsageError(f"--{option} and --scenario exclude each other: the file has [bench]")
    if args.hems == "momonga":
        raise UsageError(
            "--hems momonga and --scenario exclude each other: the file has [hems];"
            " --hems none leaves the HEMS to you"
        )
    scenario = load(args.scenario)
    options = dataclasses.replace(
        bench_options(scenario, args.scenario.parent),
        state_dir=args.state,
        tty_dir=args.tty_dir,
        control=args.control,
        ready_file=args.ready_file,
        capture=args.capture,
        trace=args.trace,
    )
    if args.seed is not None:
        options = dataclasses.replace(options, seed=args.seed)
    report = asyncio.run(_until_told(_play(scenario, options, own_hems=args.hems == "none")))
    if report is None:
        return _INTERRUPTED
    if args.junit is not None:
        junit.write(args.junit, report, Path(args.scenario).stem)
    return 0 if report.passed else 1


async def _play(scenario: Scenario, options: BenchOptions, *, own_hems: bool) -> Report:
    async with Bench(options) as bench:
        print(json.dumps(bench.ready_document()), flush=True)
        story = Story(lambda line: print(line, flush=True), bench.clock.monotonic())
        unsubscribe = bench.subscribe(story.hear)
        report = await play(scenario, bench, announce=story.step, own_hems=own_hems)
        unsubscribe()
        story.end(report)
        return report


async def _until_told(playing: Coroutine[Any, Any, Report]) -> Report | None:
    """None after Ctrl-C or SIGTERM, which end it tidily."""
    task = asyncio.create_task(playing, name="scenario")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        return await task
    return None
