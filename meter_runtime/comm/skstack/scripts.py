"""What the meter says to its module, in order: identify, bring up, watch, send, take down.

Each script is a generator over :mod:`~meter_runtime.comm.skstack.dialogue`; reading one top to
bottom is reading the UART log of a meter. Nothing is written to the module's flash: its number of
writes is limited, so the way it prints datagrams is asked for and not changed.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from meter_runtime.comm.contracts import ALL_NODES, ECHONET_LITE_PORT, LinkCredentials
from meter_runtime.comm.skstack.commands import encode_send
from meter_runtime.comm.skstack.dialects import B_ROUTE_SIDE, DSE, SE, Dialect
from meter_runtime.comm.skstack.dialogue import Answer, Ask, Script, ScriptFailed, ask
from meter_runtime.comm.skstack.replies import (
    EnergyReport,
    Event,
    EventNumber,
    FailCode,
    Info,
    PanDescription,
    RegisterValue,
    SendOutcome,
    Text,
)

CHANNELS = range(0x21, 0x3D)
"""920 MHz channels 33 to 60 of the B-route."""

KEEP_CHANNEL_LQI = 0x18
"""A channel we already had may be louder than the quietest by this: 6.6 dB."""

ABSENT_LQI = 0xFF + KEEP_CHANNEL_LQI + 1
"""Louder than any channel: stands for one that was not reported."""
ALL_CHANNELS_MASK = "FFFFFFFF"
ENERGY_SCAN_DURATION = 4
ACTIVE_SCAN_DURATION = 6
SCAN_MARGIN_S = 15.0
"""What a scan may take beyond its dwell times (*unverified*: no limit is published)."""
SEND_BOUND_S = 10.0
"""From SKSENDTO to its EVENT 21, address resolution included (*unverified*)."""
TERMINATE_BOUND_S = 3.0
"""From SKTERM to EVENT 27 or 28 (*unverified*).

A home within reach answers at once or to the first repetition. One that does not is gone, and must
not keep the next one's password waiting: the reset that follows ends the session anyway.
"""
OPTION_BOUND_S = 2.0
"""ROPT answers at once or, on some firmware, never."""
RESERVED_PAN_IDS = frozenset({0x0000, 0xFFFE, 0xFFFF})
"""Broadcast, "no short address", and the value of an unset register."""

_UNSUPPORTED = frozenset({FailCode.UNSUPPORTED})
_WRONG_COUNT = frozenset({FailCode.ARGUMENT_COUNT})
_ANY_REFUSAL = frozenset(FailCode)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the module says it is."""

    info: Info
    dialect: Dialect
    hex_data: bool | None
    """How ERXUDP payloads come; None where the module does not tell."""


@dataclass(frozen=True, slots=True)
class Network:
    """The network that was brought up."""

    channel: int
    pan_id: int
    version: str
    restricted: bool
    """The send-time limit was already reached."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a look at a serving module showed."""

    serving: bool
    """It still answers beacon requests: it has not restarted by itself."""
    restricted: bool


@dataclass(frozen=True, slots=True)
class Transmission:
    """How one SKSENDTO ended."""

    sent: bool
    healthy: bool
    """The module took the command; where it did not, it deserves a look."""


def identify(expected: Dialect | None) -> Script[Identity]:
    """Ask who is there, in the few commands that all firmware families share."""
    answer = yield ask("SKINFO", wants=Info, required=True)
    info = answer.first(Info)
    dialect = SE if info.tail.upper() == SE.info_tail else DSE
    if expected is not None and dialect is not expected:
        raise ScriptFailed(
            f"the module speaks the {dialect.name} dialect, not {expected.name} as configured; "
            "name the profile of the module that is plugged in"
        )
    option = yield ask(
        "ROPT",
        tolerated=_ANY_REFUSAL,
        silence_tolerated=True,
        bound_s=OPTION_BOUND_S,
        attempts=1,
    )
    hex_data = {"00": False, "01": True}.get(option.value)
    return Identity(info, dialect, hex_data)


def bring_up(
    identity: Identity,
    credentials: LinkCredentials,
    lifetime_s: int,
    rng: random.Random,
    *,
    channel_before: int | None = None,
) -> Script[Network]:
    """From whatever state the module is in to answering beacon requests."""
    dialect = identity.dialect
    yield ask("SKRESET")
    yield ask("SKSREG", "SFE", "0")
    version = yield from _version()
    if dialect.has_side:
        yield ask("SKSREG", "SF0", str(B_ROUTE_SIDE))
    if dialect.prints_rssi:
        yield ask("SKSREG", "SA2", "1")
    password = credentials.password.reveal()
    yield ask("SKSETPWD", f"{len(password):X}", password)
    yield ask("SKSETRBID", credentials.route_b_id)

    energy = yield from _scan(dialect, 0, ENERGY_SCAN_DURATION, EventNumber.ENERGY_SCAN_DONE)
    channel = choose_channel(energy.first(EnergyReport), rng, channel_before)
    yield ask("SKSREG", "S2", f"{channel:X}")

    beacons = yield from _scan(dialect, 3, ACTIVE_SCAN_DURATION, EventNumber.ACTIVE_SCAN_DONE)
    in_use = {pan.pan_id for pan in beacons.replies if isinstance(pan, PanDescription)}
    pan_id = free_pan_id(identity.info.mac, in_use)
    yield ask("SKSREG", "S3", f"{pan_id:X}")
    yield ask("SKSREG", "S16", f"{lifetime_s:X}")

    check = (yield ask("SKINFO", wants=Info, required=True)).first(Info)
    if (check.channel, check.pan_id) != (channel, pan_id):
        raise ScriptFailed(
            f"the module did not take channel {channel} and PAN {pan_id:04X}; "
            "restart it by taking its power away"
        )
    limited = yield ask("SKSREG", "SFB", wants=RegisterValue, tolerated=_ANY_REFUSAL)
    yield ask("SKSTART")
    return Network(channel, pan_id, version, _flag(limited))


def look(*, restricted: bool) -> Script[Health]:
    """See whether the module lives and still serves."""
    beacons = yield ask("SKSREG", "S15", wants=RegisterValue, required=True)
    if restricted:
        limit = yield ask("SKSREG", "SFB", wants=RegisterValue, required=True)
        restricted = _flag(limit)
    return Health(_flag(beacons), restricted)


def transmit(dialect: Dialect, payload: bytes, destination: str) -> Script[Transmission]:
    """Send one datagram, secured, and wait for what became of it."""
    line = encode_send(dialect, destination, payload, port=ECHONET_LITE_PORT, side=B_ROUTE_SIDE)
    answer = yield Ask(
        "SKSENDTO",
        line,
        line[: len(line) - len(payload)].decode("ascii").strip(),
        until=_sent_to(destination),
        tolerated=_ANY_REFUSAL,
        silence_tolerated=True,
        bound_s=SEND_BOUND_S,
        attempts=1,
    )
    sent = answer.event is not None and answer.event.parameter == SendOutcome.DONE
    return Transmission(sent and answer.accepted, healthy=answer.accepted)


def take_down() -> Script[None]:
    """End the session, forget the credentials, answer no join.

    The module alone knows whether there is a session: a home's EVENT 25 may be on the line while
    we write. Without one it refuses.
    """
    yield ask(
        "SKTERM",
        until=lambda event: (
            event.number in (EventNumber.TERMINATED, EventNumber.TERMINATE_TIMED_OUT)
        ),
        tolerated=_ANY_REFUSAL,
        silence_tolerated=True,
        bound_s=TERMINATE_BOUND_S,
        attempts=1,
    )
    yield ask("SKRESET", silence_tolerated=True, tolerated=_ANY_REFUSAL)


def forget() -> Script[None]:
    """As :func:`take_down`, and take nobody's silence for an answer.

    What it was told cannot be read back; that it answers no beacon shows that it was reset.
    """
    yield from take_down()
    beacons = yield ask("SKSREG", "S15", wants=RegisterValue, required=True)
    if _flag(beacons):
        raise ScriptFailed("the module was reset and still answers beacon requests")


def choose_channel(report: EnergyReport, rng: random.Random, before: int | None = None) -> int:
    """The odd channel with the least energy, a tie broken by chance.

    Real meters sit on odd channels only; a report without one of them leaves any of them. The
    channel we had ``before`` is kept unless it became clearly louder, so that a home that rejoins
    without a scan finds its meter where it was.
    """
    levels = {
        channel: level for channel, level in report.levels if channel in CHANNELS and channel % 2
    }
    if not levels:
        levels = dict.fromkeys(CHANNELS[::2], 0)
    least = min(levels.values())
    if before is not None and levels.get(before, ABSENT_LQI) <= least + KEEP_CHANNEL_LQI:
        return before
    return rng.choice(sorted(channel for channel, level in levels.items() if level == least))


def free_pan_id(mac: bytes, in_use: Collection[int]) -> int:
    """The last two MAC bytes as real meters do it, or the next number nobody uses."""
    first = int.from_bytes(mac[-2:], "big")
    for step in range(0x1_0000):
        pan_id = (first + step) & 0xFFFF
        if pan_id not in in_use and pan_id not in RESERVED_PAN_IDS:
            return pan_id
    raise ScriptFailed("every PAN ID is in use around here; try again elsewhere")


def _scan(dialect: Dialect, mode: int, duration: int, done: EventNumber) -> Script[Answer]:
    """Scan all channels; some firmware wants the other dialect's number of arguments."""
    dwell_s = 0.0096 * (2**duration + 1) * len(CHANNELS)
    for with_side in (dialect.has_side, not dialect.has_side):
        answer = yield ask(
            "SKSCAN",
            str(mode),
            ALL_CHANNELS_MASK,
            str(duration),
            *((str(B_ROUTE_SIDE),) if with_side else ()),
            wants=PanDescription if mode else EnergyReport,
            required=mode == 0,
            until=lambda event: event.number == done,
            tolerated=_WRONG_COUNT,
            bound_s=dwell_s + SCAN_MARGIN_S,
        )
        if answer.refusal is None:
            return answer
    raise ScriptFailed("the module takes no form of SKSCAN (ER05); it cannot be a meter's")


def _version() -> Script[str]:
    names = []
    for command, prefix in (("SKVER", "EVER "), ("SKAPPVER", "EAPPVER ")):
        answer = yield ask(command, wants=Text, tolerated=_UNSUPPORTED)
        names += [
            text.line.removeprefix(prefix)
            for text in answer.replies
            if isinstance(text, Text) and text.line.startswith(prefix)
        ]
    return " ".join(names)


def _flag(answer: Answer) -> bool:
    for reply in answer.replies:
        if isinstance(reply, RegisterValue):
            return reply.value.strip("0") != ""
    return False


def _sent_to(destination: str) -> Callable[[Event], bool]:
    def matches(event: Event) -> bool:
        return (
            event.number == EventNumber.SEND_DONE
            and event.parameter in (SendOutcome.DONE, SendOutcome.FAILED)
            and destination in (event.source, ALL_NODES)
        )

    return matches
