"""Tells the service manager how the meter is: ready, alive, stopping.

The protocol of sd_notify(3): datagrams of ``KEY=VALUE`` to the socket that
``$NOTIFY_SOCKET`` names, where a leading ``@`` stands for an abstract address. Without a
service manager every call does nothing; a datagram that cannot be sent is never the meter's
problem.
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class Notifier:
    """The service manager this process was started by, if any."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = _watchdog_s(environ) if address else None
        """Send :meth:`alive` at least this often, in seconds; None when nobody watches."""

    def ready(self, status: str = "") -> None:
        """The meter serves."""
        self._send("READY=1", status)

    def alive(self, status: str = "") -> None:
        """The meter still works: feeds the watchdog."""
        self._send("WATCHDOG=1", status)

    def stopping(self) -> None:
        """The meter is shutting down."""
        self._send("STOPPING=1", "")

    def _send(self, state: str, status: str) -> None:
        if not self._address:
            return
        line = " ".join(status.split())
        message = f"{state}\nSTATUS={line}" if line else state
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
                out.sendto(message.encode(), self._address)
        except OSError as failure:
            log.debug("the service manager was not told %s: %s", state, failure)


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Half the watchdog's limit, as sd_watchdog_enabled(3) advises."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        limit_us = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return limit_us / 2e6 if limit_us > 0 else None
