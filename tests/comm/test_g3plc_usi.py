"""The USI frame: the published vectors, every piece of a stream, and everything that spoils one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.comm.g3plc.usi import MAX_PAYLOAD, FrameReader, crc16, frame

INITIALIZE = bytes.fromhex("7E00E50A03014D0C7E")
NETWORK_START = bytes.fromhex("7E00E50D781D46F77E")

payloads = st.builds(
    lambda command, body: bytes((command,)) + body,
    st.integers(0, 0x7F),
    st.binary(max_size=400) | st.lists(st.sampled_from([0x7E, 0x7D, 0x5E]), max_size=40).map(bytes),
)


def test_the_crc_has_the_published_check_value() -> None:
    assert crc16(b"123456789") == 0xBEEF


@pytest.mark.parametrize(("payload", "wire"), [("0A0301", INITIALIZE), ("0D781D", NETWORK_START)])
def test_the_published_frames(payload: str, wire: bytes) -> None:
    assert frame(bytes.fromhex(payload)) == wire
    assert list(FrameReader().feed(wire)) == [bytes.fromhex(payload)]


def test_flags_and_escapes_inside_are_escaped() -> None:
    wire = frame(b"\x0b\x7e\x7d\x5e")
    assert b"\x0b\x7d\x5e\x7d\x5d\x5e" in wire
    assert wire.count(b"\x7e") == 2


@given(st.lists(payloads, max_size=6))
def test_what_was_framed_is_read_in_any_pieces(sent: list[bytes]) -> None:
    wire = b"".join(frame(payload) for payload in sent)
    whole, bytewise = FrameReader(), FrameReader()
    assert list(whole.feed(wire)) == sent
    assert [p for byte in wire for p in bytewise.feed(bytes((byte,)))] == sent
    assert not whole.counts


@given(payloads, st.data())
def test_a_frame_with_one_octet_changed_is_never_another(
    payload: bytes, data: st.DataObject
) -> None:
    wire = bytearray(frame(payload))
    at = data.draw(st.integers(1, len(wire) - 2))
    wire[at] ^= data.draw(st.integers(1, 0xFF))
    reader = FrameReader()
    # An escape that becomes the other one can still be the same octets; nothing else may be read.
    assert all(read == payload for read in reader.feed(bytes(wire)))


@given(payloads, st.data())
def test_a_frame_that_was_cut_costs_only_itself(payload: bytes, data: st.DataObject) -> None:
    cut = frame(payload)[: data.draw(st.integers(1, len(frame(payload)) - 1))]
    reader, after = FrameReader(), b"\x0a\x03\x01"
    # Where only its end was cut off, the next one's beginning is that.
    assert list(reader.feed(cut + INITIALIZE)) in ([after], [payload, after])


@given(st.binary(max_size=300))
def test_after_any_noise_the_next_frame_is_read(noise: bytes) -> None:
    reader = FrameReader()
    assert list(reader.feed(noise + NETWORK_START))[-1] == b"\x0d\x78\x1d"


def test_one_flag_may_end_a_frame_and_begin_the_next() -> None:
    reader = FrameReader()
    assert len(list(reader.feed(INITIALIZE + NETWORK_START[1:]))) == 2


def test_the_length_has_eleven_bits() -> None:
    payload = b"\x1f" + bytes(MAX_PAYLOAD - 1)
    wire = frame(payload)
    assert wire[3] == 0x1F | 0x80
    assert list(FrameReader().feed(wire)) == [payload]


@pytest.mark.parametrize("payload", [b"", b"\x80", bytes(MAX_PAYLOAD + 1)])
def test_what_a_frame_cannot_hold_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no payload"):
        frame(payload)


def test_a_frame_without_an_end_is_not_kept() -> None:
    reader = FrameReader()
    assert list(reader.feed(b"\x7e" + bytes(100_000))) == []
    assert len(reader._inner) < 3000
    assert list(reader.feed(INITIALIZE)) == [b"\x0a\x03\x01"]
    assert reader.counts == {"overlong": 1}


@pytest.mark.parametrize(
    ("wire", "counted"),
    [
        ("7E00E50A03014D0D7E", "damaged"),  # CRC
        ("7E01250A03014D0C7E", "damaged"),  # length
        ("7E00E57D010A03014D0C7E", "damaged"),  # escape
        ("7E00E57D7E", "damaged"),  # an escape of nothing
        ("7E00E57E", "damaged"),
    ],
)
def test_what_spoils_a_frame_is_counted(wire: str, counted: str) -> None:
    reader = FrameReader()
    assert list(reader.feed(bytes.fromhex(wire))) == []
    assert reader.counts == {counted: 1}


def test_another_protocols_frame_is_none_of_ours() -> None:
    inner = bytes.fromhex("00E40D781D")
    wire = b"\x7e" + inner + crc16(inner).to_bytes(2, "big") + b"\x7e"
    reader = FrameReader()
    assert list(reader.feed(wire)) == []
    assert reader.counts == {"foreign": 1}
