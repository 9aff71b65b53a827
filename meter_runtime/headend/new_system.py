"""The New System: the business side's register of customers and meters, and the only place where
B-route credentials are made.

What it is made of, wired for one laboratory. It opens connections to the Relay Server and to nobody
else; what it keeps lies in its own folder::

    new-system/ new-system.db   contracts, meters, staff, requests, audit log
                audit.head      where the audit log ended
                letter.pub      drafts of letters are sealed to it
                letter.key      opens them: needed where letters are printed
"""

import time
from collections.abc import Callable

from meter_runtime.aroute.identity import PublicKeys, SigningKey
from meter_runtime.aroute.trust import load_trust
from meter_runtime.errors import MeterError
from meter_runtime.headend import letters, selection
from meter_runtime.headend.issuing import Issuing, Relay
from meter_runtime.headend.lab import NEW_SYSTEM, Lab
from meter_runtime.headend.register_books import Books
from meter_runtime.headend.register_contracts import Credentials, MeterRecord
from meter_runtime.headend.register_requests import CHANGES_CREDENTIALS, State
from meter_runtime.headend.relay_client import BusinessSide
from meter_runtime.headend.selection import STALE_AFTER, Selection
from meter_runtime.headend.service_life import ServiceLife
from meter_runtime.headend.work_order import WorkOrders
from meter_runtime.units.catalogue import shipped

DATABASE = "new-system.db"
AUDIT_HEAD = "audit.head"


class NewSystem:
    """One laboratory's New System, opened."""

    def __init__(self, lab: Lab, books: Books, relay: Relay, now: Callable[[], float]) -> None:
        folder = lab.folder(NEW_SYSTEM)
        self.now = now
        self.books = books
        self.audit = books.audit
        self.staff = books.staff
        self.register = books.register
        self.sources = books.sources
        self.requests = books.requests
        self._database = books.database
        with self._database.transaction():  # of two first starts one makes the key
            letters.make_letter_key(folder)
        sealer = letters.DraftSealer(folder / "letter.pub")
        self.issuing = Issuing(
            NEW_SYSTEM, books, _LabKeys(lab), drafts=sealer, relay=relay, now=now
        )
        self.service = ServiceLife(books, self.issuing, now)
        self.letters = letters.Letters(books, folder / "letter.key")
        self.work_orders = WorkOrders(books)

    @classmethod
    def open(
        cls, lab: Lab, *, relay: Relay | None = None, now: Callable[[], float] = time.time
    ) -> "NewSystem":
        """The New System of ``lab``; its database is made at the first time."""
        folder = lab.folder(NEW_SYSTEM)
        books = Books.open(folder / DATABASE, folder / AUDIT_HEAD)
        return cls(lab, books, relay or BusinessSide.of(lab), now)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> "NewSystem":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def credentials(self, meter: MeterRecord) -> Credentials:
        """How far the meter's credentials have come, with a command that is under way."""
        for request in self.requests.all(meter.id):
            if request.is_open and request.command in CHANGES_CREDENTIALS:
                prepared = request.state is State.PREPARED
                return Credentials.REQUESTED if prepared else Credentials.ISSUED
        return meter.credentials

    def select(self, contract: str) -> Selection:
        """The units for a contract's place; raises :class:`~.selection.SelectionError`."""
        statements = self.sources.of(contract)
        registered = self.register.find_contract(contract)
        if registered is not None:
            statements.append(selection.of_register(registered))
        return selection.select(contract, statements, shipped(), stale_after=STALE_AFTER)

    def viewed(self, what: str, subject: str = "") -> None:
        """Personal data was shown: the log keeps to whom."""
        with self._database.transaction():
            self.audit.append(self.now(), "", f"viewed {what}", subject)
        self.audit.seal()


class _LabKeys:
    """The laboratory's keys, as far as they are the New System's business."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def issuer_key(self, meter_id: str) -> SigningKey:
        return self._lab.issuer_key(NEW_SYSTEM, meter_id)

    def meter_keys(self, meter_id: str) -> PublicKeys:
        if meter_id not in self._lab.meters():
            raise MeterError(
                f"meter {meter_id}: its keys are not enrolled; see 'meter-runtime keys enroll'"
            )
        return self._lab.meter_keys(meter_id)

    def permits(self, command: str) -> bool:
        return load_trust(self._lab.trust_file).permits(NEW_SYSTEM, command)
