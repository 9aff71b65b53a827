"""Command arguments: text to values, or the FAIL code the module answers with."""

import re

from meter_runtime.comm.skstack.addresses import parse_address
from meter_runtime.comm.skstack.replies import FailCode

MAX_DIGITS = 32
"""Longest number, its zero padding included."""


class CommandError(Exception):
    """A command is refused with ``FAIL ERnn``."""

    def __init__(self, code: FailCode) -> None:
        super().__init__(f"ER{code:02d}")
        self.code = code


def hex_number(text: str, lowest: int, highest: int) -> int:
    """A hex number of any case and zero padding, within both bounds."""
    if len(text) <= MAX_DIGITS and re.fullmatch(r"[0-9A-Fa-f]+", text):
        value = int(text, 16)
        if lowest <= value <= highest:
            return value
    raise CommandError(FailCode.ARGUMENT_FORMAT)


def ip_address(text: str) -> str:
    """A fully written IPv6 address, in upper case."""
    try:
        parse_address(text)
    except ValueError:
        raise CommandError(FailCode.ARGUMENT_FORMAT) from None
    return text.upper()


def mac_address(text: str) -> bytes:
    """A 64-bit MAC address of sixteen hex digits."""
    return bytes.fromhex(matching(text, r"[0-9A-Fa-f]{16}"))


def matching(text: str, pattern: str) -> str:
    """The text, if all of it matches."""
    if re.fullmatch(pattern, text) is None:
        raise CommandError(FailCode.ARGUMENT_FORMAT)
    return text
