"""Property maps in both formats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.broute.echonet.data import PROFILES
from meter_runtime.broute.echonet.definition import maps_of
from meter_runtime.broute.echonet.maps import decode_map, encode_map
from meter_runtime.broute.echonet.meter_class import served_rows


@pytest.mark.parametrize(
    ("profile", "two_way", "expected"),
    [
        ("kansai", False, "13 41 41 41 00 00 40 00 62 43 00 41 00 00 03 02 02"),
        ("kansai", True, "16 41 41 41 40 40 40 00 62 43 00 41 40 00 03 02 02"),
        ("aif-1.01", True, "19 41 41 41 60 40 40 00 62 43 00 41 40 40 43 02 02"),
        ("aif-1.10", True, "1D 71 41 41 60 40 40 00 62 43 00 41 40 40 43 42 42"),
    ],
)
def test_the_get_map_of_each_profile(profile: str, two_way: bool, expected: str) -> None:
    assert maps_of(served_rows(profile, two_way=two_way)).gettable == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("kansai", "02 81 E5"), ("aif-1.01", "03 81 E5 ED"), ("aif-1.10", "04 81 E5 ED EF")],
)
def test_the_set_map_of_each_profile(profile: str, expected: str) -> None:
    assert maps_of(served_rows(profile, two_way=True)).settable == bytes.fromhex(expected)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_announcement_map_holds_the_three_states(profile: str) -> None:
    assert maps_of(served_rows(profile, two_way=True)).announced == bytes.fromhex("03808188")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_one_way_meter_lacks_exactly_the_reverse_properties(profile: str) -> None:
    two_way = decode_map(maps_of(served_rows(profile, two_way=True)).gettable)
    one_way = decode_map(maps_of(served_rows(profile, two_way=False)).gettable)
    assert two_way - one_way == {0xE3, 0xE4, 0xEB}


@given(st.frozensets(st.integers(0x80, 0xFF)))
def test_any_set_of_codes_survives_its_map(codes: frozenset[int]) -> None:
    edt = encode_map(codes)
    assert decode_map(edt) == codes
    assert len(edt) == 1 + (min(16, len(codes)))


def test_fifteen_codes_are_a_list_and_sixteen_a_bitmap() -> None:
    assert encode_map(range(0x80, 0x8F)) == bytes((15, *range(0x80, 0x8F)))
    assert encode_map(range(0x80, 0x90)) == b"\x10" + b"\x01" * 16


@given(st.binary(max_size=20))
def test_arbitrary_bytes_are_a_map_or_refused(edt: bytes) -> None:
    try:
        codes = decode_map(edt)
    except ValueError:
        return
    assert len(codes) == edt[0]
    assert decode_map(encode_map(codes)) == codes


@pytest.mark.parametrize(
    "edt", ["", "01", "02 80 80", "02 80 81 82", "01 7F", "10" + "01" * 15, "11" + "01" * 16]
)
def test_a_map_that_disagrees_with_its_count_is_refused(edt: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_map(bytes.fromhex(edt))


@pytest.mark.parametrize("codes", [(0x7F,), (0x80, 0x100)])
def test_a_code_outside_the_range_has_no_map(codes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="between 80 and FF"):
        encode_map(codes)
