"""USI's commands and the packets inside: out and in again, cut anywhere, and what is refused."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.comm.g3plc import ipv6
from meter_runtime.comm.g3plc import messages as m

u8, u16, u32 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32))
eui64 = st.binary(min_size=8, max_size=8)
short_bytes, packet = st.binary(max_size=255), st.binary(max_size=1280)

every_message = st.one_of(
    st.builds(m.Status, u8, u8),
    st.builds(m.Initialize, u8, st.booleans()),
    st.builds(m.DataRequest, u8, st.booleans(), u8, packet),
    st.builds(m.NetworkStart, u16),
    st.builds(m.Reset),
    st.builds(m.MacGet, u32, u16),
    st.builds(m.LbpSet, u32, u16, short_bytes),
    st.builds(m.Kick, u16, eui64),
    st.builds(m.ShortAddressAssign, eui64, u16),
    st.builds(m.DataConfirm, u8, u8),
    st.builds(m.DataIndication, u8, packet),
    st.builds(m.StartConfirm, u8),
    st.builds(m.ResetConfirm, u8),
    st.builds(m.MacGetConfirm, u8, u32, u16, short_bytes),
    st.builds(m.LbpSetConfirm, u8, u32, u16),
    st.builds(m.JoinRequestIndication, eui64),
    st.builds(m.JoinCompleteIndication, eui64, u16),
    st.builds(m.LeaveIndication, u16),
    st.builds(m.Other, st.sampled_from([12, 14, 32, 48, 99]), short_bytes),
)


@given(every_message)
def test_every_message_is_read_as_it_was_written(message: m.Message) -> None:
    payload = m.encode(message)
    assert payload[0] == m.command_of(message)
    assert m.parse(payload) == message


@given(every_message, st.binary(max_size=8))
def test_what_newer_firmware_adds_is_left_out_of_account(message: m.Message, more: bytes) -> None:
    if not isinstance(message, m.Other):
        assert m.parse(m.encode(message) + more) == message


@given(every_message)
def test_a_message_that_is_cut_is_refused(message: m.Message) -> None:
    payload = m.encode(message)
    if not isinstance(message, m.Other):
        for length in range(len(payload)):
            with pytest.raises(m.MalformedMessage):
                m.parse(payload[:length])


@given(st.binary(max_size=64))
def test_whatever_comes_is_a_message_or_refused(payload: bytes) -> None:
    with contextlib.suppress(m.MalformedMessage):
        m.parse(payload)


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (m.Initialize(m.BAND_ARIB, coordinator=True), "0A0301"),
        (m.DataRequest(7, True, 0, b"\x60\x00"), "0B07010000026000"),
        (m.NetworkStart(0x781D), "0D781D"),
        (m.Reset(), "10"),
        (m.LbpSet(m.LbpAttribute.PSK, 0, b"\xaa" * 2), "3C00000002000002AAAA"),
        (m.Kick(1, bytes(range(8))), "3E00010001020304050607"),
        (m.ShortAddressAssign(bytes(range(8)), m.REJECTED), "420001020304050607FFFF"),
        (m.JoinCompleteIndication(bytes(range(8)), 1), "4800010203040506070001"),
    ],
)
def test_the_order_of_the_fields(message: m.Message, payload: str) -> None:
    assert m.encode(message) == bytes.fromhex(payload)


def test_no_key_is_ever_shown() -> None:
    key = b"0123456789ABCDEF"
    shown = repr(m.LbpSet(m.LbpAttribute.PSK, 0, key))
    assert "0123456789" not in shown


UDP = ipv6.UdpPacket(
    ipv6.link_local(0x781D, 0), ipv6.link_local(0x781D, 1), 3610, 3610, b"\x10\x81\x00\x01"
)


def test_the_link_local_form() -> None:
    assert ipv6.link_local(0x781D, 1) == "FE80:0000:0000:0000:781D:00FF:FE00:0001"


def test_a_packets_octets() -> None:
    assert ipv6.encode(UDP) == bytes.fromhex(
        "60000000000C1140"
        "FE80000000000000781D00FFFE000000"
        "FE80000000000000781D00FFFE000001"
        "0E1A0E1A000C"
        "E7E2"
        "10810001"
    )


@given(st.binary(max_size=1232), u16, u16)
def test_every_packet_is_read_as_it_was_written(payload: bytes, source: int, target: int) -> None:
    sent = replace(UDP, payload=payload, source_port=source, destination_port=target)
    assert ipv6.parse(ipv6.encode(sent)) == sent


@given(st.binary(max_size=40), st.data())
def test_a_packet_with_one_octet_changed_is_refused(payload: bytes, data: st.DataObject) -> None:
    octets = bytearray(ipv6.encode(replace(UDP, payload=payload)))
    # Traffic class, flow label and hop limit are not of the datagram's making.
    at = data.draw(st.sampled_from([n for n in range(len(octets)) if n not in (0, 1, 2, 3, 7)]))
    octets[at] ^= data.draw(st.integers(1, 0xFF))
    with pytest.raises(ipv6.MalformedPacket):
        ipv6.parse(bytes(octets))


@given(st.binary(max_size=100))
def test_whatever_comes_is_a_packet_or_refused(data: bytes) -> None:
    with contextlib.suppress(ipv6.MalformedPacket):
        ipv6.parse(data)


def test_a_packet_that_is_cut_is_refused() -> None:
    octets = ipv6.encode(UDP)
    for length in range(len(octets)):
        with pytest.raises(ipv6.MalformedPacket):
            ipv6.parse(octets[:length])


def test_a_checksum_that_comes_out_as_zero_is_sent_as_ones() -> None:
    for tail in range(0x1_0000):
        octets = ipv6.encode(replace(UDP, payload=tail.to_bytes(2, "big")))
        if octets[46:48] == b"\xff\xff":
            assert ipv6.parse(octets).payload == tail.to_bytes(2, "big")
            return
    raise AssertionError("no payload has this checksum")
