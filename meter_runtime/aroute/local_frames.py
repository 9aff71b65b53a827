"""What a hand-held terminal and the meter say to each other at the local port, in frames.

::

    kind 1 · length 2, big-endian · body

The terminal asks, the meter answers, one after the other:

=============  ====  ================================================================
asks           kind  body
=============  ====  ================================================================
COMMAND        1     a dispatched command (:mod:`~meter_runtime.aroute.dispatch`)
STATUS         2     –
=============  ====  ================================================================

=============  ====  ================================================================
answers        kind  body
=============  ====  ================================================================
RESULT         129   the signed result (:mod:`~meter_runtime.aroute.results`)
DOCUMENT       130   the diagnosis, JSON
REFUSED        255   why not, a line of UTF-8
=============  ====  ================================================================

The frames go over TLS and carry no protection of their own. The set is this project's own.
"""

import enum
from dataclasses import dataclass, field

from meter_runtime.aroute.cbor import MalformedError
from meter_runtime.aroute.cose import MAX_MESSAGE_BYTES

HEADER_BYTES = 3
MAX_ASKED = MAX_MESSAGE_BYTES
MAX_ANSWERED = 32 * 1024


class Kind(enum.IntEnum):
    """What a frame is."""

    COMMAND = 1
    STATUS = 2
    RESULT = 129
    DOCUMENT = 130
    REFUSED = 255


ASKS = frozenset({Kind.COMMAND, Kind.STATUS})
ANSWERS = frozenset({Kind.RESULT, Kind.DOCUMENT, Kind.REFUSED})


@dataclass(frozen=True, slots=True)
class Frame:
    """One of either way."""

    kind: Kind
    body: bytes = field(default=b"", repr=False)

    def __bytes__(self) -> bytes:
        """Raises ValueError for a body that nobody would read."""
        most = MAX_ASKED if self.kind in ASKS else MAX_ANSWERED
        if len(self.body) > most:
            raise ValueError(f"a body of {len(self.body)} bytes is too long")
        return bytes([self.kind]) + len(self.body).to_bytes(2, "big") + self.body


def refusal(why: str) -> Frame:
    """No, and why."""
    return Frame(Kind.REFUSED, why.encode()[:MAX_ANSWERED])


class FrameReader:
    """Cuts frames out of what comes in; the meter's reads what is asked, the terminal's answers.

    Holds at most one frame that is not whole.
    """

    def __init__(self, *, asks: bool) -> None:
        self._expected = ASKS if asks else ANSWERS
        self._most = MAX_ASKED if asks else MAX_ANSWERED
        self._held = bytearray()

    def take(self, data: bytes) -> None:
        """Take in what came; :meth:`next` gives what is whole."""
        self._held += data

    def next(self) -> Frame | None:
        """The next whole frame, None while there is none.

        Raises MalformedError for a header that cannot begin one: nothing after it can be read.
        """
        if len(self._held) < HEADER_BYTES:
            return None
        size = int.from_bytes(self._held[1:HEADER_BYTES], "big")
        if self._held[0] not in self._expected or size > self._most:
            raise MalformedError("local port: that is no frame")
        end = HEADER_BYTES + size
        if len(self._held) < end:
            return None
        frame = Frame(Kind(self._held[0]), bytes(self._held[HEADER_BYTES:end]))
        del self._held[:end]
        return frame

    @property
    def idle(self) -> bool:
        """Nothing is held: no frame has begun."""
        return not self._held
