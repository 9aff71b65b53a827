"""The virtual PLC modem: what it refuses, what it does by itself, and what it keeps to itself."""

import random

import pytest

from meter_runtime.bench.plc.adapter import PATIENCE_S, Adapter, Phase
from meter_runtime.bench.plc.frames import Eap, LineFrame, open_gmk, seal_gmk
from meter_runtime.bench.plc.line import Line, LineCrossing
from meter_runtime.bench.plc.modem import (
    INVALID_LENGTH,
    MAX_SLOTS,
    MAX_WRITES,
    NO_ACK,
    NO_ATTRIBUTE,
    NO_ROUTE,
    UNSUPPORTED,
    VirtualModem,
)
from meter_runtime.clock import Trust
from meter_runtime.comm.auth.eax import TagMismatch
from meter_runtime.comm.auth.pana_events import psk_of, server_id
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.comm.g3plc import ipv6, usi
from meter_runtime.comm.g3plc import messages as m
from meter_runtime.secret import Secret

METER, HEMS = b"\x02" + bytes(6) + b"\x01", b"\x02" + bytes(6) + b"\x02"
CREDENTIALS = LinkCredentials("0123456789ABCDEF0123456789ABCDEF", Secret("ABCDEFGHIJ12"))
WRONG_ID = LinkCredentials("FEDCBA9876543210FEDCBA9876543210", Secret("ABCDEFGHIJ12"))
GMK = bytes(range(16))
PAN = 0x781D


class StillClock:
    """Stands where it was put."""

    trust = Trust.SYNCED
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object) -> "StillClock":
        return self

    def on_step(self, callback: object) -> object:
        return lambda: None

    def cancel(self) -> None:
        """Nothing was armed."""


class Host:
    """A program at the modem's UART, which says what the test says."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.line = Line(self.clock, random.Random(1))  # type: ignore[arg-type]
        self.modem = VirtualModem(METER, random.Random(2))
        self.hems = Adapter(HEMS, random.Random(3))
        self.line.attach(self.modem)
        self.line.attach(self.hems)
        self.crossed: list[LineCrossing] = []
        self.line.listeners.append(self.crossed.append)
        self._reader = usi.FrameReader()

    def say(self, *messages: m.Message) -> list[m.Message]:
        """Say these; what the modem has said since."""
        self.line.settle()
        for message in messages:
            self.modem.receive(usi.frame(m.encode(message)), self.clock.now)
        self.line.settle()
        return self.heard()

    def heard(self) -> list[m.Message]:
        data = b"".join(self.modem.take_uart())
        return [m.parse(payload) for payload in self._reader.feed(data)]

    def start(self) -> "Host":
        self.say(
            m.Initialize(m.BAND_ARIB, True),
            m.LbpSet(m.LbpAttribute.ID_S, 0, server_id(CREDENTIALS)),
            m.LbpSet(m.LbpAttribute.PSK, 0, psk_of(CREDENTIALS.password)),
            m.LbpSet(m.LbpAttribute.GMK, 0, GMK),
            m.NetworkStart(PAN),
        )
        return self

    def asks(self, credentials: LinkCredentials = CREDENTIALS) -> list[m.Message]:
        """The HEMS asks to join."""
        self.hems.join(credentials, self.clock.now)
        return self.say()

    def move(self, seconds: float) -> list[m.Message]:
        end = self.clock.now + seconds
        while (
            due := min(
                (d for d in (self.modem.deadline, self.hems.deadline) if d is not None),
                default=end + 1,
            )
        ) <= end:
            self.clock.now = due
            self.line.settle()
        self.clock.now = end
        return self.say()


@pytest.mark.parametrize(
    "message",
    [
        m.Reset(),
        m.MacGet(m.MacAttribute.PAN_ID),
        m.LbpSet(m.LbpAttribute.PSK, 0, GMK),
        m.NetworkStart(PAN),
        m.Kick(1, HEMS),
        m.DataRequest(1, True, 0, b""),
        m.Other(99, b""),
    ],
)
def test_before_it_is_initialised_it_refuses_everything(message: m.Message) -> None:
    refusal = m.Status(m.StatusCode.NOT_ALLOWED, m.command_of(message))
    assert Host().say(message) == [refusal]


def test_another_band_is_no_start() -> None:
    host = Host()
    assert host.say(m.Initialize(0, True)) == [m.Status(3, 10)]
    assert host.say(m.Reset()) == [m.Status(1, 16)]


def test_a_device_coordinates_nothing() -> None:
    host = Host()
    host.say(m.Initialize(m.BAND_ARIB, False))
    assert host.say(m.NetworkStart(PAN)) == [m.Status(1, 13)]


@pytest.mark.parametrize(
    ("attribute", "size", "status"),
    [
        (m.LbpAttribute.ID_S, 34, 0),
        (m.LbpAttribute.ID_S, 8, INVALID_LENGTH),
        (m.LbpAttribute.PSK, 15, INVALID_LENGTH),
        (m.LbpAttribute.MESSAGE_TIMEOUT, 2, 0),
        (m.LbpAttribute.ID_P, 36, UNSUPPORTED),
        (99, 16, UNSUPPORTED),
    ],
)
def test_it_takes_what_it_knows_in_its_length(attribute: int, size: int, status: int) -> None:
    said = Host().start().say(m.LbpSet(attribute, 0, bytes(size)))
    assert said == [m.LbpSetConfirm(status, attribute, 0)]


def test_it_tells_its_address_lowest_octet_first_and_its_pan() -> None:
    host = Host().start()
    asked = (
        m.MacGet(m.MacAttribute.EXTENDED_ADDRESS),
        m.MacGet(m.MacAttribute.PAN_ID),
        m.MacGet(1),
    )
    assert host.say(*asked) == [
        m.MacGetConfirm(0, m.MacAttribute.EXTENDED_ADDRESS, 0, METER[::-1]),
        m.MacGetConfirm(0, m.MacAttribute.PAN_ID, 0, b"\x78\x1d"),
        m.MacGetConfirm(NO_ATTRIBUTE, 1, 0, b""),
    ]


def test_a_join_is_asked_for_and_told_when_it_is_complete() -> None:
    host = Host().start()
    assert host.asks() == [m.JoinRequestIndication(HEMS)]
    assert host.say(m.ShortAddressAssign(HEMS, 7)) == [m.JoinCompleteIndication(HEMS, 7)]
    assert host.hems.phase is Phase.JOINED


def test_the_four_messages_of_eap_psk_cross_the_line() -> None:
    host = Host().start()
    host.asks()
    host.say(m.ShortAddressAssign(HEMS, 7))
    sources = [each.frame.source for each in host.crossed if isinstance(each.frame.body, Eap)]
    assert sources == [METER, HEMS, METER, HEMS]


def test_a_refused_device_is_told() -> None:
    host = Host().start()
    host.asks()
    assert host.say(m.ShortAddressAssign(HEMS, m.REJECTED)) == []
    assert host.hems.phase is Phase.REFUSED


def test_a_wrong_key_is_kept_from_the_host() -> None:
    host = Host().start()
    host.asks(LinkCredentials(CREDENTIALS.route_b_id, Secret("WRONGWRONG12")))
    assert host.say(m.ShortAddressAssign(HEMS, 7)) == []
    assert host.hems.phase is Phase.REFUSED
    assert host.move(400) == []


def test_another_meters_id_is_not_found() -> None:
    host = Host().start()
    host.asks(WRONG_ID)
    assert host.say(m.ShortAddressAssign(HEMS, 7)) == []
    assert host.hems.phase is Phase.NOT_FOUND


def test_nobody_is_found_where_nothing_was_started() -> None:
    host = Host()
    host.asks()
    host.move(PATIENCE_S + 1)
    assert host.hems.phase is Phase.NOT_FOUND


@pytest.mark.parametrize("seed", range(20))
def test_a_join_over_a_bad_line_comes_through_by_repeats(seed: int) -> None:
    host = Host()
    host.line._rng.seed(seed)
    host.start()
    host.line.packet_error_rate = 0.5
    told = host.asks()
    for _ in range(80):
        if isinstance(told[-1] if told else None, m.JoinRequestIndication):
            told += host.say(m.ShortAddressAssign(HEMS, 7))
        told += host.move(0.25)
    assert host.hems.phase is Phase.JOINED
    assert told[-1] == m.JoinCompleteIndication(HEMS, 7)


def test_only_so_many_may_be_joining() -> None:
    host = Host().start()
    others = [Adapter(bytes(7) + bytes((n,)), random.Random(n)) for n in range(10, 16)]
    for other in others:
        host.line.attach(other)
        other.join(CREDENTIALS, host.clock.now)
    assert len(host.say()) == MAX_SLOTS
    assert [other.phase for other in others].count(Phase.REFUSED) == 1


def packet(destination: str, payload: bytes = b"\x10\x81") -> bytes:
    own = ipv6.link_local(PAN, 0)
    return ipv6.encode(ipv6.UdpPacket(own, destination, 3610, 3610, payload))


def joined() -> Host:
    host = Host().start()
    host.asks()
    host.say(m.ShortAddressAssign(HEMS, 7))
    return host


def test_what_became_of_a_packet_is_confirmed() -> None:
    host = joined()
    home = packet(ipv6.link_local(PAN, 7))
    assert host.say(m.DataRequest(1, True, 0, home)) == [m.DataConfirm(0, 1)]
    assert host.say(m.DataRequest(2, True, 0, packet(ipv6.link_local(PAN, 8)))) == [
        m.DataConfirm(NO_ROUTE, 2)
    ]
    assert host.say(m.DataRequest(3, True, 0, b"junk")) == [m.DataConfirm(NO_ROUTE, 3)]
    host.line.set_attenuation(HEMS, 90)
    assert host.say(m.DataRequest(4, True, 0, home)) == [m.DataConfirm(NO_ACK, 4)]
    assert list(host.hems.received) == [b"\x10\x81"]


def test_who_has_another_network_key_is_not_heard() -> None:
    host = joined()
    host.hems.send(b"\x10\x81")
    assert [type(message) for message in host.say()] == [m.DataIndication]
    host.say(m.LbpSet(m.LbpAttribute.GMK, 0, bytes(16)))
    host.hems.send(b"\x10\x81")
    assert host.say() == []


def test_a_device_is_kicked_and_one_that_leaves_is_told() -> None:
    host = joined()
    host.say(m.Kick(7, HEMS))
    assert host.hems.phase is Phase.KICKED
    former = packet(ipv6.link_local(PAN, 7))
    assert host.say(m.DataRequest(1, True, 0, former)) == [m.DataConfirm(NO_ROUTE, 1)]
    host = joined()
    host.hems.leave()
    assert host.say() == [m.LeaveIndication(7)]


def test_reset_and_power_take_everything() -> None:
    for host in (joined(), joined()):
        assert host.modem.state.devices
        if host.say(m.Reset()) == [m.ResetConfirm(0)]:
            assert not host.modem.state.initialised
    host = joined()
    host.modem.lose_power()
    assert host.modem.state.psk is None
    assert host.say(m.MacGet(m.MacAttribute.PAN_ID)) == [m.Status(1, 23)]


def test_a_host_that_does_not_read_costs_the_oldest() -> None:
    host = Host().start()
    for _ in range(MAX_WRITES + 10):
        host.modem.receive(usi.frame(m.encode(m.Reset())), 0.0)
    assert len(host.modem.take_uart()) == MAX_WRITES
    assert host.modem.lost == 10


def test_no_key_is_ever_shown() -> None:
    host = joined()
    shown = repr(host.modem.state) + repr(host.crossed)
    assert repr(GMK)[2:-1] not in shown
    assert repr(psk_of(CREDENTIALS.password))[2:-1] not in shown


def test_the_networks_key_opens_only_under_its_tek() -> None:
    sealed = seal_gmk(bytes(16), GMK)
    assert GMK not in sealed
    assert open_gmk(bytes(16), sealed) == GMK
    with pytest.raises(TagMismatch):
        open_gmk(b"\x01" * 16, sealed)


def test_a_strangers_message_of_the_exchange_is_passed_over() -> None:
    host = Host().start()
    host.asks()
    host.modem.hear(LineFrame(b"stranger", METER, Eap(b"\x02")), 160, 0.0)
    assert host.say(m.ShortAddressAssign(HEMS, 7)) == [m.JoinCompleteIndication(HEMS, 7)]
