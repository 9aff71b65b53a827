"""Property maps (EPC 9D, 9E, 9F): which properties an object announces, takes and gives.

ECHONET Lite specification 1.14, part 2, appendix 1. Up to fifteen properties: the count and the
codes, ascending. Sixteen and more: the count and sixteen bytes, where byte *i* stands for the
codes whose low nibble is *i* and bit *b* of it for the high nibble 8 + *b*.
"""

from collections.abc import Iterable

FIRST_EPC = 0x80
LIST_LIMIT = 15
"""The longest map written as a list."""

_BITMAP_SIZE = 16


def encode_map(epcs: Iterable[int]) -> bytes:
    """The map of these codes (0x80 to 0xFF; others raise ``ValueError``)."""
    codes = sorted(set(epcs))
    if codes and not FIRST_EPC <= codes[0] <= codes[-1] <= 0xFF:
        raise ValueError("a property code lies between 80 and FF")
    if len(codes) <= LIST_LIMIT:
        return bytes((len(codes), *codes))
    bitmap = bytearray(_BITMAP_SIZE)
    for code in codes:
        bitmap[code & 0x0F] |= 1 << ((code >> 4) - 8)
    return bytes((len(codes), *bitmap))


def decode_map(edt: bytes) -> frozenset[int]:
    """The codes of a map; ``ValueError`` where the count and the codes disagree."""
    if not edt:
        raise ValueError("a property map has at least its count")
    count, body = edt[0], edt[1:]
    if count <= LIST_LIMIT:
        codes = frozenset(body)
        if body and min(body) < FIRST_EPC:
            raise ValueError("a property code lies between 80 and FF")
    else:
        if len(body) != _BITMAP_SIZE:
            raise ValueError(f"a bitmap has {_BITMAP_SIZE} bytes, this one {len(body)}")
        codes = frozenset(
            (8 + bit) << 4 | low
            for low, column in enumerate(body)
            for bit in range(8)
            if column >> bit & 1
        )
    if len(codes) != count or (count <= LIST_LIMIT and len(body) != count):
        raise ValueError(f"the map counts {count} properties and holds {len(codes)}")
    return codes
