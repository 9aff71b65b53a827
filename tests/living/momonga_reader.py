"""Some momonga, in a process of its own, reads the meters it is told of, all at once.

Standard input: one JSON list of modules, ``{"tty": …, "route_b_id": …, "password": …}`` each.
Standard output: one JSON document, the version and for each module what was read or went wrong.
Which momonga it is, is the caller's choice by PYTHONPATH; only what every version has is used.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import momonga


def read(module: dict[str, str]) -> dict[str, Any]:
    """One session: what a HEMS shows."""
    meter = momonga.Momonga(module["route_b_id"], module["password"], module["tty"])
    meter.internal_xmit_interval = 0
    try:
        with meter:
            currents = meter.get_instantaneous_current()
            fixed = meter.get_cumulative_energy_measured_at_fixed_time()
            day = [
                meter.get_historical_cumulative_energy_1(day=1, reverse=r) for r in (False, True)
            ]
            return {
                "power_w": meter.get_instantaneous_power(),
                "currents_a": [currents["r phase current"], currents["t phase current"]],
                "forward_kwh": meter.get_measured_cumulative_energy(),
                "reverse_kwh": meter.get_measured_cumulative_energy(reverse=True),
                "fixed_kwh": fixed["cumulative energy"],
                "fixed_at": str(fixed["timestamp"]),
                "yesterday_kwh": [[row["cumulative energy"] for row in rows] for rows in day],
                "serial": meter.get_serial_number().rstrip("\0"),
                "working": meter.get_operation_status(),
            }
    except Exception as reason:
        return {"failure": f"{type(reason).__name__}: {reason}"}


def main() -> None:
    """Read every module at the same time."""
    modules = json.load(sys.stdin)
    with ThreadPoolExecutor(len(modules)) as pool:
        told = {"version": version("momonga"), "read": list(pool.map(read, modules))}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
