"""PANA messages on the wire: their form, their integrity, and the key of it."""

import hashlib
import hmac
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.comm.auth.pana_message import (
    MAX_MESSAGE,
    Avp,
    Flag,
    MalformedPana,
    Message,
    Type,
    auth_key,
    encode,
    parse,
    sign,
    verify,
)

KEY = bytes(range(32))

avps = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=8)
messages = st.builds(
    Message,
    st.integers(0, 0xFFFF).map(Flag),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    avps.map(tuple),
)


def test_the_bytes_of_a_first_request() -> None:
    offered = ((6, bytes((0, 0, 0, 5))), (3, bytes((0, 0, 0, 12))))
    message = Message(
        Flag.REQUEST | Flag.START, Type.AUTHENTICATION, 0x01020304, 0x0A0B0C0D, offered
    )
    assert encode(message).hex() == (
        "00000028c0000002010203040a0b0c0d00060000000400000000000500030000000400000000000c"
    )


def test_values_are_padded_and_the_padding_is_not_counted() -> None:
    data = encode(Message(Flag(0), 2, 1, 1, ((2, b"abcde"),)))
    assert data[16:] == bytes.fromhex("0002000000050000") + b"abcde" + bytes(3)


@given(messages)
def test_what_was_encoded_is_parsed(message: Message) -> None:
    data = encode(message)
    assert parse(data) == message
    assert encode(parse(data)) == data


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        message = parse(data)
    except MalformedPana:
        return
    assert parse(encode(message)) == message


@given(messages)
def test_every_cut_is_noticed(message: Message) -> None:
    data = encode(message)
    for cut in range(len(data)):
        with pytest.raises(MalformedPana):
            parse(data[:cut])


@given(messages, st.binary(min_size=1, max_size=8))
def test_bytes_after_the_end_are_noticed(message: Message, rest: bytes) -> None:
    with pytest.raises(MalformedPana):
        parse(encode(message) + rest)


@pytest.mark.parametrize("rest", ["0002", "00020000000500006162", "000200000004ffff"])
def test_an_avp_that_runs_over_the_end_is_malformed(rest: str) -> None:
    body = bytes.fromhex(rest)
    head = struct.pack(">HHHHII", 0, 16 + len(body), 0, 2, 1, 1)
    with pytest.raises(MalformedPana):
        parse(head + body)


def test_no_message_is_longer_than_an_ipv6_packet_may_be_for_certain() -> None:
    longest = Message(Flag(0), 2, 1, 1, ((2, bytes(MAX_MESSAGE - 16 - 8)),))
    assert parse(encode(longest)) == longest
    with pytest.raises(MalformedPana):
        parse(encode(Message(Flag(0), 2, 1, 1, ((2, bytes(MAX_MESSAGE - 16 - 4)),))))


@given(messages)
def test_a_signed_message_is_authentic_under_its_key_alone(message: Message) -> None:
    plain = Message(
        message.flags,
        message.type,
        message.session_id,
        message.sequence,
        tuple(avp for avp in message.avps if avp[0] != Avp.AUTH),
    )
    data = encode(sign(plain, KEY))
    assert verify(data, KEY)
    assert not verify(data, bytes(32))
    assert not verify(encode(plain), KEY)


@given(messages, st.data())
def test_one_changed_bit_of_a_signed_message_is_noticed(
    message: Message, data: st.DataObject
) -> None:
    changed = bytearray(encode(sign(message, KEY)))
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    try:
        parse(bytes(changed))
    except MalformedPana:
        return
    assert not verify(bytes(changed), KEY)


def test_avps_of_vendors_are_passed_over_and_covered_by_the_signature() -> None:
    vendors = struct.pack(">HHHHI", 2, 0x8000, 3, 0, 99) + b"abc" + bytes(1)
    ours = struct.pack(">HHHH", 7, 0, 4, 0) + bytes(4)
    auth = struct.pack(">HHHH", 1, 0, 16, 0)
    length = 16 + len(vendors + ours + auth) + 16
    blank = struct.pack(">HHHHII", 0, length, 0, 2, 1, 1) + vendors + ours + auth
    tag = hmac.digest(KEY, blank + bytes(16), "sha256")[:16]
    assert parse(blank + tag).avps == ((7, bytes(4)), (1, tag))
    assert verify(blank + tag, KEY)
    assert not verify(blank.replace(b"abc", b"abd") + tag, KEY)


@pytest.mark.parametrize(("length", "good"), [(7, False), (8, True), (256, True), (257, False)])
def test_a_nonce_has_8_to_256_bytes(length: int, good: bool) -> None:
    message = Message(Flag(0), 2, 1, 1, ((Avp.NONCE, bytes(length)),))
    assert (message.nonce is not None) == good


def test_a_number_has_four_bytes() -> None:
    message = Message(Flag(0), 2, 1, 1, ((Avp.RESULT_CODE, bytes(3)), (Avp.KEY_ID, b"\0\0\1\2")))
    assert message.number(Avp.RESULT_CODE) is None
    assert message.number(Avp.SESSION_LIFETIME) is None
    assert message.number(Avp.KEY_ID) == 258


def test_the_key_is_the_first_block_of_prf_plus() -> None:
    """prf+(K, S) = T1 | T2 …, T1 = prf(K, S | 0x01) (RFC 5996, section 2.13)."""
    made = auth_key(
        b"msk", i_par=b"par", i_pan=b"pan", pac_nonce=b"one", paa_nonce=b"two", key_id=b"\0\0\0\1"
    )
    prf = hmac.new(b"msk", digestmod=hashlib.sha256)
    for part in (b"IETF PANA", b"par", b"pan", b"one", b"two", b"\0\0\0\1", b"\x01"):
        prf.update(part)
    assert made == prf.digest()
