"""The page that a customer gets: what it says, as text and as PDF.

When it is written, and from what, is :mod:`~meter_runtime.headend.letters`' business.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError, UsageError

if TYPE_CHECKING:
    from fpdf import FPDF

FORMS = (".pdf", ".txt")

_TITLE = "Your access to the meter's B-route"
_WHERE_TO_TYPE = (
    "In your energy management system (HEMS), open the settings of the smart meter. They may be"
    " called B-route, Wi-SUN or low-voltage smart meter.\n"
    "Type the authentication ID where it asks for an ID, Route-B ID or B-route authentication ID:"
    " 32 characters, 0 to 9 and A to F, without the spaces.\n"
    "Type the password where it asks for a password or B-route password: 12 characters, capital"
    " letters and digits, without the spaces.\n"
    "If it does not connect: look for a mistyped character first, then bring the device nearer to"
    " the meter."
).splitlines()
_TEXT_WIDTH = 76
GIVEN_FONT = "given"
"""The family of the font that somebody named."""
_FONT_FILES = (b"\0\1\0\0", b"true", b"OTTO")

_KEEP = (
    "Whoever has both can read what you use. Keep this page where you keep your contract; if it is"
    " lost, ask us for a new password. The former one then ends."
)


@dataclass(frozen=True, slots=True)
class Page:
    """What a letter says."""

    day: date
    customer: str
    address: str
    meter: str
    served_from: date
    credentials: LinkCredentials

    @property
    def route_b_id(self) -> str:
        return _in_fours(self.credentials.route_b_id)

    @property
    def password(self) -> str:
        return _in_fours(self.credentials.password.reveal())


def text(page: Page) -> bytes:
    """The letter as UTF-8 text."""
    lines = [
        page.day.isoformat(),
        "",
        page.customer,
        page.address,
        "",
        _TITLE,
        "=" * len(_TITLE),
        "",
        *(f"{name:<20}{value}" for name, value in _table(page)),
        "",
        *_wrapped(f"{number}. {line}" for number, line in enumerate(_WHERE_TO_TYPE, 1)),
        "",
        *_wrapped([_KEEP]),
        "",
    ]
    return "\n".join(lines).encode()


def pdf(page: Page, font: Path | None) -> bytes:
    """The letter as one A4 page.

    PDF's own fonts have Latin letters only: a name in Japanese takes ``font``, a TrueType file.
    """
    addressed = f"{page.customer}\n{page.address}"
    check_letters(addressed, font)
    with opened_pdf() as document:
        _draw(document, page, addressed, font)
        return bytes(document.output())


@contextmanager
def opened_pdf() -> Iterator["FPDF"]:
    """An A4 document; raises MeterError where the package for it is missing."""
    try:
        from fpdf import FPDF
        from fpdf.fonts import TTFFont
    except ImportError:
        raise MeterError(
            "a PDF takes the package fpdf2: pip install 'meter-runtime[headend]',"
            " or write a .txt file"
        ) from None
    document = FPDF(format="A4")
    try:
        yield document
    finally:
        for each in document.fonts.values():
            if isinstance(each, TTFFont):
                each.ttfont.close()


def _draw(document: "FPDF", page: Page, addressed: str, font: Path | None) -> None:
    document.set_title(_TITLE)
    document.set_margin(25)
    document.add_page()
    _print(document, "Helvetica", 10, page.day.isoformat())
    document.ln(8)
    if font is None:
        _print(document, "Helvetica", 12, addressed)
    else:
        add_font(document, font, addressed)
        _print(document, GIVEN_FONT, 12, addressed)
    document.ln(12)
    _print(document, "Helvetica", 16, _TITLE)
    document.ln(6)
    for name, value in _table(page):
        _print(document, "Helvetica", 10, name)
        _print(document, "Courier", 14, value)
        document.ln(3)
    document.ln(5)
    for number, line in enumerate(_WHERE_TO_TYPE, 1):
        _print(document, "Helvetica", 10, f"{number}. {line}")
        document.ln(2)
    document.ln(4)
    _print(document, "Helvetica", 10, _KEEP)


def add_font(document: "FPDF", font: Path, wanted: str) -> None:
    """Have the customer's name printed by ``font``; UsageError where it cannot print it."""
    try:
        with font.open("rb") as file:
            kind = file.read(4)
    except OSError as failure:
        raise UsageError(f"{font}: cannot be read: {failure.strerror}") from None
    if kind not in _FONT_FILES:
        raise UsageError(f"{font}: not a TrueType or OpenType font")
    from fpdf.fonts import TTFFont

    try:
        document.add_font(GIVEN_FONT, fname=font)
    except Exception:  # whatever its parser makes of a damaged file
        raise UsageError(f"{font}: a damaged font; take another one") from None
    added = document.fonts[GIVEN_FONT]
    glyphs = added.cmap if isinstance(added, TTFFont) else {}
    missing = [sign for sign in dict.fromkeys(wanted) if sign != "\n" and ord(sign) not in glyphs]
    if missing:
        raise UsageError(f"{font}: has no {' '.join(missing[:8])}; take a font for Japanese")


def _table(page: Page) -> Iterator[tuple[str, str]]:
    yield "Authentication ID", page.route_b_id
    yield "Password", page.password
    # 0 and O, 1 and I look alike in print.
    marks = re.sub("[A-Z]", "-", re.sub("[0-9]", "^", page.password))
    yield "Digits: ^", marks
    yield "Meter", page.meter
    yield "Served from", f"{page.served_from.isoformat()}: what was used before is not shown"


def _print(document: "FPDF", family: str, size: int, line: str) -> None:
    document.set_font(family, size=size)
    document.multi_cell(0, size * 0.5, line, align="L", new_x="LMARGIN", new_y="NEXT")


def _wrapped(paragraphs: Iterable[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from textwrap.wrap(paragraph, _TEXT_WIDTH)


def _in_fours(code: str) -> str:
    return " ".join(re.findall(".{1,4}", code))


def check_letters(wanted: str, font: Path | None) -> None:
    """Raise UsageError for what neither PDF's own fonts nor a given one will print."""
    try:
        wanted.encode("latin-1")
    except UnicodeEncodeError:
        if font is None:
            raise UsageError(
                "the name or address is not in Latin letters, and PDF's own fonts have no others;"
                " add --font FILE.ttf or write a .txt file"
            ) from None
