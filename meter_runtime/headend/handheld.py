"""The hand-held terminal: carries sealed commands to meters, and what they answer back.

It is blind. Of an order it sees what stands outside the seal: meter, command, id and expiry. It
signs that it brought it, who worked it and when, and the meter demands that signature, too; there
is nothing in the terminal by which a command could be made or read. A lost terminal is taken out of
the meters' trust files.

Its folder stands alone and goes to the terminal as a whole::

    FOLDER/ signing.key  tls.pem  tls.key  ca.pem
            meters/ID.json       optional: identities, to verify what meters answer
            orders/ID.order      sealed commands
            results/ID.result    the meters' signed answers: 'headend take-result' reads them
            log.db  log.head     who did what with them; chained (headend.audit)
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from meter_runtime.aroute import envelope, results
from meter_runtime.aroute.cbor import MalformedError
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.cose import NotAuthenticError
from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.aroute.identity import PublicKeys, SigningKey
from meter_runtime.comm.mqtt import TlsFiles
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend import certificates
from meter_runtime.headend.audit import AuditLog
from meter_runtime.headend.certificates import Unit
from meter_runtime.headend.lab import Lab
from meter_runtime.headend.letters import write_once
from meter_runtime.headend.meter_files import read_identity
from meter_runtime.storage.media import write_whole

MAX_OPERATOR = 64

_METER_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_ID_BEGINS = re.compile(r"[0-9a-f]{4,32}")

Keys = Callable[[str], PublicKeys | None]
"""A meter's public keys; None where they are not known here."""


@dataclass(frozen=True, slots=True)
class Order:
    """A sealed command, as far as whoever carries it may know it."""

    id: str
    """The command's id, 32 hex digits."""
    meter: str
    command: str
    expiry: int
    """UTC seconds."""
    sealed: bytes = field(repr=False)

    @classmethod
    def of(cls, sealed: bytes) -> "Order":
        """Raises MalformedError for what is no envelope."""
        told = envelope.routing(sealed)
        return cls(told.command_id.hex(), told.meter_id, told.command, told.expiry, sealed)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the meter answered; ``verified``: by its own signature, None where its key is unknown.

    Nothing in it is secret.
    """

    result: results.Result
    verified: bool | None


class Terminal:
    """One terminal's folder, opened."""

    def __init__(self, folder: Path, keys: Keys | None = None) -> None:
        facts = certificates.facts(folder / "tls.pem")
        if facts.unit != Unit.TERMINAL:
            raise UsageError(f"{folder / 'tls.pem'}: not a terminal's certificate; see 'keys show'")
        self.folder = folder
        self.name = facts.name
        self.tls = TlsFiles(folder / "ca.pem", folder / "tls.pem", folder / "tls.key")
        self._key = SigningKey.from_file(folder / "signing.key")
        self._keys = keys or self._own_keys
        self._orders, self._results = folder / "orders", folder / "results"
        try:
            for each in (self._orders, self._results):
                each.mkdir(mode=0o700, exist_ok=True)
        except OSError as failure:
            raise MeterError(f"{folder}: cannot be written: {failure.strerror}") from None
        self.log = AuditLog.in_file(folder / "log.db")

    @classmethod
    def of_lab(cls, lab: Lab, name: str) -> "Terminal":
        """The terminal of this name in a laboratory, which knows every enrolled meter."""

        def keys(meter_id: str) -> PublicKeys | None:
            return lab.meter_keys(meter_id) if meter_id in lab.meters() else None

        return cls(lab.folder(f"terminals/{name}"), keys)

    def close(self) -> None:
        self.log.close()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self, at: float, sealed: Iterable[bytes]) -> list[Order]:
        """Take orders in; one that is here already is not taken twice.

        Raises MeterError for what is no sealed command.
        """
        taken = []
        for each in sealed:
            try:
                order = Order.of(each)
            except MalformedError:
                raise MeterError("the codes were read, and hold no work order") from None
            path = self._order_file(order.id)
            if not path.exists():
                _write(path, order.sealed)
                self.log.record(
                    at, "", "loaded", order.id, meter=order.meter, command=order.command
                )
            elif path.read_bytes() != order.sealed:
                raise MeterError(f"{order.id[:8]}: another order with this id is here; forget it")
            taken.append(order)
        return taken

    def orders(self) -> list[Order]:
        """All that are here, by id."""
        return [
            Order.of(_read(path)) for path in sorted(self._orders.iterdir()) if _is(path, ".order")
        ]

    def find(self, beginning: str) -> Order:
        """The order whose id begins so: 4 hex digits at least, and only one fits."""
        wanted = beginning.lower()
        found = [each for each in self.orders() if each.id.startswith(wanted)]
        if not _ID_BEGINS.fullmatch(wanted) or len(found) != 1:
            how = "more than one order's id begins" if len(found) > 1 else "no order's id begins"
            raise MeterError(f'{how} with "{beginning}"; handheld show lists them')
        return found[0]

    def sign(self, at: float, order: Order, operator: str) -> bytes:
        """The message to the meter: the order, and who brings it when."""
        if not 0 < len(operator) <= MAX_OPERATOR or not operator.isprintable():
            raise UsageError(f"--by: a name has 1 to {MAX_OPERATOR} printable characters")
        note = f"work order {order.id[:8]}"
        message = wrap(
            Dispatch(self.name, Way.TERMINAL, at, operator, note, order.sealed), self._key
        )
        self.log.record(at, operator, "delivers", order.id, meter=order.meter)
        return message

    def take(self, at: float, order: Order, operator: str, sent: bytes, said: bytes) -> Answer:
        """Take in what the meter said to :meth:`sign`'s message, and keep it.

        Raises MeterError where that is no answer of this meter to this order.
        """
        try:
            answer = self._read_answer(order, sent, said)
        except MeterError as wrong:
            self.log.record(at, operator, "no answer", order.id, why=str(wrong))
            raise
        kept = self.answer(order)
        final = kept is not None and kept.result.code is Code.OK
        if answer.result.command_id is not None and not final:
            _write(self._result_file(order.id), said)
        self.log.record(
            at,
            operator,
            "answer",
            order.id,
            code=answer.result.code.value,
            verified=answer.verified,
        )
        return answer

    def answer(self, order: Order) -> Answer | None:
        """The answer that is kept; None while there is none."""
        path = self._result_file(order.id)
        if not path.exists():
            return None
        message = _read(path)
        return Answer(results.peek(message), None if self._keys(order.meter) is None else True)

    def export(self, at: float, order: Order, out: Path) -> None:
        """Copy the meter's signed answer to a new file, for the New System."""
        path = self._result_file(order.id)
        if not path.exists():
            raise MeterError(f"order {order.id[:8]}: the meter has not answered it yet")
        write_once(out, _read(path))
        self.log.record(at, "", "exported", order.id, file=out.name)

    def forget(self, at: float, order: Order) -> None:
        """Remove an order and its answer; what was done with them stays in the log."""
        self.log.record(at, "", "forgotten", order.id, meter=order.meter)
        for path in (self._order_file(order.id), self._result_file(order.id)):
            path.unlink(missing_ok=True)

    def read_status(self, at: float, operator: str, meter: str) -> None:
        """Write down that somebody read a meter's diagnosis."""
        self.log.record(at, operator, "read status", meter)

    def _read_answer(self, order: Order, sent: bytes, said: bytes) -> Answer:
        keys = self._keys(order.meter)
        try:
            result = results.peek(said) if keys is None else results.read(said, keys.signing)
        except NotAuthenticError:
            raise MeterError(
                f"meter {order.meter} did not sign this answer: is it the meter that is enrolled?"
            ) from None
        if result.meter_id != order.meter:
            raise MeterError(f"this is meter {result.meter_id}, and the order is for {order.meter}")
        if result.command_id is None:
            # A meter that could not tell whose order it was names the message alone.
            if result.answer_to != results.answer_to(sent):
                raise MeterError("the meter answered another message; bring the order again")
        elif result.command_id.hex() != order.id:
            raise MeterError("the meter answered another order; bring this one again")
        return Answer(result, None if keys is None else True)

    def _own_keys(self, meter_id: str) -> PublicKeys | None:
        path = self.folder / "meters" / f"{meter_id}.json"
        if not _METER_ID.fullmatch(meter_id) or not path.exists():
            return None
        named, keys = read_identity(path)
        return keys if named == meter_id else None

    def _order_file(self, order_id: str) -> Path:
        return self._orders / f"{order_id}.order"

    def _result_file(self, order_id: str) -> Path:
        return self._results / f"{order_id}.result"


def _is(path: Path, suffix: str) -> bool:
    return path.suffix == suffix and _ID_BEGINS.fullmatch(path.stem) is not None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise MeterError(f"{path}: cannot be read: {failure.strerror}") from None


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as failure:
        raise MeterError(f"{path}: cannot be written: {failure.strerror}") from None
