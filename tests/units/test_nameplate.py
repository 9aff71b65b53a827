"""The nameplate's record: what it holds, what it refuses, and that no damage passes for data."""

import zlib
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_runtime.errors import UsageError
from meter_runtime.units.contracts import (
    ARouteBearer,
    BRouteMedium,
    Nameplate,
    OptionalFunction,
    UnitKind,
    Wiring,
)
from meter_runtime.units.nameplate import (
    MAX_SIZE,
    NameplateUnreadable,
    decode,
    encode,
    record_size,
)

PLAIN = Nameplate(UnitKind.METERING, "MU-3W60-2", "A00000000001")
FULL = Nameplate(
    UnitKind.METERING,
    "MU-3W60-2",
    "A00000000001",
    maker="計器製作所",
    hw_version="2",
    fw_version="1.4",
    driver="mcp39f521",
    wiring=Wiring.ONE_PHASE_THREE_WIRE,
    capacity_a=60,
    certified_until=date(2036, 3, 31),
    calibration={"voltage_gain": 4_194_304, "offset": -7},
)


def texts(most: int) -> st.SearchStrategy[str]:
    printable = st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"])
    return st.text(printable, max_size=most)


def ascii_texts(most: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=most)


NAMEPLATES = st.builds(
    Nameplate,
    kind=st.sampled_from(UnitKind),
    model=texts(10).filter(bool),
    serial=ascii_texts(12),
    maker=texts(16),
    hw_version=texts(8),
    fw_version=texts(8),
    driver=texts(16),
    wiring=st.none() | st.sampled_from(Wiring),
    capacity_a=st.none() | st.integers(1, 0xFFFF),
    two_way=st.booleans(),
    broute=st.booleans(),
    broute_medium=st.none() | st.sampled_from(BRouteMedium),
    aroute=st.none() | st.sampled_from(ARouteBearer),
    function=st.none() | st.sampled_from(OptionalFunction),
    certified_until=st.none() | st.dates(),
    calibration=st.dictionaries(ascii_texts(12), st.integers(-(2**31), 2**31 - 1), max_size=6),
)


def sealed(fields: bytes, *, version: int = 1) -> bytes:
    """A record with these fields and a CRC that holds."""
    checked = b"UNIT" + bytes((version,)) + len(fields).to_bytes(2, "big") + fields
    return checked + zlib.crc32(checked).to_bytes(4, "big")


MANDATORY = b"\x01\x01\x02" + b"\x02\x01M" + b"\x03\x01S"


@given(NAMEPLATES)
def test_what_is_written_is_read(nameplate: Nameplate) -> None:
    record = encode(nameplate)
    assert decode(record) == nameplate
    assert record_size(record) == len(record) <= MAX_SIZE
    assert decode(record + b"\xff" * 40) == nameplate


def test_the_layout_stays_what_it_is() -> None:
    assert encode(FULL).hex(" ") == (
        "55 4e 49 54 01 00 6e"
        " 01 01 02"
        " 02 09 4d 55 2d 33 57 36 30 2d 32"
        " 03 0c 41 30 30 30 30 30 30 30 30 30 30 31"
        " 04 0f e8 a8 88 e5 99 a8 e8 a3 bd e4 bd 9c e6 89 80"
        " 05 01 32"
        " 06 03 31 2e 34"
        " 07 09 6d 63 70 33 39 66 35 32 31"
        " 08 01 02"
        " 09 02 00 3c"
        " 0a 01 03"
        " 0e 04 07 f4 03 1f"
        " 0f 0a ff ff ff f9 6f 66 66 73 65 74"
        " 0f 10 00 40 00 00 76 6f 6c 74 61 67 65 5f 67 61 69 6e"
        " 64 44 5f f1"
    )


@pytest.mark.parametrize("nameplate", [PLAIN, FULL])
def test_every_flipped_bit_is_noticed(nameplate: Nameplate) -> None:
    record = encode(nameplate)
    for at in range(len(record) * 8):
        damaged = bytearray(record)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(NameplateUnreadable):
            decode(bytes(damaged) + b"\xff" * 64)


@pytest.mark.parametrize("filling", [b"", b"\xff", b"\x00"])
def test_a_record_that_ends_anywhere_is_noticed(filling: bytes) -> None:
    record = encode(FULL)
    for size in range(len(record)):
        with pytest.raises(NameplateUnreadable):
            decode(record[:size] + filling * (len(record) - size))


@given(st.binary(max_size=MAX_SIZE))
def test_any_bytes_are_a_nameplate_or_unreadable(content: bytes) -> None:
    with pytest.raises(NameplateUnreadable):
        decode(content)


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_any_fields_under_a_sound_crc_are_a_nameplate_or_unreadable(fields: bytes) -> None:
    try:
        nameplate = decode(sealed(MANDATORY + fields))
    except NameplateUnreadable:
        return
    assert decode(encode(nameplate)) == nameplate


def test_what_a_record_leaves_out_is_the_nameplates_default() -> None:
    assert decode(sealed(MANDATORY)) == Nameplate(UnitKind.METERING, "M", "S")


def test_unknown_fields_are_passed_over() -> None:
    unknown = b"\x7f\x03abc" + b"\xf0\x00"
    assert decode(sealed(unknown + MANDATORY + unknown)) == Nameplate(UnitKind.METERING, "M", "S")


def test_a_newer_version_is_told_apart_from_damage() -> None:
    with pytest.raises(NameplateUnreadable, match="of version 2 and this program reads version 1"):
        decode(sealed(b"whatever is in it", version=2))
    damaged = bytearray(encode(PLAIN))
    damaged[4] = 2
    with pytest.raises(NameplateUnreadable, match="damaged: its CRC differs"):
        decode(bytes(damaged))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (MANDATORY[3:], "field 0x01 is missing"),
        (MANDATORY[:6], "field 0x03 is missing"),
        (MANDATORY + b"\x01\x01\x02", "field 0x01 comes twice"),
        (MANDATORY + b"\x04\x05abc", "field 0x04 is cut off"),
        (MANDATORY + b"\x04", "field 0x04 is cut off"),
        (MANDATORY + b"\x08\x01\x04", "wiring 04 is unknown"),
        (MANDATORY + b"\x08\x01\x00", "wiring 00 is unknown"),
        (MANDATORY + b"\x09\x01\x3c", "field 0x09 is 1 bytes long"),
        (MANDATORY + b"\x09\x02\x00\x00", "rated current 0 A"),
        (MANDATORY + b"\x0a\x00", "field 0x0a is 0 bytes long"),
        (MANDATORY + b"\x0e\x04\x07\xf4\x02\x1e", "day is out of range"),
        (MANDATORY + b"\x0f\x04\x00\x00\x00\x01", "is not named by"),
        (MANDATORY + b"\x0f\x03\x00\x00\x01", "is not named by"),
        (MANDATORY + b"\x0f\x05\x00\x00\x00\x01\xe9", "is not named by"),
        (MANDATORY + b"\x0f\x05\x00\x00\x00\x01a" * 2, "calibration a comes twice"),
        (MANDATORY + b"\x04\x02\xff\xfe", "can't decode"),
        (MANDATORY + b"\x04\x02a\n", "cannot be printed"),
    ],
)
def test_fields_of_no_sense_are_named(fields: bytes, said: str) -> None:
    with pytest.raises(NameplateUnreadable, match=said):
        decode(sealed(fields))


@pytest.mark.parametrize(
    ("nameplate", "said"),
    [
        (replace(PLAIN, serial="A0000000000012"), "serial 'A0000000000012' is not 1 to 12 ASCII"),
        (replace(PLAIN, serial="計器"), "is not 1 to 12 ASCII"),
        (replace(PLAIN, serial=""), "serial is empty"),
        (replace(PLAIN, model=""), "model is empty"),
        (replace(PLAIN, model="a\tb"), "cannot be printed"),
        (replace(PLAIN, maker="x" * 65), "maker is longer than 64 bytes"),
        (replace(PLAIN, maker="\udc80"), "cannot be printed"),
        (replace(PLAIN, capacity_a=0), "rated current 0 A is not 1 to 65535 A"),
        (replace(PLAIN, calibration={"": 1}), "is not named by 1 to 32"),
        (replace(PLAIN, calibration={"gain": 1 << 31}), "outside of 32 bits"),
        (replace(PLAIN, calibration={f"{n:032}": n for n in range(14)}), "its record holds 512"),
    ],
)
def test_what_no_record_can_hold_is_refused(nameplate: Nameplate, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        encode(nameplate)


def test_what_is_no_record_at_all_says_so() -> None:
    for content in (b"", b"\xff" * 32, b"LP" + bytes(30)):
        with pytest.raises(NameplateUnreadable, match="this is no nameplate"):
            record_size(content)
    with pytest.raises(NameplateUnreadable, match="claims 65546 bytes"):
        record_size(b"UNIT\x01\xff\xff")
