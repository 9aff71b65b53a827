"""The other side of the wire: a WHM1 at its registers."""

from collections.abc import Callable

from meter_runtime.bench.board.supply import Flow


class Whm1Chip:
    """The chip on a line of a supply; what it has counted is what its line shows."""

    def __init__(self, line: Callable[[], Flow]) -> None:
        self._line = line
        self._pointer = 0

    def write(self, data: bytes) -> None:
        if data:
            self._pointer = data[0]

    def read(self, n: int) -> bytes:
        flow = self._line()
        current_ma = flow.current_ma if flow.power_mw >= 0 else -flow.current_ma
        body = b"".join(
            (
                b"WHM1",
                (flow.forward_mws // 3600).to_bytes(6, "big"),
                (flow.reverse_mws // 3600).to_bytes(6, "big"),
                (flow.power_mw // 1000).to_bytes(4, "big", signed=True),
                current_ma.to_bytes(4, "big", signed=True),
            )
        )
        body += bytes((-sum(body) % 256,))
        return body[self._pointer :][:n].ljust(n, b"\xff")
