"""CBOR in its one deterministic form."""

from dataclasses import dataclass
from typing import Annotated, Any

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.aroute.cbor import (
    MAX_DEPTH,
    MalformedError,
    decode,
    decode_record,
    encode,
    encode_record,
)
from meter_runtime.secret import Secret

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=40)
    | st.text(max_size=40)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-300, 300) | st.text(max_size=30), inner, max_size=4)
    ),
    max_leaves=12,
)


@dataclass(frozen=True, slots=True)
class Sample:
    name: Annotated[str, msgspec.Meta(max_length=8)]
    number: int | None


def depth(value: Any) -> int:
    inner: list[Any] = []
    if isinstance(value, list):
        inner = value
    elif isinstance(value, dict):
        inner = [None, *value.values()]
    else:
        return 1
    return 1 + max(map(depth, inner), default=0)


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    if depth(value) > MAX_DEPTH:
        with pytest.raises(ValueError, match="subset"):
            encode(value)
    else:
        assert decode(encode(value)) == value


@given(VALUES)
def test_another_library_reads_it(value: Any) -> None:
    if depth(value) <= MAX_DEPTH:
        assert cbor2.loads(encode(value)) == value


@given(VALUES)
def test_it_is_cut_off_nowhere(value: Any) -> None:
    if depth(value) <= MAX_DEPTH:
        encoded = encode(value)
        for length in range(len(encoded)):
            with pytest.raises(MalformedError):
                decode(encoded[:length])


@given(st.binary(max_size=64))
def test_whatever_is_read_is_in_its_only_form(data: bytes) -> None:
    try:
        value = decode(data)
    except MalformedError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "nothing"),
        ("0101", "two items"),
        ("1801", "a number not in its shortest form"),
        ("190001", "a number not in its shortest form"),
        ("58016a", "a length not in its shortest form"),
        ("5f41614162ff", "bytes of indefinite length"),
        ("7f61616162ff", "text of indefinite length"),
        ("9f01ff", "an array of indefinite length"),
        ("bf0101ff", "a map of indefinite length"),
        ("a201010102", "a key twice"),
        ("a202010101", "keys out of order"),
        ("a1410102", "a key of bytes"),
        ("a1800102", "a key that is an array"),
        ("a1f600", "a key that is null"),
        ("a1f9000000", "a key that is a float"),
        ("c24101", "a big number"),
        ("c11a00000000", "a tagged time"),
        ("d81c80", "something to share"),
        ("82d81c80d81d00", "something shared"),
        ("d9010080", "a set"),
        ("f7", "undefined"),
        ("e0", "a simple value"),
        ("f820", "a simple value of two bytes"),
        ("ff", "an end of nothing"),
        ("1c", "a reserved length"),
        ("61ff", "text that is no UTF-8"),
        ("63eda080", "half a surrogate pair"),
        ("fb3ff0000000000000", "a float not in its shortest form"),
        ("fb7ff8000000000001", "not a number, with something in it"),
        ("5bffffffffffffffff", "more bytes than there is memory"),
        ("9bffffffffffffffff00", "more items than there is memory"),
        ("bbffffffffffffffff0000", "a map larger than memory"),
        ("81" * 4096, "a well without a bottom"),
        ("a100" * 1000 + "00", "maps within maps"),
    ],
)
def test_no_other_form_is_read(text: str, what: str) -> None:
    with pytest.raises(MalformedError, match=r"^CBOR: [a-z ,-]+$"):
        decode(bytes.fromhex(text))


def test_shared_references_never_reach_the_library() -> None:
    """Each level holds the one below twice: some hundred bytes that would be 2**30 items."""
    laughs = b"\xd8\x1c\x80"
    for level in range(30):
        laughs = b"\x82\xd8\x1c" + b"\x82" + laughs + b"\xd8\x1d" + bytes((level % 24,))
    with pytest.raises(MalformedError):
        decode(laughs)


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**64) - 1, Secret("hunter2"), {"a": {b"bytes": 1}}, {1.5: 2}, "\ud800", object()],
    ids=["2**64", "-2**64-1", "secret", "key of bytes", "key of float", "surrogate", "object"],
)
def test_what_would_not_be_read_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError, match="subset of CBOR") as refused:
        encode(value)
    assert refused.value.__cause__ is None
    assert "hunter2" not in str(refused.value)


def test_a_record_is_a_map_by_number() -> None:
    encoded = encode_record(3, Sample("abc", None))
    assert decode(encoded) == {1: 3, 2: "abc", 3: None}
    assert decode_record(encoded, 3, Sample) == Sample("abc", None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {1: 3},
        {1: 3, 2: "abc"},
        {1: 3, 2: "abc", 3: 1, 4: 1},
        {1: 3, 2: "abc", 4: 1},
        {1: 4, 2: "abc", 3: 1},
        {1: 3.0, 2: "abc", 3: 1},
        {1: True, 2: "abc", 3: 1},
        {1: 3, 2: "abcdefghi", 3: 1},
        {1: 3, 2: b"abc", 3: 1},
        {1: 3, 2: "abc", 3: True},
        {1: 3, 2: "abc", 3: 1.5},
        {"1": 3, "2": "abc", "3": 1},
    ],
    ids=str,
)
def test_anything_else_is_no_record(value: Any) -> None:
    with pytest.raises(MalformedError, match="Sample"):
        decode_record(encode(value), 3, Sample)


def test_a_record_that_would_not_be_read_is_not_written() -> None:
    with pytest.raises(ValueError, match="Sample"):
        encode_record(1, Sample("too long for it", 1))
