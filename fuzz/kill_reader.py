"""momonga, unmodified, reads one meter for ever, whatever becomes of it: ``fuzz.kill``'s HEMS.

Arguments: the serial device, the ID, and a seed for the order of days. The password comes from
the environment variable ROUTE_B_PASSWORD. Standard output: one JSON object a line,

    {"joined": true}                     a session is up
    {"lost": REASON}                     it ended, or none came about
    {"date": ISO, "kwh": [[…48…], […48…]]}   one day's registers, forward and reverse
    {"register_kwh": [FORWARD, REVERSE]}
"""

import json
import os
import random
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import momonga

from meter_runtime.bench.scripted_hems import PASSWORD_VARIABLE
from meter_runtime.broute.echonet.history import HISTORY_DAYS

LOOK_S = 0.02
PATIENCE_S = 2
"""For an answer, and for a datagram to leave; a killed meter is given up sooner."""


def live(device: str, route_b_id: str, password: str, rng: random.Random) -> None:
    """Join and read, again and again."""
    while True:
        while not Path(device).exists():
            time.sleep(LOOK_S)
        try:
            meter = momonga.Momonga(
                route_b_id, password, device, scan_retries=1, join_retries=1, reopen_delays=None
            )
            meter.internal_xmit_interval = 0
            meter.xmit_retries = 2
            meter.recv_timeout = meter.xmit_timeout = PATIENCE_S
            with meter:
                say(joined=True)
                while True:
                    _sweep(meter, rng)
        except Exception as reason:  # whatever a killed meter does to a HEMS
            say(lost=type(reason).__name__)
            time.sleep(LOOK_S)


def _sweep(meter: momonga.Momonga, rng: random.Random) -> None:
    """Every day the meter serves, the two newest first."""
    days = list(range(2, HISTORY_DAYS + 1))
    rng.shuffle(days)
    before = meter.get_current_date_setting()
    for day in (0, 1, *days):
        rows = [
            meter.get_historical_cumulative_energy_1(day=day, reverse=reverse)
            for reverse in (False, True)
        ]
        today, before = before, meter.get_current_date_setting()
        if before != today:
            continue  # "a day ago" was another day meanwhile
        kwh = [[row["cumulative energy"] for row in half] for half in rows]
        say(date=(today - timedelta(days=day)).isoformat(), kwh=kwh)
        if day < 2:
            registers = [
                meter.get_measured_cumulative_energy(reverse=reverse) for reverse in (False, True)
            ]
            say(register_kwh=registers)


def say(**what: Any) -> None:
    """One line for whoever listens."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    _, device, route_b_id, seed = sys.argv
    live(device, route_b_id, os.environ[PASSWORD_VARIABLE], random.Random(seed))
