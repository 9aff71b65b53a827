"""A small HEMS: joins the smart meter through a Wi-SUN dongle and prints what the house uses.

Run as ``python my_hems.py /dev/ttyUSB0``, with the letter's ID and password in the environment
as ROUTE_B_ID and ROUTE_B_PASSWORD.
"""

import os
import sys
import time
from datetime import datetime

import serial

METER = bytes.fromhex("028801")
CONTROLLER = bytes.fromhex("05FF01")
GET, GET_RES, GET_SNA = 0x62, 0x72, 0x52
ECHONET_LITE_PORT = "0E1A"
NO_POWER = bytes.fromhex("7FFFFFFE")


class HemsError(Exception):
    """The meter cannot be read now; the message says why."""


class MeterLink:
    """A session with the meter behind a single-stack module, such as BP35A1."""

    def __init__(self, tty: str, patience_s: float = 12.0, retries: int = 3) -> None:
        self._port = serial.Serial(tty, 115200, timeout=1)
        self._patience_s = patience_s
        self._retries = retries
        self._meter = ""
        self._tid = 0

    def close(self) -> None:
        """End the session and let the dongle go."""
        self._port.write(b"SKTERM\r\n")
        self._until("OK", "FAIL")
        self._port.close()

    def join(self, route_b_id: str, password: str) -> None:
        """Find the meter of this ID and prove the password."""
        self._port.reset_input_buffer()
        self._command("SKRESET")
        self._command("WOPT 01", end="\r")
        self._command(f"SKSETPWD {len(password):X} {password}")
        self._command(f"SKSETRBID {route_b_id}")
        found = self._scan()
        self._command(f"SKSREG S2 {found['Channel']}")
        self._command(f"SKSREG S3 {found['Pan ID']}")
        self._port.write(f"SKLL64 {found['Addr']}\r\n".encode())
        self._meter = self._until("FE80:")
        self._command(f"SKJOIN {self._meter}")
        if self._until("EVENT 24", "EVENT 25").startswith("EVENT 24"):
            raise HemsError("the meter refused us: is the password right?")

    def power_w(self) -> int | None:
        """What the house draws now, negative while it feeds in; None when the meter cannot say."""
        data = self._get(0xE7)
        if data is None or data == NO_POWER:
            return None
        return int.from_bytes(data, "big", signed=True)

    def half_hour(self) -> tuple[datetime, int] | None:
        """The last half hour's end and the register then, in the meter's own unit."""
        data = self._get(0xEA)
        if not data:
            return None
        year, register = int.from_bytes(data[:2], "big"), int.from_bytes(data[7:11], "big")
        return datetime(year, *data[2:7]), register  # noqa: DTZ001 - the meter tells local time

    def _scan(self) -> dict[str, str]:
        self._command("SKSCAN 2 FFFFFFFF 6")
        found: dict[str, str] = {}
        while not (line := self._until("EVENT 22", " ")).startswith("EVENT 22"):
            key, _, value = line.strip().partition(":")
            found[key] = value
        if not found:
            raise HemsError("no meter answered: is the ID right, is the meter in range?")
        return found

    def _get(self, epc: int) -> bytes | None:
        """One property's data, asked for until it comes; None when the meter has none."""
        for _ in range(self._retries):
            self._tid = (self._tid + 1) & 0xFFFF
            tid = self._tid.to_bytes(2, "big")
            data = b"\x10\x81" + tid + CONTROLLER + METER + bytes((GET, 1, epc, 0))
            head = f"SKSENDTO 1 {self._meter} {ECHONET_LITE_PORT} 1 {len(data):04X} "
            self._port.write(head.encode() + data)
            try:
                return self._answer(tid, epc)
            except TimeoutError:
                continue
        raise HemsError(f"the meter gave no answer for {epc:02X}")

    def _answer(self, tid: bytes, epc: int) -> bytes | None:
        while True:
            fields = self._until("ERXUDP").split()
            data = bytes.fromhex(fields[-1])
            if fields[4] != ECHONET_LITE_PORT or data[2:4] != tid:
                continue  # PANA, or the answer to an earlier question
            if data[10] in (GET_RES, GET_SNA) and data[12] == epc:
                # An announcement counts its TIDs by itself and may have ours.
                return data[14 : 14 + data[13]] if data[10] == GET_RES else None

    def _command(self, line: str, end: str = "\r\n") -> None:
        self._port.write((line + end).encode())
        if not (answer := self._until("OK", "FAIL")).startswith("OK"):
            raise HemsError(f"{line.split(maxsplit=1)[0]}: the module says {answer}")

    def _until(self, *starts: str) -> str:
        """The next line that starts with one of these."""
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline:
            line = self._port.read_until(b"\r").decode("ascii", "replace").strip("\r\n")
            if line.startswith(starts):
                return line
        raise TimeoutError(f"the module did not say {' or '.join(starts)}")


def main() -> int:
    """Print power and the last half hour once."""
    link = MeterLink(sys.argv[1])
    try:
        link.join(os.environ["ROUTE_B_ID"], os.environ["ROUTE_B_PASSWORD"])
        print(f"power {link.power_w()} W, half hour {link.half_hour()}")
    except (HemsError, TimeoutError) as reason:
        print(f"my_hems: {reason}", file=sys.stderr)
        return 1
    finally:
        link.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
