"""The frame codec, against frames of real meters and arbitrary ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_meter_frames import FRAMES

from meter_runtime.broute.echonet.frame import (
    Esv,
    Frame,
    MalformedFrame,
    Property,
    encode,
    parse,
)

TWO_LISTS = (Esv.SET_GET, Esv.SET_GET_RES, Esv.SET_GET_SNA)

properties = st.lists(
    st.builds(Property, st.integers(0, 255), st.binary(max_size=255)), max_size=8
).map(tuple)
eoj = st.binary(min_size=3, max_size=3)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    esv = draw(st.one_of(st.integers(0, 255), st.sampled_from(TWO_LISTS)))
    second = draw(properties) if esv in TWO_LISTS else None
    return Frame(draw(st.integers(0, 0xFFFF)), draw(eoj), draw(eoj), esv, draw(properties), second)


@pytest.mark.parametrize("payload", FRAMES, ids=lambda payload: payload.hex()[:48])
def test_a_real_frame_is_written_back_bit_for_bit(payload: bytes) -> None:
    assert encode(parse(payload)) == payload


@pytest.mark.parametrize("payload", FRAMES, ids=lambda payload: payload.hex()[:48])
def test_no_truncation_of_a_real_frame_is_a_frame(payload: bytes) -> None:
    for size in range(len(payload)):
        with pytest.raises(MalformedFrame):
            parse(payload[:size])


def test_a_real_answer_is_taken_apart() -> None:
    frame = parse(bytes.fromhex("1081100202880105FF017202E7040000029CE80400280028"))
    assert frame == Frame(
        0x1002,
        bytes.fromhex("028801"),
        bytes.fromhex("05FF01"),
        Esv.GET_RES,
        (Property(0xE7, bytes.fromhex("0000029C")), Property(0xE8, bytes.fromhex("00280028"))),
    )


@given(frames())
def test_what_is_written_is_read_back(frame: Frame) -> None:
    assert parse(encode(frame)) == frame


@given(frames())
def test_every_truncation_is_malformed(frame: Frame) -> None:
    payload = encode(frame)
    for size in range(len(payload)):
        with pytest.raises(MalformedFrame):
            parse(payload[:size])


@given(frames(), st.binary(min_size=1, max_size=8))
def test_bytes_behind_a_complete_frame_make_it_malformed(frame: Frame, rest: bytes) -> None:
    with pytest.raises(MalformedFrame):
        parse(encode(frame) + rest)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_a_frame_or_malformed(payload: bytes) -> None:
    try:
        frame = parse(payload)
    except MalformedFrame:
        return
    assert encode(frame) == payload


@given(st.binary(max_size=64))
def test_arbitrary_bytes_behind_a_good_header_are_a_frame_or_malformed(rest: bytes) -> None:
    payload = bytes.fromhex("1081000105FF01028801") + rest
    try:
        frame = parse(payload)
    except MalformedFrame:
        return
    assert encode(frame) == payload


@pytest.mark.parametrize("header", ["1181", "1082", "0081", "8110"])
def test_another_protocol_or_format_is_malformed(header: str) -> None:
    with pytest.raises(MalformedFrame, match="header"):
        parse(bytes.fromhex(header + "000105FF010288016201E700"))


def test_a_set_get_carries_two_lists() -> None:
    frame = parse(bytes.fromhex("1081000105FF010288016E01E5010002E200E500"))
    assert frame.properties == (Property(0xE5, b"\x00"),)
    assert frame.properties_get == (Property(0xE2), Property(0xE5))


EOJ = bytes(3)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0x10000, EOJ, EOJ, Esv.GET, ()),
        Frame(1, b"\x02\x88", EOJ, Esv.GET, ()),
        Frame(1, EOJ, bytes(4), Esv.GET, ()),
        Frame(1, EOJ, EOJ, 0x100, ()),
        Frame(1, EOJ, EOJ, Esv.GET, (Property(0xE7),) * 256),
        Frame(1, EOJ, EOJ, Esv.GET, (Property(0x100),)),
        Frame(1, EOJ, EOJ, Esv.GET_RES, (Property(0xE2, bytes(256)),)),
        Frame(1, EOJ, EOJ, Esv.GET, (), ()),
        Frame(1, EOJ, EOJ, Esv.SET_GET, ()),
    ],
)
def test_what_the_layout_cannot_hold_is_not_written(frame: Frame) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(frame)
