"""The other end of the datagram benchmark: ``python -m benchmarks.asker PORT COUNT HEX``.

Sends a datagram so many times, the next one when the answer to the last has come.
"""

import socket
import sys

WAIT_S = 5.0
_LARGEST = 2048


def main() -> None:
    """Ask, and fail when an answer stays out."""
    port, count, request = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(WAIT_S)
        line.connect(("127.0.0.1", port))
        for _ in range(count):
            line.send(request)
            line.recv(_LARGEST)


if __name__ == "__main__":
    main()
