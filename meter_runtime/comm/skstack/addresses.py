"""Addresses as SKSTACK-IP writes them: MAC (EUI-64) and fully written IPv6."""

import re


def format_address(value: bytes) -> str:
    """An IPv6 address as the modules print it: eight groups of four upper-case hex digits."""
    text = value.hex().upper()
    return ":".join(text[i : i + 4] for i in range(0, 32, 4))


def parse_address(text: str) -> bytes:
    """The sixteen bytes of a fully written IPv6 address; ValueError otherwise."""
    if not re.fullmatch(r"(?:[0-9A-Fa-f]{4}:){7}[0-9A-Fa-f]{4}", text):
        raise ValueError(f"not a fully written IPv6 address: {text!r}")
    return bytes.fromhex(text.replace(":", ""))


def link_local(mac: bytes) -> str:
    """FE80::/64 address of a 64-bit MAC: bit 0x02 of the first byte flipped (RFC 4291, A)."""
    if len(mac) != 8:
        raise ValueError(f"a MAC address has 8 bytes, not {len(mac)}")
    return format_address(b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 0x02,)) + mac[1:])
