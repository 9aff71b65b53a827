"""The trace: one JSON document a line for everything that crossed a wire or the air, or happened.

Each line has ``mono`` (the bench's monotonic seconds), ``wall`` (JST, milliseconds), ``kind``, and:

- ``uart``: ``module``, ``way`` (``to-module`` or ``from-module``) and ``line``, credentials hidden;
- ``frame``: ``source``, ``destination``, ``channel``, ``secured``, ``received``, ``lqi``, ``body``
  and for UDP ``port``, ``data`` in hex and ``shown``, the same in words;
- every kind of :data:`~meter_runtime.bench.happenings.KINDS`, with that happening's details.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meter_runtime.bench.air import Crossing, UdpDatagram
from meter_runtime.bench.frames import CrossedFrame
from meter_runtime.bench.happenings import Happening
from meter_runtime.clock import Clock, jst
from meter_runtime.errors import MeterError

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 30
"""The trace ends here, and says so: a laboratory left alone must not fill a disk."""

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Trace:
    """Writes the file at ``path``, each line in one write.

    ``names`` are the modules' by MAC address. Raises MeterError where the file cannot be made. When
    it can no longer be written, that is logged once and the laboratory goes on without.
    """

    def __init__(
        self, path: Path, clock: Clock, names: Mapping[bytes, str], limit: int = MAX_BYTES
    ) -> None:
        self.path = path
        self._clock = clock
        self._names = names
        self._left = limit
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as failure:
            raise MeterError(f"{path}: cannot be written: {failure.strerror}") from None

    def uart(self, module: str, way: str, line: str) -> None:
        """A line crossed the serial line of a module."""
        now = self._clock
        detail = {"module": module, "way": way, "line": line}
        self._write(now.monotonic(), now.wall(), "uart", detail)

    def crossed(self, crossing: Crossing, wall: float, told: CrossedFrame | None) -> None:
        """A frame was on air; ``told`` is its datagram, where it has one."""
        frame = crossing.frame
        detail: dict[str, Any] = {
            "source": self._name(frame.source),
            "destination": "all" if frame.destination is None else self._name(frame.destination),
            "channel": frame.channel,
            "secured": frame.secured,
            "received": crossing.received,
            "lqi": crossing.lqi,
            "body": _WORD_START.sub("-", type(frame.body).__name__).lower(),
        }
        if isinstance(frame.body, UdpDatagram) and told is not None:
            detail |= {
                "port": told.port,
                "data": told.payload.hex().upper(),
                "shown": told.summary,
            }
        self._write(crossing.at, wall, "frame", detail)

    def happened(self, happening: Happening) -> None:
        """Something happened."""
        self._write(happening.at_monotonic, happening.wall, happening.kind, happening.detail)

    def close(self) -> None:
        self._file.close()

    def _name(self, mac: bytes) -> str:
        return self._names.get(mac, mac.hex().upper())

    def _write(self, mono: float, wall: float, kind: str, detail: Mapping[str, Any]) -> None:
        if self._left <= 0 or self._file.closed:
            return
        stamp = jst(wall).isoformat(timespec="milliseconds")
        document = {"mono": round(mono, 6), "wall": stamp, "kind": kind}
        line = (
            json.dumps(document | dict(detail) | document, default=str, ensure_ascii=False).encode()
            + b"\n"
        )
        try:
            self._file.write(line)
        except OSError as failure:
            self._end(failure.strerror or str(failure))
            return
        self._left -= len(line)
        if self._left <= 0:
            self._end("it has reached its limit")

    def _end(self, reason: str) -> None:
        self._left = 0
        log.warning("%s: the trace ends here: %s", self.path, reason)
