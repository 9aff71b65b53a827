"""Is there a G3-PLC modem on the slot's UART? Asked without changing anything on it.

One question, MAC_GET of the extended address, repeated while it is not answered. A modem that was
initialised gives the address; one that was not refuses the command by its number. Only either of
those two, in a sound frame, is a modem. Flags around the question end whatever half a frame
somebody left in it. A Wi-SUN module sees a line of noise without an end, and its own driver's
question begins with one.

All times are real time on any clock, since what answers is at the end of a real wire.
"""

import asyncio

from meter_runtime.comm.g3plc import usi
from meter_runtime.comm.g3plc.messages import (
    Command,
    MacAttribute,
    MacGet,
    MacGetConfirm,
    MalformedMessage,
    Status,
    StatusCode,
    encode,
    parse,
)
from meter_runtime.comm.ports import BytePort, open_port
from meter_runtime.errors import MeterError
from meter_runtime.units.board import Wires
from meter_runtime.units.contracts import BRouteMedium, Nameplate, UnitFailure, UnitKind

NAME = "g3plc"
MODEL = "G3-PLC modem"

BOUND_S = 0.8
"""To open the port and ask; what is left of a question's second is for closing it."""
REPEAT_S = 0.15
"""A modem answers a get within milliseconds; after this long it was not understood."""
ATTEMPTS = 2
"""A slot with something else in it is not held up for long."""
MAX_HEARD = 16_384
"""Octets: more than a UART at 115200 baud carries within the bound, so it is not one."""

QUESTION = usi.frame(encode(MacGet(MacAttribute.EXTENDED_ADDRESS)))

_ALIVE = (StatusCode.NOT_ALLOWED, StatusCode.UNKNOWN_COMMAND)


class Interview:
    """The question's answer, without a port."""

    def __init__(self) -> None:
        self._reader = usi.FrameReader()
        self._serial: str | None = None

    def hear(self, data: bytes) -> None:
        for payload in self._reader.feed(data):
            try:
                message = parse(payload)
            except MalformedMessage:
                continue
            match message:
                case MacGetConfirm(attribute=MacAttribute.EXTENDED_ADDRESS, value=value):
                    self._serial = value[::-1].hex().upper()[-12:]
                case Status(code, Command.MAC_GET) if code in _ALIVE:
                    self._serial = self._serial or ""
                case _:
                    pass

    def nameplate(self) -> Nameplate | None:
        """The modem's, once it answered; its serial is empty while it was not initialised."""
        if self._serial is None:
            return None
        return Nameplate(
            UnitKind.COMMUNICATION,
            MODEL,
            self._serial,
            driver=NAME,
            broute_medium=BRouteMedium.PLC,
        )


async def detect(wires: Wires) -> Nameplate | None:
    """The modem on the slot's UART; None where nobody answers, or something else does.

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
    """Ask until it is answered, or far too much came; the caller sets the bound."""
    loop = asyncio.get_running_loop()
    interview = Interview()
    heard = 0
    for _ in range(ATTEMPTS):
        port.write(QUESTION)
        repeat = loop.time() + REPEAT_S
        while loop.time() < repeat and heard < MAX_HEARD:
            try:
                async with asyncio.timeout_at(repeat):
                    data = await port.read()
            except TimeoutError:
                break
            heard += len(data)
            interview.hear(data)
            plate = interview.nameplate()
            if plate is not None:
                return plate
    return None
