"""Work orders: a sealed command on paper, for whoever goes to the meter with a terminal.

What the relay would carry stands on the page as QR codes: the same bytes, sealed to the meter. So
nobody learns anything from the page but what is printed beside the codes: which meter, where, what
and until when. The customer's name is not. The result comes back as the terminal's file, and ends
the request as one from the relay does; the customer learns the password by the same letter.

A work order may be written for a request that the relay has, too: the meter obeys an id once,
whichever way comes first.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime.aroute.commands import COMMANDS
from meter_runtime.clock import jst
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend import qr_codes
from meter_runtime.headend.authority import NotPermittedError, role_for
from meter_runtime.headend.letter_page import GIVEN_FONT, add_font, check_letters, opened_pdf
from meter_runtime.headend.letters import write_once
from meter_runtime.headend.register_books import Books
from meter_runtime.headend.register_requests import Request, State

if TYPE_CHECKING:
    from fpdf import FPDF

FORMS = (".pdf", ".png", ".txt")
MAX_RESULT_FILE = 4096
"""Bytes; a result has fewer."""

_CODE_MM = 78
_GAP_MM = 4
_CAPTION_MM = 8


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """What the page says."""

    request: str
    """The command's id, 32 hex digits."""
    command: str
    meter: str
    supply_point: str
    address: str
    until: float
    """UTC seconds: the meter no longer obeys it then."""
    by: str
    reason: str
    parts: tuple[str, ...]
    """The sealed command, as :mod:`~meter_runtime.headend.qr_codes` splits it."""

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """What is printed for a person."""
        does = COMMANDS[self.command].does
        rows = (
            ("Work order", self.request[:8]),
            ("Meter", self.meter),
            ("Supply point", self.supply_point),
            ("Address", self.address),
            ("What to do", f"{self.command}: {does}"),
            ("Valid until", f"{jst(self.until):%Y-%m-%d %H:%M} JST"),
            ("Ordered by", self.by),
            ("Reason", self.reason),
        )
        return tuple((name, text) for name, text in rows if text)


class WorkOrders:
    """Writes the pages, and takes them back."""

    def __init__(self, books: Books) -> None:
        self._database = books.database
        self._audit = books.audit
        self._staff = books.staff
        self._register = books.register
        self._requests = books.requests

    def write(
        self, at: float, by: str, beginning: str, out: Path | None, font: Path | None = None
    ) -> WorkOrder:
        """The work order of the open request whose id begins so, in the new file ``out`` if given.

        Raises :class:`MeterError` where there is none to write, with the reason.
        """
        if out is not None and out.suffix.lower() not in FORMS:
            raise UsageError(f"{out}: a work order is a .pdf, .png or .txt file")
        request = self._permitted(at, by, beginning, "work order")
        if at >= request.expiry:
            raise MeterError(f"request {request.id[:8]}: its time is over; issue it anew")
        meter = self._register.meter(request.meter)
        order = WorkOrder(
            request.id,
            request.command,
            request.meter,
            meter.supply_point,
            self._register.supply_point(meter.supply_point).address,
            request.expiry,
            request.by,
            request.reason,
            qr_codes.split(request.envelope),
        )
        if out is not None:
            write_once(out, rendered(order, out.suffix.lower(), font))
        with self._database.transaction():
            shown = "" if out is None else out.name
            self._audit.append(at, by, "work order", request.id, meter=meter.id, file=shown)
        self._audit.seal()
        return order

    def recall(self, at: float, by: str, beginning: str) -> Request:
        """Send it by the relay after all, as soon as it is polled: the same bytes."""
        request = self._permitted(at, by, beginning, "work order recalled")
        with self._database.transaction():
            request = self._requests.find(request.id)
            if request.state is not State.ON_SITE:
                raise MeterError(
                    f"request {request.id[:8]} is {request.state.value}: no work order to recall"
                )
            self._requests.note(request, State.PREPARED, "")
            self._audit.append(at, by, "work order recalled", request.id, meter=request.meter)
        self._audit.seal()
        return self._requests.find(request.id)

    def _permitted(self, at: float, by: str, beginning: str, what: str) -> Request:
        request = self._requests.find(beginning)
        try:
            self._staff.require(by, role_for(request.command), what)
        except NotPermittedError:
            self._staff.refused(at, by, what, request.id)
            raise
        if not request.is_open:
            raise MeterError(
                f"request {request.id[:8]} is {request.state.value}: there is nothing left to do"
                " on site"
            )
        return request


def read_result(path: Path) -> bytes:
    """The meter's signed result in a terminal's file, unverified; raises MeterError."""
    try:
        with path.open("rb") as file:
            message = file.read(MAX_RESULT_FILE + 1)
    except OSError as failure:
        raise MeterError(f"{path}: cannot be read: {failure.strerror}") from None
    if not 0 < len(message) <= MAX_RESULT_FILE:
        raise MeterError(f"{path}: not a result; take the terminal's .result file")
    return message


def rendered(order: WorkOrder, form: str, font: Path | None = None) -> bytes:
    """The page as one of :data:`FORMS`; ``font`` is a PDF's, for an address in Japanese."""
    match form:
        case ".pdf":
            return _pdf(order, font)
        case ".png":
            content = io.BytesIO()
            qr_codes.picture(order.parts).save(content, format="PNG")
            return content.getvalue()
        case _:
            return _text(order)


def _text(order: WorkOrder) -> bytes:
    """For a terminal without a camera: the parts as text."""
    lines = [f"{name + ':':<14}{text}" for name, text in order.lines]
    return "\n".join([*lines, "", *order.parts, ""]).encode()


def _pdf(order: WorkOrder, font: Path | None) -> bytes:
    """A4 pages, two codes beside each other."""
    written = "\n".join(text for _, text in order.lines)
    check_letters(written, font)
    with opened_pdf() as document:
        document.set_title(f"Work order {order.request[:8]}")
        document.set_margin(20)
        document.add_page()
        if font is not None:
            add_font(document, font, written)
        document.set_font("Helvetica", size=16)
        document.multi_cell(0, 8, "Work order: B-route", new_x="LMARGIN", new_y="NEXT")
        document.ln(3)
        for name, text in order.lines:
            document.set_font("Helvetica", size=9)
            document.cell(32, 6, name)
            document.set_font("Helvetica" if font is None else GIVEN_FONT, size=11)
            document.multi_cell(0, 6, text, align="L", new_x="LMARGIN", new_y="NEXT")
        document.ln(4)
        _draw_codes(document, order.parts)
        return bytes(document.output())


def _draw_codes(document: "FPDF", parts: tuple[str, ...]) -> None:
    top = document.get_y()
    for index, part in enumerate(parts):
        right = index % 2
        if not right and top + _CODE_MM + _CAPTION_MM > document.h - document.b_margin:
            document.add_page()
            top = document.get_y()
        left = document.l_margin + right * (_CODE_MM + _GAP_MM)
        document.image(qr_codes.picture([part]), x=left, y=top, w=_CODE_MM, h=_CODE_MM)
        document.set_font("Helvetica", size=9)
        document.text(left + _GAP_MM, top + _CODE_MM + 3, f"{index + 1} of {len(parts)}")
        top += right * (_CODE_MM + _CAPTION_MM)
