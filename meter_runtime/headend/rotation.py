"""A new key for an issuer, while the meters are told of it one after another.

The new key waits beside the old one (``signing.next.key``) with a record of how far each meter has
come (``signing.rotation.json``). Until the rotation is closed each meter is commanded by the key
that it is known to know, so nothing stands still meanwhile and a meter may be away for as long as
it likes. One whose answer was lost may obey either key: if it rejects one, the other is tried, and
changing to the key that it has already is harmless.

:meth:`Rotation.finish` makes the new key *the* key; then the trust files are written anew. A meter
that was left behind takes the key from its trust file: one that names another key than before
counts.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from meter_runtime.aroute.identity import SigningKey
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.storage.media import write_whole


class Step(msgspec.Struct, frozen=True):
    """How far one meter has come."""

    request: str | None = None
    """The last command that asked it to change over."""
    new: bool = False
    """It is commanded by the new key."""
    confirmed: bool = False
    """It has answered OK."""


class Answer(enum.Enum):
    """What is known of a request."""

    OPEN = "open"
    OK = "ok"
    REJECTED = "rejected"
    """The meter did not know the key that signed it."""
    FAILED = "failed"
    """It was refused for another reason, or its time is over."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation under way for the issuer whose key is in ``key_file``."""

    key_file: Path
    steps: Mapping[str, Step]
    """By meter id."""

    @property
    def new_public(self) -> bytes:
        """The new key's public half; after :meth:`finish`, too."""
        fresh = _next_file(self.key_file)
        return SigningKey.from_file(fresh if fresh.exists() else self.key_file).public

    @property
    def finished(self) -> bool:
        """The new key is in its place, and only the trust files may be old."""
        return not _next_file(self.key_file).exists()

    def step(self, meter_id: str) -> Step:
        return self.steps.get(meter_id, Step())

    def asked(self, meter_id: str, request: str) -> "Rotation":
        """This command asks the meter to change over."""
        return self._with(meter_id, Step(request, new=self.step(meter_id).new))

    def answered(self, meter_id: str, answer: Answer) -> "Rotation":
        """Take what became of the last request; where it failed, the next one may follow."""
        step = self.step(meter_id)
        match answer:
            case Answer.OPEN:
                return self
            case Answer.OK:
                return self._with(meter_id, Step(step.request, new=True, confirmed=True))
            case Answer.REJECTED:
                return self._with(meter_id, Step(new=not step.new))
            case Answer.FAILED:
                return self._with(meter_id, Step(new=step.new))

    def finish(self) -> None:
        """Put the new key in the old one's place; the old one is gone."""
        if not self.finished:
            _next_file(self.key_file).replace(self.key_file)

    def close(self) -> None:
        """The trust files are written: the rotation is over."""
        _record_file(self.key_file).unlink()

    def _with(self, meter_id: str, step: Step) -> "Rotation":
        steps = {**self.steps, meter_id: step}
        _write(self.key_file, steps)
        return Rotation(self.key_file, steps)


def begin(key_file: Path) -> Rotation:
    """Make the new key; :class:`UsageError` while a rotation is under way."""
    if _record_file(key_file).exists():
        raise UsageError(f"{key_file}: a rotation is under way already")
    # The record first: a new key without one would be nobody's.
    _write(key_file, {})
    SigningKey.generate().to_file(_next_file(key_file))
    return Rotation(key_file, {})


def under_way(key_file: Path) -> Rotation | None:
    """The rotation of this key, if there is one."""
    file = _record_file(key_file)
    try:
        steps = msgspec.json.decode(file.read_bytes(), type=dict[str, Step])
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError):
        raise MeterError(f"{file}: cannot be read; restore it from a copy") from None
    return Rotation(key_file, steps)


def key_for(key_file: Path, meter_id: str) -> SigningKey:
    """The key by which this meter is commanded."""
    rotation = under_way(key_file)
    fresh = _next_file(key_file)
    if rotation is not None and rotation.step(meter_id).new and fresh.exists():
        return SigningKey.from_file(fresh)
    return SigningKey.from_file(key_file)


def _write(key_file: Path, steps: Mapping[str, Step]) -> None:
    file = _record_file(key_file)
    try:
        write_whole(file, msgspec.json.encode(steps))
    except OSError as failure:
        raise MeterError(f"{file}: cannot be written: {failure.strerror}") from None


def _next_file(key_file: Path) -> Path:
    return key_file.with_name(f"{key_file.stem}.next.key")


def _record_file(key_file: Path) -> Path:
    return key_file.with_name(f"{key_file.stem}.rotation.json")
