"""Deterministic CBOR (RFC 8949), and nothing that could be said in two ways.

What is read: integers, byte and text strings, arrays, maps with integer and text keys, floats,
true, false and null, one item and no byte more. What is not: tags, indefinite lengths, other
simple values, lengths and numbers not in their shortest form, keys out of order or twice, more
than :data:`MAX_DEPTH` levels. The form is checked before cbor2 sees a byte, because cbor2 acts on
tags: shared references alone could make it build without end. Map keys are ordered by length, then
bytewise (section 4.2.3), which for the keys in use is the order of section 4.2.1, too.

A *record* is a dataclass as a map: label 1 is the version, and its fields follow from label 2 on in
their order.
"""

from dataclasses import fields
from typing import Any, TypeVar

import cbor2
import msgspec

from meter_runtime.errors import MeterError

MAX_DEPTH = 8

_INTEGERS = (0, 1)
_STRINGS = (2, 3)
_ARRAY = 4
_MAP = 5
_KEYS = (0, 1, 3)
_SIMPLE = 7
_SIMPLE_VALUES = (20, 21, 22, 25, 26, 27)
"""False, true, null, and floats of 2, 4 and 8 bytes."""

T = TypeVar("T")


class MalformedError(MeterError):
    """Bytes that are not what they should be; the message quotes none of them."""


def encode(value: Any) -> bytes:
    """The one encoding of ``value``; raises ValueError for what :func:`decode` would not read."""
    try:
        encoded = cbor2.dumps(value, canonical=True)
        if _end_of_item(encoded, 0, MAX_DEPTH) == len(encoded):
            return encoded
    except (cbor2.CBOREncodeError, MalformedError, RecursionError, UnicodeError):
        pass
    # Not chained: cbor2 quotes values, and one of them may be a password.
    raise ValueError("not expressible in the subset of CBOR that is read here") from None


def decode(data: bytes) -> Any:
    """The one item in ``data``; raises :class:`MalformedError`."""
    if _end_of_item(data, 0, MAX_DEPTH) != len(data):
        raise MalformedError("CBOR: something follows the item")
    try:
        value = cbor2.loads(data)
        same = cbor2.dumps(value, canonical=True) == data
    except (cbor2.CBORError, ValueError):
        raise MalformedError("CBOR: not well-formed") from None
    if not same:
        raise MalformedError("CBOR: not in its deterministic form")
    return value


def encode_record(version: int, record: Any) -> bytes:
    """A dataclass as a map; raises ValueError for what :func:`decode_record` would not read."""
    try:
        values = msgspec.to_builtins(record, builtin_types=(bytes,)).values()
        encoded = encode(dict(enumerate((version, *values), 1)))
        decode_record(encoded, version, type(record))
    except (MalformedError, TypeError) as wrong:
        raise ValueError(str(wrong)) from None
    return encoded


def decode_record(data: bytes, version: int, kind: type[T]) -> T:
    """The dataclass in ``data``, its annotations kept; raises :class:`MalformedError`."""
    labelled = decode(data)
    if not isinstance(labelled, dict) or list(labelled) != list(range(1, len(labelled) + 1)):
        raise MalformedError(f"{kind.__name__}: not a map with the labels of one")
    told, *values = labelled.values() or (None,)
    if type(told) is not int or told != version:
        raise MalformedError(f"{kind.__name__}: of another version")
    return from_values(values, kind)


def from_values(values: list[Any], kind: type[T]) -> T:
    """The dataclass with these fields, its annotations kept; raises :class:`MalformedError`."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if len(values) != len(names):
        raise MalformedError(f"{kind.__name__}: a field is missing, or there is one more")
    try:
        return msgspec.convert(dict(zip(names, values, strict=True)), kind, builtin_types=(bytes,))
    except msgspec.ValidationError:
        raise MalformedError(f"{kind.__name__}: a field is not what it should be") from None


def _end_of_item(data: bytes, at: int, depth: int) -> int:
    """Where the item that begins at ``at`` ends."""
    if at >= len(data):
        raise MalformedError("CBOR: cut off")
    if not depth:
        raise MalformedError("CBOR: too deep")
    major, info = data[at] >> 5, data[at] & 0x1F
    at += 1
    argument = info
    if info > 27:
        raise MalformedError("CBOR: of indefinite length, or not well-formed")
    if info > 23:
        size = 1 << (info - 24)
        argument = int.from_bytes(data[at : at + size])
        at += size
    if major in _STRINGS:
        at += argument
    if at > len(data):
        raise MalformedError("CBOR: cut off")
    if major in _INTEGERS or major in _STRINGS:
        return at
    if major in (_ARRAY, _MAP):
        # Each item takes a byte: a huge count ends with the data.
        for _ in range(argument):
            if major == _MAP:
                if at < len(data) and data[at] >> 5 not in _KEYS:
                    raise MalformedError("CBOR: a key that is no number and no text")
                at = _end_of_item(data, at, depth - 1)
            at = _end_of_item(data, at, depth - 1)
        return at
    if major == _SIMPLE and info in _SIMPLE_VALUES:
        return at
    raise MalformedError("CBOR: a tag or a value that has no place here")
