"""Is there a Wi-SUN module on the slot's UART, and which? Asked without changing anything on it.

An empty line ends whatever half a command somebody left in the module. What comes until then is
not listened to. Then two questions that every firmware family knows, each repeated while it is not
answered: SKVER, answered by ``EVER``, and SKINFO, answered by ``EINFO``. Only what answers both,
each with its ``OK``, is a module. Neither touches registers, session, echo or flash. Echoed
commands, events and noise between the answers are passed over.

The nameplate is a bare module's. Neither version nor dialect tells one product from another:
BP35A1 and WSR35A1 both say 1.2.10, and all dual-stack products say 1.5.2. Where the product
matters, ``profile`` in the configuration or a labelled EEPROM names it.

An empty line is all that some command left unfinished was waiting for, and it is obeyed then. After
the header of an SKSENDTO the questions are taken for its data, and are sent to whoever it names.

All times are real time on any clock, since what answers is at the end of a real wire.
"""

import asyncio
import re

from meter_runtime.comm.ports import BytePort, open_port
from meter_runtime.comm.skstack.commands import CRLF, encode_command
from meter_runtime.comm.skstack.dialects import DSE
from meter_runtime.comm.skstack.replies import Info, Ok, Reply, ReplyReader, Text
from meter_runtime.errors import MeterError
from meter_runtime.units.board import Wires
from meter_runtime.units.contracts import BRouteMedium, Nameplate, UnitFailure, UnitKind

NAME = "skstack"
MODEL = "Wi-SUN module"

BOUND_S = 0.8
"""To open the port and ask; what is left of a question's second is for closing it."""
SETTLE_S = 0.05
"""From the empty line to the first question: what it set off, and what came late, is over then."""
REPEAT_S = 0.15
"""A module answers within some 10 ms; after this long the question was not understood."""
MAX_HEARD = 16_384
"""Octets: more than a UART at 115200 baud carries within the bound, so it is not one."""

_VERSION = re.compile(r"EVER (\d+(?:\.\d+){1,3})")


class Interview:
    """The two questions and their answers, without a port: octets in, the next question out."""

    def __init__(self) -> None:
        self.version = ""
        """What EVER said, "1.2.10"."""
        self.info: Info | None = None
        # The lines that are listened for are alike in both dialects. ERXUDP is read as any line,
        # so that no length field of a stranger's makes the reader swallow an answer.
        self._replies = ReplyReader(DSE)
        self._version_stands = self._info_stands = False

    @property
    def question(self) -> bytes:
        """What to ask now; b"" once both are answered."""
        if not self._version_stands:
            return encode_command("SKVER")
        return b"" if self._info_stands else encode_command("SKINFO")

    def hear(self, data: bytes) -> None:
        for reply in self._replies.feed(data):
            self._take(reply)

    def nameplate(self) -> Nameplate | None:
        """The module's, once both questions are answered; None before."""
        if self.question or self.info is None:
            return None
        return Nameplate(
            UnitKind.COMMUNICATION,
            MODEL,
            self.info.mac.hex().upper()[-12:],
            fw_version=self.version,
            driver=NAME,
            broute_medium=BRouteMedium.RADIO,
        )

    def _take(self, reply: Reply) -> None:
        match reply:
            case Text(line) if not self._version_stands:
                said = _VERSION.fullmatch(line)
                if said is not None:
                    self.version = said[1]
            case Info() if self._version_stands and not self._info_stands:
                self.info = reply
            case Ok():
                # An OK ends the answer before it; one without an answer is somebody else's.
                self._info_stands = self.info is not None
                self._version_stands = bool(self.version)
            case _:
                pass


async def detect(wires: Wires) -> Nameplate | None:
    """The module on the slot's UART; None where nobody answers, or something else does.

    Raises UnitFailure for a port that cannot be had, such as one that another program holds, or
    that goes away meanwhile. The port is closed again whatever happens.
    """
    uri = wires.uart()
    try:
        async with asyncio.timeout(BOUND_S):
            port = await open_port(uri)
            try:
                return await _ask(port)
            finally:
                await port.close()
    except TimeoutError:
        return None
    except MeterError as failure:
        raise UnitFailure(str(failure)) from None


async def _ask(port: BytePort) -> Nameplate | None:
    """Ask until both questions are answered, or far too much came; the caller sets the bound."""
    loop = asyncio.get_running_loop()
    interview = Interview()
    heard = 0
    port.write(CRLF)
    settled = loop.time() + SETTLE_S
    while loop.time() < settled and heard < MAX_HEARD:
        heard += len(await _read(port, settled))
    while (question := interview.question) and heard < MAX_HEARD:
        port.write(question)
        repeat = loop.time() + REPEAT_S
        while interview.question == question and loop.time() < repeat and heard < MAX_HEARD:
            data = await _read(port, repeat)
            heard += len(data)
            interview.hear(data)
    return interview.nameplate()


async def _read(port: BytePort, until: float) -> bytes:
    """What comes until then at the latest, b"" if nothing does."""
    try:
        async with asyncio.timeout_at(until):
            return await port.read()
    except TimeoutError:
        return b""
