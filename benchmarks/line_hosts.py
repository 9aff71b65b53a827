"""The programs at many modules: each serial device is asked ten times a second, until killed."""

import os
import select
import sys
import time
import tty

PERIOD_S = 0.1
COMMAND = b"SKINFO\r\n"


def main(devices: list[str]) -> None:
    """Spread the questions evenly; drop the answers."""
    ports = [os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK) for device in devices]
    for port in ports:
        tty.setraw(port)
    poll = select.poll()
    for port in ports:
        poll.register(port, select.POLLIN)
    gap = PERIOD_S / len(ports)
    due = time.monotonic()
    while True:
        for port in ports:
            os.write(port, COMMAND)
            due += gap
            while (left := due - time.monotonic()) > 0:
                for ready, _ in poll.poll(left * 1000):
                    os.read(ready, 65536)


if __name__ == "__main__":
    main(sys.argv[1:])
