"""The letter that brings the customer ID and password, and the sealed draft it is written from.

The password is in clear in two places: where it is drawn (:mod:`~meter_runtime.headend.issuing`),
and on this page. In between it waits as a *draft*, sealed (HPKE, RFC 9180) to the letter key. To
draw one takes the public half, ``letter.pub``; ``letter.key`` is needed where letters are printed
and nowhere else. A draft opens for the request it was made for only.

A letter is written once, after the meter proved that it holds the password; then its draft is
destroyed. Another letter takes another password.
"""

import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from meter_runtime.aroute.cose import HPKE_SUITE
from meter_runtime.clock import jst_day
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend.authority import Role
from meter_runtime.headend.letter_page import FORMS, Page, pdf, text
from meter_runtime.headend.register_books import Books
from meter_runtime.headend.register_contracts import Credentials
from meter_runtime.headend.register_requests import CREDENTIAL_COMMANDS, Request, State
from meter_runtime.secret import Secret
from meter_runtime.storage.media import write_whole

_CONTEXT = b"meter-runtime letter 1 "


def make_letter_key(folder: Path) -> None:
    """``letter.key`` and ``letter.pub`` in ``folder``, where there is no public half yet."""
    private, public = folder / "letter.key", folder / "letter.pub"
    if public.exists():
        return
    try:
        if not private.exists():
            key = X25519PrivateKey.generate()
            write_whole(
                private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            )
        write_whole(public, DraftOpener(private).public.hex().encode() + b"\n")
    except OSError as failure:
        raise MeterError(f"{folder}: the letter key cannot be made: {failure.strerror}") from None


class DraftSealer:
    """The half of the letter key that the New System works with."""

    def __init__(self, public_file: Path) -> None:
        try:
            self._public = X25519PublicKey.from_public_bytes(
                bytes.fromhex(public_file.read_text(encoding="ascii"))
            )
        except (OSError, ValueError):
            raise MeterError(
                f"{public_file}: not the letter key's public half; put it back"
            ) from None

    def seal(self, request_id: str, credentials: LinkCredentials) -> bytes:
        """What the letter of this request will be written from."""
        draft = {"id": credentials.route_b_id, "password": credentials.password.reveal()}
        return HPKE_SUITE.encrypt(json.dumps(draft).encode(), self._public, _info(request_id))


class DraftOpener:
    """The private half, where letters are printed."""

    __slots__ = ("_key", "public")

    def __init__(self, key_file: Path) -> None:
        try:
            key = load_pem_private_key(key_file.read_bytes(), None)
        except (OSError, ValueError, TypeError):
            key = None
        if not isinstance(key, X25519PrivateKey):
            raise MeterError(
                f"{key_file}: no letter key; letters are printed where it is kept"
            ) from None
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    def open(self, request_id: str, draft: bytes) -> LinkCredentials:
        try:
            said = json.loads(HPKE_SUITE.decrypt(draft, self._key, _info(request_id)))
        except (InvalidTag, ValueError):
            raise MeterError(
                f"request {request_id[:8]}: its draft was sealed to another letter key; issue"
                " broute.rewrite_password anew"
            ) from None
        return LinkCredentials(said["id"], Secret(said["password"]))


class Letters:
    """Writing them."""

    def __init__(self, books: Books, key_file: Path) -> None:
        self._database = books.database
        self._audit = books.audit
        self._staff = books.staff
        self._register = books.register
        self._requests = books.requests
        self._service = books.service
        self._key_file = key_file

    def post(
        self, at: float, by: str, beginning: str, out: Path, font: Path | None = None
    ) -> Request:
        """Write the letter of the request whose id begins so, and destroy its draft.

        ``out`` ends in .pdf or .txt and is not there yet. Raises :class:`MeterError` where there
        is no letter to write, with the reason.
        """
        request = self._requests.find(beginning)
        try:
            self._staff.require(by, Role.BROUTE, "letter")
        except MeterError:
            self._staff.refused(at, by, "letter", request.id)
            raise
        if out.suffix.lower() not in FORMS:
            raise UsageError(f"{out}: a letter is a .pdf or a .txt file")
        with self._database.transaction():
            request = self._requests.find(request.id)
            draft = self._draft_of(request)
            page = self._page(at, request, draft)
            content = pdf(page, font) if out.suffix.lower() == ".pdf" else text(page)
            # On the disk before the draft is gone; what fails after this leaves both.
            write_once(out, content)
            self._requests.destroy_draft(request)
            self._requests.move(request, State.POSTED)
            meter = self._register.meter(request.meter)
            if meter.credentials is Credentials.CONFIRMED:
                version = meter.credential_version or 0
                self._register.settle(at, meter.id, Credentials.POSTED, version, meter.contract)
            self._audit.append(at, by, "letter", request.id, meter=meter.id, file=out.name)
        self._audit.seal()
        self._database.scrub()
        return self._requests.find(request.id)

    def _draft_of(self, request: Request) -> bytes:
        """The draft, if a letter may be written now."""
        name = f"request {request.id[:8]}"
        if request.command not in CREDENTIAL_COMMANDS:
            raise UsageError(f"{name}: {request.command} brings no letter")
        match request.state:
            case State.DONE if request.draft is not None:
                pass
            case State.POSTED:
                raise MeterError(
                    f"{name}: its letter was written and the draft destroyed; another letter takes"
                    " a new broute.rewrite_password"
                )
            case _:
                raise MeterError(
                    f"{name} is {request.state.value}: a letter is written only after the meter"
                    f" proved the password{f'; {request.said}' if request.said else ''}"
                )
        later = self._requests.later_credentials(request)
        if later is not None:
            raise MeterError(
                f"{name}: {later.command} {later.id[:8]} came after it and is {later.state.value};"
                " this password may be out of use"
            )
        return request.draft

    def _page(self, at: float, request: Request, draft: bytes) -> Page:
        if request.contract is None:
            raise MeterError(f"request {request.id[:8]}: made for no contract")
        contract = self._register.contract(request.contract)
        if not contract.is_served:
            raise MeterError(f"contract {contract.code}: no longer in force; nothing is posted")
        meter = self._register.meter(request.meter)
        if meter.removed_on is not None:
            raise MeterError(f"meter {meter.id} was removed on {meter.removed_on}; no letter")
        served_from = self._service.served_from(contract, meter)
        return Page(
            jst_day(at),
            contract.customer,
            self._register.supply_point(contract.supply_point).address,
            request.meter,
            served_from,
            DraftOpener(self._key_file).open(request.id, draft),
        )


def write_once(path: Path, content: bytes) -> None:
    """A new file, mode 0600, durable on return; UsageError where there is one."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path}: there is a file already; move it away") from None
    except OSError as failure:
        raise MeterError(f"{path}: cannot be written: {failure.strerror}") from None
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
    except OSError as failure:
        path.unlink(missing_ok=True)
        raise MeterError(f"{path}: cannot be written: {failure.strerror}") from None


def _info(request_id: str) -> bytes:
    return _CONTEXT + request_id.encode()
