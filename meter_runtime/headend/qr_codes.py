"""Bytes as QR codes that any reader copes with, and back.

Each code holds one line of text, a *part*, in capital letters, digits and hyphens::

    MRW1-SET-N-OF-DATA-SUM

``SET`` names what the part belongs to (SHA-256, its first 40 bits), ``N`` of ``OF`` is its number,
``DATA`` its share of the bytes, ``SUM`` a CRC-32 of the line before it; all three in Base32
(RFC 4648, without padding). QR has a compact mode for these characters, and a scanner that types
like a keyboard gets them right on whatever layout the computer believes it has.

Neither name nor sum protects against anybody: what is split here is sealed and signed already. The
form is this project's own; that of the utility's work orders is not published.
"""

import base64
import hashlib
import re
import warnings
import zlib
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime.errors import MeterError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

PART_BYTES = 512
"""Of one part: a code of 93 modules at error correction M, well read from paper."""
MAX_PARTS = 9
MAX_SETS = 64
"""Different things that are gathered at once."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")

_QUIET = 4
"""Modules of white that a code needs around it (ISO/IEC 18004)."""
_PIXELS = 6
"""Of a module in a picture."""
_MAX_PICTURE_BYTES = 64 * 1024 * 1024
_MAX_TEXT_BYTES = 1024 * 1024

_NEEDS = "codes take the packages segno and pillow: pip install 'meter-runtime[headend]'"

_BEGINS = "MRW1-"
_PART = re.compile(r"(MRW1-([A-Z2-7]{8})-([1-9])-([1-9])-([A-Z2-7]{1,820}))-([A-Z2-7]{7})")


class MisreadError(MeterError):
    """A line that is one of ours and was not read right."""


def split(content: bytes) -> tuple[str, ...]:
    """The parts, of nearly the same length; raises ValueError for nothing and for too much."""
    count = -(-len(content) // PART_BYTES)
    if not 1 <= count <= MAX_PARTS:
        raise ValueError(f"{len(content)} bytes do not go into 1 to {MAX_PARTS} codes")
    size = -(-len(content) // count)
    name = _name_of(content)
    lines = (
        f"{_BEGINS}{name}-{number}-{count}-{_base32(content[at : at + size])}"
        for number, at in enumerate(range(0, len(content), size), 1)
    )
    return tuple(f"{line}-{_sum_of(line)}" for line in lines)


class Gathering:
    """Puts parts together, in whatever order they come and however often."""

    def __init__(self) -> None:
        self._sets: dict[tuple[str, int], dict[int, bytes]] = {}

    def take(self, text: str) -> int:
        """Take the parts among the lines of ``text`` in; how many there were.

        Other lines are passed over. Raises :class:`MisreadError` for a part that is damaged, or of
        one set too many.
        """
        lines = [line.strip().upper() for line in text.splitlines()]
        parts = [line for line in lines if line.startswith(_BEGINS)]
        for part in parts:
            self._take(part)
        return len(parts)

    @property
    def whole(self) -> list[bytes]:
        """What is complete, in the order in which it began to come."""
        return [
            b"".join(parts[number] for number in sorted(parts))
            for (name, count), parts in self._sets.items()
            if len(parts) == count and _is_whole(name, parts)
        ]

    @property
    def missing(self) -> list[str]:
        """What is not, each in words: which parts are to be read yet."""
        told = []
        for (name, count), parts in self._sets.items():
            lacking = [str(number) for number in range(1, count + 1) if number not in parts]
            if lacking:
                told.append(f"{name}: part {', '.join(lacking)} of {count} is missing")
            elif not _is_whole(name, parts):
                told.append(f"{name}: its parts do not belong together; read them all again")
        return told

    def _take(self, part: str) -> None:
        found = _PART.fullmatch(part)
        if found is None or _sum_of(found[1]) != found[6]:
            raise MisreadError(f"{part[:17]}…: a code was misread; read it again")
        name, number, count = found[2], int(found[3]), int(found[4])
        if number > count:
            raise MisreadError(f"{part[:17]}…: part {number} of {count}; that is no part of ours")
        if (name, count) not in self._sets and len(self._sets) >= MAX_SETS:
            raise MisreadError(f"more than {MAX_SETS} different orders at once; read fewer")
        try:
            share = base64.b32decode(found[5] + "=" * (-len(found[5]) % 8))
        except ValueError:
            raise MisreadError(f"{part[:17]}…: that is no part of ours") from None
        self._sets.setdefault((name, count), {})[number] = share


def lines_in(path: Path) -> str:
    """The lines that stand in a file: in the codes of a picture, or in a text.

    Raises UsageError for another kind of file, MeterError where nothing can be read in it.
    """
    if path.suffix.lower() in PICTURES:
        return "\n".join(_read_picture(path))
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_TEXT_BYTES + 1)
        if len(content) > _MAX_TEXT_BYTES:
            raise UsageError(f"{path}: too long for a scanner's text")
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError(
            f"{path}: neither a picture ({', '.join(PICTURES)}) nor a text; photograph the code"
        ) from None
    except OSError as failure:
        raise MeterError(f"{path}: cannot be read: {failure.strerror}") from None


def picture(parts: Sequence[str]) -> "Image":
    """The codes side by side, black on white."""
    try:
        from PIL import Image
    except ImportError:
        raise MeterError(_NEEDS) from None
    codes = [_modules(part) for part in parts]
    sizes = [_PIXELS * (len(code) + 2 * _QUIET) for code in codes]
    sheet = Image.new("L", (sum(sizes), max(sizes)), 255)
    left = 0
    for code, size in zip(codes, sizes, strict=True):
        small = Image.new("L", (len(code), len(code)))
        small.putdata([0 if dark else 255 for row in code for dark in row])
        inner = _PIXELS * len(code)
        sheet.paste(
            small.resize((inner, inner), Image.Resampling.NEAREST),
            (left + _PIXELS * _QUIET, _PIXELS * _QUIET),
        )
        left += size
    return sheet


def blocks(part: str) -> str:
    """The code in half blocks, for a terminal with a dark background."""
    code = _modules(part)
    edge = [False] * _QUIET
    wide = len(code) + 2 * _QUIET
    rows = [[False] * wide] * _QUIET
    rows += [[*edge, *row, *edge] for row in code]
    rows += [[False] * wide] * _QUIET
    pairs = zip_longest(rows[::2], rows[1::2], fillvalue=[True] * wide)
    return "\n".join(
        "".join(_BLOCKS[above, below] for above, below in zip(upper, lower, strict=True))
        for upper, lower in pairs
    )


_BLOCKS = {(True, True): " ", (True, False): "▄", (False, True): "▀", (False, False): "█"}
"""By whether the module above and the one below are dark; what is light is printed."""


def _modules(part: str) -> list[list[bool]]:
    """Row by row, True where it is dark."""
    try:
        import segno
    except ImportError:
        raise MeterError(_NEEDS) from None
    code = segno.make_qr(part, error="m", boost_error=False)
    return [[bool(module) for module in row] for row in code.matrix]


def _read_picture(path: Path) -> Iterable[str]:
    try:
        import zxingcpp
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MeterError(
            "pictures take the package zxing-cpp: pip install 'meter-runtime[handheld]',"
            " or read the code with a scanner"
        ) from None
    try:
        if path.stat().st_size > _MAX_PICTURE_BYTES:
            raise UsageError(f"{path}: too large for a picture of a code")
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(path, formats=("PNG", "JPEG", "WEBP")) as opened,
        ):
            grey = opened.convert("L")
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UsageError(f"{path}: not a picture that can be read; take a PNG or JPEG") from None
    except (OSError, SyntaxError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or "it is damaged"
        raise MeterError(f"{path}: cannot be read: {reason}") from None
    return [code.text for code in zxingcpp.read_barcodes(grey) if code.valid]


def _name_of(content: bytes) -> str:
    return _base32(hashlib.sha256(content).digest()[:5])


def _is_whole(name: str, parts: dict[int, bytes]) -> bool:
    return _name_of(b"".join(parts[number] for number in sorted(parts))) == name


def _sum_of(line: str) -> str:
    return _base32(zlib.crc32(line.encode()).to_bytes(4, "big"))


def _base32(content: bytes) -> str:
    return base64.b32encode(content).decode().rstrip("=")
