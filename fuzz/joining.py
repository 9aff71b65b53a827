"""PANA and EAP-PSK: a stranger's datagrams within a join neither break it open nor down.

The first byte says who is spoken to and after how many genuine datagrams the stranger begins. The
rest are its datagrams, each a length byte and so many bytes; a length of 0 has the next genuine
datagram sent on with one bit turned over, at the place the next two bytes name.
"""

import random
from collections.abc import Iterator

from meter_runtime.comm.auth import eap_psk, pana_message
from meter_runtime.comm.auth.eap_psk import EapPskPeer, EapPskServer, MalformedEap
from meter_runtime.comm.auth.paa import PaaSession
from meter_runtime.comm.auth.pac import PacSession
from meter_runtime.comm.auth.pana_events import Authenticated
from meter_runtime.comm.auth.pana_message import Flag, MalformedPana, Message, Type, encode

PSK = bytes(range(16))
MAX_TURNS = 40
"""A join is over after some ten datagrams each way."""

SEEDS = (
    bytes((0, 16)) + encode(Message(Flag(0), Type.CLIENT_INITIATION, 0, 0)),
    bytes((3, 16)) + encode(Message(Flag.REQUEST, Type.TERMINATION, 1, 2)),
    bytes((2, 0, 0, 40, 0, 1, 0)),
    bytes((5, 0, 1, 0, 4)) + eap_psk.success(1),
    eap_psk.encode(eap_psk.Code.REQUEST, 1, 0, bytes(16), b"SM" + b"0" * 32),
)


def run(data: bytes) -> None:
    """Read it as a packet of either protocol, then let it disturb a join and a conversation."""
    _parse(data)
    _disturb_eap(data)
    _disturb_pana(data)


def _parse(data: bytes) -> None:
    try:
        message = pana_message.parse(data)
    except MalformedPana:
        pass
    else:
        assert pana_message.parse(encode(message)) == message
    try:
        packet = eap_psk.parse(data)
    except MalformedEap:
        return
    assert packet.header + packet.body == data[: len(packet.header) + len(packet.body)]


def _disturb_eap(data: bytes) -> None:
    """EAP itself has no retransmission: a disturbed conversation may fail, never fall open."""
    rng = random.Random(1)
    server = EapPskServer(PSK, b"SM", rng.randbytes, 1)
    peer = EapPskPeer(bytes(16) if data[:1] > b"\x7f" else PSK, b"HEMS", rng.randbytes)
    packet: bytes | None = server.start()
    for turn in range(6):
        if turn == (data[0] & 3 if data else 0):
            for forged in _datagrams(data[1:], packet or b""):
                server.receive(forged)
                peer.receive(forged)
        if packet is None:
            break
        packet = peer.receive(packet) if turn % 2 == 0 else server.receive(packet)
    if server.keys is not None:
        assert server.keys == peer.pending_keys


def _disturb_pana(data: bytes) -> None:
    rng = random.Random(1)
    honest = data[:1] <= b"\x7f"
    now = 0.0
    pac = PacSession(PSK if honest else bytes(16), b"HEMS", rng, now)
    pac.take_output()  # the PCI, on which an agent makes its session
    paa = PaaSession(PSK, b"SM", 3600, rng, now)
    begins = data[0] & 15 if data else 0
    joined: set[str] = set()
    was_open = False
    for turn in range(MAX_TURNS):
        genuine = paa.take_output()
        answers = pac.take_output()
        if turn == begins:
            was_open = paa.is_open
            for forged in _datagrams(data[1:], next(iter(genuine or answers), b"")):
                paa.receive(forged, now)
                pac.receive(forged, now)
        for packet in genuine:
            pac.receive(packet, now)
        for packet in answers:
            paa.receive(packet, now)
        for name, end in (("paa", paa), ("pac", pac)):
            joined.update(name for event in end.take_events() if isinstance(event, Authenticated))
        now += 0.5
        pac.tick(now)
        paa.tick(now)
    assert honest or not joined, "joined without the password"
    assert paa.is_open or not was_open, "a stranger ended the session"


def _datagrams(data: bytes, genuine: bytes) -> Iterator[bytes]:
    while data:
        length, data = data[0], data[1:]
        if length:
            yield data[:length]
            data = data[length:]
        elif genuine and len(data) >= 2:
            forged = bytearray(genuine)
            bit = int.from_bytes(data[:2], "big") % (8 * len(forged))
            forged[bit // 8] ^= 1 << bit % 8
            yield bytes(forged)
            data = data[2:]
