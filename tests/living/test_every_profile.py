"""Two momongas, the newest and an old one, against every product in every state it may come in.

Each module stands in a bench of its own, with a meter of its own; all are read at the same time.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meter_runtime.bench.background import BackgroundBench
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import first_slot_of, jst, jst_day, slot_start

READER = Path(__file__).with_name("momonga_reader.py")
OLD = "0.3.0"
MODULES = {
    # HEMS module: meter module. Where a state is not given, it is the product's own.
    "bp35a1:echo=1,wopt=0": "bp35a1",
    "bp35a1:echo=0,wopt=1": "bp35c2",
    "wsr35a1": "rl7023-ips",
    "rl7023-ips:echo=0": "rl7023-dss",
    "bp35c2:echo=1,wopt=0": "bp35a1",
    "bp35c2:echo=0,wopt=1": "wsr35a1",
    "rs-wsuha-p:echo=0": "bp35c2",
    "rl7023-dss:wopt=0": "rs-wsuha-p",
}
POWER_W = -1234
READ_WITHIN_S = 90


@pytest.fixture(scope="module")
def old_momonga(request: pytest.FixtureRequest) -> Path:
    """The folder of an old momonga; it brings nothing, pyserial is there."""
    shelf = request.config.cache.mkdir("momonga")
    folder = shelf / OLD
    if not folder.exists():
        fresh = shelf / f"{OLD}.{os.getpid()}"
        install = ("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(fresh))
        got = subprocess.run(  # noqa: S603 - pip of our own environment
            [sys.executable, *install, "--disable-pip-version-check", f"momonga=={OLD}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if got.returncode != 0:
            pytest.skip(f"momonga {OLD} cannot be installed: is PyPI reachable?")
        fresh.rename(folder)
    return folder


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, BackgroundBench]]:
    load = tmp_path_factory.mktemp("load") / "steady.csv"
    load.write_text(f"time,power_w,current_r_a,current_t_a\n0,{POWER_W},-6.2,-6.1\n")
    with ExitStack() as stack:
        yield {
            hems: stack.enter_context(
                BackgroundBench(
                    BenchOptions(
                        hems_modules=(hems,),
                        meter_module=meter,
                        seed=seed,
                        load=load,
                        history_days=1,
                    )
                )
            )
            for seed, (hems, meter) in enumerate(MODULES.items())
        }


def counts(kwh: float | None) -> int | None:
    """Register counts of 0.1 kWh in momonga's floating kilowatt-hours."""
    return None if kwh is None else int((Decimal(str(kwh)) / Decimal("0.1")).to_integral_value())


def held(bench: Bench) -> dict[str, Any]:
    """The same values as the reader's, from the meter itself, energies in counts of 0.1 kWh."""
    metering, clock = bench.meter.metering, bench.clock
    newest = metering.ring.newest()
    assert newest is not None
    first = first_slot_of(jst_day(clock.wall()) - timedelta(days=1))
    yesterday = [metering.ring.get(first + slot) for slot in range(48)]
    assert None not in yesterday
    return {
        "power_w": metering.power_w,
        "currents_a": [-6.2, -6.1],
        "forward_kwh": (metering.forward_mwh or 0) // 100_000,
        "reverse_kwh": (metering.reverse_mwh or 0) // 100_000,
        "fixed_kwh": newest.forward_dwh // 1000,
        "fixed_at": str(jst(slot_start(newest.slot)).replace(tzinfo=None)),
        "yesterday_kwh": [
            [row.forward_dwh // 1000 for row in yesterday if row is not None],
            [row.reverse_dwh // 1000 for row in yesterday if row is not None],
        ],
        "serial": bench.meter.metering.unit.nameplate.serial,
        "working": True,
    }


def comparable(read: dict[str, Any]) -> dict[str, Any]:
    """What was read, without what floating-point numbers make of it."""
    currents = [round(current, 1) for current in read["currents_a"]]
    energies = {name: counts(read[name]) for name in ("forward_kwh", "reverse_kwh", "fixed_kwh")}
    yesterday = [[counts(kwh) for kwh in rows] for rows in read["yesterday_kwh"]]
    return {**read, **energies, "yesterday_kwh": yesterday, "currents_a": currents}


@pytest.mark.parametrize("version", ["newest", OLD])
def test_momonga_reads_the_meter_through_every_module(
    version: str, benches: dict[str, BackgroundBench], request: pytest.FixtureRequest
) -> None:
    environment = {**os.environ, "TZ": "JST-9"}
    if version == OLD:
        environment["PYTHONPATH"] = str(request.getfixturevalue("old_momonga"))
    before = {name: bench.do(held) for name, bench in benches.items()}
    told = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(READER)],
        input=json.dumps(
            [
                {"tty": bench.tty, "route_b_id": bench.route_b_id, "password": bench.password}
                for bench in benches.values()
            ]
        ),
        env=environment,
        capture_output=True,
        text=True,
        timeout=READ_WITHIN_S,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert (document["version"] == OLD) == (version == OLD)
    read = dict(zip(benches, document["read"], strict=True))
    assert {name: one["failure"] for name, one in read.items() if "failure" in one} == {}
    after = {name: bench.do(held) for name, bench in benches.items()}
    for name, one in read.items():
        for what, value in comparable(one).items():
            assert value in (before[name][what], after[name][what]), (name, what)
    for bench in benches.values():
        assert bench.status()["broute"]["session"] is None, "momonga has left"
