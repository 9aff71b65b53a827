"""A HEMS nobody here wrote: the `momonga` library, unmodified, in a process of its own.

Run as ``python -m meter_runtime.bench.hems_client``. The first line of standard input says which
module to open and with which credentials, so that they stand in no process list; what happens
comes back on standard output as one JSON document a line. SIGTERM ends the session properly.
"""

import json
import logging
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn

import momonga

RETRY_S = 3.0


def emit(kind: str, **fields: Any) -> None:
    """One line to the bench."""
    print(json.dumps({"kind": kind, **fields}, default=str), flush=True)  # noqa: T201


class _Forward(logging.Handler):
    """Hands momonga's own log (it masks its secrets) to the bench."""

    def emit(self, record: logging.LogRecord) -> None:
        emit("log", level=record.levelname, text=record.getMessage())


def _read_forever(meter: momonga.Momonga, interval_s: float) -> NoReturn:
    """Poll what a HEMS shows, round and round, one property a request."""
    optional = {
        "reverse_kwh": lambda: meter.get_measured_cumulative_energy(reverse=True),
    }
    while True:
        emit("reading", name="power_w", value=meter.get_instantaneous_power())
        time.sleep(interval_s)
        currents = meter.get_instantaneous_current()
        emit("reading", name="current_r_a", value=currents["r phase current"])
        emit("reading", name="current_t_a", value=currents["t phase current"])
        time.sleep(interval_s)
        emit("reading", name="forward_kwh", value=meter.get_measured_cumulative_energy())
        time.sleep(interval_s)
        for name in tuple(optional):
            try:
                emit("reading", name=name, value=optional[name]())
            except momonga.MomongaResponseNotPossible:
                del optional[name]  # a one-way meter
            time.sleep(interval_s)
        fixed = meter.get_cumulative_energy_measured_at_fixed_time()
        emit("reading", name="half_hour_kwh", value=fixed["cumulative energy"])
        emit("reading", name="half_hour_at", value=fixed["timestamp"])
        while (notification := meter.get_notification(timeout=interval_s)) is not None:
            codes = [f"{int(code):02X}" for code in notification["properties"]]
            emit("announcement", codes=codes)


def main() -> int:
    """Join, read, and join again when the session is lost."""
    settings = json.loads(sys.stdin.readline())

    def leave(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bench decides when we stop
    logger = logging.getLogger("momonga")
    logger.setLevel(logging.INFO)
    logger.addHandler(_Forward())
    logger.propagate = False
    while True:
        meter = momonga.Momonga(settings["route_b_id"], settings["password"], settings["tty"])
        meter.internal_xmit_interval = settings["interval_s"]
        emit("phase", text="joining")
        try:
            with meter:
                emit("phase", text="joined")
                _read_forever(meter, settings["interval_s"])
        except momonga.MomongaError as reason:
            emit("phase", text=f"retrying: {type(reason).__name__}")
            time.sleep(RETRY_S)


if __name__ == "__main__":
    sys.exit(main())
