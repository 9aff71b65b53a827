"""What crossed the UART, fit to be shown: whole lines, credentials masked.

Own commands come as whole lines already; what the module writes may echo a credential in pieces,
so nothing of a line is shown before its end.
"""

import re
from collections.abc import Iterator

from meter_runtime.comm.skstack.commands import SECRET_COMMANDS
from meter_runtime.comm.skstack.replies import MAX_REPLY_LINE

_SECRET = re.compile(
    rb"((?:%s) )[^\r\n]*" % b"|".join(n.encode() for n in SECRET_COMMANDS), re.IGNORECASE
)


def mask_octets(data: bytes) -> bytes:
    """The octets with the arguments of credential commands hidden."""
    return _SECRET.sub(rb"\1******", data)


class MaskedLines:
    """Cuts a stream into lines for a trace; one that grows too long is shown in parts."""

    def __init__(self) -> None:
        self._line = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that these octets complete, with the octet that ended them."""
        for byte in data:
            self._line.append(byte)
            if byte in (0x0A, 0x0D) or len(self._line) >= MAX_REPLY_LINE:
                line = mask_octets(bytes(self._line))
                self._line.clear()
                if line != b"\n":
                    yield line
